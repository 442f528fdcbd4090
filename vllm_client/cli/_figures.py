"""Outcomes of a load → figures with the names and definitions of ``vllm bench serve``."""

from __future__ import annotations

from collections import Counter
from typing import Any, Dict, List, Sequence

from attrs import define, field

from ._load import Outcome

__all__ = ["LABELS", "Figures", "percentile"]

LABELS = {
    "ttft": "TTFT",
    "tpot": "TPOT",
    "itl": "ITL",
    "e2el": "E2E",
    "client_delay": "client delay",
}
"""The measures: time to first token, per output token after it, between chunks, the whole."""


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share (0 to 1) lies, between neighbours as NumPy does it."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


@define
class Figures:
    """The figures of a load.

    Attributes:
        outcomes: What became of each request.
        duration: Seconds from the first request to the last end.
        cpu: Seconds of CPU that the client used.
        seconds: The measured values by the names in ``LABELS``. Only complete responses count.
    """

    outcomes: List[Outcome]
    duration: float
    cpu: float
    seconds: Dict[str, List[float]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.seconds = {name: [] for name in LABELS}
        for outcome in self.complete:
            self._measure(outcome)
        self.seconds["client_delay"] = [outcome.delay for outcome in self.outcomes]

    @property
    def complete(self) -> List[Outcome]:
        """The requests with a complete response."""
        return [outcome for outcome in self.outcomes if outcome.error is None]

    @property
    def errors(self) -> Dict[str, int]:
        """How often each error came, the most frequent first."""
        found = Counter(outcome.error for outcome in self.outcomes if outcome.error)
        return dict(found.most_common())

    @property
    def cut(self) -> int:
        """How many complete responses ``max_tokens`` cut."""
        return sum(outcome.finish_reason == "length" for outcome in self.complete)

    def _measure(self, outcome: Outcome) -> None:
        timings = outcome.timings
        if timings is None or not timings.stamps:
            return
        first, last = timings.stamps[0] - timings.started, timings.stamps[-1] - timings.started
        self.seconds["ttft"].append(first)
        self.seconds["itl"] += timings.inter_chunk_latencies
        self.seconds["e2el"].append(last)
        if outcome.output_tokens > 1:
            self.seconds["tpot"].append((last - first) / (outcome.output_tokens - 1))

    def to_dict(self) -> Dict[str, Any]:
        """All figures; times in milliseconds, throughput a second."""
        complete = self.complete
        prompts = sum(outcome.prompt_tokens for outcome in complete)
        outputs = sum(outcome.output_tokens for outcome in complete)
        figures: Dict[str, Any] = {
            "completed": len(complete),
            "failed": len(self.outcomes) - len(complete),
            "cut_by_max_tokens": self.cut,
            "duration": self.duration,
            "total_input_tokens": prompts,
            "total_output_tokens": outputs,
            "request_throughput": len(complete) / self.duration,
            "output_throughput": outputs / self.duration,
            "total_token_throughput": (prompts + outputs) / self.duration,
            "client_cpu_seconds": self.cpu,
            "errors": self.errors,
        }
        for name, values in self.seconds.items():
            if values:
                figures[f"mean_{name}_ms"] = 1000 * sum(values) / len(values)
                figures[f"median_{name}_ms"] = 1000 * percentile(values, 0.5)
                figures[f"p99_{name}_ms"] = 1000 * percentile(values, 0.99)
        return figures
