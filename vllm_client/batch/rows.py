"""What a run over many rows gives: a row, and at the end a report."""

from __future__ import annotations

import math
from typing import Any, Dict, Optional

from attrs import define, field

from .._shown import Items, fields_of, figure, shown
from ..exceptions import VllmError
from ..types.shared import Usage

__all__ = ["BatchReport", "BatchRow"]


@shown
@define
class BatchRow:
    """One row of a run: a response or an error.

    Attributes:
        index: The number of the row in the input, from 0.
        custom_id: Its name in the input; the number as text if it has none.
        response: The response, as ``create()`` returns it; None if the row failed.
        error: Why the row failed, a :class:`~vllm_client.VllmError`; None if it did not.
        attempts: How often the row was sent, not counting refusals of a busy server.
        duration: Seconds from the last sending to the response.
        queued: Seconds from the reading of the row to its last sending.
    """

    index: int
    custom_id: str
    response: Any = None
    error: Optional[VllmError] = None
    attempts: int = 1
    duration: float = 0.0
    queued: float = 0.0

    def _shown_items(self) -> Items:
        yield "index", self.index
        yield "custom_id", None if self.custom_id == str(self.index) else self.custom_id
        yield "response", self.response
        yield "error", self.error
        yield "attempts", self.attempts if self.attempts > 1 else None
        yield "duration", figure(self.duration)
        yield "queued", figure(self.queued)

    @property
    def ok(self) -> bool:
        """Whether there is a complete response."""
        return self.error is None

    @property
    def text(self) -> str:
        """The text of the response; empty if the row failed or its route has no text."""
        text: str = getattr(self.response, "text", "") or ""
        return text

    @property
    def usage(self) -> Optional[Usage]:
        """The token counts of the response."""
        usage: Optional[Usage] = getattr(self.response, "usage", None)
        return usage


class Durations:
    """Mean and quantiles of many durations, to about 1 %, in constant memory."""

    def __init__(self) -> None:
        self._counts: Dict[int, int] = {}
        self._total = 0.0
        self.count = 0

    def add(self, seconds: float) -> None:
        """Count a duration."""
        key = round(math.log(max(seconds, 1e-6)) * 50)
        self._counts[key] = self._counts.get(key, 0) + 1
        self._total += seconds
        self.count += 1

    @property
    def mean_ms(self) -> float:
        """The mean in milliseconds; 0 without any."""
        return 1000 * self._total / self.count if self.count else 0.0

    def quantile_ms(self, share: float) -> float:
        """The duration that this share of all does not exceed, in milliseconds; 0 without any."""
        left = share * self.count
        for key in sorted(self._counts):
            left -= self._counts[key]
            if left <= 0:
                return 1000 * math.exp(key / 50)
        return 0.0


@shown
@define
class BatchReport:
    """What a run did. Throughputs and latencies are those of this run, without resumed rows.

    ``read + skipped == done + failed`` at the end of a complete run. The names of the figures are
    those of ``vllm bench serve``; ``…_e2el_ms`` is the time from sending a row to its response.

    Attributes:
        read: Rows that this run read and sent.
        skipped: Rows that an earlier run had finished.
        done: Rows with a response, skipped ones included.
        failed: Rows without one.
        retries: How often a row was sent again.
        rejections: How often the server was too busy.
        duration: Seconds.
        total_input_tokens: As the server counts them.
        total_output_tokens: As the server counts them.
        finish_reasons: How many choices ended for which reason. ``length`` means cut by
            ``max_tokens``.
    """

    read: int = 0
    skipped: int = 0
    done: int = 0
    failed: int = 0
    retries: int = 0
    rejections: int = 0
    duration: float = 0.0
    total_input_tokens: int = 0
    total_output_tokens: int = 0
    finish_reasons: Dict[str, int] = field(factory=dict)
    mean_e2el_ms: float = 0.0
    median_e2el_ms: float = 0.0
    p99_e2el_ms: float = 0.0
    mean_queued_ms: float = 0.0
    done_before: int = 0
    """Rows that had a response before this run."""
    output: Optional[str] = None
    """The path of the output file."""
    errors: Optional[str] = None
    """The path of the file of failed rows."""

    def _shown_items(self) -> Items:
        for name, value in fields_of(self):
            yield name, figure(value) if isinstance(value, float) else value

    @property
    def request_throughput(self) -> float:
        """Rows that this run finished, per second."""
        return self._rate(self.done - self.done_before)

    @property
    def output_throughput(self) -> float:
        """Output tokens per second."""
        return self._rate(self.total_output_tokens)

    @property
    def total_token_throughput(self) -> float:
        """Input and output tokens per second."""
        return self._rate(self.total_input_tokens + self.total_output_tokens)

    def _rate(self, count: float) -> float:
        return count / self.duration if self.duration else 0.0
