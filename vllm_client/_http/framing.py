"""Bodies of streams, taken out of their framing as fast as they arrive.

http.client gives one HTTP chunk a call, through two layers of objects, and urllib3 adds a third:
together half of what a hand-written socket loop costs in all. Here everything that one ``recv``
brought comes out at once. The framing is that of RFC 9112, sections 6.3 and 7.1, read as
generously as http.client reads it; tests hold the two against each other.
"""

from __future__ import annotations

import http.client
import io
import socket
from time import monotonic
from typing import Callable, List, Optional, Protocol

ENABLED = True
"""Whether bodies are read here; False reads them through urllib3."""

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
        overrun: Whether more came behind that, which answers nothing that was asked.
    """

    def __init__(self, file: Arriving, sock: socket.socket) -> None:
        self.ended = False
        self.overrun = False
        self._sock = sock
        self._more = _all_in(file)
        self._tail = b""
        self._left = 0
        self._trailing = False
        self._between = False  # Chunks, with no byte of the next.
        self._fault: Optional[http.client.HTTPException] = None

    def read1(self) -> bytes:
        """What has arrived, waiting for the first byte of it; empty at the end of the body.

        Raises:
            http.client.HTTPException: The body breaks off, or is not framed in chunks.
            OSError: The connection broke.
        """
        while not self.ended:
            data = self._receive()
            if data:
                return data
        return b""

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
            self._sock.settimeout(seconds)
            most -= len(self._receive())
            seconds = until - monotonic()

    def _receive(self) -> bytes:
        if self._fault is not None:
            raise self._fault
        framed = self._more(READ_SIZE)
        if self._between:
            # One chunk alone and whole: how they come while a model is at work.
            said, _, rest = framed.partition(b"\r\n")
            size = len(rest) - 2
            if size > 0 and said == b"%x" % size:
                return rest[:size]
        return self._taken_out(framed)

    def _taken_out(self, framed: bytes) -> bytes:
        self._more = self._sock.recv
        if not framed:
            raise http.client.IncompleteRead(b"")
        if self._tail:
            framed = self._tail + framed
            self._tail = b""
        pieces: List[bytes] = []
        try:
            self._take_out(framed, pieces)
        except http.client.HTTPException as error:
            self._fault = error  # What came before it comes out before it.
        self._between = not (self._left or self._tail or self._trailing or self._fault)
        return b"".join(pieces)

    def _take_out(self, framed: bytes, pieces: List[bytes]) -> None:
        at, size = 0, len(framed)
        left = self._left  # Bytes of the chunk that is under way and of the line end behind it.
        tried = self._trailing
        while at < size:
            if left:
                if left > 2:
                    pieces.append(framed[at : at + left - 2])
                step = min(left, size - at)
                at += step
                left -= step
                continue
            if not tried:
                tried = True  # Once an arrival, or its time would be quadratic.
                at += _take_out_plain(framed[at:] if at else framed, pieces)
                continue
            end = framed.find(b"\n", at)
            if end < 0:
                self._tail = _checked_line(framed[at:])
                break
            line = framed[at:end]
            at = end + 1
            if self._trailing:
                if line in {b"", b"\r"}:
                    self.ended, self.overrun = True, at < size
                    break
            else:
                left = _size(line) + 2
                if left == 2:
                    self._trailing, left = True, 0
        self._left = left


class ClosingBody:
    """The body of an answer that has neither chunks nor a length: it ends with its connection.

    Arguments as those of :class:`ChunkedBody`.
    """

    overrun = False  # Whatever comes is part of it.

    def __init__(self, file: Arriving, sock: socket.socket) -> None:
        self._sock = sock
        self._more = _all_in(file)

    def read1(self) -> bytes:
        """What has arrived, waiting for the first byte of it; empty at the end of the body.

        Raises:
            OSError: The connection broke.
        """
        data = self._more(READ_SIZE)
        self._more = self._sock.recv
        return data


def _all_in(file: Arriving) -> Callable[[int], bytes]:
    # One call empties a file whose buffer is no larger than what is asked for; Python 3.14 has
    # made it larger than our reads.
    return lambda size: file.read1(max(size, io.DEFAULT_BUFFER_SIZE))


def _take_out_plain(framed: bytes, pieces: List[bytes]) -> int:
    # Whole chunks as servers write them, all at once: the size in lower case and alone in its
    # line, no CR LF in the data. Returns how many bytes of such chunks are at the beginning.
    parts = framed.split(b"\r\n")
    chunks = parts[1:-1:2]
    sizes = parts[: 2 * len(chunks) : 2]
    measured = [b"%x" % len(chunk) for chunk in chunks]
    if sizes != measured or not all(chunks):
        differ = (said != is_ or is_ == b"0" for said, is_ in zip(sizes, measured))
        del chunks[list(differ).index(True) :]
    pieces += chunks
    return sum(map(len, parts[: 2 * len(chunks)])) + 4 * len(chunks)


def _size(line: bytes) -> int:
    try:
        size = int(line.partition(b";")[0], 16)
    except ValueError:
        raise http.client.HTTPException(f"no size of a chunk: {line[:40]!r}") from None
    if size < 0:
        raise http.client.HTTPException(f"a chunk of {size} bytes")
    return size


def _checked_line(line: bytes) -> bytes:
    if len(line) > _LONGEST_LINE:
        raise http.client.LineTooLong("chunk size")
    return line
