"""The benchmarks. Each returns tables."""

from __future__ import annotations

import statistics
from typing import Any, Callable, Dict, List

from . import clients, footprint
from .bench import Bench, Results, median_of, medians_of, ratios_of
from .children import calls, vectors
from .clients import LIMIT, OURS, OURS_ASYNC, OURS_FAST, READERS
from .processes import in_process, instructions
from .recorded_streams import CHAT, COLUMNS, COMPLETIONS, KINDS_WITH_COLUMNS
from .row_scenarios import rows
from .tables import Column, Table

_BEHIND_MS = 50
AIOHTTP, OPENAI, OPENAI_ASYNC = "aiohttp, lines by hand + json", "openai", "openai async"


RATIO = (Column("ratio", "× limit", "{:.2f}"), Column("spread", "spread", "{:.2f}"))
LATENCY = (Column("p50_ms", "p50 ms", "{:.2f}"), Column("p99_ms", "p99 ms", "{:.2f}"))


def burst(bench: Bench) -> List[Table]:
    """A stream that arrives as fast as the socket accepts it."""
    return [_one_stream(bench, "burst", kind, _burst_size(bench)) for kind in (COMPLETIONS, CHAT)]


def columns(bench: Bench) -> List[Table]:
    """… whose chunks carry more than text: token ids, log-probabilities, the running usage."""
    return [
        _one_stream(bench, "burst", kind, _burst_size(bench), COLUMNS.index(column))
        for kind, column in KINDS_WITH_COLUMNS
    ]


def _burst_size(bench: Bench) -> int:
    return bench.size(20_000, 4_000)


def alone(bench: Bench) -> List[Table]:
    """Every event arrives alone, half a millisecond after the client has read the previous one."""
    events = bench.size(3_000, 800)
    return [_one_stream(bench, "alone", kind, events, 500) for kind in (COMPLETIONS, CHAT)]


def _one_stream(bench: Bench, mode: str, kind: str, events: int, number: int = 0) -> Table:
    names = [name for name, reader in READERS.items() if kind in reader.kinds]
    found = bench.interleaved(
        names, "children.one_stream:timed", mode=mode, kind=kind, events=events, number=number
    )
    digests = {each["digest"] for results in found.values() for each in results}
    assert len(digests) == 1, f"the clients did not read the same: {digests}"
    rows = ratios_of(found, "cpu", LIMIT)
    for row in rows:
        cpu = statistics.median(each["cpu"] for each in found[row["client"]])
        row["cpu_us"] = cpu / events * 1e6
    column = number if mode == "burst" else 0
    if bench.counts:
        _count(bench, rows, mode, kind, column)
    rows.sort(key=lambda row: row.get("count_ratio") or row["ratio"])
    carried = f" {COLUMNS[column]}" if column else ""
    return _one_stream_table(bench, mode, f"{kind}{carried}", events, rows)


def _count(bench: Bench, rows: List[Dict[str, Any]], mode: str, kind: str, column: int) -> None:
    # Subtract two lengths of stream, which removes start-up, imports and the request.
    short, long = 1_000, 3_000
    for row in rows:
        refs = [
            instructions(
                "children.one_stream:counted",
                name=row["client"], server=bench.server, mode=mode, kind=kind, events=events,
                number=column,
            )
            for events in (short, long)
        ]  # fmt: skip
        row["instructions"] = (refs[1] - refs[0]) / (long - short)
        bench.log(f"{mode} {kind} {row['client']}: {row['instructions']:.0f} instructions an event")
    limit = next(row for row in rows if row["client"] == LIMIT)["instructions"]
    for row in rows:
        row["count_ratio"] = row["instructions"] / limit


def _one_stream_table(
    bench: Bench, mode: str, kind: str, events: int, rows: List[Dict[str, Any]]
) -> Table:
    how = "in a burst" if mode == "burst" else "each event in a read of its own"
    counts = (
        Column("instructions", "instructions/event", "{:.0f}"),
        Column("count_ratio", "× limit", "{:.2f}"),
    )
    return Table(
        f"{mode} {kind}",
        f"{events} events {how}, user and system CPU time",
        [Column("cpu_us", "CPU µs/event", "{:.1f}"), *RATIO, *(counts if bench.counts else ())],
        rows,
        "count_ratio" if bench.counts else "ratio",
    )


