"""Work in other threads, and how to wait for it."""

from __future__ import annotations

import sys
import threading
from typing import Any, Callable, Optional

WAIT = 10.0
"""Seconds after which a test that waits has failed."""


class SocketReads:
    """Inside its ``with`` block, notes when the thread waits for data from a socket."""

    def __init__(self) -> None:
        self._waiting = threading.Event()

    def __enter__(self) -> SocketReads:
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def wait(self) -> None:
        """Wait until the thread waits for data; called in another thread."""
        assert self._waiting.wait(WAIT), "the other thread does not read"

    def _note(self, _frame: Any, event: str, function: Any) -> None:
        if event == "c_call" and _waits_for_data(function):
            self._waiting.set()
        elif event.startswith("c_") and _waits_for_data(function):
            self._waiting.clear()


class Running(threading.Thread):
    """Work in another thread; ``result()`` returns its result or raises its error."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._outcome: Any = None
        self._error: Optional[BaseException] = None
        self._reads = SocketReads()
        self.start()

    def run(self) -> None:
        try:
            with self._reads:
                self._outcome = self._work()
        except BaseException as error:  # Raised by result(), in the thread of the test.
            self._error = error

    def result(self) -> Any:
        self.join(WAIT)
        assert not self.is_alive(), "the other thread hangs"
        if self._error is not None:
            raise self._error
        return self._outcome

    def error(self) -> BaseException:
        self.join(WAIT)
        assert not self.is_alive(), "the other thread hangs"
        assert self._error is not None, f"there was no error but {self._outcome!r}"
        return self._error

    def wait_blocked(self) -> None:
        """Wait until the thread waits for data from a socket."""
        self._reads.wait()


def _waits_for_data(function: Any) -> bool:
    """Whether it is the method of a socket that waits for data; TLS has its own, in C."""
    name, owner = function.__name__, type(getattr(function, "__self__", None)).__name__
    return name in {"recv", "recv_into"} or (name == "read" and owner == "_SSLSocket")
