"""Chunked bodies: read as http.client reads them, however the bytes are cut."""

from __future__ import annotations

import http.client
import io
from typing import Any, List, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_client._http.framing import ChunkedBody, ClosingBody

from ..recorded import cut, single_bytes


class Arrivals(io.RawIOBase):
    """The file of a socket: each read returns one of these pieces."""

    def __init__(self, pieces: List[bytes]) -> None:
        self.pieces = [piece for piece in pieces if piece]

    def readable(self) -> bool:
        return True

    def recv(self, size: int) -> bytes:
        data = bytearray(size)
        return bytes(data[: self.readinto(data)])

    def readinto(self, buffer: Any) -> int:
        piece = self.pieces.pop(0) if self.pieces else b""
        taken = piece[: len(buffer)]
        if piece[len(buffer) :]:
            self.pieces.insert(0, piece[len(buffer) :])
        buffer[: len(taken)] = taken
        return len(taken)


def chunked(arrivals: Arrivals) -> ChunkedBody:
    """A body whose beginning arrived with the head and is in the buffer of the file."""
    file = io.BufferedReader(arrivals, 16)
    file.peek(1)
    return ChunkedBody(file, arrivals)  # type: ignore[arg-type]


def ours(pieces: List[bytes]) -> Tuple[bytes, Any]:
    """The data of the body, and how it ended: True if it is complete, else the error."""
    body = chunked(Arrivals(pieces))
    data = b""
    try:
        while True:
            read = body.read1()
            if not read:
                return data, body.ended
            data += read
    except http.client.HTTPException:
        return data, "broken"


def theirs(whole: bytes) -> Tuple[bytes, Any]:
    """The same as http.client reads it."""

    class Socket:
        def makefile(self, *_: Any) -> Any:
            return io.BytesIO(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + whole)

    response = http.client.HTTPResponse(Socket())  # type: ignore[arg-type]
    response.begin()
    data = b""
    try:
        while True:
            read = response.read1(65536)
            if not read:
                return data, response.isclosed()
            data += read
    except (http.client.HTTPException, ValueError):
        return data, "broken"


def framed(chunks: List[bytes], extension: bytes = b"", trailer: bytes = b"") -> bytes:
    """A chunked body with these chunks."""
    parts = [b"%x%s\r\n%s\r\n" % (len(part), extension, part) for part in chunks if part]
    return b"".join(parts) + b"0\r\n" + trailer + b"\r\n"


CHUNKS = st.lists(
    st.binary(min_size=1, max_size=40) | st.sampled_from([b"\r\n", b"\r", b"0\r\n\r\n"])
)
PLACES = st.lists(st.integers(0, 2000), max_size=20)


@given(
    CHUNKS,
    PLACES,
    st.sampled_from([b"", b";a=b", b' ;q="\x00"']),
    st.sampled_from([b"", b"A: b\r\n", b"A: b\r\nC: d\r\n"]),
)
@settings(max_examples=400)
def test_complete_bodies(chunks: Any, places: Any, extension: bytes, trailer: bytes) -> None:
    """Whatever the chunks, extensions, trailers and cuts, the data is read to its end."""
    whole = framed(chunks, extension, trailer)
    assert ours(cut(whole, places)) == (b"".join(chunks), True) == theirs(whole)


@given(CHUNKS, PLACES, st.integers(0, 2000))
@settings(max_examples=400)
def test_bodies_cut_short(chunks: Any, places: Any, length: int) -> None:
    """A body cut at any byte yields its data so far, and is never complete."""
    whole = framed(chunks)
    part = whole[:length]
    data, ended = ours(cut(part, places))
    assert data == theirs(part)[0]
    assert ended is True if part == whole else ended == "broken"


@given(st.binary(max_size=60), PLACES)
@settings(max_examples=400)
def test_noise(noise: bytes, places: Any) -> None:
    """Bytes that are not chunked framing raise, or are read, as with http.client.

    Two cases differ: http.client misreads a negative size, and it accepts a body that breaks off
    in its last chunk as complete.
    """
    for whole in (noise, framed([b"ab"])[:-5] + noise):
        if b"-" not in noise:
            data, ended = ours(cut(whole, places))
            expected, their_end = theirs(whole)
            assert data == expected
            assert ended == their_end or (ended == "broken" and b"0" in whole)