def many(bench: Bench) -> List[Table]:
    """Many streams at the same time."""
    tables = []
    names = (OURS, OURS_ASYNC, OPENAI_ASYNC, AIOHTTP)
    for streams, rate in ((50, 10), (200, 10), (1000, 2)):
        found = bench.interleaved(
            names,
            "children.many_streams:many",
            bench.size(3, 1),
            streams=streams,
            rate=rate,
            seconds=bench.size(5, 3),
        )
        keys = ("cpu_us", "p50_ms", "p99_ms", "kb_per_stream", "threads")
        rows = medians_of(found, keys)
        if OPENAI_ASYNC in found:
            base = {r["client"]: r["ratio"] for r in ratios_of(found, "cpu_us", OPENAI_ASYNC)}
            rows = [{**row, "ratio": base[row["client"]]} for row in rows]
        columns = [
            Column("cpu_us", "CPU µs/event", "{:.0f}"),
            Column("ratio", "× openai async", "{:.2f}"),
            *LATENCY,
            Column("kb_per_stream", "KB/stream", "{:.0f}"),
            Column("threads", "threads", "{:.0f}"),
        ]
        title = f"{streams} streams × {rate} events/s; latency from the server's send"
        notes = [_behind(row["client"]) for row in rows if row["p50_ms"] > _BEHIND_MS]
        tables.append(Table(f"many {streams}", title, columns, rows, "cpu_us", notes))
    return tables


def _behind(name: str) -> str:
    return f"{name} fell behind: it read several events at a time, so its CPU is understated."


def cancel(bench: Bench) -> List[Table]:
    """Cancel a task that reads a silent stream."""
    names, at_once = (OURS_ASYNC, OPENAI_ASYNC, AIOHTTP), 200
    times = bench.size(100, 30)
    found = bench.interleaved(
        names, "children.many_streams:cancel", 1, times=times, at_once=at_once
    )
    columns = [
        Column("p50_ms", "p50 ms", "{:.2f}"),
        Column("max_ms", "max ms", "{:.2f}"),
        Column("together_p50_ms", f"{at_once} at once: p50 ms", "{:.1f}"),
        Column("together_max_ms", "max ms", "{:.1f}"),
        Column("threads_left", "threads left"),
    ]
    rows = medians_of(found, [column.key for column in columns])
    title = "from task.cancel() to the server seeing the connection closed"
    return [Table("cancel", title, columns, rows, "p50_ms")]


def unchunked(bench: Bench) -> List[Table]:
    """Bodies without chunked encoding and content-length, as some gateways send them."""
    names = [name for name, reader in READERS.items() if COMPLETIONS in reader.kinds]
    found = bench.interleaved(
        names, "children.many_streams:unchunked", events=bench.size(300, 100), gap=5_000
    )
    ratios = {row["client"]: row for row in ratios_of(found, "p50_ms", LIMIT)}
    rows = [{**row, **ratios[row["client"]]} for row in medians_of(found, ("p50_ms", "p99_ms"))]
    columns = [
        Column("p50_ms", "p50 ms", "{:.3f}"),
        Column("ratio", "p50 × limit", "{:.2f}"),
        RATIO[1],
        LATENCY[1],
    ]
    title = "delivery latency where the body ends with the connection, an event every 5 ms"
    return [Table("unchunked", title, columns, rows, "ratio")]


def small(bench: Bench) -> List[Table]:
    """Requests with small responses."""
    found = bench.interleaved(calls.CALLERS, "children.calls:small", calls=bench.size(1000, 200))
    rows = ratios_of(found, "cpu_us", "http.client")
    medians = median_of(found, "cpu_us")
    for row in rows:
        row["cpu_us"] = medians[row["client"]]
        row["openai"] = row["cpu_us"] / medians[OPENAI] if OPENAI in medians else None
    rows.sort(key=lambda row: row["ratio"])
    columns = [
        Column("cpu_us", "CPU µs/call", "{:.0f}"),
        Column("ratio", "× http.client", "{:.2f}"),
        RATIO[1],
        Column("openai", "× openai", "{:.2f}"),
    ]
    title = "completions.create() on a kept connection, the answer some 600 bytes"
    return [Table("small", title, columns, rows, "cpu_us")]


def logprobs(bench: Bench) -> List[Table]:
    """One response with many log-probabilities."""
    tokens, alone_name = 32_000, "json.loads alone"
    found = bench.interleaved((OURS, OURS_FAST, OPENAI), "children.calls:huge", tokens=tokens)
    rounds = max(map(len, found.values()), default=1)
    found[alone_name] = [
        in_process("children.calls:json_alone", tokens=tokens) for _ in range(rounds)
    ]
    megabytes = found[alone_name][0]["megabytes"]
    rows = ratios_of(found, "cpu_ms", alone_name)
    medians = median_of(found, "cpu_ms")
    for row in rows:
        row["cpu_ms"] = medians[row["client"]]
    rows.sort(key=lambda row: row["ratio"])
    columns = [
        Column("cpu_ms", "CPU ms", "{:.0f}"),
        Column("ratio", "× json.loads", "{:.2f}"),
        RATIO[1],
    ]
    title = f"create() with log-probabilities of {tokens} tokens, {megabytes:.1f} MB"
    return [Table("logprobs", title, columns, rows, "ratio")]


