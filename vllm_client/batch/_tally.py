"""Counts what a run did, for its progress and its report."""

from __future__ import annotations

from time import perf_counter
from typing import Any, Dict, Mapping

from ._engine import Engine
from ._rows import Job
from .rows import BatchReport, Durations


class Tally:
    """The figures of one run.

    Args:
        engine: Counts rows and retries.
        done_before: Rows that an earlier run had answered.
        failed_before: Rows that an earlier run had given up, and this run leaves.
    """

    def __init__(self, engine: Engine, done_before: int = 0, failed_before: int = 0) -> None:
        self._engine = engine
        self._done_before = done_before
        self._failed_before = failed_before
        self._began = perf_counter()
        self._latencies = Durations()
        self._queued = Durations()
        self._input_tokens = 0
        self._output_tokens = 0
        self._finish_reasons: Dict[str, int] = {}

    def add(self, job: Job) -> None:
        """Count a finished row."""
        if job.error is not None:
            return
        self._latencies.add(job.ended_at - job.sent_at)
        self._queued.add(max(job.sent_at - job.read_at, 0.0))
        raw: Mapping[str, Any] = getattr(job.response, "raw", None) or {}
        usage = raw.get("usage") or {}
        self._input_tokens += usage.get("prompt_tokens") or 0
        self._output_tokens += usage.get("completion_tokens") or 0
        for choice in raw.get("choices") or ():
            reason = choice.get("finish_reason") or "none"
            self._finish_reasons[reason] = self._finish_reasons.get(reason, 0) + 1

    def report(self) -> BatchReport:
        """The figures so far."""
        counts = self._engine.counts
        return BatchReport(
            read=counts.read,
            skipped=self._done_before + self._failed_before,
            done=counts.done + self._done_before,
            failed=counts.failed + self._failed_before,
            retries=counts.retries,
            rejections=counts.rejections,
            duration=perf_counter() - self._began,
            total_input_tokens=self._input_tokens,
            total_output_tokens=self._output_tokens,
            finish_reasons=dict(self._finish_reasons),
            mean_e2el_ms=self._latencies.mean_ms,
            median_e2el_ms=self._latencies.quantile_ms(0.5),
            p99_e2el_ms=self._latencies.quantile_ms(0.99),
            mean_queued_ms=self._queued.mean_ms,
            done_before=self._done_before,
        )