def test_every_byte_alone() -> None:
    """Single bytes yield the same data, and an empty read only at the end."""
    whole = framed([b"data: 1\n\n", b"x" * 300, b"\r\n"])
    assert ours(single_bytes(whole)) == theirs(whole)


def test_one_read_returns_all_that_arrived() -> None:
    """One read returns all chunks that have arrived, and the beginning of the next."""
    whole = framed([b"a" * 10] * 50)
    body = chunked(Arrivals([whole[:-20], whole[-20:]]))
    assert body.read1() == b"a" * 10  # This part arrived with the head.
    assert body.read1() == b"a" * 480
    assert body.read1() == b"a" * 10
    assert body.read1() == b""
    assert body.ended


def test_invalid_sizes() -> None:
    """A negative size, and a size line without an end, are errors."""
    for bad in (
        b"zz\r\n",
        b";a\r\n",
        b"-5\r\nhello\r\n",
        b"1" * 70000,
        b"1\r\na\r\n" + b"1" * 70000,
    ):
        body = chunked(Arrivals([bad]))
        with pytest.raises(http.client.HTTPException):
            b"".join(iter(body.read1, b""))


def test_bad_framing_raises_without_further_reads() -> None:
    """Data before bad framing is read; then each read raises and reads no further."""
    arrivals = Arrivals([b"1\r\na\r\nzz\r\n", b"never read"])
    body = ChunkedBody(io.BufferedReader(arrivals, 16), arrivals)  # type: ignore[arg-type]
    assert body.read1() == b"a"
    for _ in range(2):
        with pytest.raises(http.client.HTTPException, match="size"):
            body.read1()
    assert arrivals.pieces == [b"never read"]


@pytest.mark.parametrize("bad", [b"-2", b"-1\r\nx", b"+1\r\nx\r\nzz\r\n", b"0x1\r\nx\r\nzz\r\n"])
def test_the_size_of_a_chunk_that_arrives_alone(bad: bytes) -> None:
    """The size of a chunk that arrives alone is checked like any other."""
    arrivals = [framed([b"data"])[:-5], framed([b"data"])[:-5], bad]
    assert ours(arrivals) == (b"datadata" + b"x" * (b"1" in bad and b"-" not in bad), "broken")


@pytest.mark.parametrize("kind", [ChunkedBody, ClosingBody])
def test_a_file_that_holds_more_than_a_read(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that the file has buffered is read before data of the socket."""
    monkeypatch.setattr(io, "DEFAULT_BUFFER_SIZE", 1 << 17)
    parts = [b"a" * 1000] * 100, [b"b"]
    whole, rest = (framed(p)[:-5] if kind is ChunkedBody else b"".join(p) for p in parts)
    arrivals = Arrivals([whole, rest])
    file = io.BufferedReader(arrivals, 1 << 17)
    file.peek(1)
    body = kind(file, arrivals)
    assert body.read1() == b"a" * 100_000
    assert body.read1() == b"b"


def test_data_that_looks_like_a_chunk() -> None:
    """A part of a chunk that arrives alone is data, even if it is framed as a chunk is."""
    pieces = [b"5\r\nfirst\r\n", b"b\r\na", b"3\r\nbcd\r\n", b"ef\r\n", b"0\r\n\r\n"]
    assert ours(pieces) == (b"firsta3\r\nbcd\r\nef", True)
    assert theirs(b"".join(pieces)) == ours(pieces)


def test_after_the_end() -> None:
    """Bytes behind the last chunk are not part of the body."""
    assert ours([framed([b"a"]) + b"HTTP/1.1 200 OK\r\n"]) == (b"a", True)
    for behind in (b"", b"HTTP/1.1 200 OK\r\n"):
        body = chunked(Arrivals([framed([b"a"]) + behind]))
        assert b"".join(iter(body.read1, b"")) == b"a"
        assert body.overrun is bool(behind)
