"""Runs the requests of an evaluation; what a file has of an earlier run is not asked again."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from time import perf_counter
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional

from attrs import field, frozen

from .._http.transport import CallOptions, Transport
from ..batch._engine import Engine, Settings
from ..batch._progress import Progress, Reporter
from ..batch._rows import Job
from ..batch._store import OutputFile
from ..batch._tally import Tally
from ..exceptions import EvaluationError
from ..types._json import JsonObject

_MOST_IN_A_WRITE = 64

Seen = Callable[[int, JsonObject], None]
"""Told the number and the result of each task, as it finishes or is found in the file."""


@frozen
class Task:
    """One request.

    Attributes:
        key: What tells whether a later run has the same request.
        perform: Asks the server; its result is what is stored.
    """

    key: Mapping[str, Any]
    perform: Callable[[Transport], JsonObject]


@frozen
class ResultFile:
    """Where the results of a kind of requests are kept.

    Attributes:
        path: The file.
        settings: What must be the same in every run.
    """

    path: Path
    settings: Mapping[str, Any]


@frozen
class TaskRun:
    """How tasks are run.

    Attributes:
        transport: The server.
        settings: Of the engine.
        file: Where results are kept; None keeps none.
        progress: Whom to tell.
        total: How many tasks there are, if that is known.
        seen: Told each result.
    """

    transport: Transport
    settings: Settings
    file: Optional[ResultFile] = None
    progress: Progress = None
    total: Optional[int] = None
    seen: Seen = field(default=lambda _index, _result: None)

    def results(self, tasks: Iterable[Task]) -> List[JsonObject]:
        """The result of each task, in their order.

        Raises:
            BatchError: The file was written with other settings, or by another process.
            EvaluationError: Some tasks failed; the results of the others are in the file.
            VllmError: A task failed, and there is no file.
            OSError: The file cannot be written.
        """
        with contextlib.ExitStack() as stack:
            store = None if self.file is None else stack.enter_context(_opened(self.file))
            found = {} if store is None else _stored(store.path)
            keys = _Counted(tasks)
            engine = Engine(
                self.transport, _jobs(keys, store, found, self.seen), self.settings, CallOptions()
            )
            stack.callback(engine.close)
            tally = Tally(engine, len(found))
            reporter = Reporter(self.progress, engine, tally.report, self.total)
            stack.callback(reporter.close)
            failed = self._collect(engine, store, tally, reporter, found)
        if failed:
            raise _summary(failed, keys.count, store)
        return [found[index] for index in range(keys.count)]

    def _collect(
        self,
        engine: Engine,
        store: Optional[OutputFile],
        tally: Tally,
        reporter: Reporter,
        found: Dict[int, JsonObject],
    ) -> List[Job]:
        """Take the finished jobs. Returns those that failed."""
        failed: List[Job] = []
        ready: List[Job] = []

        def write() -> None:
            written = ready.copy()
            ready.clear()
            if store is not None and written:
                store.write(written)

        engine.before_waiting = write
        try:
            for job in engine:
                tally.add(job)
                if job.error is None:
                    found[job.index] = job.response
                    job.received = _encoded(job.response)
                    self.seen(job.index, job.response)
                elif store is None:
                    raise job.error
                else:
                    failed.append(job)
                ready.append(job)
                if not engine.has_more_ready or len(ready) >= _MOST_IN_A_WRITE:
                    write()
                    reporter.update()
        finally:
            write()
        return failed


class _Counted:
    """Tasks, and how many of them were read."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._tasks = tasks
        self.count = 0

    def __iter__(self) -> Iterator[Task]:
        for task in self._tasks:
            self.count += 1
            yield task


def _opened(file: ResultFile) -> OutputFile:
    # An evaluation needs every result, so what failed for good is tried again too.
    return OutputFile(file.path, file.settings, retry_failed=True)


def _stored(path: Path) -> Dict[int, JsonObject]:
    with path.open("rb") as lines:
        rows = [json.loads(line) for line in lines]
    return {row["vllm_client"]["index"]: row["response"]["body"] for row in rows}


def _jobs(
    tasks: Iterable[Task],
    store: Optional[OutputFile],
    found: Mapping[int, JsonObject],
    seen: Seen,
) -> Iterator[Job]:
    for index, task in enumerate(tasks):
        job = Job(index, str(index), content=_encoded(task.key), perform=task.perform)
        job.read_at = perf_counter()
        if store is not None and store.check_same(job):
            seen(index, found[index])
        else:
            yield job


def _encoded(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _summary(failed: List[Job], count: int, store: Optional[OutputFile]) -> EvaluationError:
    first = min(failed, key=lambda job: job.index)
    assert store is not None  # Without a file the first failure ends the run.
    error = EvaluationError(
        f"{len(failed)} of {count} requests failed. The results of the others are in {store.path}, "
        f"and the same command sends only the failed ones again. The first of these is request "
        f"{first.index}: {first.error}"
    )
    error.__cause__ = first.error
    return error
