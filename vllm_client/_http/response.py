"""A response whose head has arrived; its body is read here and nowhere else."""

from __future__ import annotations

import contextlib
import functools
import io
import threading
import weakref
from typing import Any, Callable, ContextManager, Iterator, List, Mapping, Optional, Type, Union

import requests
import urllib3
from attrs import frozen

from ..exceptions import (
    APIConnectionError,
    InvalidResponseError,
    StreamConsumedError,
    StreamInterruptedError,
    VllmError,
)
from ..timeouts import Timeout
from . import framing
from .call import NOT_DRAINED, Call
from .direct import DirectResponse
from .failures import WIRE_ERRORS, cancelled, timeout_in_body
from .framing import ChunkedBody, ClosingBody
from .redaction import Secrets
from .watchdog import watchdog

READ_SIZE = 65536
CONTENT_SIZE = 1 << 20
COMPRESSED_SIZE = 1 << 16
DRAIN_SECONDS = 0.5
DRAIN_BYTES = 4096


@frozen(eq=False, repr=False)
class WholeResponse:
    """A response whose body has been read.

    Args:
        response: The response.
        secrets: The credentials of the request.
        started: When the request was sent, by ``perf_counter``.
        ended: When the response was there.
    """

    response: Union[requests.Response, DirectResponse]
    secrets: Secrets
    started: float
    ended: float

    @property
    def content(self) -> bytes:
        """The body."""
        return self.response.content

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers."""
        return self.response.headers

    @property
    def request_id(self) -> Optional[str]:
        """As :attr:`OpenResponse.request_id`."""
        if isinstance(self.response, DirectResponse):
            return self.response.header("x-request-id")
        return self.response.headers.get("x-request-id")

    def redacting(self) -> ContextManager[None]:
        """As :meth:`OpenResponse.redacting`."""
        return self.secrets.redacting()


class OpenResponse:
    """A response whose body has not been read, and the call it belongs to.

    Args:
        response: The response of requests.
        call: Its call. ``call.sock`` and ``call.wire_response`` were written while the response
            arrived, unless a user's session or a mock made it.
        timeout: The time limits of the call, for messages.
        secrets: The credentials of the request.
        started: When the request was sent, by ``perf_counter``.
    """

    def __init__(
        self,
        response: requests.Response,
        call: Call,
        timeout: Timeout,
        secrets: Secrets,
        started: float,
    ) -> None:
        self.response = response
        self.call = call
        self.started = started
        self.timeout = timeout
        self._secrets = secrets
        if response.raw is None or getattr(response, "_content", False) is not False:
            # The body is already in memory: a mocked response, or a session hook has read it.
            response.raw = io.BytesIO(response.content)
        _attach(response.raw, call)
        self._framed = _framing_reader(response, call)
        self._read1 = self._framed.read1 if self._framed else _plain_reader(response.raw)
        self._unread = b""
        self._reading = False
        self._closed = threading.Lock()  # Acquired once, by whichever thread closes first.
        call.on_cancel = weakref.WeakMethod(self._close_unless_read)

    @property
    def is_open(self) -> bool:
        """Whether there may be more to read."""
        return not self._closed.locked()

    @property
    def request_id(self) -> Optional[str]:
        """The ``x-request-id`` of the response, if the server sends one."""
        return self.response.headers.get("x-request-id")

    def redacting(self) -> ContextManager[None]:
        """A context that removes the credentials of the request from the error that leaves it."""
        return self._secrets.redacting()

    def read1(self) -> bytes:
        """The bytes that have arrived, waiting for the first; empty at the end of the body.

        Raises:
            VllmError: The connection broke, a time limit passed or the call was closed.
        """
        self._reading = True
        try:
            # Set _reading before checking reason: a concurrent cancel() either sees the flag and
            # leaves closing to us, or has set the reason already and we see that.
            if not self.call.is_over():
                data = self._unread or self._read1()
                self._unread = b""
                if data:
                    return data
                if not self.call.is_over():
                    self._end_body()
                    return b""
        except WIRE_ERRORS as error:
            if not self.call.is_over():
                raise self._broken(StreamInterruptedError, error) from error
        finally:
            self._reading = False
        self.close()
        closed = StreamConsumedError("the stream was closed")
        raise cancelled(self.call, self.timeout, if_closed=closed)

    def check_length(self) -> None:
        """Check that the body that was read is as long as its head said.

        Raises:
            StreamInterruptedError: It is shorter.
        """
        missing = getattr(self.response.raw, "length_remaining", None)
        if missing:
            raise StreamInterruptedError(f"the stream ended {missing} bytes before its length")

    def unread(self, data: bytes) -> None:
        """Have the next :meth:`read1` return ``data``, the bytes it has just returned."""
        self._unread = data

    def _end_body(self) -> None:
        # What urllib3 does when it has read a body to its end. If more bytes follow the body, the
        # connection is closed instead.
        wire = self.call.wire_response
        if wire is not None and self._framed is not None and not self._framed.overrun:
            wire.close()
            self.response.raw.release_conn()

    def read_all(self, limit: int, *, last: bool = True) -> bytes:
        """The whole body, which ``response.content`` keeps as well.

        Args:
            limit: Bytes, after decompression.
            last: Whether the call is over; without it, it stays open for another attempt.

        Raises:
            InvalidResponseError: The body is larger than ``limit``.
            VllmError: The connection broke, a time limit passed or the client was closed.
        """
        self._reading = True
        try:
            content = self._content(limit)
            if not self.call.is_over():
                return content
        except WIRE_ERRORS as error:
            if not self.call.is_over():
                raise self._broken(APIConnectionError, error) from error
        finally:
            self._reading = False
            (self.close if last else self.release_or_close)()
        raise cancelled(self.call, self.timeout)

    def _content(self, limit: int) -> bytes:
        was_read = getattr(self.response, "_content", None) is not False
        if was_read or not isinstance(self._framed, ChunkedBody):
            return _content(self.response, limit)
        # Hot path, measured, see docs/performance.md: http.client reads each chunk in three calls
        # from a buffer of 8 KB. Embeddings come as one chunk each.
        pieces, total = [], 0
        for piece in iter(self._framed.read1, b""):
            pieces.append(piece)
            total += len(piece)
            if total > limit:
                raise _too_large(limit)
        self._end_body()
        return _kept(self.response, pieces)

    def read_text(self, limit: int) -> str:
        """The first ``limit`` bytes of the body as text.

        If the connection breaks, what arrived before.
        """
        pieces = []
        with self._reader_at_work(), contextlib.suppress(*WIRE_ERRORS):
            for piece in self.response.iter_content(8192):
                pieces.append(piece)
                limit -= len(piece)
                if limit <= 0:
                    break
        return b"".join(pieces).decode("utf-8", "replace")

    def drain(self) -> None:
        """Read what follows the last event, so that the connection can be reused.

        Bounded: a slow server must not delay a complete response.
        """
        if self._framed is None:
            self._drain_plain()
        elif isinstance(self._framed, ChunkedBody):  # The connection of any other body ends here.
            with self._reader_at_work(), contextlib.suppress(*WIRE_ERRORS):
                self._drain_chunks(self._framed)
        self.close()

    def _drain_chunks(self, chunks: ChunkedBody) -> None:
        connection = getattr(self.response.raw, "connection", None)
        reusable = getattr(connection, "sock", None) is not None
        if reusable and not self.call.is_over():
            chunks.drain(DRAIN_SECONDS, DRAIN_BYTES)
            if chunks.ended:
                self._end_body()

    def _drain_plain(self) -> None:
        cancel = functools.partial(self.call.cancel, NOT_DRAINED)
        alarm = watchdog.call_later(DRAIN_SECONDS, cancel)
        left = DRAIN_BYTES
        with contextlib.suppress(VllmError):
            while left > 0:
                data = self.read1()
                left = left - len(data) if data else 0
        watchdog.forget(alarm)

    def close(self) -> None:
        """The response and its call are over."""
        self.release_or_close()
        self.call.close()

    def release_or_close(self) -> None:
        """Release the connection if the body was read to its end, else close it.

        The call stays open for another attempt.
        """
        # Two threads that released the connection at once could put it into the pool twice.
        if self._closed.acquire(blocking=False):
            self.call.detach()
            self.response.close()

    def break_off(self) -> None:
        """Close the connection, whatever was read of the body."""
        raw: Any = self.response.raw
        with contextlib.suppress(AttributeError):  # A mock has no connection.
            raw.connection.close()
        self.release_or_close()

    @contextlib.contextmanager
    def _reader_at_work(self) -> Iterator[None]:
        self._reading = True
        try:
            yield
        finally:
            self._reading = False

    def _close_unless_read(self) -> None:
        # Closing would wait for a read in progress. The reader wakes up and closes instead.
        if not self._reading:
            self.close()

    def _broken(self, error_class: Type[VllmError], error: BaseException) -> VllmError:
        self.close()
        text = f"the connection broke in the middle of the response: {error}"
        return timeout_in_body(error, self.timeout) or error_class(text)


def _framing_reader(
    response: requests.Response, call: Call
) -> Optional[Union[ChunkedBody, ClosingBody]]:
    # Hot path, measured, see docs/performance.md: bypass urllib3 when it would do nothing but
    # remove the framing; its read path costs more than all our code.
    wire = call.wire_response
    if not framing.ENABLED or wire is None or wire.isclosed() or call.sock is None:
        return None
    chunked = bool(wire.chunked)
    if "content-encoding" in response.headers or not (chunked or wire.length is None):
        return None
    return (ChunkedBody if chunked else ClosingBody)(wire.fp, call.sock)


def _plain_reader(raw: Any, size: int = 0) -> Callable[[], bytes]:
    """A function that reads ``size`` bytes, or without ``size`` whatever has arrived."""
    read = raw.read if size else raw.read1
    if isinstance(raw, urllib3.BaseHTTPResponse):
        return functools.partial(read, size or READ_SIZE, decode_content=True)
    return functools.partial(read, size or READ_SIZE)  # The file object of a mock.


def _content(response: requests.Response, limit: int) -> bytes:
    # Hot path, measured, see docs/performance.md: requests would read 10 KB at a time through
    # three layers of generators. One read of everything would allocate whatever length the server
    # claims, so read in large pieces; of compressed bodies in small ones, because urllib3 before
    # 2.6 decompresses a piece at once, to a thousand times its size.
    if getattr(response, "_content", None) is not False:
        return response.content
    size = COMPRESSED_SIZE if "content-encoding" in response.headers else CONTENT_SIZE
    # One byte beyond the limit tells enough, and keeps the end of the body unread: a connection
    # that was read to its end would be kept for the next request.
    size = min(size, limit + 1)
    pieces, total = [], 0
    for piece in iter(_plain_reader(response.raw, size), b""):
        pieces.append(piece)
        total += len(piece)
        if total > limit:
            raise _too_large(limit)
    return _kept(response, pieces)


def _kept(response: requests.Response, pieces: List[bytes]) -> bytes:
    content = response._content = b"".join(pieces)
    setattr(response, "_content_consumed", True)  # noqa: B010 — missing in the stubs
    return content


def _too_large(limit: int) -> InvalidResponseError:
    return InvalidResponseError(f"the response is larger than {limit} bytes")


def _attach(raw: object, call: Call) -> None:
    """Have ``call.cancel`` shut this response down, and the pool detach the call."""
    if not isinstance(raw, urllib3.BaseHTTPResponse):
        return
    if call.sock is None:
        # The connection of a user's session. raw.shutdown() checks that the connection has not
        # been released and then shuts it down, but not atomically.
        call.attach_if_unset(functools.partial(_shut_down, raw))
    # Weak references: a cycle would keep a dropped stream, and its generation, alive.
    tracked = functools.partial(_detach_and_release, weakref.ref(call), weakref.ref(raw))
    setattr(raw, "release_conn", tracked)  # noqa: B010 — mypy refuses to assign to a method


def _shut_down(raw: urllib3.BaseHTTPResponse) -> None:
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # A mock has no socket.
        raw.shutdown()


def _detach_and_release(
    call_reference: weakref.ref[Call], raw_reference: weakref.ref[urllib3.BaseHTTPResponse]
) -> None:
    call, raw = call_reference(), raw_reference()
    if call is not None:
        call.detach()
    if raw is not None:  # It may be gone first, when both are garbage of one cycle.
        type(raw).release_conn(raw)