def embeddings(bench: Bench) -> List[Table]:
    """Embeddings of many inputs, every number read."""
    inputs, dimensions = 1000, 1024
    found = bench.interleaved(
        vectors.READERS, "children.vectors:embeddings", inputs=inputs, dimensions=dimensions
    )
    # Not the same bytes: each client reads the encoding that it requests by itself.
    rows = ratios_of(found, "cpu_ms", OPENAI) if OPENAI in found else medians_of(found, ["cpu_ms"])
    medians = median_of(found, "cpu_ms")
    for row in rows:
        row["cpu_ms"] = medians[row["client"]]
    rows.sort(key=lambda row: row["cpu_ms"])
    columns = [
        Column("cpu_ms", "CPU ms", "{:.1f}"),
        Column("ratio", "× openai", "{:.3f}"),
        Column("spread", "spread", "{:.3f}"),
    ]
    title = f"embeddings.create() of {inputs} inputs, {dimensions} dimensions, every vector read"
    return [Table("embeddings", title, columns, rows, "cpu_ms")]


def imports(bench: Bench) -> List[Table]:
    """CPU time of an import in a fresh interpreter."""
    statements = {
        "nothing (the interpreter)": "pass",
        "requests": "import requests",
        "requests, sseclient-py and attrs": "import requests, sseclient, attrs",
        OURS: "import vllm_client",
        f"{OURS}.VllmClient": "from vllm_client import VllmClient",
        f"{OURS}.VllmClient().completions": "import vllm_client.resources.completions as _",
        f"{OURS}.AsyncVllmClient": "from vllm_client import AsyncVllmClient",
        "openai": "import openai",
        "huggingface_hub": "from huggingface_hub import InferenceClient",
    }
    found: Results = {name: [] for name, what in statements.items() if not _absent(what)}
    for _ in range(1 + bench.size(15, 5)):
        for name, results in found.items():
            results.append({"cpu_ms": footprint.import_cpu(statements[name])})
    for results in found.values():
        del results[0]  # The first run may have compiled bytecode.
    columns = [
        Column("cpu_ms", "CPU ms", "{:.0f}"),
        Column("spread", "spread", "{:.0f}"),
        Column("above", "above requests, ms", "{:+.0f}"),
        Column("openai", "× openai", "{:.2f}"),
    ]
    rows = medians_of(found, ["cpu_ms"])
    cpu = {row["client"]: row["cpu_ms"] for row in rows}
    for row in rows:
        row["spread"] = [f(each["cpu_ms"] for each in found[row["client"]]) for f in (min, max)]
        row["above"] = row["cpu_ms"] - cpu["requests"]
        row["openai"] = row["cpu_ms"] / cpu["openai"] if "openai" in cpu else None
    return [Table("imports", "import in a fresh interpreter", columns, rows, "cpu_ms")]


def _absent(statement: str) -> str:
    modules = ("openai", "huggingface_hub")
    return clients.absent(" ".join(name for name in modules if name in statement))


def size(_: Bench) -> List[Table]:
    """The disk space of an installation."""
    wanted = {
        OURS: ("requests", "urllib3", "sseclient-py", "attrs"),
        "openai": ("openai",),
        "huggingface_hub": ("huggingface_hub",),
    }
    rows = []
    for name, distributions in wanted.items():
        row = {"client": name, **footprint.installed(*distributions)}
        if name == OURS:
            row["distributions"] += 1
            row["megabytes"] += footprint.own_size()
        rows.append(row)
    columns = [Column("distributions", "distributions"), Column("megabytes", "MB", "{:.1f}")]
    title = "with all that is required, byte code not counted"
    return [Table("size", title, columns, rows, "megabytes")]


def memory(bench: Bench) -> List[Table]:
    """Memory of open streams, and memory that many closed ones leave behind."""
    names = (LIMIT, OURS, OPENAI)
    idle = bench.interleaved(
        names, "children.many_streams:idle_memory", bench.size(3, 1), streams=200
    )
    grown = bench.interleaved(
        names, "children.many_streams:growth", 1, streams=bench.size(100_000, 10_000)
    )
    streams = bench.size(100_000, 10_000)
    growth = {row["client"]: row for row in medians_of(grown, ["growth_kb", "cpu_us_per_stream"])}
    rows = [{**row, **growth[row["client"]]} for row in medians_of(idle, ["kb_per_stream"])]
    columns = [
        Column("kb_per_stream", "KB/open stream", "{:.0f}"),
        Column("growth_kb", f"KB after {streams} streams", "{:.0f}"),
        Column("cpu_us_per_stream", "CPU µs/stream of 5 events", "{:.0f}"),
    ]
    title = "resident memory: 200 silent open streams in threads; growth over short streams"
    return [Table("memory", title, columns, rows, "kb_per_stream")]


SCENARIOS: Dict[str, Callable[[Bench], List[Table]]] = {
    each.__name__: each
    for each in (
        burst,
        columns,
        alone,
        many,
        cancel,
        unchunked,
        small,
        logprobs,
        embeddings,
        imports,
        size,
        memory,
        rows,
    )
}
