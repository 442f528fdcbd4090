"""The benchmarks of many rows: what one costs, and what a run over them holds to."""

from __future__ import annotations

from typing import Any, Dict, List

from . import processes
from .bench import Bench, Results, median_of, medians_of, ratios_of
from .children import rows as senders
from .children.rows import AIOHTTP, FILE, NO_FILE, THREADS
from .tables import Column, Table

_LIMITS = {
    **{f"{count} in flight, fixed": (count, False) for count in (64, 80, 96, 112)},
    "adaptive, at most 1024": (1024, True),
}


def rows(bench: Bench) -> List[Table]:
    """Many rows, each a request with a short response."""
    with processes.server("benchmarks.answering_server") as server:
        here = bench._replace(server=server)
        return [_cost(here), _memory(here), _resume(here), _ordered(here), _limit(here)]


def _cost(bench: Bench) -> Table:
    count = bench.size(10_000, 5_000)
    found = bench.interleaved(senders.SENDERS, "children.rows:cost", bench.size(5, 2), rows=count)
    keys = ("cpu_ms", "rows_per_second", "switches", "megabytes")
    table = medians_of(found, keys)
    for key, base in (("aiohttp", AIOHTTP), ("openai", THREADS), ("file", FILE), ("none", NO_FILE)):
        _add_ratios(table, found, key, base)
    columns = [
        Column("cpu_ms", "CPU ms/row", "{:.3f}"),
        Column("aiohttp", "× aiohttp", "{:.2f}"),
        Column("openai", "× openai", "{:.3f}"),
        Column("file", "× file, 256", "{:.2f}"),
        Column("none", "× no file", "{:.2f}"),
        Column("rows_per_second", "rows/s", "{:.0f}"),
        Column("switches", "waits/row", "{:.1f}"),
        Column("megabytes", "MB at most", "{:.0f}"),
    ]
    title = f"{count} rows, answered after 20 ms, 256 in flight unless it says otherwise"
    notes = ["A ratio is the median of those within each round."]
    return Table("rows", title, columns, table, "cpu_ms", notes)


def _add_ratios(table: List[Dict[str, Any]], found: Results, key: str, base: str) -> None:
    if base in found:
        by_client = {row["client"]: row["ratio"] for row in ratios_of(found, "cpu_ms", base)}
        for row in table:
            row[key] = by_client[row["client"]]


def _memory(bench: Bench) -> Table:
    count = 1_000_000 if bench.million else bench.size(100_000, 40_000)
    found = processes.in_process(
        "children.rows:memory", server=bench.server, first=20_000, rows=count
    )
    row = {"client": FILE, **found, "growth": found["last_mb"] - found["first_mb"]}
    columns = [
        Column("first_mb", "MB after 20000", "{:.1f}"),
        Column("last_mb", f"MB after {count}", "{:.1f}"),
        Column("growth", "growth, MB", "{:+.1f}"),
    ]
    return Table("rows memory", "resident memory of one run to a file", columns, [row])


def _resume(bench: Bench) -> Table:
    count = bench.size(1_000_000, 100_000)
    row = {"client": FILE, **processes.in_process("children.rows:resume", rows=count)}
    columns = [
        Column("scan_s", "scan, s", "{:.2f}"),
        Column("run_s", "whole run, s", "{:.1f}"),
        Column("megabytes", "file, MB", "{:.0f}"),
    ]
    title = (
        f"{count} finished rows are found in the output file; then each row of the input is read "
        "and compared"
    )
    return Table("rows resume", title, columns, [row])


def _ordered(bench: Bench) -> Table:
    names = ("unordered", "ordered")
    count = bench.size(10_000, 5_000)
    found = bench.interleaved(names, "children.rows:ordered", bench.size(3, 2), rows=count)
    table = ratios_of(found, "rows_per_second", "unordered")
    throughput = median_of(found, "rows_per_second")
    for row in table:
        row["rows_per_second"] = throughput[row["client"]]
    columns = [
        Column("rows_per_second", "rows/s", "{:.0f}"),
        Column("ratio", "× unordered", "{:.2f}"),
        Column("spread", "spread", "{:.2f}"),
    ]
    title = f"{count} rows, 256 in flight, answered after 40 ms × a lognormal factor with σ = 0.7"
    return Table("rows ordered", title, columns, table, "rows_per_second")


def _limit(bench: Bench) -> Table:
    count = bench.size(10_000, 4_000)
    found: Results = {name: [] for name in _LIMITS}
    for _ in range(bench.size(2, 1)):
        for name, (in_flight, adaptive) in _LIMITS.items():
            arguments = {"rows": count, "in_flight": in_flight, "adaptive": adaptive}
            found[name] += bench.once(name, "children.rows:limited", **arguments)
    table = medians_of(found, ("rows_per_second", "rejections", "failed"))
    best = max(row["rows_per_second"] for row in table)
    for row in table:
        row["share"] = row["rows_per_second"] / best
    columns = [
        Column("rows_per_second", "rows/s", "{:.0f}"),
        Column("share", "× best", "{:.3f}"),
        Column("rejections", "rejections/row", "{:.4f}"),
        Column("failed", "failed rows", "{:.0f}"),
    ]
    title = f"{count} rows, 50 ms each in one of 64 slots, 48 wait, more are rejected at once"
    return Table("rows limit", title, columns, table, "rows_per_second")
