"""A stream as an asynchronous iterator, read by a thread of its own."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    AsyncIterator,
    Callable,
    Generic,
    Optional,
    Type,
    TypeVar,
    Union,
)

import requests

from ..streams import Stream
from ..timings import Timings
from ..types import ChatCompletion, Completion
from ._handover import Mailbox, hub_of_running_loop

if TYPE_CHECKING:
    from typing_extensions import ParamSpec, Self

    P = ParamSpec("P")

T = TypeVar("T")
E = TypeVar("E")
R = TypeVar("R", bound=Union[Completion, ChatCompletion])

MOST_CALLS = 256
"""Calls in flight at once, streams not counted; more wait for a thread."""
_IN_A_ROW = 64


class AsyncStream(Generic[E, R]):
    """A stream as an asynchronous iterator and context manager, read by a thread of its own.

    The thread starts with ``async with`` or with the first use, and ends with the stream. It reads
    at most 256 events ahead, so a slow reader slows the server. Cancelling a task that reads
    closes the stream at once, upon which the server stops generating.

    Args:
        stream: Any stream of the synchronous client.

    Raises, while it is read:
        VllmError: As :class:`~vllm_client.streams.Stream` does.
    """

    def __init__(self, stream: Stream[E, R]) -> None:
        self._begin(lambda: stream, stream)

    @classmethod
    def _opening(cls, open_stream: Callable[[], Stream[E, R]]) -> AsyncStream[E, R]:
        stream = cls.__new__(cls)
        stream._begin(open_stream, None)
        return stream

    def _begin(
        self, open_stream: Callable[[], Stream[E, R]], stream: Optional[Stream[E, R]]
    ) -> None:
        self._open_stream = open_stream
        self._stream = stream
        self._mailbox: Optional[Mailbox] = None
        self._closed = False
        self._in_a_row = 0

    async def _started(self) -> Mailbox:
        if self._mailbox is None:
            hub = hub_of_running_loop()
            self._mailbox = Mailbox(hub, self._stream)
            if self._closed:
                raise self._mailbox.closed_error()
            await hub.add(self._mailbox)
            self._mailbox.start(self._open_stream)
        return self._mailbox

    async def _opened(self) -> Stream[E, R]:
        mailbox = await self._started()
        while mailbox.stream is None and not mailbox.ended:
            await mailbox.wait()
        if mailbox.stream is None:
            assert mailbox.error is not None
            raise mailbox.error
        self._stream = mailbox.stream
        return mailbox.stream

    async def __aenter__(self) -> Self:
        """Send the request and wait for the head of its answer."""
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
        mailbox = self._mailbox or await self._started()
        await self._breathe()
        while True:
            if self._closed:
                raise mailbox.closed_error()
            try:
                event: E = mailbox.take()
            except IndexError:
                if not mailbox.ended:
                    self._in_a_row = 0
                    await mailbox.wait()
                elif mailbox.error is not None:
                    raise mailbox.error from None
                else:
                    raise StopAsyncIteration from None
            else:
                return event

    async def _breathe(self) -> None:
        # Events that wait already are taken without waiting: let other tasks have a turn.
        self._in_a_row += 1
        if self._in_a_row >= _IN_A_ROW:
            self._in_a_row = 0
            await asyncio.sleep(0)

    async def text_deltas(self, index: int = 0) -> AsyncIterator[str]:
        """As :meth:`Stream.text_deltas <vllm_client.streams.Stream.text_deltas>`."""
        shown = (await self._opened()).shown
        async for event in self:
            said: Any = event
            if said.type == "error":
                raise said.error
            if said.type == shown and said.index == index and said.text:
                yield said.text

    async def collect(self) -> R:
        """As :meth:`Stream.collect <vllm_client.streams.Stream.collect>`."""
        stream = await self._opened()
        mailbox = await self._started()
        if self._closed:
            raise mailbox.closed_error()
        mailbox.collect()
        while not mailbox.ended:
            await mailbox.wait()
        if mailbox.error is not None:
            raise mailbox.error
        return stream.collect()

    async def collect_text(self) -> str:
        """As :meth:`Stream.collect_text <vllm_client.streams.Stream.collect_text>`."""
        return (await self.collect()).text

    async def aclose(self) -> None:
        """Close the connection, upon which the server stops generating. May be repeated."""
        self._closed = True
        self._stop()

    def _stop(self) -> None:
        if self._mailbox is not None:
            self._mailbox.stop()
        elif self._stream is not None:
            self._stream.close()

    def __del__(self) -> None:
        self._stop()

    @property
    def _known(self) -> Stream[E, R]:
        stream = self._stream or (self._mailbox and self._mailbox.stream)
        if not stream:
            raise RuntimeError("the stream is not open yet: enter `async with` first")
        return stream

    @property
    def response(self) -> requests.Response:
        """The ``requests.Response``, once the stream is open."""
        return self._known.response

    @property
    def request_id(self) -> Optional[str]:
        """The ``x-request-id`` of the answer, if the server sends one."""
        return self._known.request_id

    @property
    def snapshot(self) -> R:
        """What has arrived so far, in the shape of the whole answer."""
        return self._known.snapshot

    @property
    def timings(self) -> Timings:
        """When the pieces arrived."""
        return self._known.timings
