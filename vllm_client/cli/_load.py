"""A load on a server: many streams at a concurrency or at a rate."""

from __future__ import annotations

import random
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from time import perf_counter, sleep
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

from attrs import define

from ..client import VllmClient
from ..exceptions import VllmError
from ..timings import Timings

__all__ = ["Load", "Outcome"]

Params = Dict[str, Any]

_MOST_THREADS = 1024
"""The limit of a load with a rate alone. A request beyond it waits, and that is reported."""
_LOOK = 0.5
"""Seconds between two reports of progress."""


@define
class Outcome:
    """What became of a request.

    Attributes:
        delay: Seconds between when it should have been sent and when it was: what the client
            itself added.
        timings: When its chunks arrived; None without a complete response.
        prompt_tokens, output_tokens: The server's counts.
        finish_reason: Of the first choice.
        error: Why there is no complete response.
    """

    delay: float
    timings: Optional[Timings] = None
    prompt_tokens: int = 0
    output_tokens: int = 0
    finish_reason: Optional[str] = None
    error: Optional[str] = None


class Load:
    """How requests are spread over time.

    Args:
        client: Must not retry: a retry would hide a failure, and its time.
        concurrency: Requests in flight at most; None means no limit of its own.
        rate: Requests a second, at random moments (a Poisson process); None sends the next as soon
            as one ends.
        seed: Of the random moments.
    """

    def __init__(
        self,
        client: VllmClient,
        concurrency: Optional[int] = None,
        rate: Optional[float] = None,
        seed: int = 0,
    ) -> None:
        self._client = client
        self._threads = concurrency or _MOST_THREADS
        self._rate = rate
        self._seed = seed
        self._outcomes: List[Outcome] = []
        self._is_stopped = False

    def run(self, requests: Sequence[Params], progress: Callable[[int], None]) -> List[Outcome]:
        """Send all requests, and return what became of each, in the order in which they ended.

        Args:
            requests: The fields of each; with ``messages`` it is a chat.
            progress: Called now and then with the number that has ended.
        """
        self._outcomes = []
        with ThreadPoolExecutor(min(self._threads, len(requests)), "bench") as pool:
            try:
                pending = set(self._begin(pool, requests))
                while pending:
                    ended, pending = wait(pending, _LOOK)
                    for each in ended:
                        each.result()  # An error of the program itself is not lost.
                    progress(len(self._outcomes))
            except BaseException:  # Ctrl-C: the threads end when their streams do.
                self._is_stopped = True
                pool.shutdown(wait=False, cancel_futures=True)
                self._client.close()
                raise
        return self._outcomes

    def _begin(self, pool: ThreadPoolExecutor, requests: Sequence[Params]) -> List[Future[None]]:
        if self._rate is None:
            waiting = iter(requests)  # Its next() is atomic.
            workers = min(self._threads, len(requests))
            return [pool.submit(self._send_each, waiting) for _ in range(workers)]
        begin, futures = perf_counter(), []
        for params, moment in zip(requests, self._moments(self._rate)):
            sleep(max(0.0, begin + moment - perf_counter()))
            futures.append(pool.submit(self._send, params, begin + moment))
        return futures

    def _moments(self, rate: float) -> Iterator[float]:
        chance, moment = random.Random(self._seed), 0.0
        while True:
            yield moment
            moment += chance.expovariate(rate)

    def _send_each(self, waiting: Iterator[Params]) -> None:
        due = perf_counter()
        for params in waiting:
            if self._is_stopped:
                return
            self._send(params, due)
            due = perf_counter()

    def _send(self, params: Params, due: float) -> None:
        called = perf_counter()
        try:
            self._outcomes.append(self._outcome(params, due))
        except (VllmError, TypeError, ValueError) as error:  # The last two: values of fields.
            message = f"{type(error).__name__}: {error}"
            self._outcomes.append(Outcome(called - due, error=message))

    def _outcome(self, params: Params, due: float) -> Outcome:
        is_chat = "messages" in params
        route: Any = self._client.chat.completions if is_chat else self._client.completions
        with route.stream(**params) as stream:
            deque(stream, maxlen=0)  # Reads to the end, without a step of Python's for each event.
        whole = stream.snapshot
        counts = (whole.usage.prompt_tokens, whole.usage.completion_tokens) if whole.usage else ()
        outcome = Outcome(stream.timings.started - due, stream.timings, *counts)
        outcome.finish_reason = whole.finish_reason
        return outcome
