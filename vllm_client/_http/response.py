"""An answer under way: its head has come, its body is read here and nowhere else."""

from __future__ import annotations

import contextlib
import functools
import io
import threading
import weakref
from typing import Any, Callable, Iterator, Optional, Tuple, Union

import requests
import urllib3

from ..exceptions import (
    APIConnectionError,
    StreamConsumedError,
    StreamInterruptedError,
    VllmError,
)
from ..timeouts import Timeout
from . import framing
from .call import NOT_DRAINED, Call, watchdog
from .failures import WIRE_ERRORS, broken, stopped
from .framing import ChunkedBody, ClosingBody

READ_SIZE = 65536
CONTENT_SIZE = 1 << 20
DRAIN_SECONDS = 0.5
DRAIN_BYTES = 4096


class Exchange:
    """A response whose body has not been read, and the call it belongs to.

    Attributes:
        secrets: What no error about the answer may show.
        whole: Set by whoever reads it, when the answer is complete.
    """

    def __init__(
        self,
        response: requests.Response,
        call: Call,
        timeout: Timeout,
        secrets: Tuple[str, ...] = (),
    ) -> None:
        self.response = response
        self.call = call
        self.timeout = timeout
        self.secrets = secrets
        self.whole = False
        if response.raw is None or getattr(response, "_content", False) is not False:
            # A mock made of its content alone, or a hook of the user's session has read it.
            response.raw = io.BytesIO(response.content)
        self._body = _body(response, call)
        self._read1 = _reader(response.raw) if self._body is None else self._body.read1
        self._reading = False
        self._closed = threading.Lock()  # Taken once, by whoever comes first.
        _hold(response.raw, call)
        call.on_stop(self._close_unless_read)

    @property
    def is_open(self) -> bool:
        """Whether there may be more to read."""
        return not self._closed.locked()

    @property
    def request_id(self) -> Optional[str]:
        """The ``x-request-id`` of the answer, if the server sends one."""
        return self.response.headers.get("x-request-id")

    def read1(self) -> bytes:
        """Whatever has arrived, waiting for the first byte of it; empty at the end of the body.

        Raises:
            VllmError: The connection broke, a limit passed or the stream was closed.
        """
        self._reading = True
        try:
            # Looked at with the flag up: whoever stops the call sees the flag or is seen here.
            if self.call.reason is None:
                data = self._read1()
                if data:
                    return data
                if self.call.reason is None:
                    self._end_body()
                    return b""
        except WIRE_ERRORS as error:
            if self.call.reason is None:
                raise self._broken(StreamInterruptedError, error) from error
        finally:
            self._reading = False
        self.close()
        raise stopped(self.call, self.timeout, StreamConsumedError("the stream was closed"))

    def _end_body(self) -> None:
        # What urllib3 does when it has read a body to its end. A connection with more in it than
        # was asked for is closed.
        if self._body is not None and not self._body.overrun:
            self.call.answer.close()
            self.response.raw.release_conn()

    def content(self) -> bytes:
        """The whole body, which is kept in the response as well.

        Raises:
            VllmError: The connection broke, a limit passed or the client was closed.
        """
        self._reading = True
        try:
            content = _content(self.response, self.call)
            if self.call.reason is None:
                return content
        except WIRE_ERRORS as error:
            if self.call.reason is None:
                raise self._broken(APIConnectionError, error) from error
        finally:
            self._reading = False
            self.close()
        raise stopped(self.call, self.timeout)

    def beginning(self, limit: int) -> str:
        """At most ``limit`` bytes of the body as text, of one that broke off what had come."""
        pieces = []
        with self._reader_at_work(), contextlib.suppress(*WIRE_ERRORS):
            for piece in self.response.iter_content(8192):
                pieces.append(piece)
                limit -= len(piece)
                if limit <= 0:
                    break
        return b"".join(pieces).decode("utf-8", "replace")

    def drain(self) -> None:
        """Read what is left behind the last event, so that the connection can be used again.

        Bounded: a peer that trickles on must not hold up an answer that is whole.
        """
        if self._body is None:
            self._drain_any()
        elif isinstance(self._body, ChunkedBody):  # No other leaves a connection to use again.
            with self._reader_at_work(), contextlib.suppress(*WIRE_ERRORS):
                self._drain_chunks(self._body)
        self.close()

    def _drain_chunks(self, chunks: ChunkedBody) -> None:
        connection: Any = self.response.raw.connection
        reusable = connection.sock is not None
        if reusable and self.call.reason is None:
            chunks.drain(DRAIN_SECONDS, DRAIN_BYTES)
            if chunks.ended:
                self._end_body()

    def _drain_any(self) -> None:
        alarm = watchdog.stop_in(DRAIN_SECONDS, self.call, NOT_DRAINED)
        left = DRAIN_BYTES
        with contextlib.suppress(VllmError):
            while left > 0:
                data = self.read1()
                left = left - len(data) if data else 0
        watchdog.forget(alarm)

    def close(self) -> None:
        """The answer and its call are over."""
        self.discard()
        self.call.finish()

    def discard(self) -> None:
        """Give the connection back if the body was read to its end, else close it.

        The call goes on, with another attempt.
        """
        # Two threads that gave it back together could put it into the pool twice.
        if self._closed.acquire(blocking=False):
            self.call.release()
            self.response.close()

    @contextlib.contextmanager
    def _reader_at_work(self) -> Iterator[None]:
        self._reading = True
        try:
            yield
        finally:
            self._reading = False

    def _close_unless_read(self) -> None:
        # Closing waits for a read that is under way; its reader wakes up and closes.
        if not self._reading:
            self.close()

    def _broken(self, kind: Callable[[str], VllmError], error: BaseException) -> VllmError:
        self.close()
        text = f"the connection broke in the middle of the answer: {error}"
        return broken(error, self.timeout) or kind(text)


