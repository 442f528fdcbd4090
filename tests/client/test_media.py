"""Images and recordings as parts of a message."""

from __future__ import annotations

import base64

import pytest

from vllm_client import audio_part, image_part

IMAGES = {
    "image/png": b"\x89PNG\r\n\x1a\n123",
    "image/jpeg": b"\xff\xd8\xff\xe0abc",
    "image/gif": b"GIF89a...",
    "image/webp": b"RIFF\x00\x00\x00\x00WEBPVP8 ",
    "image/bmp": b"BM1234",
    "image/tiff": b"II*\x00abc",
}
RECORDINGS = {
    "audio/wav": b"RIFF\x00\x00\x00\x00WAVEfmt ",
    "audio/mpeg": b"ID3\x04abc",
    "audio/flac": b"fLaC1234",
    "audio/ogg": b"OggS1234",
    "audio/mp4": b"\x00\x00\x00\x20ftypM4A ",
}


@pytest.mark.parametrize(("kind", "data"), IMAGES.items())
def test_image_from_bytes_and_file(kind, data, tmp_path):
    """An image becomes a data URL; its content decides the type, not the file name."""
    file = tmp_path / "misnamed.wav"
    file.write_bytes(data)
    url = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    part = {"type": "image_url", "image_url": {"url": url}}
    assert image_part(data) == image_part(bytearray(data)) == part
    assert image_part(file) == image_part(str(file)) == part


@pytest.mark.parametrize(("kind", "data"), RECORDINGS.items())
def test_audio_from_bytes_and_file(kind, data, tmp_path):
    """A recording becomes a data URL; its content decides the type."""
    file = tmp_path / "sound"
    file.write_bytes(data)
    url = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    assert audio_part(data) == audio_part(file) == {"type": "audio_url", "audio_url": {"url": url}}


def test_mp3_without_a_tag():
    """An MP3 without an ID3 tag is recognised."""
    assert audio_part(b"\xff\xfb\x90\x00")["audio_url"]["url"].startswith("data:audio/mpeg")


@pytest.mark.parametrize("data", [b"", b"\xff", b"hello world", b"RIFF\x00\x00\x00\x00AVI "])
def test_neither_image_nor_recording(data):
    """Any other content is refused with an error that shows its first bytes."""
    with pytest.raises(ValueError, match=r"not an image .*begins with"):
        image_part(data)
    with pytest.raises(ValueError, match=r"not a recording .*begins with"):
        audio_part(data)


def test_the_wrong_kind(tmp_path):
    """A recording is not accepted as an image; the error names the file."""
    file = tmp_path / "a.png"
    file.write_bytes(RECORDINGS["audio/wav"])
    with pytest.raises(ValueError, match=r"a\.png: not an image"):
        image_part(file)


def test_a_missing_file(tmp_path):
    """A missing file is a FileNotFoundError."""
    with pytest.raises(FileNotFoundError):
        image_part(tmp_path / "none.png")
