"""An input that is read in a thread of its own, so that waiting for it holds nobody up."""

from __future__ import annotations

import queue
import threading
from typing import Callable, Iterable, Iterator, Optional, Tuple

from ._rows import Job

_Outcome = Tuple[Optional[Job], Optional[BaseException]]


class InputThread:
    """An iterator that never waits: None means that the next job has not come yet.

    The thread reads one job when it is asked for one, so it is never further ahead.

    Args:
        jobs: The input.

    Attributes:
        on_job: Called in the thread when there is a job, the end, or an error.
    """

    def __init__(self, jobs: Iterable[Job]) -> None:
        self.on_job: Callable[[], object] = bool
        self._requests: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[_Outcome] = queue.SimpleQueue()
        self._is_asked = False
        # The thread alone holds the input, so a generator is closed when the thread ends.
        arguments = (iter(jobs), self._requests, self._hand_over)
        self._thread = threading.Thread(
            target=_read, args=arguments, name="vllm_client-batch-input", daemon=True
        )

    def __iter__(self) -> InputThread:
        return self

    def __next__(self) -> Optional[Job]:
        if not self._is_asked:
            self._is_asked = True
            if self._thread.ident is None:
                self._thread.start()
            self._requests.put(True)
        try:
            job, error = self._outcomes.get_nowait()
        except queue.Empty:
            return None
        self._is_asked = False
        if error is not None:
            raise error
        return job

    def _hand_over(self, job: Optional[Job], error: Optional[BaseException]) -> None:
        self._outcomes.put((job, error))
        self.on_job()

    def close(self) -> None:
        """End the thread; if its input blocks, it ends when the next row has come."""
        self._requests.put(False)
        is_reading = self._is_asked and self._outcomes.empty()
        if self._thread.ident is not None and not is_reading:
            self._thread.join()


def _read(
    jobs: Iterator[Job],
    requests: queue.SimpleQueue[bool],
    hand_over: Callable[[Optional[Job], Optional[BaseException]], None],
) -> None:
    while requests.get():
        try:
            job = next(jobs)
        except BaseException as error:  # noqa: BLE001 — raised in the thread that iterates
            hand_over(None, error)
            return
        hand_over(job, None)
