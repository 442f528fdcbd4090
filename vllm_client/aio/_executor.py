"""Calls that are not streams, run in threads for an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import deque
from typing import Any, Callable, Deque, Optional, TypeVar

from .._http.call import CancelScope
from ..exceptions import APIConnectionError

T = TypeVar("T")

IDLE_SECONDS = 5.0
"""How long a thread without a call waits for the next one."""


class _Job:
    """A call, and the future of the loop that awaits it."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self._loop.create_future()
        self.scope = CancelScope()

    def run(self) -> None:
        """Make the call, in the running thread, unless its task was cancelled before."""
        if self.future.cancelled():
            return
        result: Any = None
        error: Optional[BaseException] = None
        try:
            with self.scope:
                result = self._call()
        except BaseException as raised:  # noqa: BLE001 — raised in the task that awaits
            error = raised
        self.settle(result, error)

    def settle(self, result: Any, error: Optional[BaseException]) -> None:
        """Deliver the result or the error to the task that awaits, from any thread."""
        with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits any more.
            self._loop.call_soon_threadsafe(self._settle, result, error)

    def _settle(self, result: Any, error: Optional[BaseException]) -> None:
        if self.future.done():
            return  # The task was cancelled.
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)


class CallExecutor:
    """Runs calls in threads, and cancels a call when its task is cancelled.

    Not a ``ThreadPoolExecutor``: the interpreter waits for the threads of that at its end, so a
    pending call would keep the process alive up to its timeout. These are daemon threads.

    Args:
        max_calls: Calls in progress at once; further calls wait for a thread.
    """

    def __init__(self, max_calls: int) -> None:
        if isinstance(max_calls, bool) or not isinstance(max_calls, int) or max_calls < 1:
            raise ValueError(f"max_calls must be an int, 1 or greater, not {max_calls!r}")
        self.max_calls = max_calls
        self._closed = False
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._jobs: Deque[_Job] = deque()
        self._threads = 0
        self._idle = 0

    async def run(self, call: Callable[[], T]) -> T:
        """The result of ``call``.

        Raises:
            APIConnectionError: The client is closed, or no thread can be started.
        """
        job = _Job(call)
        self._submit(job)
        try:
            result: T = await job.future
        except asyncio.CancelledError:
            job.scope.cancel()
            raise
        return result

    async def run_to_end(self, call: Callable[[], T], longest: float) -> T:
        """The result of ``call``. If it is cancelled, wait for its end, ``longest`` seconds.

        Raises:
            APIConnectionError: The client is closed, or no thread can be started.
        """
        job = _Job(call)
        self._submit(job)
        try:
            result: T = await asyncio.shield(job.future)
        except asyncio.CancelledError:
            job.scope.cancel()
            await asyncio.wait({job.future}, timeout=longest)
            if not job.future.cancel():
                job.future.exception()  # It is known, so the loop does not complain about it.
            raise
        return result

    def _submit(self, job: _Job) -> None:
        if os.getpid() != self._pid:
            self._reset()  # A child inherits the queue, but not the threads.
        with self._changed:
            if self._closed:
                raise APIConnectionError("the client is closed: make a new one")
            self._jobs.append(job)
            if self._idle < len(self._jobs) and self._threads < self.max_calls:
                self._start_thread(job)
            self._changed.notify()

    def _start_thread(self, job: _Job) -> None:
        thread = threading.Thread(target=self._work, name="vllm-client-call", daemon=True)
        self._threads += 1
        try:
            thread.start()
        except RuntimeError as error:
            self._threads -= 1
            if self._threads:
                return  # One of the others will take the job.
            self._jobs.remove(job)
            raise APIConnectionError(f"no thread can be started for the call: {error}") from error

    def _work(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                self._changed.wait_for(lambda: self._jobs or self._closed, IDLE_SECONDS)
                self._idle -= 1
                if not self._jobs:
                    self._threads -= 1
                    return
                job = self._jobs.popleft()
            job.run()
            del job  # While the thread waits, it must not keep the call's result alive.

    def shut_down(self) -> None:
        """Accept no more calls; those that wait for a thread fail."""
        with self._changed:
            self._closed = True
            waiting, self._jobs = list(self._jobs), deque()
            self._changed.notify_all()
        for job in waiting:
            job.settle(None, APIConnectionError("the client was closed before the call was sent"))
