"""Bodies of streams, removed from their HTTP framing as fast as they arrive.

http.client returns one HTTP chunk a call, through two layers of objects, and urllib3 adds a third:
together half of what a hand-written socket loop costs in all. Here everything that one ``recv``
returned comes out at once. The framing is that of RFC 9112, sections 6.3 and 7.1, read as
generously as http.client reads it; tests compare the two. "Chunk" in this module is an HTTP chunk.
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
_SHORT_SIZE_LINE = len(b"fff\r\n")


class ReadableFile(Protocol):
    """A file whose ``read1`` returns the bytes available so far."""

    def read1(self, size: int, /) -> bytes:
        """At most ``size`` bytes; waits for the first."""
        raise NotImplementedError


class ChunkedBody:
    """The body that follows a ``transfer-encoding: chunked`` head.

    Args:
        file: Where the body begins; its ``read1`` returns what it has buffered.
        sock: The socket below it. After the first read, only the socket is read: a ``recv``
            through two layers of files costs as much as decoding an event.

    Attributes:
        ended: Whether the last chunk and its trailer have been read.
        overrun: Whether bytes follow the end of the body. They belong to no request, so the
            connection must not be reused.
    """

    def __init__(self, file: ReadableFile, sock: socket.socket) -> None:
        self.ended = False
        self.overrun = False
        self._sock = sock
        self._receive_bytes = _read_buffered(file)
        # Of the current chunk, the bytes still to come, with the two of the line end behind it.
        self._bytes_in_chunk = 0
        # An incomplete line: the size of a chunk, or a part of the trailer.
        self._partial_line = b""
        self._reading_trailer = False
        # The last arrival ended exactly with a chunk, which allows the fast path.
        self._at_chunk_start = False
        # An error in the framing, raised after the data before it has been returned.
        self._pending_error: Optional[http.client.HTTPException] = None

    def read1(self) -> bytes:
        """The data that has arrived, waiting for the first byte; empty at the end of the body.

        Raises:
            http.client.HTTPException: The body breaks off, or is not framed in chunks.
            OSError: The connection broke.
        """
        while not self.ended:
            data = self._receive()
            if data:
                return data
        return b""

    def drain(self, seconds: float, limit: int) -> None:
        """Read to the end, for at most ``seconds`` and ``limit`` bytes of data.

        Changes the timeout of the socket.

        Args:
            seconds: Above 0.
            limit: Bytes.

        Raises:
            http.client.HTTPException, OSError: As :meth:`read1`; a timeout is an OSError.
        """
        until = monotonic() + seconds
        while not self.ended and limit > 0 and seconds > 0:
            self._sock.settimeout(seconds)
            limit -= len(self._receive())
            seconds = until - monotonic()

    def _receive(self) -> bytes:
        if self._pending_error is not None:
            raise self._pending_error
        framed = self._receive_bytes(READ_SIZE)
        if self._at_chunk_start:
            # Hot path, measured, see docs/performance.md: exactly one complete chunk, as servers
            # send it during generation. _unframe() does the same for any arrival.
            size_line, _, rest = framed.partition(b"\r\n")
            size = len(rest) - 2
            if size > 0 and size_line == b"%x" % size:
                return rest[:size]
        return self._unframe(framed)

    def _unframe(self, framed: bytes) -> bytes:
        self._receive_bytes = self._sock.recv
        if not framed:
            raise http.client.IncompleteRead(b"")
        if self._partial_line:
            framed = self._partial_line + framed
            self._partial_line = b""
        pieces: List[bytes] = []
        try:
            self._collect_data(framed, pieces)
        except http.client.HTTPException as error:
            self._pending_error = error
        self._at_chunk_start = not (
            self._bytes_in_chunk
            or self._partial_line
            or self._reading_trailer
            or self._pending_error
        )
        return b"".join(pieces)

    def _collect_data(self, framed: bytes, pieces: List[bytes]) -> None:
        """Append the data in ``framed`` to ``pieces``, and note where in the body it ends."""
        position, size = 0, len(framed)
        left = self._bytes_in_chunk
        # The fast path is tried once an arrival; trying it for each chunk takes quadratic time.
        tried_fast_path = self._reading_trailer
        while position < size:
            if left:
                if left > 2:
                    pieces.append(framed[position : position + left - 2])
                step = min(left, size - position)
                position += step
                left -= step
                continue
            if not tried_fast_path:
                tried_fast_path = True
                # Not if the chunk has 4 KB or more, as embeddings have: a search for the ends of
                # lines in the data takes longer than the loop.
                if framed.find(b"\n", position, position + _SHORT_SIZE_LINE) >= 0:
                    position += _collect_whole_chunks(framed[position:], pieces)
                    continue
            end = framed.find(b"\n", position)
            if end < 0:
                self._partial_line = _checked_line(framed[position:])
                break
            line = framed[position:end]
            position = end + 1
            if not self._reading_trailer:
                left = _chunk_size(line) + 2
                if left == 2:  # The chunk of size 0 is the last one, and has no line end.
                    self._reading_trailer, left = True, 0
            elif line in {b"", b"\r"}:
                self.ended, self.overrun = True, position < size
                break
        self._bytes_in_chunk = left


class ClosingBody:
    """The body of a response without chunks or length: it ends when the connection closes.

    Arguments as those of :class:`ChunkedBody`.
    """

    overrun = False  # Every byte that arrives is part of the body.

    def __init__(self, file: ReadableFile, sock: socket.socket) -> None:
        self._sock = sock
        self._receive_bytes = _read_buffered(file)

    def read1(self) -> bytes:
        """The data that has arrived, waiting for the first byte; empty at the end of the body.

        Raises:
            OSError: The connection broke.
        """
        data = self._receive_bytes(READ_SIZE)
        self._receive_bytes = self._sock.recv
        return data


def _read_buffered(file: ReadableFile) -> Callable[[int], bytes]:
    # One call empties the buffer if it asks for at least as much as the buffer holds. In Python
    # 3.14 the default buffer is larger than our reads.
    return lambda size: file.read1(max(size, io.DEFAULT_BUFFER_SIZE))


def _collect_whole_chunks(framed: bytes, pieces: List[bytes]) -> int:
    """Append the data of the complete chunks at the beginning; returns the bytes they take.

    Hot path, measured, see docs/performance.md: all chunks at once, if they are as servers write
    them: the size in lower case and alone in its line, and no CR LF in the data. The loop in
    ``_collect_data`` reads any other chunk.
    """
    parts = framed.split(b"\r\n")
    chunks = parts[1:-1:2]
    sizes = parts[: 2 * len(chunks) : 2]
    measured = [b"%x" % len(chunk) for chunk in chunks]
    if sizes != measured or not all(chunks):
        differs = (size != real or real == b"0" for size, real in zip(sizes, measured))
        del chunks[list(differs).index(True) :]
    pieces += chunks
    return sum(map(len, parts[: 2 * len(chunks)])) + 4 * len(chunks)


def _chunk_size(line: bytes) -> int:
    try:
        size = int(line.partition(b";")[0], 16)
    except ValueError:
        raise http.client.HTTPException(f"not the size of a chunk: {line[:40]!r}") from None
    if size < 0:
        raise http.client.HTTPException(f"a chunk of {size} bytes")
    return size


def _checked_line(line: bytes) -> bytes:
    if len(line) > _LONGEST_LINE:
        raise http.client.LineTooLong("chunk size")
    return line
