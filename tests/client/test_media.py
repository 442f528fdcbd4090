"""Images and recordings as parts of a message."""

from __future__ import annotations

import base64
import os

import pytest

from vllm_client import audio_part, image_part
from vllm_client.resources import _media

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
    """Any other content is refused with an error that tells its length."""
    with pytest.raises(ValueError, match=rf"^{len(data)} bytes: not an image \(PNG.*\)$"):
        image_part(data)
    with pytest.raises(ValueError, match=rf"^{len(data)} bytes: not a recording \(WAV.*\)$"):
        audio_part(data)


@pytest.mark.parametrize("part", [image_part, audio_part])
def test_no_error_quotes_a_file(part, tmp_path):
    """The error for a file of another type names the file and quotes nothing of it."""
    file = tmp_path / "id_rsa"
    file.write_text("password1")
    with pytest.raises(ValueError, match="id_rsa: not a") as raised:
        part(file)
    assert "pass" not in str(raised.value)


@pytest.mark.parametrize("part", [image_part, audio_part])
@pytest.mark.parametrize("kind", ["fifo", "directory", "device", "link to a device"])
def test_only_regular_files_are_read(part, kind, tmp_path):
    """A FIFO, a directory or a device is refused before it is opened."""
    path = tmp_path / "source"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "link to a device":
        path.symlink_to("/dev/zero")
    else:
        path = "/dev/zero"
    with pytest.raises(ValueError, match="not a regular file"):
        part(path)


@pytest.mark.parametrize("part", [image_part, audio_part])
def test_a_huge_file_is_not_read(part, tmp_path):
    """A file of more than 100 MB is refused."""
    file = tmp_path / "huge.png"
    with file.open("wb") as huge:
        huge.truncate(100_000_001)
    with pytest.raises(ValueError, match=r"huge\.png: larger than 100000000 bytes"):
        part(file)


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="needs /proc")
def test_a_file_that_hides_its_size(monkeypatch):
    """A file that claims to be empty, as those of /proc do, is read up to the limit only."""
    monkeypatch.setattr(_media, "LARGEST_FILE", 10)
    with pytest.raises(ValueError, match="larger than 10 bytes"):
        image_part("/proc/self/maps")


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
