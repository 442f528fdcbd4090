"""The asynchronous twins of synchronous objects and of their methods."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Callable, Coroutine, TypeVar, cast

from ..streams import Stream
from ._executor import CallExecutor
from .stream import AsyncStream

if TYPE_CHECKING:
    from typing_extensions import Concatenate, ParamSpec

    P = ParamSpec("P")

T = TypeVar("T")
E = TypeVar("E")
R = TypeVar("R")


class AsyncTwin:
    """The asynchronous twin of a synchronous object.

    Args:
        sync: That object.
        executor: Runs its methods.
    """

    def __init__(self, sync: Any, executor: CallExecutor) -> None:
        self._sync = sync
        self._executor = executor


def in_thread(
    method: Callable[Concatenate[Any, P], T],
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
    """The asynchronous twin of a method: the same call, run in a thread."""

    async def call(self: AsyncTwin, /, *args: P.args, **kwargs: P.kwargs) -> T:
        bound = functools.partial(method, self._sync, *args, **kwargs)
        result: Any = await self._executor.run(bound)
        if isinstance(result, Stream):  # create(stream=True) returns one.
            result = AsyncStream(result)
        return cast("T", result)

    functools.update_wrapper(call, method)
    return call


def in_own_thread(
    method: Callable[Concatenate[Any, P], Stream[E, R]],
) -> Callable[Concatenate[Any, P], AsyncStream[E, R]]:
    """The asynchronous twin of a method that opens a stream, to be used in ``async with``."""

    def call(self: AsyncTwin, /, *args: P.args, **kwargs: P.kwargs) -> AsyncStream[E, R]:
        return AsyncStream(functools.partial(method, self._sync, *args, **kwargs))

    functools.update_wrapper(call, method)
    return call
