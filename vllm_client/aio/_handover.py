"""The hand-over from a thread that reads, a stream or a run, to the loop that awaits."""

from __future__ import annotations

import asyncio
import functools
import threading
import weakref
from collections import deque
from typing import (
    Any,
    AsyncIterator,
    Callable,
    Deque,
    Dict,
    Generic,
    List,
    Optional,
    TypeVar,
)

from .._http.call import CancelScope
from ..exceptions import APIConnectionError, StreamConsumedError
from ..streams import Stream

MOST_WAITING = 256
"""Events between thread and loop. When as many wait, the thread stops reading."""

E = TypeVar("E")
R = TypeVar("R")


class LoopNotifier:
    """Wakes one loop for all its hand-overs, with one call however many have something."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._to_wake: List[Handover[Any]] = []
        self._open: weakref.WeakSet[Handover[Any]] = weakref.WeakSet()
        self._end = self._at_end()
        self._watched = False

    async def add(self, handover: Handover[Any]) -> None:
        """Stop this hand-over if the loop ends before its stream."""
        self._open.add(handover)
        if not self._watched:
            self._watched = True
            await self._end.__anext__()

    async def _at_end(self) -> AsyncIterator[None]:
        # A loop that ends closes its asynchronous generators. Nothing else signals its end.
        try:
            yield
        finally:
            self.stop()

    def stop(self) -> None:
        """Close all streams: the loop has ended."""
        _notifiers.pop(self._loop, None)
        for handover in list(self._open):
            handover.stop()

    def stop_if_closed(self) -> None:
        """Close all streams of a loop that was closed without closing its generators."""
        if self._loop.is_closed():
            self.stop()

    def notify(self, handover: Handover[Any]) -> None:
        """Wake the task that waits for this hand-over; called by its thread."""
        with self._lock:
            self._to_wake.append(handover)
            if len(self._to_wake) > 1:
                return  # The loop has been called and has not run _wake yet.
        try:
            self._loop.call_soon_threadsafe(self._wake)
        except RuntimeError:  # The loop is closed, so nobody waits any more.
            self.stop()

    def _wake(self) -> None:
        with self._lock:
            to_wake, self._to_wake = self._to_wake, []
        for handover in to_wake:
            handover.wake()


_notifiers: Dict[asyncio.AbstractEventLoop, LoopNotifier] = {}


def notifier_of_running_loop() -> LoopNotifier:
    """The one notifier of the running loop."""
    loop = asyncio.get_running_loop()
    notifier = _notifiers.get(loop)
    if notifier is None:
        for other in list(_notifiers.values()):
            other.stop_if_closed()
        notifier = _notifiers[loop] = LoopNotifier(loop)
    return notifier


class Handover(Generic[E]):
    """What a thread that reads shares with the loop.

    Attributes:
        ended: Whether the thread has added its last item.
        error: The error that ended the reading, or None.
    """

    what = "stream"
    """What the thread reads, for messages and the name of the thread."""

    def __init__(self, notifier: LoopNotifier) -> None:
        self.ended = False
        self.error: Optional[BaseException] = None
        self._notifier = notifier
        self._events: Deque[E] = deque()
        self._stopped = False
        self._collecting = False
        self._full = False
        self._room = threading.Condition()
        self._waiter: Optional[asyncio.Future[None]] = None
        self._thread: Optional[threading.Thread] = None

    def _start(self, read: Callable[[], None]) -> None:
        """Call ``read`` in a thread of its own."""
        thread = threading.Thread(
            target=self._pump, args=(read,), name=f"vllm-client-{self.what}", daemon=True
        )
        try:
            thread.start()
            self._thread = thread
        except RuntimeError as error:
            self.error = APIConnectionError(
                f"no thread can be started for the {self.what}: {error}"
            )
            self.ended = True

    def _pump(self, read: Callable[[], None]) -> None:
        try:
            read()
        except BaseException as error:  # noqa: BLE001 — raised in the task that reads
            self.error = error
        self.ended = True
        self._notifier.notify(self)

    def _put(self, event: E) -> bool:
        """Add an item, and wait while too many wait already. Returns whether to read on."""
        self._events.append(event)
        if self._waiter is not None:
            self._notifier.notify(self)
        if len(self._events) >= MOST_WAITING:
            with self._room:
                self._full = True
                self._room.wait_for(self._has_room)
        return not (self._stopped or self._collecting)

    def _has_room(self) -> bool:
        return len(self._events) < MOST_WAITING or self._stopped or self._collecting

    def take(self) -> E:
        """The next item. Raises IndexError if none waits."""
        event = self._events.popleft()
        if self._full and len(self._events) <= MOST_WAITING // 2:
            self._wake_thread()
        return event

    @property
    def is_drained(self) -> bool:
        """Whether nothing waits to be taken and nothing will come."""
        return self.ended and not self._events  # In this order: the thread adds, then ends.

    def _wake_thread(self) -> None:
        with self._room:
            self._full = False
            self._room.notify()

    async def wait(self) -> None:
        """Wait until :meth:`wake`. If the waiting ends in any other way, stop the thread.

        Raises:
            StreamConsumedError: Another task waits already; the reading goes on for that one.
        """
        if self._waiter is not None:
            raise StreamConsumedError(
                f"another task reads this {self.what}: iterate over it in one task",
                partial=self._partial(),
            )
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            # The thread appends and then looks for a waiter; we register and then look for
            # events. Whatever the order, one side notices. While collecting, ignore leftover
            # events: nobody will take them.
            if (self._collecting or not self._events) and not self.ended:
                await self._waiter
        except BaseException:
            self.stop()
            raise
        finally:
            self._waiter = None

    def wake(self) -> None:
        """Items have arrived, or the reading has begun or ended; called in the loop."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def stop(self) -> None:
        """End the reading at once, from any thread, without waiting for its thread."""
        self._stopped = True
        self._cancel()
        self._wake_thread()

    def _cancel(self) -> None:
        """End what the thread waits for."""
        raise NotImplementedError

    def _partial(self) -> Optional[Any]:
        """What has arrived so far, for errors."""
        return None


