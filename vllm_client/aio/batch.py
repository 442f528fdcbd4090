"""Many prompts for ``asyncio``: one thread reads a run and hands its rows over to the loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Coroutine,
    Generic,
    Iterator,
    Optional,
    Protocol,
    Type,
    TypeVar,
)

from ..batch import Batch, BatchReport, BatchRow, BatchRows
from ..exceptions import StreamConsumedError
from ._executor import CallExecutor
from ._handover import Handover, LoopNotifier, notifier_of_running_loop

if TYPE_CHECKING:
    from typing_extensions import Concatenate, ParamSpec, Self

    P = ParamSpec("P")

__all__ = ["AsyncBatch", "AsyncBatchRows", "AsyncRows"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_ROWS_IN_A_ROW = 64
"""After as many rows that needed no waiting, other tasks may run."""
_LONGEST_END = 5.0
"""Seconds to wait for the end of a cancelled run: its input may block for longer."""


class _Run(Protocol[T_co]):
    """An iterator of the rows of a run; may be used in ``with``, and stopped by any thread."""

    def __enter__(self) -> Iterator[T_co]: ...
    def __exit__(self, *_: object) -> None: ...
    def _stop(self) -> None: ...
    def close(self) -> None: ...


class _RowHandover(Handover[T]):
    """What thread and loop share of one run."""

    what = "batch"

    def __init__(self, notifier: LoopNotifier, rows: _Run[T]) -> None:
        super().__init__(notifier)
        self._rows = rows
        self._loop = asyncio.get_running_loop()
        self._finished = self._loop.create_future()

    def start(self) -> None:
        """Read the rows in a thread of their own."""
        self._start(self._read)

    def _read(self) -> None:
        try:
            with self._rows as rows:
                for row in rows:  # They end by themselves once the run is stopped.
                    self._put(row)
        finally:
            with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits any more.
                self._loop.call_soon_threadsafe(self._finished.set_result, None)

    def _cancel(self) -> None:
        self._rows._stop()

    async def wait_finished(self) -> None:
        """Wait until no request is in flight and the thread has ended."""
        if not self.ended:
            await asyncio.wait({self._finished}, timeout=_LONGEST_END)
        if self._thread is not None and (self.ended or self._finished.done()):
            self._thread.join()  # It does nothing more that takes time.


class AsyncRows(Generic[T]):
    """The results of a run: an asynchronous iterator; may be used in ``async with``.

    A thread of its own reads the input and decides what is sent. It starts with the first use, and
    ends with the run. At most 256 finished results wait to be taken; then the thread sends no more.
    Cancelling a task that reads ends the run at once.

    Args:
        rows: A run of the synchronous client.

    Raises, while it is read:
        BatchError, VllmError: As the run of the synchronous client does.
    """

    def __init__(self, rows: _Run[T]) -> None:
        self._rows = rows
        self._handover: Optional[_RowHandover[T]] = None
        self._closed = False
        self._in_a_row = 0

    async def _started(self) -> _RowHandover[T]:
        if self._closed:
            raise StreamConsumedError("the run is closed")
        if self._handover is None:
            notifier = notifier_of_running_loop()
            self._handover = _RowHandover(notifier, self._rows)
            await notifier.add(self._handover)
            self._handover.start()
        return self._handover

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        handover = await self._started()
        await self._yield_sometimes()
        while not self._closed:
            try:
                return handover.take()
            except IndexError:  # noqa: PERF203 — as in AsyncStream
                if handover.is_drained:
                    raise handover.error or StopAsyncIteration from None
                self._in_a_row = 0
                await handover.wait()
        raise StreamConsumedError("the run is closed")

    async def _yield_sometimes(self) -> None:
        # Taking a row that waits already does not suspend the task.
        self._in_a_row += 1
        if self._in_a_row >= _ROWS_IN_A_ROW:
            self._in_a_row = 0
            await asyncio.sleep(0)

    async def aclose(self) -> None:
        """End the run: requests in flight are cancelled. May be called again, by any task."""
        self._closed = True
        self._stop()
        if self._handover is not None:
            await self._handover.wait_finished()

    def _stop(self) -> None:
        if self._handover is not None:
            self._handover.stop()
        else:
            self._rows.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # After `break` nothing else tells the thread that nobody reads any more.
        if hasattr(self, "_in_a_row"):  # Else the constructor has failed.
            self._stop()


class AsyncBatchRows(AsyncRows[BatchRow]):
    """The finished rows of a run: an asynchronous iterator; may be used in ``async with``.

    A thread of its own reads the input and decides what is sent. At most 256 finished rows wait to
    be taken; then the thread sends no more. Cancelling a task that reads ends the run at once.

    Args:
        rows: A run of the synchronous client.

    Raises, while it is read:
        BatchError, VllmError: As :class:`~vllm_client.BatchRows` does.
    """

    _rows: BatchRows

    def report(self) -> BatchReport:
        """What the run did so far."""
        return self._rows.report()


def _in_thread(
    method: Callable[Concatenate[Any, P], T],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """The asynchronous twin of a run to a file."""

    async def call(self: AsyncBatch, /, *args: P.args, **kwargs: P.kwargs) -> T:
        bound = functools.partial(method, self._sync, *args, **kwargs)
        return await self._executor.run_to_end(bound, _LONGEST_END)

    functools.update_wrapper(call, method)
    return call


def _rows(
    method: Callable[Concatenate[Any, P], BatchRows],
) -> Callable[Concatenate[Any, P], AsyncBatchRows]:
    """The asynchronous twin of a method that returns an iterator of rows."""

    def call(self: AsyncBatch, /, *args: P.args, **kwargs: P.kwargs) -> AsyncBatchRows:
        return AsyncBatchRows(method(self._sync, *args, **kwargs))

    functools.update_wrapper(call, method)
    return call


class AsyncBatch:
    """Many requests at once; see ``docs/batch.md``.

    The input is read, and ``progress`` is called, in a thread of the run. A cancelled ``run()``
    returns once its files are closed, so that the same call can go on at once.

    Args:
        sync: What it is the twin of.
        executor: Runs the runs to a file.
    """

    def __init__(self, sync: Batch, executor: CallExecutor) -> None:
        self._sync = sync
        self._executor = executor

    completions = _rows(Batch.completions)
    chat = _rows(Batch.chat)
    embeddings = _rows(Batch.embeddings)
    score = _rows(Batch.score)
    rerank = _rows(Batch.rerank)
    # mypy fears that **params names a second `self`.
    run = _in_thread(Batch.run)  # type: ignore[arg-type]
