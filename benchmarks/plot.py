"""Results as bar charts: ``python -m benchmarks.plot results.json > results.svg``."""

from __future__ import annotations

import json
import sys
from html import escape
from pathlib import Path
from typing import Any, Dict, List, Tuple

_WIDTH, _LABEL, _BAR, _ROW, _HEAD = 820, 250, 460, 20, 34
_LONGEST_BAR = 40
"""A longer bar is cut at this many times the length of the shortest."""
_STYLE = (
    "text{font:12px sans-serif;fill:#333}.title{font-weight:bold;font-size:13px}"
    ".ours{fill:#c2410c}.limit{fill:#64748b}.peer{fill:#cbd5e1}"
)


def svg(data: Dict[str, Any]) -> str:
    """Return one picture with a group of bars for each table."""
    parts: List[str] = []
    top = 10
    for table in data["tables"]:
        bars = _bars(table)
        if bars:
            parts += _group(table, bars, top)
            top += _HEAD + _ROW * len(bars) + 16
    about = f"{data['machine']['CPU']}, {data['machine']['Python']}"
    parts.append(_text(10, top + 12, about))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{top + 24}">'
        f"<style>{_STYLE}</style>"
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _bars(table: Dict[str, Any]) -> List[Tuple[str, float]]:
    key = table["plotted"]
    return [(row["client"], row[key]) for row in table["rows"] if row.get(key) is not None]


def _group(table: Dict[str, Any], bars: List[Tuple[str, float]], top: int) -> List[str]:
    column = next(each for each in table["columns"] if each["key"] == table["plotted"])
    values = [value for _, value in bars]
    longest = min(max(values), _LONGEST_BAR * min(values)) or 1
    title = f"{table['name']}: {table['title']} ({column['heading']})"
    parts = [_text(10, top + 14, title, "title")]
    for number, (client, value) in enumerate(bars):
        y = top + _HEAD - 10 + number * _ROW
        width = max(1, min(value / longest, 1) * _BAR)
        cut = " (bar cut)" if value > longest else ""
        parts += [
            _text(_LABEL - 8, y + 12, client, anchor="end"),
            f'<rect x="{_LABEL}" y="{y}" width="{width:.1f}" height="14" class="{_kind(client)}"/>',
            _text(int(_LABEL + width + 6), y + 12, column["form"].format(value) + cut),
        ]
    return parts


def _kind(client: str) -> str:
    if client.startswith("vllm_client"):
        return "ours"
    return "limit" if client.startswith(("raw socket", "http.client", "json.loads")) else "peer"


def _text(x: int, y: int, text: str, kind: str = "", anchor: str = "start") -> str:
    shown = escape(text)
    return f'<text x="{x}" y="{y}" class="{kind}" text-anchor="{anchor}">{shown}</text>'


if __name__ == "__main__":
    sys.stdout.write(svg(json.loads(Path(sys.argv[1]).read_text())))
