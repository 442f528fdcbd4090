"""Work in other threads, and how to wait for it."""

from __future__ import annotations

import sys
import threading
from typing import Any, Callable, Optional

WAIT = 10.0
"""Seconds after which a test that waits has failed."""


def wait_until(condition: Callable[[], bool]) -> bool:
    """Wait for what tells nobody that it has changed, such as a file."""
    pause = threading.Event()
    return any(condition() or pause.wait(0.005) for _ in range(int(WAIT / 0.005)))


class Tally:
    """Counts what happens in other threads."""

    def __init__(self) -> None:
        self.count = 0
        self._changed = threading.Condition()

    def add(self) -> None:
        with self._changed:
            self.count += 1
            self._changed.notify_all()

    def wait(self, count: int = 1, seconds: float = WAIT) -> bool:
        """Wait until the count is reached; return whether it was in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self.count >= count, seconds)


class BlockedCalls:
    """Notes, inside its ``with`` block, when the thread waits for a socket or for an event."""

    def __init__(self) -> None:
        self._reads = threading.Event()
        self._pauses = threading.Event()

    def __enter__(self) -> BlockedCalls:
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def wait_for_read(self) -> None:
        """Wait, in another thread, until the thread waits for data from a socket."""
        assert self._reads.wait(WAIT), "the other thread does not read"

    def wait_for_pause(self) -> None:
        """Wait, in another thread, until the thread waits for a ``threading.Event``."""
        assert self._pauses.wait(WAIT), "the other thread does not pause"

    def _note(self, frame: Any, event: str, function: Any) -> None:
        if event == "c_call" and _waits_for_data(function):
            self._reads.set()
        elif event.startswith("c_") and _waits_for_data(function):
            self._reads.clear()
        elif event == "call" and frame.f_code is _EVENT_WAIT:
            self._pauses.set()
        elif event == "return" and frame.f_code is _EVENT_WAIT:
            self._pauses.clear()


_EVENT_WAIT = threading.Event.wait.__code__


class Running(threading.Thread):
    """Work in another thread; ``result()`` returns its result or raises its error."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._outcome: Any = None
        self._error: Optional[BaseException] = None
        self._blocked = BlockedCalls()
        self.start()

    def run(self) -> None:
        try:
            with self._blocked:
                self._outcome = self._work()
        except BaseException as error:  # Raised by result(), in the thread of the test.
            self._error = error

    def result(self) -> Any:
        self.join(WAIT)
        assert not self.is_alive(), "the other thread does not end"
        if self._error is not None:
            raise self._error
        return self._outcome

    def error(self) -> BaseException:
        """Return the error that the work raised."""
        self.join(WAIT)
        assert not self.is_alive(), "the other thread does not end"
        assert self._error is not None, f"no error was raised; the result is {self._outcome!r}"
        return self._error

    def wait_blocked(self) -> None:
        """Wait until the thread waits for data from a socket."""
        self._blocked.wait_for_read()

    def wait_paused(self) -> None:
        """Wait until the thread waits for a ``threading.Event``."""
        self._blocked.wait_for_pause()


def _waits_for_data(function: Any) -> bool:
    """Whether the function is a socket method that waits for data; TLS sockets have their own."""
    name, owner = function.__name__, type(getattr(function, "__self__", None)).__name__
    return name in {"recv", "recv_into"} or (name == "read" and owner == "_SSLSocket")
