"""When the pieces of a stream arrived."""

from __future__ import annotations

from array import array
from time import perf_counter
from typing import List, Optional

from attrs import define, field

from .types.shared import Usage


@define
class Timings:
    """When the pieces of a stream arrived, in seconds and in the terms of ``vllm bench serve``.

    The clock starts when the request is sent and a chunk is stamped as it comes off the socket,
    before it is decoded, so the figures hold none of this library's own work. Only chunks with
    choices count. A chunk may hold several tokens, so latencies are between chunks.
    """

    started: float = field(factory=perf_counter, repr=False)
    stamps: array[float] = field(factory=lambda: array("d"), repr=False)
    ended: Optional[float] = field(default=None, repr=False)
    output_tokens: Optional[int] = None

    @property
    def chunks(self) -> int:
        """How many chunks with choices have arrived."""
        return len(self.stamps)

    @property
    def ttft(self) -> Optional[float]:
        """Time to first token: from the request to the first chunk; None before it."""
        return self.stamps[0] - self.started if self.stamps else None

    @property
    def inter_chunk_latencies(self) -> List[float]:
        """The time from each chunk to the next: one less than there are chunks."""
        return [later - sooner for sooner, later in zip(self.stamps, self.stamps[1:])]

    @property
    def duration(self) -> float:
        """From the request to the end of the stream, or to now while it is open."""
        return (perf_counter() if self.ended is None else self.ended) - self.started

    @property
    def output_tokens_per_second(self) -> Optional[float]:
        """Tokens of the server's usage figure by ``duration``; None without usage."""
        return None if self.output_tokens is None else self.output_tokens / self.duration

    def end(self, usage: Optional[Usage], at: Optional[float] = None) -> None:
        """Stop the clock, now or as of ``at``, unless it has been stopped."""
        if self.ended is None:
            self.ended = perf_counter() if at is None else at
        self.output_tokens = None if usage is None else usage.completion_tokens
