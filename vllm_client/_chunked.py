"""Chunked bodies, taken out of their framing as fast as they arrive.

http.client gives one HTTP chunk a call, through two layers of objects, and urllib3 adds a third:
together half of what a hand-written socket loop costs in all. Here everything that one ``recv``
brought comes out at once. The framing is that of RFC 9112, section 7.1, read as generously as
http.client reads it; tests hold the two against each other.
"""

from __future__ import annotations

import http.client
import socket
from time import monotonic
from typing import List, Optional, Protocol

READ_SIZE = 65536
_LONGEST_LINE = 65536


class Arriving(Protocol):
    """Something that gives what has arrived."""

    def read1(self, size: int, /) -> bytes:
        """At most ``size`` bytes, waiting for the first."""
        raise NotImplementedError


class ChunkedBody:
    """The body behind a ``transfer-encoding: chunked`` head.

    Args:
        file: Where the body begins; its ``read1`` gives what it holds already.
        sock: The socket below it, which is read past the file from then on: a ``recv`` through
            two layers of files costs as much as taking an event apart.

    Attributes:
        ended: Whether the last chunk and what trails it have been read.
    """

    def __init__(self, file: Arriving, sock: socket.socket) -> None:
        self.ended = False
        self._sock = sock
        self._receive_some = file.read1
        self._tail = b""
        self._left = 0
        self._trailing = False
        self._fault: Optional[http.client.HTTPException] = None

    def read1(self) -> bytes:
        """What has arrived, waiting for the first byte of it; empty at the end of the body.

        Raises:
            http.client.HTTPException: The body breaks off, or is not framed in chunks.
            OSError: The connection broke.
        """
        pieces: List[bytes] = []
        while not pieces and not self.ended:
            self._receive(pieces)
        return b"".join(pieces)

    def drain(self, seconds: float, most: int) -> None:
        """Read on to the end, for so long and through so many bytes at the most.

        The socket's time-out is changed.

        Args:
            seconds: Above 0.
            most: Bytes of data.

        Raises:
            http.client.HTTPException, OSError: As with :meth:`read1`; a time-out is an OSError.
        """
        until = monotonic() + seconds
        while not self.ended and most > 0 and seconds > 0:
            pieces: List[bytes] = []
            self._sock.settimeout(seconds)
            self._receive(pieces)
            most -= sum(map(len, pieces))
            seconds = until - monotonic()

    def _receive(self, pieces: List[bytes]) -> None:
        if self._fault is not None:
            raise self._fault
        data = self._receive_some(READ_SIZE)
        # One call empties a file whose buffer is smaller than this.
        self._receive_some = self._sock.recv
        if not data:
            raise http.client.IncompleteRead(b"")
        try:
            self._take_out(self._tail + data if self._tail else data, pieces)
        except http.client.HTTPException as error:
            self._fault = error  # What came before it comes out before it.

    def _take_out(self, data: bytes, pieces: List[bytes]) -> None:
        at, size = 0, len(data)
        left = self._left  # Bytes of the chunk that is under way and of the line end behind it.
        self._tail = b""
        while at < size:
            if left:
                if left > 2:
                    pieces.append(data[at : at + left - 2])
                step = min(left, size - at)
                at += step
                left -= step
                continue
            end = data.find(b"\n", at)
            if end < 0:
                self._tail = _checked_line(data[at:])
                break
            line = data[at:end]
            at = end + 1
            if self._trailing:
                if line in {b"", b"\r"}:
                    self.ended = True
                    break
            else:
                try:
                    left = int(line, 16) + 2
                except ValueError:
                    left = _size_before_extension(line) + 2
                if left <= 2:
                    self._trailing, left = _last_chunk(left - 2), 0
        self._left = left


def _last_chunk(size: int) -> bool:
    if size < 0:
        raise http.client.HTTPException(f"a chunk of {size} bytes")
    return True


def _size_before_extension(line: bytes) -> int:
    try:
        return int(line.partition(b";")[0], 16)
    except ValueError:
        raise http.client.HTTPException(f"no size of a chunk: {line[:40]!r}") from None


def _checked_line(line: bytes) -> bytes:
    if len(line) > _LONGEST_LINE:
        raise http.client.LineTooLong("chunk size")
    return line
