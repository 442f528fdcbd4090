"""A thread that runs callbacks when their time has passed: it cancels calls at their deadline."""

from __future__ import annotations

import contextlib
import os
import threading
from time import monotonic
from typing import Callable, Dict, Optional, Tuple


class Watchdog:
    """Runs callbacks later, in a thread that lives only while there are callbacks to run.

    A callback runs in the watchdog's thread and must not block. It must not keep a call alive
    either: pass one that holds the call by a weak reference.
    """

    def __init__(self) -> None:
        self.after_fork()

    def after_fork(self) -> None:
        """Start empty; called in the child, which inherits the entries but not the thread."""
        self._changed = threading.Condition()
        self._due: Dict[object, Tuple[float, Callable[[], None]]] = {}
        self._thread: Optional[threading.Thread] = None

    def call_later(self, seconds: float, callback: Callable[[], None]) -> object:
        """Run ``callback`` after ``seconds``. Returns the alarm that :meth:`forget` takes."""
        alarm = object()
        with self._changed:
            self._due[alarm] = monotonic() + seconds, callback
            if self._thread is None:
                self._start()
            self._changed.notify()
        return alarm

    def forget(self, alarm: object) -> None:
        """Do not run the callback of this alarm."""
        with self._changed:
            if self._due.pop(alarm, None) is not None and not self._due:
                self._changed.notify()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="vllm-client-watchdog", daemon=True)
        # At the end of the interpreter no thread can start. A call then checks its deadline
        # between two reads only.
        with contextlib.suppress(RuntimeError):
            thread.start()
            self._thread = thread

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._due:
                    self._thread = None
                    return
                alarm, (when, callback) = min(self._due.items(), key=lambda item: item[1][0])
                wait = when - monotonic()
                if wait > 0:
                    del callback  # Whoever waits for a call to be collected does not wait for us.
                    self._changed.wait(min(wait, threading.TIMEOUT_MAX))
                    continue
                del self._due[alarm]
            callback()


watchdog = Watchdog()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=watchdog.after_fork)