class EventHandover(Handover[E], Generic[E, R]):
    """What thread and loop share of one stream.

    Attributes:
        stream: The stream, once it is open. Written by the thread.
    """

    def __init__(self, notifier: LoopNotifier, stream: Optional[Stream[E, R]]) -> None:
        super().__init__(notifier)
        self.stream = stream
        self._scope = CancelScope()

    def start(self, open_stream: Callable[[], Stream[E, R]]) -> None:
        """Open and read the stream in a thread of its own."""
        self._start(functools.partial(self._read, open_stream))

    def _read(self, open_stream: Callable[[], Stream[E, R]]) -> None:
        with self._scope:
            stream = self.stream = open_stream()
        with stream:
            self._notifier.notify(self)
            for event in stream:
                if not self._put(event):
                    break
            if self._collecting:
                stream._read_to_end()

    @property
    def has_events(self) -> bool:
        """Whether events wait to be taken; while collecting, nobody will take any."""
        return bool(self._events) and not self._collecting

    def collect(self) -> None:
        """Let the thread read to the end, whatever waits to be taken."""
        self._collecting = True
        self._wake_thread()

    def drop_events(self) -> None:
        """Forget the events that nobody has taken, once :attr:`ended`: the thread adds no more."""
        self._events.clear()

    def _cancel(self) -> None:
        self._scope.cancel()
        if self.stream is not None:
            self.stream.close()

    def _partial(self) -> Optional[R]:
        return None if self.stream is None else self.stream.snapshot

    def closed_error(self) -> StreamConsumedError:
        """The error of a program that reads on after that."""
        return StreamConsumedError(
            "the stream is closed; stream.snapshot holds what arrived before",
            partial=self._partial(),
        )
