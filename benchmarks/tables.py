"""Results as tables: for a terminal, for Markdown, for JSON."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence

_LIBRARIES = """
    requests urllib3 sseclient-py attrs orjson openai aiohttp httpx httpx2 httpx-sse
    huggingface_hub pydantic
"""


class Column(NamedTuple):
    """A column: one figure of each row."""

    key: str
    heading: str
    form: str = "{}"


class Table(NamedTuple):
    """The results of one benchmark. ``plotted`` is the key of the column that the chart shows."""

    name: str
    title: str
    columns: Sequence[Column]
    rows: List[Dict[str, Any]]
    plotted: str = ""
    notes: Sequence[str] = ()

    def cells(self) -> List[List[str]]:
        """Return the headings and the rows, all as text."""
        columns = [Column("client", ""), *self.columns]
        rows = [[_shown(row.get(each.key), each.form) for each in columns] for row in self.rows]
        return [[each.heading for each in columns], *rows]


def _shown(value: object, form: str) -> str:
    if value is None:
        return "–"
    if isinstance(value, (list, tuple)):  # A spread.
        return " – ".join(form.format(each) for each in value)
    return form.format(value)


def as_text(table: Table) -> str:
    cells = table.cells()
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in cells
    ]
    return "\n".join([f"{table.name}: {table.title}", *lines, *table.notes, ""])


def as_markdown(table: Table) -> str:
    head, *rows = table.cells()
    rule = ["---"] + ["--:"] * (len(head) - 1)
    lines = [f"| {' | '.join(row)} |" for row in [head, rule, *rows]]
    notes = [f"\n{note}" for note in table.notes]
    return "\n".join([f"## {table.name}: {table.title}\n", *lines, *notes, ""])


def as_data(table: Table) -> Dict[str, Any]:
    return {
        **table._asdict(),
        "columns": [column._asdict() for column in table.columns],
        "notes": list(table.notes),
    }


def from_data(data: Dict[str, Any]) -> Table:
    """Return the table from the result of :func:`as_data`."""
    columns = [Column(**column) for column in data["columns"]]
    return Table(**{**data, "columns": columns})


def machine() -> Dict[str, str]:
    """Return the machine and the versions that made the figures."""
    return {
        "CPU": f"{_cpu_model()}, {os.cpu_count()} cores",
        "system": platform.platform(),
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        **{name: _version(name) for name in _LIBRARIES.split()},
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def machine_as_text(about: Dict[str, str]) -> str:
    return "\n".join(f"{name}: {value}" for name, value in about.items()) + "\n"
