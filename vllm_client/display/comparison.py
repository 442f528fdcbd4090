"""``compare()``: answers in a table."""

from __future__ import annotations

import math
from typing import Any, Dict, List, Optional, Sequence

from attrs import field, frozen

from .._frames import data_frame
from .._visible import UNTYPESET, escaped, visible
from ._words import shortened
from .frames import items_of, rows_of

__all__ = ["Comparison", "compare"]

_CELL = "padding:.3em .7em;border:1px solid rgba(128,128,128,.5);vertical-align:top;text-align:left"
_WORDS = "white-space:pre-wrap;overflow-wrap:anywhere;min-width:14em;max-width:40em"
_TEXT_COLUMNS = ("text", "reasoning", "tool_calls", "error")


@frozen
class Comparison:
    """Answers in a table: one row for each choice of each answer.

    Attributes:
        rows: The values by column.
    """

    rows: List[Dict[str, Any]] = field(repr=False)

    @property
    def columns(self) -> List[str]:
        """The columns in which at least one row has a value."""
        names = dict.fromkeys(name for row in self.rows for name in row if name != "id")
        return [name for name in names if any(row.get(name) is not None for row in self.rows)]

    @property
    def html(self) -> str:
        """The table as HTML without scripts, for a light or a dark page."""
        head = "".join(
            f'<th scope="col" style="{_CELL}">{escaped(name)}</th>' for name in self.columns
        )
        body = "".join(
            f"<tr>{''.join(_cell(name, row.get(name)) for name in self.columns)}</tr>"
            for row in self.rows
        )
        return (
            f'<div class="vllm-compare {UNTYPESET}" style="overflow-x:auto"><table style="'
            f'border-collapse:collapse"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        )

    def to_frame(self) -> Any:
        """The table as a ``pandas.DataFrame``.

        Raises:
            ImportError: pandas is not installed; it comes with the extra ``pandas``.
        """
        return data_frame([{name: row.get(name) for name in self.columns} for row in self.rows])

    def _repr_html_(self) -> str:
        return self.html

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: ARG002 — IPython's signature
        printer.text(str(self))

    def __str__(self) -> str:
        table = [
            self.columns,
            *([_plain(row.get(name)) for name in self.columns] for row in self.rows),
        ]
        widths = [max(len(line[at]) for line in table) for at in range(len(self.columns))]
        padded = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths)) for line in table
        ]
        return "\n".join(line.rstrip() for line in padded)


def compare(answers: Any, titles: Optional[Sequence[str]] = None) -> Comparison:
    """Put answers into a table: their texts, how they ended, their tokens and log-probabilities.

    Args:
        answers: Completions, chat completions or responses, also mixed, or rows of a batch; or a
            single one. What an interrupted stream left (``partial``) is marked as not finished.
        titles: A name for each.

    Returns:
        An object that a notebook displays; ``str()`` is a table for a terminal.

    Raises:
        TypeError: An item is no answer.
        ValueError: There are titles, but not one for each answer.
    """
    items = items_of(answers)
    if titles is not None and len(titles) != len(items):
        raise ValueError(f"there are {len(titles)} titles for {len(items)} answers")
    rows: List[Dict[str, Any]] = []
    for number, answer in enumerate(items):
        title = str(number + 1) if titles is None else titles[number]
        rows += [{"answer": title, **_marked(row)} for row in rows_of([answer])]
    return Comparison(rows)


def _marked(row: Dict[str, Any]) -> Dict[str, Any]:
    """A row that tells if its text is only the beginning of one."""
    is_cut = "text" in row and row["finish_reason"] is None
    return {**row, "finish_reason": "not finished"} if is_cut else row


def _cell(name: str, value: Any) -> str:
    style = f"{_CELL};{_WORDS}" if name in _TEXT_COLUMNS else _CELL
    return f'<td dir="auto" style="{style}">{escaped(_written(value))}</td>'


def _written(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4g}"
    return str(value)


def _plain(value: Any) -> str:
    return visible(shortened(_written(value), 60))
