"""Calls that are not streams, run in threads for an event loop."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, TypeVar

from .._http.call import CancelScope
from ..exceptions import APIConnectionError

T = TypeVar("T")


class CallExecutor:
    """Runs calls in threads, and cancels a call when its task is cancelled.

    Args:
        max_calls: Calls in progress at once; further calls wait for a thread.
    """

    def __init__(self, max_calls: int) -> None:
        self.max_calls = max_calls
        self._executor = ThreadPoolExecutor(max_calls, thread_name_prefix="vllm-client-call")

    async def run(self, call: Callable[[], T]) -> T:
        """The result of ``call``.

        Raises:
            APIConnectionError: The client is closed.
        """
        scope = CancelScope()
        try:
            future = self._executor.submit(_run_in_scope, scope, call)
        except RuntimeError:
            raise APIConnectionError("the client is closed: make a new one") from None
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            scope.cancel()
            raise

    def shut_down(self) -> None:
        """Accept no more calls."""
        self._executor.shutdown(wait=False)


def _run_in_scope(scope: CancelScope, call: Callable[[], T]) -> T:
    with scope:
        return call()
