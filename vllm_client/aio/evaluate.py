"""Scores of given texts for ``asyncio``."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Callable, TypeVar

from ..evaluate import Evaluate
from ..evaluate._many import Results
from ._twin import AsyncTwin, in_thread
from .batch import AsyncRows

if TYPE_CHECKING:
    from typing_extensions import Concatenate, ParamSpec

    P = ParamSpec("P")

__all__ = ["AsyncEvaluate"]

T = TypeVar("T")


def _results(
    method: Callable[Concatenate[Any, P], Results[T]],
) -> Callable[Concatenate[Any, P], AsyncRows[T]]:
    """The asynchronous twin of a method that returns an iterator of results."""

    def call(self: AsyncTwin, /, *args: P.args, **kwargs: P.kwargs) -> AsyncRows[T]:
        return AsyncRows(method(self._sync, *args, **kwargs))

    functools.update_wrapper(call, method)
    return call


class AsyncEvaluate(AsyncTwin):
    """Scores of given texts; see ``docs/evaluate.md``."""

    loglikelihood = in_thread(Evaluate.loglikelihood)
    loglikelihoods = _results(Evaluate.loglikelihoods)
    choose = in_thread(Evaluate.choose)
    perplexity = in_thread(Evaluate.perplexity)
