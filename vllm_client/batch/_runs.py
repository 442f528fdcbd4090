"""The two kinds of runs: rows that a program iterates over, and rows that go to a file."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import (
    Any,
    Dict,
    FrozenSet,
    Generator,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Sized,
    Tuple,
)

from attrs import frozen

from .._http.call import current
from .._http.transport import CallOptions, Transport
from ._engine import Engine, Settings
from ._input_thread import InputThread
from ._progress import Progress, Reporter
from ._rows import Job, RowReader, check_rows
from ._source import check_readable, count_rows, rows_of_file
from ._stand_in import RelievedEngine
from ._store import OutputFile
from ._tally import Tally
from .routes import Route
from .rows import BatchReport, BatchRow

logger = logging.getLogger("vllm_client")

_ROW_BYTES = 2048
"""What a row that waits for its turn takes besides its request and response."""
_MOST_IN_A_WRITE = 64


@frozen
class Run:
    """What all runs have in common.

    Attributes:
        transport: The server.
        settings: How the run behaves.
        options: Headers and time limits of each call.
        common: Request fields of all rows.
        answer_type: The class that ``response_format`` named; its schema stands in ``common``.
        route: The route of all rows; None takes it from each row.
        strict: Whether a row that cannot be sent ends the run.
        progress: Whom to tell.
        fields: The names in ``common`` that are fields of some route.
    """

    transport: Transport
    settings: Settings
    options: CallOptions
    common: Mapping[str, Any]
    answer_type: Optional[type]
    route: Optional[Route]
    strict: bool
    progress: Progress
    fields: FrozenSet[str] = frozenset()

    def reader(self, rows: Iterable[Any], place: str = "row") -> RowReader:
        """The jobs of these rows."""
        return RowReader(
            rows,
            self.route,
            self.common,
            strict=self.strict,
            place=place,
            answer_type=self.answer_type,
            fields=self.fields,
        )

    def engine(self, jobs: Iterable[Optional[Job]]) -> Engine:
        """What sends these jobs."""
        return Engine(self.transport, jobs, self.settings, self.options)


class BatchRows:
    """The finished rows of a run: an iterator, to be read in one thread; may be used in ``with``.

    Args:
        run: The run.
        rows: Its input.
        ordered: Whether rows come in the order of the input, and not as they finish.
        input_thread: Whether a thread of its own reads the input.
    """

    def __init__(self, run: Run, rows: Iterable[Any], *, ordered: bool, input_thread: bool) -> None:
        jobs = InputThread(run.reader(rows)) if input_thread else None
        self._engine = run.engine(jobs or run.reader(rows))
        self._tally = Tally(self._engine)
        total = len(rows) if isinstance(rows, Sized) else None
        reporter = Reporter(run.progress, self._engine, self._tally.report, total)
        self._rows = _finished_rows(self._engine, self._tally, reporter, ordered, jobs)

    def __iter__(self) -> BatchRows:
        return self

    def __next__(self) -> BatchRow:
        return next(self._rows)

    def report(self) -> BatchReport:
        """What the run did so far."""
        return self._tally.report()

    def _stop(self) -> None:
        """End the run from another thread, without waiting for it."""
        self._engine.stop()

    def close(self) -> None:
        """End the run: requests in flight are cancelled. May be called again, by any thread."""
        self._engine.stop()
        with contextlib.suppress(ValueError):  # Another thread reads; it ends by itself.
            self._rows.close()
            self._engine.close()

    def __enter__(self) -> BatchRows:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# A function, not a method: a reference cycle would keep a run that was left by ``break`` alive,
# and its requests, until the next garbage collection.
def _finished_rows(
    engine: Engine,
    tally: Tally,
    reporter: Reporter,
    ordered: bool,
    input_thread: Optional[InputThread],
) -> Generator[BatchRow, None, None]:
    with contextlib.ExitStack() as stack:
        if input_thread is not None:
            input_thread.on_job = engine.wake
            stack.callback(input_thread.close)
        stack.callback(engine.close)
        stack.callback(reporter.close)
        jobs = iter(engine)
        for job in in_order(jobs, engine) if ordered else jobs:
            tally.add(job)
            reporter.update()
            yield row_of(job)


def in_order(jobs: Iterator[Job], engine: Engine) -> Iterator[Job]:
    """The jobs in the order of the input; what waits for its turn counts against the buffer."""
    waiting: Dict[int, Tuple[Job, int]] = {}
    turn = 0
    for job in jobs:
        size = len(job.received) + len(job.content) + _ROW_BYTES
        waiting[job.index] = job, size
        engine.waiting_bytes += size
        while turn in waiting:
            next_job, size = waiting.pop(turn)
            engine.waiting_bytes -= size
            turn += 1
            yield next_job


def row_of(job: Job) -> BatchRow:
    """What the program gets of a finished job."""
    error: Any = job.error
    return BatchRow(
        job.index,
        job.custom_id,
        None if error else job.response,
        error,
        job.attempts + (error is None),
        max(job.ended_at - job.sent_at, 0.0),
        max(job.sent_at - job.read_at, 0.0),
    )


@frozen
class FileOptions:
    """How a run reads and writes its files.

    Attributes:
        ordered: Whether the file is put into the order of the input at the end.
        retry_failed: Whether rows are tried again that failed for good.
        sync_every: Rows after which the file is forced to the disk.
        prompts: Whether each line of the input is a prompt as it stands.
        shard: ``(3, 8)`` takes the rows whose number leaves 3 when divided by 8.
    """

    ordered: bool = False
    retry_failed: bool = False
    sync_every: int = 1000
    prompts: bool = False
    shard: Tuple[int, int] = (0, 1)


def run_to_file(run: Run, source: Any, output: Path, files: FileOptions) -> BatchReport:
    """Send the rows of a source and append each response to a file.

    Raises:
        BatchError: The run cannot begin or go on.
        OSError: The file cannot be written.
    """
    rows, place, total = _opened(source, files, run.progress)  # Before a file is made.
    route = None if run.route is None else run.route.url
    settings = {"route": route, "params": dict(run.common), "shard": list(files.shard)}
    opened = OutputFile(
        output, settings, sync_every=files.sync_every, retry_failed=files.retry_failed
    )
    with opened as store, _interrupt_explained(output):
        jobs = _unfinished(run.reader(rows, place), store, files.shard)
        engine = RelievedEngine(run.transport, jobs, run.settings, run.options)
        engine.hands_over_first = True
        if current.scope is not None:
            current.scope.register_call(engine.stop)
        tally = Tally(engine, store.done, len(store.given_up))
        in_shard = total and len(range(files.shard[0], total, files.shard[1]))
        reporter = Reporter(run.progress, engine, tally.report, in_shard)
        try:
            _write_all(engine, _Writer(engine, store, tally), reporter)
        finally:
            reporter.close()
        if files.ordered:
            store.put_in_order()
        report = tally.report()
        report.output, report.errors = str(store.path), str(store.errors_path)
        return report


@contextlib.contextmanager
def _interrupt_explained(output: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        logger.warning("run the same again: it goes on with the rows that %s lacks", output)
        raise


def _opened(source: Any, files: FileOptions, progress: Progress) -> Tuple[Any, str, Optional[int]]:
    """The rows of a source, what a row of it is called, and how many there are if it is known."""
    if isinstance(source, (str, Path)):
        check_readable(source)
        total = count_rows(source) if progress else 0
        return rows_of_file(source, prompts=files.prompts), "line", total or None
    check_rows(source, "the input must be a path or")
    return source, "row", len(source) if isinstance(source, Sized) else None


def _unfinished(reader: RowReader, store: OutputFile, shard: Tuple[int, int]) -> Iterator[Job]:
    remainder, divisor = shard
    count = 0
    for job in reader:
        count = job.index + 1
        if job.index % divisor == remainder and not store.check_same(job):
            job.failed_before = job.index in store.retried
            yield job
    store.check_all_read(count)


class _Writer:
    """Counts finished rows, and writes all that are there at once."""

    def __init__(self, engine: Engine, store: OutputFile, tally: Tally) -> None:
        self._engine = engine
        self._store = store
        self._tally = tally
        self._ready: List[Job] = []

    def add(self, job: Job) -> bool:
        """Take a row. Returns whether it was written at once, with those before it."""
        self._tally.add(job)
        self._ready.append(job)
        waits = self._engine.has_more_ready and len(self._ready) < _MOST_IN_A_WRITE
        if not waits:
            self.flush()
        return not waits

    def flush(self) -> None:
        """Write what waits."""
        if self._ready:
            written, self._ready = self._ready, []
            self._store.write(written)


def _write_all(engine: RelievedEngine, writer: _Writer, reporter: Reporter) -> None:
    engine.stand_in(writer.flush, writer.add)
    engine.before_waiting = writer.flush
    try:
        for job in engine:
            if writer.add(job):
                reporter.update()
    finally:
        engine.close()
        writer.flush()
