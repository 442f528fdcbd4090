"""Many streams at the same time: CPU, delivery latency, memory, threads, and time to cancel.

The functions here run in the client's process.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

from .. import clients
from ..recorded_streams import COMPLETIONS

_SETTLE = 1.0


def status(field: str) -> int:
    """Return a number from this process's status in /proc: ``VmRSS`` in KB, or ``Threads``."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def percentiles(nanoseconds: List[int]) -> Tuple[float, float]:
    """Return p50 and p99 in milliseconds."""
    cuts = statistics.quantiles(nanoseconds, n=100)
    return cuts[49] / 1e6, cuts[98] / 1e6


class Window:
    """The measurements between ``open()`` and ``close()`` while all streams run."""

    def __init__(self, streams: int) -> None:
        self.begun = 0
        self._streams = streams
        self._latencies: List[int] = []
        self._is_open = False
        self._before = status("VmRSS")

    def new_receiver(self) -> Callable[[str], None]:
        """Return a function that receives the texts of one stream."""
        has_begun = False

        def on_text(text: str) -> None:
            nonlocal has_begun
            if self._is_open:
                self._latencies.append(time.monotonic_ns() - int(text))
            elif not has_begun:
                has_begun = True
                self.begun += 1

        return on_text

    @property
    def all_begun(self) -> bool:
        """Whether every stream has received a text."""
        return self.begun >= self._streams

    def open(self) -> None:
        """Begin to measure."""
        self._memory = status("VmRSS") - self._before
        self._threads = status("Threads")
        self._cpu, self._is_open = time.process_time(), True

    def close(self) -> Dict[str, Any]:
        """Stop, and return the measurements."""
        self._is_open = False
        cpu = time.process_time() - self._cpu
        p50, p99 = percentiles(self._latencies)
        return {
            "events": len(self._latencies),
            "cpu": cpu,
            "cpu_us": cpu / len(self._latencies) * 1e6,
            "p50_ms": p50,
            "p99_ms": p99,
            "kb_per_stream": self._memory / self._streams,
            "threads": self._threads,
        }


def many(name: str, server: str, streams: int, rate: int, seconds: float) -> Dict[str, Any]:
    """Open ``streams`` streams of ``rate`` events a second, and measure for ``seconds``."""
    reader = clients.READERS[name]
    measure = _many_async if reader.is_async else _many_threads
    return measure(reader, server, f"{server}/ticks/{rate}/v1", streams, seconds)


def _many_threads(
    reader: clients.Reader, server: str, url: str, streams: int, seconds: float
) -> Dict[str, Any]:
    reader.make(f"{server}/burst/200/v1", COMPLETIONS)(len)
    read = reader.make(url, COMPLETIONS)
    gc.collect()
    window = Window(streams)
    for _ in range(streams):
        threading.Thread(target=read, args=(window.new_receiver(),), daemon=True).start()
    while not window.all_begun:
        time.sleep(0.05)
    time.sleep(_SETTLE)
    window.open()
    time.sleep(seconds)
    return window.close()


def _many_async(
    reader: clients.Reader, server: str, url: str, streams: int, seconds: float
) -> Dict[str, Any]:
    async def main() -> Dict[str, Any]:
        await reader.make(f"{server}/burst/200/v1", COMPLETIONS)(len)
        read = reader.make(url, COMPLETIONS)
        gc.collect()
        window = Window(streams)
        tasks = [asyncio.create_task(read(window.new_receiver())) for _ in range(streams)]
        while not window.all_begun:
            await asyncio.sleep(0.05)
            _raise_failures(tasks)
        await asyncio.sleep(_SETTLE)
        window.open()
        await asyncio.sleep(seconds)
        found = window.close()
        _raise_failures(tasks)
        return found

    loop = asyncio.new_event_loop()
    return loop.run_until_complete(main())  # Not asyncio.run(), which would wait for the streams.


def _raise_failures(tasks: List[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done():
            task.result()


def cancel(name: str, server: str, times: int, at_once: int) -> Dict[str, Any]:
    """Return the time from ``task.cancel()`` until the server sees the connection closed."""

    async def main() -> Dict[str, Any]:
        read = clients.READERS[name].make(f"{server}/idle/v1", COMPLETIONS)
        await _cancelled(read, server, 1)
        alone = [(await _cancelled(read, server, 1))[0] for _ in range(times)]
        together = await _cancelled(read, server, at_once)
        await asyncio.sleep(0.2)
        return {
            "p50_ms": statistics.median(alone) / 1e6,
            "max_ms": max(alone) / 1e6,
            "together_p50_ms": statistics.median(together) / 1e6,
            "together_max_ms": max(together) / 1e6,
            "threads_left": sum(not _is_ordinary(thread) for thread in threading.enumerate()),
        }

    loop = asyncio.new_event_loop()
    return loop.run_until_complete(main())


def _is_ordinary(thread: threading.Thread) -> bool:
    # Threads of the loop's executor belong to _cancelled below, or resolve host names.
    return thread is threading.main_thread() or thread.name.startswith("asyncio")


async def _cancelled(read: Callable[[clients.OnText], Any], server: str, count: int) -> List[int]:
    numbers: List[str] = []
    tasks = [asyncio.create_task(read(numbers.append)) for _ in range(count)]
    while len(numbers) < count:
        await asyncio.sleep(0.001)
        _raise_failures(tasks)
    await asyncio.sleep(0.005)
    sent = time.monotonic_ns()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    loop = asyncio.get_running_loop()
    return [
        await loop.run_in_executor(None, _closed_at, f"{server}/closed/{number}") - sent
        for number in numbers
    ]


def _closed_at(url: str) -> int:
    with urllib.request.urlopen(url, timeout=40) as response:
        return int(response.read())


def unchunked(name: str, server: str, events: int, gap: int) -> Dict[str, Any]:
    """Return the delivery latency of a body without chunked encoding and content-length."""
    latencies: List[int] = []

    def on_text(text: str) -> None:
        if len(text) == 19:
            latencies.append(time.monotonic_ns() - int(text))

    clients.read(name, f"{server}/burst/200/v1", COMPLETIONS, len)
    clients.read(name, f"{server}/unchunked/{events}/{gap}/v1", COMPLETIONS, on_text)
    assert len(latencies) == events, "events were lost"
    p50, p99 = percentiles(latencies)
    return {"p50_ms": p50, "p99_ms": p99}


def idle_memory(name: str, server: str, streams: int) -> Dict[str, Any]:
    """Return the memory of a stream that is open and silent."""
    reader = clients.READERS[name]
    reader.make(f"{server}/burst/200/v1", COMPLETIONS)(len)
    read = reader.make(f"{server}/idle/v1", COMPLETIONS)
    begun: List[str] = []
    gc.collect()
    before = status("VmRSS")
    for count in range(1, streams + 1):
        threading.Thread(target=read, args=(begun.append,), daemon=True).start()
        while len(begun) < count:
            time.sleep(0.001)
    time.sleep(0.3)
    return {"kb_per_stream": (status("VmRSS") - before) / streams}


def growth(name: str, server: str, streams: int) -> Dict[str, Any]:
    """Return how much the memory grows over many short streams, after a warm-up of 1 % of them."""
    read = clients.READERS[name].make(f"{server}/burst/5/v1", COMPLETIONS)
    for _ in range(streams // 100):
        read(len)
    gc.collect()
    before, cpu = status("VmRSS"), time.process_time()
    for _ in range(streams):
        read(len)
    cpu = time.process_time() - cpu
    gc.collect()
    return {"growth_kb": status("VmRSS") - before, "cpu_us_per_stream": cpu / streams * 1e6}
