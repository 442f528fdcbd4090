"""Many requests at once: one thread decides, worker threads send.

All decisions (what is sent next, what is tried again, when everybody pauses) are made in the
thread that iterates, so they need no lock; it also reads the input, which may be tied to its
thread as a database cursor is.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import logging
import random
from time import perf_counter
from typing import Any, Callable, Iterable, Iterator, List, Optional, Tuple, Union

from attrs import define, frozen

from .._http.open_files import most_connections
from .._http.transport import CallOptions, Transport
from ..exceptions import (
    APIConnectionError,
    APITimeoutError,
    BatchStoppedError,
    StreamConsumedError,
    VllmError,
)
from ._limit import ConcurrencyLimit
from ._rows import Job
from ._workers import Probe, Workers

logger = logging.getLogger("vllm_client")

_FIRST_PAUSE = 0.5
_FIRST_BUSY_PAUSE = 0.05
_LONGEST_PAUSE = 8.0
_LONGEST_PROBE_PAUSE = 5.0
_LONGEST_RETRY_AFTER = 60.0
_MOST_SENT_AT_ONCE = 4
"""Requests sent before the next look at what has arrived, if that is handed over first."""
_MOST_REJECTIONS = 64
"""A row that was rejected as often while others succeeded has failed."""
_BUSY = frozenset({429, 503})
_GATEWAY = frozenset({502, 504})
"""What a gateway says while the server behind it is away."""


@frozen
class Settings:
    """How a run behaves; the arguments of ``client.batch``."""

    max_concurrency: int = 256
    max_retries: int = 2
    patience: float = 600.0
    stop_after_failures: Optional[int] = 20
    adaptive: bool = True
    buffer_bytes: int = 64 << 20

    def checked(self) -> Settings:
        """These settings.

        Raises:
            ValueError: One of them is invalid.
        """
        positive("max_concurrency", self.max_concurrency)
        positive("buffer_bytes", self.buffer_bytes)
        if self.stop_after_failures is not None:
            positive("stop_after_failures", self.stop_after_failures)
        if not isinstance(self.patience, (int, float)) or not self.patience >= 0:
            raise ValueError(f"patience must be seconds, 0 or more, not {self.patience!r}")
        return self


@functools.lru_cache(maxsize=8)  # Once a process: each batch of a Mapper is a run.
def _tell_of_open_files(wanted: int, most: int) -> None:
    logger.warning(
        "at most %d of max_concurrency=%d requests at once, because the process may open no more "
        "files (ulimit -n)",
        most,
        wanted,
    )


@define
class Counts:
    """What happened so far in a run."""

    read: int = 0
    done: int = 0
    failed: int = 0
    retries: int = 0
    rejections: int = 0


class Engine:
    """One run over many rows: iterate over it once, in one thread.

    Args:
        transport: The server.
        jobs: The rows; read no further ahead than there is room. None is no row yet: the engine
            then waits for :meth:`wake`, and asks again.
        settings: How the run behaves.
        options: Headers and time limits of each call.

    Attributes:
        counts: What happened so far.
        in_flight: Requests that have been sent and not answered.
        waiting_bytes: Set by the reader: the bytes of finished rows that wait for their turn.
        hands_over_first: Set by the reader: whether it gets all finished rows before more is sent.
            If they are written at once, a killed run repeats fewer of them.
        before_waiting: Set by the reader: called when nothing is ready and the engine may wait. A
            reader that expects more because of :attr:`has_more_ready` may be disappointed: by a
            row that will be retried, or by a connection that was opened.
    """

    def __init__(
        self,
        transport: Transport,
        jobs: Iterable[Optional[Job]],
        settings: Settings,
        options: CallOptions,
    ) -> None:
        self._session = transport.session
        self._workers = Workers(transport, options)
        self._jobs = iter(jobs)
        self._settings = settings
        self._limit = ConcurrencyLimit(settings.max_concurrency, adaptive=settings.adaptive)
        most = most_connections()
        if most is not None and most < settings.max_concurrency:
            _tell_of_open_files(settings.max_concurrency, most)
            self._limit.lower_ceiling(most)
        self._again: List[Tuple[float, int, Job]] = []  # A heap: when, a tie-breaker, the job.
        self._numbers = itertools.count()
        self._input_ended = False
        self._input_error: Optional[BaseException] = None
        self._paused_until = 0.0
        self._away_since: Optional[float] = None
        self._away_pauses = 0
        self._suspects: List[Job] = []  # Rows whose connection broke, until the server was asked.
        self._probing = False
        self._busy_since: Optional[float] = None  # Rejections, and no answer since.
        self._last_error: Optional[BaseException] = None
        self._alike = (0, 0)  # The status that all rows so far failed with, and how many they are.
        self._stopped = False
        self.counts = Counts()
        self.in_flight = 0
        self.waiting_bytes = 0
        self.hands_over_first = False
        self.before_waiting: Callable[[], object] = bool
        self._looks_first = False  # More can be sent once what has arrived was handed over.

    @property
    def limit(self) -> int:
        """How many requests may be in flight now."""
        return self._limit.current

    @property
    def has_more_ready(self) -> bool:
        """Whether another job has been handed back already."""
        return self._workers.has_more_ready

    def __iter__(self) -> Iterator[Job]:
        """The finished jobs, as they finish: each has a response or an error.

        Raises:
            VllmError: The run cannot go on.
        """
        try:
            while True:
                yield from self._send_more()
                if self._input_ended and not (self.in_flight or self._again):
                    break
                yield from self._take_back()
            if self._input_error is not None:
                raise self._input_error
        finally:
            self.close()

    def wake(self) -> None:
        """Look at once whether something can be sent; from any thread."""
        self._workers.wake()

    def stop(self) -> None:
        """End the run from another thread; its iterator raises StreamConsumedError."""
        self._stopped = True
        self.wake()

    def close(self) -> None:
        """Close the connections of the requests in flight, and end the worker threads."""
        self._stopped = True
        self._workers.close()

    # What is sent.

    def _send_more(self) -> Iterator[Job]:
        """Send while there is room; yields rows that are wrong before they are sent."""
        self._looks_first = False
        sent = 0
        while self.in_flight < self._limit.current and not (self._probing or self._stopped):
            if self.hands_over_first and (self.has_more_ready or sent == _MOST_SENT_AT_ONCE):
                self._looks_first = True
                return
            now = perf_counter()
            if now < self._paused_until:
                return
            if self._away_since is not None:
                self._probe()
                return
            job = self._next(now)
            if job is None or self._stopped:  # The input may have blocked meanwhile.
                return
            if job.error is not None:
                self._count_failure(job)
                yield job
                self._check_stop(job)
                continue
            self._send(job)
            sent += 1

    def _next(self, now: float) -> Optional[Job]:
        if self._again and self._again[0][0] <= now:
            return heapq.heappop(self._again)[2]
        is_full = self.waiting_bytes >= self._settings.buffer_bytes and self.in_flight
        return None if self._input_ended or is_full else self._read()

    def _read(self) -> Optional[Job]:
        """The next row of the input; None if it has ended, or if none has come yet."""
        try:
            job = next(self._jobs)
        except StopIteration:
            self._input_ended = True
            return None
        except Exception as error:  # noqa: BLE001 — raised once the rows in flight are finished
            self._input_ended, self._input_error = True, error
            return None
        self.counts.read += job is not None
        return job

    def _send(self, work: Union[Job, Probe]) -> None:
        if not self._workers.hand_out(work):
            self._limit.lower_ceiling(max(self.in_flight, 1))
        self.in_flight += 1

    # What came back.

    def _take_back(self) -> Iterator[Job]:
        """Wait for what comes next: a job that is handed back, or the time to send one again."""
        if not self.has_more_ready:
            self.before_waiting()
        job = self._workers.take_back(self._seconds_to_wait())
        if self._stopped:
            raise StreamConsumedError("the run was closed")
        if job is None:
            return
        self.in_flight -= 1
        if isinstance(job, Probe):
            yield from self._note_probe(job)
        elif self._is_finished(job):
            yield job
            self._check_stop(job)

    def _seconds_to_wait(self) -> Optional[float]:
        """Until something can be sent without any job coming back; None if nothing can."""
        if self._looks_first:
            return 0.0
        if self._probing or self.in_flight >= self._limit.current:
            return None
        now = perf_counter()
        if now < self._paused_until:
            return self._paused_until - now
        return max(self._again[0][0] - now, 0.0) if self._again else None

    def _is_finished(self, job: Job) -> bool:
        error = job.error
        if error is None:
            self._busy_since = None
            self._limit.on_answer(job.sent_at)
            self.counts.done += 1
            return True
        if not isinstance(error, VllmError):
            raise error
        if self._session.is_closed:
            raise error  # The client was closed meanwhile.
        if self._is_sent_again(job, error):
            return False
        self._count_failure(job)
        return True

    def _is_sent_again(self, job: Job, error: VllmError) -> bool:
        status = getattr(error, "status_code", None)
        if status in _BUSY:
            return self._again_when_less_busy(job, error)
        breaks = isinstance(error, APIConnectionError) and not isinstance(error, APITimeoutError)
        if breaks or status in _GATEWAY:
            # Is the server away, or is it this row? Nothing is sent until it has been asked.
            self._suspects.append(job)
            self._probe()
            return True
        return error.is_retryable and self._again_as_attempt(job)

    def _again_when_less_busy(self, job: Job, error: VllmError) -> bool:
        now = perf_counter()
        self._limit.on_rejection(job.sent_at, now)
        self.counts.rejections += 1
        job.rejections += 1
        # Not since the last answer: a program may take its time between two rows.
        self._busy_since = now if self._busy_since is None else self._busy_since
        unanswered = now - self._busy_since
        others_succeed = unanswered < _LONGEST_PAUSE
        if unanswered > self._settings.patience or (
            others_succeed and job.rejections >= _MOST_REJECTIONS
        ):
            return False
        asked: Optional[float] = getattr(error, "retry_after", None)
        if asked is not None:
            self._paused_until = max(self._paused_until, now + min(asked, _LONGEST_RETRY_AFTER))
        self._queue_again(job, _jittered(_FIRST_BUSY_PAUSE, job.rejections))
        return True

    def _again_as_attempt(self, job: Job) -> bool:
        job.attempts += 1
        if job.attempts > self._settings.max_retries:
            return False
        self._queue_again(job, _jittered(_FIRST_PAUSE, job.attempts))
        return True

    def _queue_again(self, job: Job, pause: float) -> None:
        self.counts.retries += 1
        job.error = None
        heapq.heappush(self._again, (perf_counter() + pause, next(self._numbers), job))

    def _count_failure(self, job: Job) -> None:
        self.counts.failed += 1
        job.attempts = max(job.attempts, 1 if job.sent_at else 0)

    # Whether the server is there.

    def _probe(self) -> None:
        if not self._probing:
            self._probing = True
            self._send(Probe())

    def _note_probe(self, probe: Probe) -> Iterator[Job]:
        """Blame the suspected rows if the server is there; else pause, and blame none."""
        self._probing = False
        now = perf_counter()
        suspects, self._suspects = self._suspects, []
        if probe.is_up:
            self._away_since, self._away_pauses = None, 0
            for job in suspects:
                if not self._again_as_attempt(job):
                    self._count_failure(job)
                    yield job
            return
        for job in suspects:
            self._last_error = job.error
            self._queue_again(job, 0.0)
        if self._away_since is None:
            self._away_since = now
        elif now - self._away_since > self._settings.patience:
            raise BatchStoppedError(
                f"the server has been away for {self._settings.patience:g} s: {self._last_error}"
            ) from self._last_error
        self._away_pauses += 1
        self._paused_until = now + _jittered(_FIRST_PAUSE, self._away_pauses, _LONGEST_PROBE_PAUSE)

    def _check_stop(self, job: Job) -> None:
        """End the run if all rows so far were refused in the same way."""
        most, status = self._settings.stop_after_failures, getattr(job.error, "status_code", 500)
        # A row that failed before, and is tried once more, says nothing about the others.
        if self.counts.done or most is None or status >= 500 or job.failed_before:
            return
        self._alike = (status, self._alike[1] + 1 if self._alike[0] == status else 1)
        if self._alike[1] >= most:
            raise BatchStoppedError(
                f"the first {most} rows all failed with status {status}, so the run ends here: "
                f"{job.error}"
            ) from job.error


def positive(name: str, value: Any) -> int:
    """The value of an argument that must be an int above 0.

    Raises:
        ValueError: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be an int, 1 or greater, not {value!r}")
    return value


def _jittered(first: float, times: int, longest: float = _LONGEST_PAUSE) -> float:
    return min(first * 2.0 ** min(times - 1, 20), longest) * random.uniform(0.5, 1)
