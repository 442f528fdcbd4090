"""A run to a file goes on while its input blocks.

The input stays in the thread of the run: it may be tied to it, as a database cursor is, and no
other thread could end a read that blocks. So the decisions move instead. A lock says whose turn it
is to decide. The thread of the run has the turn, except while it reads a row; if that takes long,
a stand-in takes the turn: it takes finished rows back, writes them, and sends rows again. An input
that does not block costs one lock a row.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from typing import Any, Callable, Optional

from ._engine import Engine
from ._rows import Job

_LONG_READ = 0.1
"""Seconds that a read may take before the stand-in takes the turn; at most twice as many."""


class RelievedEngine(Engine):
    """An engine that goes on while its input blocks; arguments as for :class:`Engine`."""

    def __init__(self, *settings: Any) -> None:
        super().__init__(*settings)
        self._begin: Callable[[], object] = bool
        self._take: Callable[[Job], object] = bool
        self._turn = threading.Lock()
        self._turn.acquire()
        self._reads = 0
        self._is_reading = False
        self._is_read = False  # The thread of the run wants its turn back.
        self._went_on = False
        self._failure: Optional[BaseException] = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._wait, name="vllm_client-batch", daemon=True)

    def stand_in(self, begin: Callable[[], object], take: Callable[[Job], object]) -> None:
        """From the next read on, let a stand-in work while the input blocks.

        Both functions are called in its thread, never while the thread of the run decides.

        Args:
            begin: Called each time when it takes the turn.
            take: Called with each job that it has finished.
        """
        self._begin, self._take = begin, take

    def _read(self) -> Optional[Job]:
        if self._is_reading:
            return None  # This is the stand-in.
        if self._thread.ident is None:
            self._thread.start()
        self._lend_turn()
        try:
            job = super()._read()
        finally:
            self._take_turn_back()
        if self._failure is not None:
            raise self._failure
        if job is not None and self._went_on:
            # There may be no room any more: it is sent before all others once there is.
            heapq.heappush(self._again, (0.0, next(self._numbers), job))
            job = None
        self._went_on = False
        return job

    def _lend_turn(self) -> None:
        self._reads += 1
        self._is_reading = True
        self._turn.release()

    def _take_turn_back(self) -> None:
        if not self._turn.acquire(blocking=False):
            self._is_read = True
            self.wake()
            self._turn.acquire()
        self._is_read = self._is_reading = False

    def _wait(self) -> None:
        seen = 0
        while self._failure is None and not self._ended.wait(_LONG_READ):
            if self._reads == seen and self._turn.acquire(blocking=False):
                try:
                    self._go_on()
                except BaseException as error:  # noqa: BLE001 — raised in the thread of the run
                    self._failure = error
                finally:
                    self._turn.release()
            seen = self._reads

    def _go_on(self) -> None:
        """Do all that needs no new row, until the thread of the run has read one."""
        self._went_on = True
        self._begin()
        while not self._is_read:
            for job in itertools.chain(self._send_more(), self._take_back()):
                self._take(job)

    def close(self) -> None:
        """Close the connections of the requests in flight, and end the threads."""
        self._stopped = self._is_read = True
        self._ended.set()
        self.wake()
        if self._thread.ident is not None:
            self._thread.join()
        super().close()
