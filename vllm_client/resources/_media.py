"""Files and bytes → the parts of a message."""

from __future__ import annotations

import base64
import os
import stat
from typing import Any, Callable, Optional, Tuple, Union

from ..types.messages import AudioPart, ImagePart

Media = Union[bytes, bytearray, str, "os.PathLike[str]"]

LARGEST_FILE = 100_000_000
"""Bytes. A larger file is refused; pass the URL of one that the server can fetch instead."""


def image_part(source: Media) -> ImagePart:
    """Return an image as a part of a user's message.

    Args:
        source: The bytes of a PNG, JPEG, GIF, WebP, BMP or TIFF image, or the path of such a file.

    Raises:
        ValueError: The content is not an image of one of these types, or the file is larger than
            100 MB or not a regular file.
        OSError: The file cannot be read.
    """
    url = _data_url(source, _image_type, "an image (PNG, JPEG, GIF, WebP, BMP, TIFF)")
    return {"type": "image_url", "image_url": {"url": url}}


def audio_part(source: Media) -> AudioPart:
    """Return a recording as a part of a user's message.

    Args:
        source: The bytes of a WAV, MP3, FLAC, Ogg or MPEG-4 recording, or the path of such a file.

    Raises:
        ValueError: The content is not a recording of one of these types, or the file is larger than
            100 MB or not a regular file.
        OSError: The file cannot be read.
    """
    url = _data_url(source, _audio_type, "a recording (WAV, MP3, FLAC, Ogg, MPEG-4)")
    return {"type": "audio_url", "audio_url": {"url": url}}


def recording_file(source: Any) -> Tuple[Any, ...]:
    """Return a recording as the file of a form: its name, its content, perhaps its type.

    Args:
        source: A path, bytes, a file opened in binary mode, or such a tuple.

    Raises:
        TypeError: It is something else, or a file opened in text mode.
        ValueError: The file is larger than 100 MB or not a regular file.
        OSError: The file cannot be read.
    """
    if isinstance(source, tuple):
        return source
    name: object = "audio"
    if isinstance(source, (bytes, bytearray)):
        data: object = bytes(source)
    elif isinstance(source, (str, os.PathLike)):
        name, data = source, _content(source)
    elif hasattr(source, "read"):
        name, data = getattr(source, "name", name), source.read()
    else:
        raise TypeError(f"file must be a path, bytes or an open file, not {source!r:.80}")
    if not isinstance(data, bytes):
        raise TypeError("file is open in text mode: open it with mode 'rb'")
    # The name of a file that a number opened is that number.
    base = os.path.basename(name) if isinstance(name, (str, os.PathLike)) else "audio"
    return (base, data, _audio_type(data) or "application/octet-stream")


def _data_url(source: Media, type_of: Callable[[bytes], Optional[str]], expected: str) -> str:
    # https://www.rfc-editor.org/rfc/rfc2397
    if isinstance(source, (bytes, bytearray)):
        data, name = bytes(source), f"{len(source)} bytes"
    else:
        data, name = _content(source), str(source)
    media_type = type_of(data)
    if media_type is None:
        raise ValueError(f"{name}: not {expected}")  # The content may be secret: quote none of it.
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


def _content(path: Union[str, os.PathLike[str]]) -> bytes:
    # Opening a FIFO blocks, and opening a device may act on it: check before.
    _check_regular(path, os.stat(path))
    with open(path, "rb") as file:
        _check_regular(path, os.fstat(file.fileno()))  # Another file may have taken its place.
        data = file.read(LARGEST_FILE + 1)
    if len(data) > LARGEST_FILE:
        raise ValueError(f"{path}: larger than {LARGEST_FILE} bytes")
    return data


def _check_regular(path: object, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path}: not a regular file")
    if found.st_size > LARGEST_FILE:
        raise ValueError(f"{path}: larger than {LARGEST_FILE} bytes")


# Detect the type by content; file names can be wrong. https://mimesniff.spec.whatwg.org/
_IMAGES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
    b"BM": "image/bmp",
    b"II*\x00": "image/tiff",
    b"MM\x00*": "image/tiff",
}
_RECORDINGS = {
    b"ID3": "audio/mpeg",
    b"fLaC": "audio/flac",
    b"OggS": "audio/ogg",
}


def _image_type(data: bytes) -> Optional[str]:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((mime for magic, mime in _IMAGES.items() if data.startswith(magic)), None)


def _audio_type(data: bytes) -> Optional[str]:
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return "audio/wav"
    if data[4:8] == b"ftyp":
        return "audio/mp4"
    # An MP3 file without an ID3 tag begins with an MPEG frame: 11 sync bits, then layer III.
    if len(data) > 1 and data[0] == 0xFF and data[1] & 0xE6 == 0xE2:
        return "audio/mpeg"
    return next((mime for magic, mime in _RECORDINGS.items() if data.startswith(magic)), None)
