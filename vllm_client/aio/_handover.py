"""The hand-over from a thread that reads a stream to the event loop that waits for its events."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from typing import Any, AsyncIterator, Callable, Deque, Dict, List, Optional

from .._http.call import Scope
from ..exceptions import StreamConsumedError
from ..streams import Stream

MOST_WAITING = 256
"""Events between thread and loop; with more waiting the thread reads no further."""


class Hub:
    """Wakes one loop on behalf of all its streams, with one call however many have news."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._news: List[Mailbox] = []
        self._open: weakref.WeakSet[Mailbox] = weakref.WeakSet()
        self._end = self._at_end()
        self._watched = False

    async def add(self, mailbox: Mailbox) -> None:
        """Stop this mailbox should the loop end before its stream."""
        self._open.add(mailbox)
        if not self._watched:
            self._watched = True
            await self._end.__anext__()

    async def _at_end(self) -> AsyncIterator[None]:
        # A loop that ends closes its asynchronous generators; nothing else tells that it ends.
        try:
            yield
        finally:
            self.stop()

    def stop(self) -> None:
        """End all streams: the loop has ended."""
        _hubs.pop(self._loop, None)
        for mailbox in list(self._open):
            mailbox.stop()

    def stop_if_closed(self) -> None:
        """For loops that were closed without ending their asynchronous generators."""
        if self._loop.is_closed():
            self.stop()

    def notify(self, mailbox: Mailbox) -> None:
        """Wake whoever waits for this mailbox; called by its thread."""
        with self._lock:
            self._news.append(mailbox)
            if len(self._news) > 1:
                return  # The loop has been called and has not come yet.
        try:
            self._loop.call_soon_threadsafe(self._wake)
        except RuntimeError:  # The loop is closed: nobody waits any more.
            self.stop()

    def _wake(self) -> None:
        with self._lock:
            news, self._news = self._news, []
        for mailbox in news:
            mailbox.wake()


_hubs: Dict[asyncio.AbstractEventLoop, Hub] = {}


def hub_of_running_loop() -> Hub:
    """The one hub of the running loop."""
    loop = asyncio.get_running_loop()
    hub = _hubs.get(loop)
    if hub is None:
        for other in list(_hubs.values()):
            other.stop_if_closed()
        hub = _hubs[loop] = Hub(loop)
    return hub


class Mailbox:
    """What thread and loop share of one stream.

    Attributes:
        stream: The stream, once its answer has begun.
        ended: Whether the thread has put its last event.
        error: What ended it, None at a good end.
    """

    def __init__(self, hub: Hub, stream: Optional[Stream[Any, Any]]) -> None:
        self.stream = stream
        self.ended = False
        self.error: Optional[BaseException] = None
        self._hub = hub
        self._scope = Scope()
        self._events: Deque[Any] = deque()
        self._stopped = False
        self._collecting = False
        self._full = False
        self._room = threading.Condition()
        self._waiter: Optional[asyncio.Future[None]] = None

    def start(self, open_stream: Callable[[], Stream[Any, Any]]) -> None:
        """Have a thread of its own open the stream and read it."""
        threading.Thread(
            target=self._pump, args=(open_stream,), name="vllm-client-stream", daemon=True
        ).start()

    def _pump(self, open_stream: Callable[[], Stream[Any, Any]]) -> None:
        try:
            with self._scope:
                stream = self.stream = open_stream()
            with stream:
                self._news()
                for event in stream:
                    if not self._put(event):
                        break
                if self._collecting:
                    stream.collect()
        except BaseException as error:  # noqa: BLE001 — it is raised in the task that reads
            self.error = error
        self.ended = True
        self._news()

    def _put(self, event: Any) -> bool:
        self._events.append(event)
        if self._waiter is not None:
            self._news()
        if len(self._events) >= MOST_WAITING:
            with self._room:
                self._full = True
                self._room.wait_for(self._has_room)
        return not (self._stopped or self._collecting)

    def _has_room(self) -> bool:
        return len(self._events) < MOST_WAITING or self._stopped or self._collecting

    def _news(self) -> None:
        self._hub.notify(self)

    def take(self) -> Any:
        """The next event. Raises IndexError if none is waiting."""
        event = self._events.popleft()
        if self._full and len(self._events) <= MOST_WAITING // 2:
            self._let_go()
        return event

    def _let_go(self) -> None:
        with self._room:
            self._full = False
            self._room.notify()

    async def wait(self) -> None:
        """Wait for news. Whatever ends the waiting early stops the stream."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            # The thread looks for a waiter after it has put something, we look the other way
            # round: one of us sees the other. One that was under way when collecting began is
            # no news: nobody will take it.
            if (self._collecting or not self._events) and not self.ended:
                await self._waiter
        except BaseException:
            self.stop()
            raise
        finally:
            self._waiter = None

    def wake(self) -> None:
        """There is news; called in the loop."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def collect(self) -> None:
        """Hand over no more events: let the thread read to the end."""
        self._collecting = True
        self._events.clear()
        self._let_go()

    def stop(self) -> None:
        """End the stream at once and from any thread, without waiting for its thread."""
        self._stopped = True
        self._scope.stop()
        if self.stream is not None:
            self.stream.close()
        self._let_go()

    def closed_error(self) -> StreamConsumedError:
        """The error of reading on after that."""
        return StreamConsumedError(
            "the stream was closed; what had arrived is in stream.snapshot",
            partial=None if self.stream is None else self.stream.snapshot,
        )
