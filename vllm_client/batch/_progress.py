"""How far a run is: told to a callable, a bar of tqdm, or as lines on stderr."""

from __future__ import annotations

import sys
from time import perf_counter
from typing import Any, Callable, Optional, Union

from attrs import frozen

from ._engine import Engine
from .rows import BatchReport

_PER_SECOND = 10
_LINE_SECONDS = 10.0


@frozen
class BatchProgress:
    """How far a run is. Rates are those of this run, without resumed rows.

    Attributes:
        done: Rows with a response, resumed ones included.
        failed: Rows without one.
        resumed: Rows that an earlier run had finished.
        total: Rows of the input; None if that is not known.
        in_flight: Requests that wait for their response.
        limit: How many requests may be in flight now.
        elapsed: Seconds since the run began.
        rows_per_second: Rows that were finished per second.
        tokens_per_second: Output tokens per second.
        eta: Seconds to the end, if the rate stays; None if that is not known.
    """

    done: int
    failed: int
    resumed: int
    total: Optional[int]
    in_flight: int
    limit: int
    elapsed: float
    rows_per_second: float
    tokens_per_second: float
    eta: Optional[float]

    @classmethod
    def of(cls, report: BatchReport, engine: Engine, total: Optional[int]) -> BatchProgress:
        """The progress that a report of the moment shows."""
        finished = report.done + report.failed
        rate = (finished - report.skipped) / report.duration if report.duration else 0.0
        eta = (total - finished) / rate if total is not None and rate else None
        return cls(
            report.done,
            report.failed,
            report.skipped,
            total,
            engine.in_flight,
            engine.limit,
            report.duration,
            rate,
            report.output_throughput,
            eta,
        )

    def __str__(self) -> str:
        total = "" if self.total is None else f" of {self.total}"
        eta = "" if self.eta is None else f", {self.eta:.0f} s to go"
        resumed = f", {self.resumed} resumed" if self.resumed else ""
        return (
            f"{self.done + self.failed}{total} rows, {self.failed} failed{resumed}, "
            f"{self.rows_per_second:.1f} rows/s, {self.tokens_per_second:.0f} tokens/s{eta}"
        )


Progress = Union[bool, None, Callable[[BatchProgress], Any]]
"""True for a bar of tqdm (else lines on stderr), or a function that takes a BatchProgress."""


class Reporter:
    """Tells the progress at most ten times a second, always from the thread that iterates.

    Args:
        progress: What the caller asked for.
        engine: The run.
        report: Makes the figures of the moment.
        total: Rows of the input, if that is known.
    """

    def __init__(
        self,
        progress: Progress,
        engine: Engine,
        report: Callable[[], BatchReport],
        total: Optional[int],
    ) -> None:
        show = _shower(total) if progress is True else progress or None
        self._show: Optional[Callable[[BatchProgress], Any]] = show
        self._engine = engine
        self._report = report
        self._total = total
        self._shown_at = float("-inf")
        self._has_raised = False

    def update(self, *, last: bool = False) -> None:
        """Tell the progress, if it is time."""
        if self._show is None:
            return
        now = perf_counter()
        if last or now - self._shown_at >= 1 / _PER_SECOND:
            self._shown_at = now
            self._has_raised = True  # Unless it returns.
            self._show(BatchProgress.of(self._report(), self._engine, self._total))
            self._has_raised = False

    def close(self) -> None:
        """Tell the last state, except to a function that has raised, and end the bar."""
        if not self._has_raised:
            self.update(last=True)
        end = getattr(self._show, "close", None)
        if end is not None:
            end()


def _shower(total: Optional[int]) -> Callable[[BatchProgress], Any]:
    try:
        from tqdm.auto import tqdm  # noqa: PLC0415 — the extra `progress`
    except ImportError:
        return _Lines()
    # tqdm's monitor would be a thread that stays; the run updates its bar often enough.
    return _Bar(type("Bar", (tqdm,), {"monitor_interval": 0}), total)


class _Bar:
    """A bar of tqdm, which has a form of its own in notebooks."""

    def __init__(self, tqdm: Callable[..., Any], total: Optional[int]) -> None:
        self._bar = tqdm(total=total, unit="row")

    def __call__(self, progress: BatchProgress) -> None:
        if not self._bar.n and progress.resumed:
            # Not counted in the rate, neither of the whole run nor of the last moment.
            self._bar.initial = self._bar.n = self._bar.last_print_n = progress.resumed
        self._bar.update(progress.done + progress.failed - self._bar.n)
        tokens = f"{progress.tokens_per_second:.0f} tokens/s"
        self._bar.set_postfix_str(f"{progress.failed} failed, {tokens}", refresh=True)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()


class _Lines:
    """A line on stderr every ten seconds, and one at the end."""

    def __init__(self) -> None:
        self._printed_at = perf_counter()
        self._last: Optional[BatchProgress] = None

    def __call__(self, progress: BatchProgress) -> None:
        self._last = progress
        if perf_counter() - self._printed_at >= _LINE_SECONDS:
            self._printed_at = perf_counter()
            _print(progress)

    def close(self) -> None:
        """Print the last state."""
        _print(self._last)


def _print(progress: Optional[BatchProgress]) -> None:
    sys.stderr.write(f"{progress}\n")
    sys.stderr.flush()
