"""Calls that are not streams, run in threads on behalf of an event loop."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable

from .._http.call import Scope
from ..exceptions import APIConnectionError


class Calls:
    """Runs calls in threads, and stops a call whose task is cancelled.

    Args:
        most: Calls in flight at once; more wait for a thread.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._executor = ThreadPoolExecutor(most, thread_name_prefix="vllm-client-call")

    async def run(self, work: Callable[[], Any]) -> Any:
        """The result of this work.

        Raises:
            APIConnectionError: The client is closed.
        """
        scope = Scope()
        try:
            future = self._executor.submit(_within, scope, work)
        except RuntimeError:
            raise APIConnectionError("the client is closed: make a new one") from None
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            scope.stop()
            raise

    def shut(self) -> None:
        """Take no more calls."""
        self._executor.shutdown(wait=False)


def _within(scope: Scope, work: Callable[[], Any]) -> Any:
    with scope:
        return work()
