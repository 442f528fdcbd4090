"""Many scores at once, on the engine of ``client.batch``."""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Generator, Generic, Iterable, Iterator, Optional, TypeVar

from .._http.transport import CallOptions, Transport
from ..batch._engine import Engine, Settings
from ..batch._rows import Job
from ..batch._runs import in_order
from ..exceptions import VllmError

T = TypeVar("T")

Task = Callable[[Transport], T]
"""Asks the server by this transport."""


class Results(Generic[T]):
    """The results of many tasks: an iterator, to be read in one thread; may be used in ``with``.

    Args:
        transport: The server.
        tasks: What to do; read in the thread that iterates, no further ahead than there is room.
            One that cannot be done is an exception.
        settings: How the run behaves.
        ordered: Whether results come in the order of the tasks.
        failure: Makes the result of a task that failed, from its number and its error; None raises
            the error.
    """

    def __init__(
        self,
        transport: Transport,
        tasks: Iterable[Any],
        settings: Settings,
        *,
        ordered: bool = True,
        failure: Optional[Callable[[int, Any], T]] = None,
    ) -> None:
        self._engine = Engine(transport, _jobs(tasks), settings, CallOptions())
        self._results = _results(self._engine, ordered, failure)

    def __iter__(self) -> Results[T]:
        return self

    def __next__(self) -> T:
        return next(self._results)

    def _stop(self) -> None:
        """End the run from another thread, without waiting for it."""
        self._engine.stop()

    def close(self) -> None:
        """End the run: requests in flight are cancelled. May be called again, by any thread."""
        self._engine.stop()
        with contextlib.suppress(ValueError):  # Another thread reads; it ends by itself.
            self._results.close()
            self._engine.close()

    def __enter__(self) -> Results[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _jobs(tasks: Iterable[Any]) -> Iterator[Job]:
    for index, task in enumerate(tasks):
        if isinstance(task, Exception):
            yield Job(index, str(index), error=task)
        else:
            yield Job(index, str(index), perform=task)


# A function, not a method: as in batch, a reference cycle would keep a run alive that was left.
def _results(
    engine: Engine, ordered: bool, failure: Optional[Callable[[int, Any], T]]
) -> Generator[T, None, None]:
    with contextlib.closing(engine):
        jobs = iter(engine)
        for job in in_order(jobs, engine) if ordered else jobs:
            if job.error is None:
                yield job.response
            elif failure is not None and isinstance(job.error, VllmError):
                yield failure(job.index, job.error)
            else:
                raise job.error
