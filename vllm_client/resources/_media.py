"""Files and bytes → parts of a message."""

from __future__ import annotations

import base64
import os
import stat
from typing import Callable, Optional, Union

from ..types.messages import AudioPart, ImagePart

Media = Union[bytes, bytearray, str, "os.PathLike[str]"]

LARGEST_FILE = 100_000_000
"""Bytes. A larger file is refused; pass the URL of one that the server can fetch instead."""


def image_part(source: Media) -> ImagePart:
    """An image as a part of a user's message.

    Args:
        source: The bytes of a PNG, JPEG, GIF, WebP, BMP or TIFF image, or the path of such a file.

    Raises:
        ValueError: It is none of these, no regular file, or larger than 100 MB.
        OSError: The file cannot be read.
    """
    url = _data_url(source, _image_type, "an image (PNG, JPEG, GIF, WebP, BMP, TIFF)")
    return {"type": "image_url", "image_url": {"url": url}}


def audio_part(source: Media) -> AudioPart:
    """A recording as a part of a user's message.

    Args:
        source: The bytes of a WAV, MP3, FLAC, Ogg or MPEG-4 recording, or the path of such a file.

    Raises:
        ValueError: It is none of these, no regular file, or larger than 100 MB.
        OSError: The file cannot be read.
    """
    url = _data_url(source, _audio_type, "a recording (WAV, MP3, FLAC, Ogg, MPEG-4)")
    return {"type": "audio_url", "audio_url": {"url": url}}


def _data_url(source: Media, type_of: Callable[[bytes], Optional[str]], wanted: str) -> str:
    # https://www.rfc-editor.org/rfc/rfc2397
    if isinstance(source, (bytes, bytearray)):
        data, name = bytes(source), f"{len(source)} bytes"
    else:
        data, name = _content(source), str(source)
    media_type = type_of(data)
    if media_type is None:
        raise ValueError(f"{name}: not {wanted}")  # Content may be secret: quote none of it.
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


def _content(path: Union[str, os.PathLike[str]]) -> bytes:
    # A FIFO blocks whoever opens it, and opening a device may act on it: look before.
    _check_regular(path, os.stat(path))
    with open(path, "rb") as file:
        _check_regular(path, os.fstat(file.fileno()))  # The file may be another one by now.
        data = file.read(LARGEST_FILE + 1)
    if len(data) > LARGEST_FILE:
        raise ValueError(f"{path}: larger than {LARGEST_FILE} bytes")
    return data


def _check_regular(path: object, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path}: not a regular file")
    if found.st_size > LARGEST_FILE:
        raise ValueError(f"{path}: larger than {LARGEST_FILE} bytes")


# By content, because names lie. https://mimesniff.spec.whatwg.org/
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
    return next((kind for magic, kind in _IMAGES.items() if data.startswith(magic)), None)


def _audio_type(data: bytes) -> Optional[str]:
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return "audio/wav"
    if data[4:8] == b"ftyp":
        return "audio/mp4"
    # An MPEG frame without a tag: eleven bits of sync, layer III.
    if len(data) > 1 and data[0] == 0xFF and data[1] & 0xE6 == 0xE2:
        return "audio/mpeg"
    return next((kind for magic, kind in _RECORDINGS.items() if data.startswith(magic)), None)
