"""Helpers for asynchronous tests: a loop for each test, and waits that leave the loop free."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, Awaitable, Callable, List

from vllm_client import AsyncVllmClient

from ..servers import Served
from ..threads import WAIT, Tally


def run(main: Callable[[], Awaitable[Any]]) -> Any:
    """Run ``main()`` in a new loop, whose complaints are errors."""
    return asyncio.run(asyncio.wait_for(main(), 3 * WAIT), debug=True)


def run_with(served: Served, main: Callable[[Any], Awaitable[Any]], **settings: Any) -> Any:
    """Run ``main(client)`` in a new loop, with an asynchronous client of this server."""

    async def with_client() -> Any:
        async with AsyncVllmClient(served.base_url, **settings) as client:
            return await main(client)

    return run(with_client)


async def in_thread(work: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function that blocks, without blocking the loop."""
    return await asyncio.get_running_loop().run_in_executor(None, work, *arguments)


async def reached(tally: Tally, count: int = 1) -> None:
    """Wait until the tally has reached this count."""
    assert await in_thread(tally.wait, count)


def reader_threads() -> List[threading.Thread]:
    """The threads that read streams."""
    return [t for t in threading.enumerate() if t.name.startswith("vllm-client-stream")]
