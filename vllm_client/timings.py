"""When a response, or the chunks of a stream, arrived."""

from __future__ import annotations

import functools
from array import array
from operator import attrgetter
from time import perf_counter
from typing import Any, Dict, List, Optional, Protocol

from attrs import Factory, define, field

from ._shown import Brief, Items, figure, shown

__all__ = ["Timings"]


_SHOWN_RETRIES = 0.001
"""Seconds before the last attempt; with fewer there was no retry."""


class _Counts(Protocol):
    completion_tokens: int


@shown
@define
class Timings:
    """When a response arrived, in seconds and in the terms of ``vllm bench serve``.

    The clock starts when the request is sent that the server then answers: failed attempts and
    the pauses after them do not count. ``ttft_with_retries`` and ``duration_with_retries`` count
    them. A chunk is stamped when it leaves the socket, before it is decoded, so the figures
    contain no work of this library. Only chunks with choices count. A chunk may hold several
    tokens, so latencies are between chunks. A response of ``create()`` has no chunks.

    ``server`` is what the server measured itself: the ``metrics`` of a response, in milliseconds,
    if it runs with ``--enable-per-request-metrics``. Of a stream they come with ``collect()``.
    """

    started: float = field(factory=perf_counter, repr=False)
    stamps: array[float] = field(factory=functools.partial(array, "d"), repr=False)
    ended: Optional[float] = field(default=None, repr=False)
    output_tokens: Optional[int] = None
    called: float = field(
        default=Factory(attrgetter("started"), takes_self=True), kw_only=True, repr=False
    )
    server: Optional[Dict[str, Any]] = field(default=None, kw_only=True)

    @property
    def chunks(self) -> int:
        """How many chunks with choices have arrived."""
        return len(self.stamps)

    @property
    def ttft(self) -> Optional[float]:
        """Time to first token: from the request to the first chunk; None before it."""
        return self.stamps[0] - self.started if self.stamps else None

    @property
    def ttft_with_retries(self) -> Optional[float]:
        """From the call of ``stream()``, with all attempts, to the first chunk; None before it."""
        return self.stamps[0] - self.called if self.stamps else None

    @property
    def inter_chunk_latencies(self) -> List[float]:
        """The time from each chunk to the next: one less than there are chunks."""
        return [later - sooner for sooner, later in zip(self.stamps, self.stamps[1:])]

    @property
    def duration(self) -> float:
        """From the request to the end of the response, or to now while a stream is open."""
        return (perf_counter() if self.ended is None else self.ended) - self.started

    @property
    def duration_with_retries(self) -> float:
        """From the call of the method, with all attempts, to the end of the response or to now."""
        return self.duration + self.started - self.called

    @property
    def output_tokens_per_second(self) -> Optional[float]:
        """Tokens of the server's usage divided by ``duration``; None without usage."""
        return None if self.output_tokens is None else self.output_tokens / self.duration

    def _shown_items(self) -> Items:
        yield "ttft", figure(self.ttft)
        yield "duration", figure(self.duration)
        if self.started - self.called > _SHOWN_RETRIES:
            yield "ttft_with_retries", figure(self.ttft_with_retries)
            yield "duration_with_retries", figure(self.duration_with_retries)
        yield "chunks", self.chunks or None
        if self.chunks > 1:
            latencies = self.inter_chunk_latencies
            median = sorted(latencies)[len(latencies) // 2]
            yield "inter_chunk_latencies", Brief(f"<{len(latencies)}, median {figure(median)}>")
        yield "output_tokens", self.output_tokens
        if self.ended is not None:
            yield "output_tokens_per_second", figure(self.output_tokens_per_second)
        yield "server", self.server

    def end(self, usage: Optional[_Counts], at: Optional[float] = None) -> None:
        """Stop the clock, now or as of ``at``, unless it has been stopped."""
        if self.ended is None:
            self.ended = perf_counter() if at is None else at
        self.output_tokens = None if usage is None else usage.completion_tokens
