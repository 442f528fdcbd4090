"""The queue of idle connections."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    _Queue = queue.LifoQueue[Any]
else:  # Not a generic class at run time in Python 3.9.
    _Queue = queue.LifoQueue


class ReentrantQueue(_Queue):
    """A queue that a signal handler can use while its own thread is inside it.

    A handler that closes the client returns connections to the pool that the interrupted code may
    be taking one from.
    """

    def __init__(self, maxsize: int = 0) -> None:
        super().__init__(maxsize)
        mutex: Any = threading.RLock()
        self.mutex = mutex
        self.not_empty = threading.Condition(mutex)
        self.not_full = threading.Condition(mutex)
        self.all_tasks_done = threading.Condition(mutex)

    def _get(self) -> Any:
        try:
            return super()._get()
        except IndexError:  # A handler took the last one after get() had seen it.
            raise queue.Empty from None