def _body(response: requests.Response, call: Call) -> Optional[Union[ChunkedBody, ClosingBody]]:
    # Past urllib3, which costs more than all the rest, where its only service is the framing.
    answer = call.answer
    if not framing.ENABLED or answer is None or answer.isclosed():
        return None
    if "content-encoding" in response.headers or not (answer.chunked or answer.length is None):
        return None
    return (ChunkedBody if answer.chunked else ClosingBody)(answer.fp, call.sock)


def _reader(raw: Any) -> Callable[[], bytes]:
    if isinstance(raw, urllib3.BaseHTTPResponse):
        return functools.partial(raw.read1, READ_SIZE, decode_content=True)
    return functools.partial(raw.read1, READ_SIZE)  # A mock's file object.


def _content(response: requests.Response, call: Call) -> bytes:
    # requests would read 10 KB at a time through three layers of generators. All at once would
    # set memory aside for whatever length the server names.
    if call.answer is not None and getattr(response, "_content", None) is False:
        read = functools.partial(response.raw.read, CONTENT_SIZE, decode_content=True)
        response._content = b"".join(iter(read, b""))
        setattr(response, "_content_consumed", True)  # noqa: B010 — no stub knows it
    return response.content


def _hold(raw: Any, call: Call) -> None:
    # raw.shutdown() looks whether the connection was given back and then shuts it down, with
    # nothing to keep the two together; Call.release() and Call.stop() share a lock.
    if isinstance(raw, urllib3.BaseHTTPResponse):
        call.hold_unless_held(functools.partial(_shutdown, raw))
        # Weak both ways: a cycle would keep a dropped stream, and its generation, alive.
        give_back = functools.partial(type(raw).release_conn, weakref.proxy(raw))
        release = functools.partial(_release, weakref.ref(call), give_back)
        setattr(raw, "release_conn", release)  # noqa: B010 — mypy refuses to assign to a method


def _shutdown(raw: urllib3.BaseHTTPResponse) -> None:
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # A mock has no socket.
        raw.shutdown()


def _release(call: weakref.ref[Call], give_back: Callable[[], None]) -> None:
    holder = call()
    if holder is not None:
        holder.release()
    give_back()
