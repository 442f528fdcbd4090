"""Many rows, each a request with a short response, in the client's process."""

# ruff: noqa: PLC0415 — a process imports only the library that it measures

from __future__ import annotations

import json
import resource
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Optional

from ..clients import OURS, hide_orjson

FILE, NO_FILE = f"{OURS}, output file", f"{OURS}, no file"
WIDE, AIOHTTP, THREADS = (
    f"{OURS}, output file, 1024 in flight",
    "aiohttp by hand",
    "openai, threads",
)
IN_FLIGHT = 256
_FIELDS: Dict[str, Any] = {"model": "m", "max_tokens": 64}
Send = Callable[[str, int], object]
"""Sends so many rows to a base URL."""


def prompts(count: int) -> Iterator[str]:
    return (f"prompt {number}" for number in range(count))


def _to_file(url: str, rows: int, in_flight: int = IN_FLIGHT, **settings: Any) -> Any:
    hide_orjson()
    from vllm_client import VllmClient

    with tempfile.TemporaryDirectory() as folder, VllmClient(url) as client:
        return client.batch.run(
            prompts(rows),
            Path(folder, "out.jsonl"),
            route="completions",
            max_concurrency=in_flight,
            **_FIELDS,
            **settings,
        )


def _to_wide_file(url: str, rows: int) -> None:
    _to_file(url, rows, 1024)


def _no_file(url: str, rows: int, **settings: Any) -> None:
    hide_orjson()
    from vllm_client import VllmClient

    given = {"ordered": False, "max_concurrency": IN_FLIGHT, **_FIELDS, **settings}
    with VllmClient(url) as client:
        for row in client.batch.completions(prompts(rows), **given):
            assert row.text


def _aiohttp(url: str, rows: int) -> None:
    import asyncio

    import aiohttp

    async def work(session: aiohttp.ClientSession, source: Iterator[str]) -> None:
        for prompt in source:
            body = {"prompt": prompt, **_FIELDS}
            async with session.post(f"{url}/completions", json=body) as response:
                assert json.loads(await response.read())["choices"][0]["text"]

    async def main() -> None:
        source = prompts(rows)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            await asyncio.gather(*(work(session, source) for _ in range(IN_FLIGHT)))

    asyncio.run(main())


def _openai(url: str, rows: int) -> None:
    from openai import OpenAI

    client = OpenAI(base_url=url, api_key="key")
    source, lock = prompts(rows), threading.Lock()

    def next_prompt() -> Optional[str]:
        with lock:
            return next(source, None)

    def work() -> None:
        for prompt in iter(next_prompt, None):
            assert client.completions.create(prompt=prompt, **_FIELDS).choices[0].text

    threads = [threading.Thread(target=work) for _ in range(IN_FLIGHT)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


SENDERS: Dict[str, Send] = {
    FILE: _to_file,
    NO_FILE: _no_file,
    WIDE: _to_wide_file,
    AIOHTTP: _aiohttp,
    THREADS: _openai,
}
NEEDS = {AIOHTTP: "aiohttp", THREADS: "openai"}


def cost(name: str, server: str, rows: int) -> Dict[str, float]:
    """Return what a row costs, connections included; imports and a first short run are not."""
    send, url = SENDERS[name], f"{server}/after/20/v1"
    send(url, 50)
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    send(url, rows)
    after, seconds = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter() - began
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "cpu_ms": cpu / rows * 1e3,
        "rows_per_second": rows / seconds,
        "switches": (after.ru_nvcsw - before.ru_nvcsw) / rows,
        "megabytes": after.ru_maxrss / 1024,
    }


def memory(server: str, first: int, rows: int) -> Dict[str, float]:
    """Return the resident memory after the first rows and at the end of one run to a file."""
    sizes: Dict[int, float] = {}

    def note(progress: Any) -> None:
        if progress.done >= first:
            sizes.setdefault(first, _resident_megabytes())

    _to_file(f"{server}/after/20/v1", rows, progress=note)
    return {"first_mb": sizes[first], "last_mb": _resident_megabytes()}


def _resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def resume(rows: int) -> Dict[str, float]:
    """Return how long an output file with so many rows is scanned, and a run over it takes."""
    hide_orjson()
    from vllm_client import VllmClient
    from vllm_client.batch._store import scan

    with tempfile.TemporaryDirectory() as folder, VllmClient("http://127.0.0.1:9") as client:
        path = Path(folder, "out.jsonl")
        settings = {"route": "completions", **_FIELDS}
        client.batch.run([], path, **settings)
        _write_finished(path, rows)
        with path.open("rb") as file:
            began = time.perf_counter()
            _, count, _ = scan(file.fileno(), path)
            scanned = time.perf_counter() - began
        began = time.perf_counter()
        report = client.batch.run(prompts(rows), path, **settings)
        assert count == report.skipped == rows
        assert report.read == 0
        size = path.stat().st_size
    return {"scan_s": scanned, "run_s": time.perf_counter() - began, "megabytes": size / 1e6}


def _write_finished(path: Path, rows: int) -> None:
    """Append the lines that a run would have written for these rows."""
    from vllm_client.batch._rows import RowReader
    from vllm_client.batch._store import _line
    from vllm_client.batch.routes import COMPLETIONS

    from ..answering_server import ANSWER

    with path.open("ab") as file:
        for job in RowReader(prompts(rows), COMPLETIONS, _FIELDS):
            job.received = ANSWER.partition(b"\r\n\r\n")[2]
            job.ended_at = job.sent_at + 0.02
            file.write(_line(job))


def ordered(name: str, server: str, rows: int) -> Dict[str, float]:
    """Return the throughput where lengths differ, in the order of the input or not."""
    began = time.perf_counter()
    _no_file(f"{server}/spread/40/v1", rows, ordered=name == "ordered")
    return {"rows_per_second": rows / (time.perf_counter() - began)}


def limited(server: str, rows: int, in_flight: int, adaptive: bool, **_: Any) -> Dict[str, float]:
    """Return throughput and rejections at a server with few slots."""
    report = _to_file(f"{server}/slots/50/v1", rows, in_flight, adaptive=adaptive)
    return {
        "rows_per_second": report.request_throughput,
        "rejections": report.rejections / rows,
        "failed": report.failed,
    }
