"""A stream as an asynchronous iterator, read by a thread of its own."""

from __future__ import annotations

import asyncio
import warnings
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    AsyncIterator,
    Callable,
    Generic,
    Optional,
    Type,
    TypeVar,
    Union,
)

import requests

from .._habits import STREAM_HABITS, habits
from .._shown import Brief, Items, shown
from ..events import Error
from ..streams import Stream
from ..timings import Timings
from ._handover import EventHandover, notifier_of_running_loop

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["AsyncStream"]

E = TypeVar("E")
R = TypeVar("R")

_EVENTS_IN_A_ROW = 64
"""After as many events that needed no waiting, other tasks may run."""


@habits(**STREAM_HABITS)
@shown
class AsyncStream(Generic[E, R]):
    """A stream as an asynchronous iterator and context manager, read by a thread of its own.

    The thread starts with ``async with`` or with the first use, and ends with the stream. It reads
    at most 256 events ahead, so a slow reader slows the server. Cancelling a task that reads
    closes the stream at once, and the server stops generating.

    Args:
        stream: A stream of the synchronous client, or a function that opens one in the thread.

    Raises, while it is read:
        VllmError: As :class:`~vllm_client.streams.Stream` does.
    """

    def __init__(self, stream: Union[Stream[E, R], Callable[[], Stream[E, R]]]) -> None:
        self._given = stream
        self._stream: Optional[Stream[E, R]] = stream if isinstance(stream, Stream) else None
        self._handover: Optional[EventHandover[E, R]] = None
        self._closed = False
        self._in_a_row = 0

    def _shown_items(self) -> Items:
        stream = self._stream or (self._handover and self._handover.stream)
        yield "", stream or Brief("closed" if self._closed else "not open yet")

    async def _started(self) -> EventHandover[E, R]:
        if self._handover is None:
            notifier = notifier_of_running_loop()
            self._handover = EventHandover(notifier, self._stream)
            if self._closed:
                raise self._handover.closed_error()
            await notifier.add(self._handover)
            self._handover.start(self._open)
        return self._handover

    @property
    def _open(self) -> Callable[[], Stream[E, R]]:
        given = self._given  # Not self: the thread must not keep a dropped stream alive.
        return (lambda: given) if isinstance(given, Stream) else given

    async def _opened(self) -> Stream[E, R]:
        handover = await self._started()
        while handover.stream is None and not handover.ended:
            await handover.wait()
        if handover.stream is None:
            assert handover.error is not None
            raise handover.error
        self._stream = handover.stream
        return handover.stream

    async def __aenter__(self) -> Self:
        """Send the request and wait for the head of its response."""
        await self._opened()
        return self

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> E:
        handover = self._handover or await self._started()
        await self._yield_sometimes()
        while True:
            if self._closed:
                raise handover.closed_error()
            try:
                event: E = handover.take()
            except IndexError:
                if handover.is_drained:
                    raise handover.error or StopAsyncIteration from None
                self._in_a_row = 0
                await handover.wait()
            else:
                return event

    async def _yield_sometimes(self) -> None:
        # Taking an event that waits already does not suspend the task: yield to other tasks every
        # 64 events.
        self._in_a_row += 1
        if self._in_a_row >= _EVENTS_IN_A_ROW:
            self._in_a_row = 0
            await asyncio.sleep(0)

    async def text_deltas(self, index: int = 0) -> AsyncIterator[str]:
        """As :meth:`Stream.text_deltas <vllm_client.streams.Stream.text_deltas>`."""
        text_of = (await self._opened())._text_of
        async for event in self:
            if isinstance(event, Error):
                raise event.error
            text = text_of(event, index)
            if text:
                yield text

    async def collect(self) -> R:
        """As :meth:`Stream.collect <vllm_client.streams.Stream.collect>`."""
        return (await self._read_to_end()).collect()

    async def _read_to_end(self) -> Stream[E, R]:
        stream = await self._opened()
        handover = await self._started()
        if self._closed:
            raise handover.closed_error()
        handover.collect()
        while not handover.ended:
            await handover.wait()
        handover.drop_events()
        if handover.error is not None:
            raise handover.error
        return stream

    async def collect_text(self) -> str:
        """As :meth:`Stream.collect_text <vllm_client.streams.Stream.collect_text>`."""
        return (await self._read_to_end()).collect_text()

    async def aclose(self) -> None:
        """Close the connection, and the server stops generating. May be called again."""
        self._closed = True
        self._stop()

    def _stop(self) -> None:
        if self._handover is not None:
            self._handover.stop()
        elif self._stream is not None:
            self._stream.close()

    def __del__(self) -> None:
        if not hasattr(self, "_in_a_row"):
            return  # The constructor has failed.
        unread = self._is_unread()
        self._stop()  # First: a filter may turn the warning into an error.
        if unread:
            warnings.warn(
                "AsyncStream was dropped before its end: use `async with`, or aclose() it",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )

    def _is_unread(self) -> bool:
        """Whether the stream was opened, and neither closed nor read to its end."""
        handover = self._handover
        stream = handover.stream if handover else self._stream
        if self._closed or stream is None:
            return False
        if stream._at_end:
            return handover is not None and handover.has_events
        return not stream._is_cancelled

    @property
    def _known(self) -> Stream[E, R]:
        stream = self._stream or (self._handover and self._handover.stream)
        if not stream:
            raise RuntimeError("the stream is not open yet: enter `async with` first")
        return stream

    @property
    def response(self) -> requests.Response:
        """The ``requests.Response``, once the stream is open."""
        return self._known.response

    @property
    def request_id(self) -> Optional[str]:
        """The ``x-request-id`` of the response, if the server sends one."""
        return self._known.request_id

    @property
    def snapshot(self) -> R:
        """What has arrived so far, in the shape of a complete response."""
        return self._known.snapshot

    @property
    def timings(self) -> Timings:
        """When the chunks arrived."""
        return self._known.timings
