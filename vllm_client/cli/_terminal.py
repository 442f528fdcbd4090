"""What the program knows about its terminal."""

from __future__ import annotations

import os
import sys
import textwrap
from typing import Any, List, TextIO

from .._visible import visible

__all__ = [
    "DIM",
    "columns_of",
    "folded",
    "has_colour",
    "is_dumb",
    "is_terminal",
    "note",
    "painted",
]

DIM = "2"


def is_terminal(file: TextIO) -> bool:
    """Whether a person sees or types this."""
    return not file.closed and file.isatty()


def is_dumb() -> bool:
    """Whether the terminal can do no more than print lines."""
    return os.environ.get("TERM") == "dumb"


def has_colour(file: TextIO) -> bool:
    """Whether to print colours: on a terminal that has them, unless ``NO_COLOR`` is set."""
    return is_terminal(file) and not is_dumb() and not os.environ.get("NO_COLOR")


def painted(text: str, style: str, file: TextIO) -> str:
    """The text in an SGR style, such as ``"1"`` for bold, if the file has colours."""
    return f"\x1b[{style}m{text}\x1b[0m" if text and has_colour(file) else text


def note(text: Any, *, before: str = "") -> None:
    """Print a line about the program itself to stderr. The text may come from a model."""
    line = folded(f"vllm-client: {visible(str(text))}", sys.stderr)
    print(f"{before}{painted(line, DIM, sys.stderr)}", file=sys.stderr, flush=True)


def columns_of(file: TextIO) -> int:
    """The width of a terminal; 80 of anything else, unless ``COLUMNS`` is set."""
    try:
        return int(os.environ.get("COLUMNS", "")) or 80
    except ValueError:
        pass
    try:
        return os.get_terminal_size(file.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def folded(text: str, file: TextIO) -> str:
    """The text with lines broken between words, if the file is a terminal."""
    if not is_terminal(file):
        return text
    width = max(columns_of(file) - 1, 1)
    return "\n".join(part for line in text.split("\n") for part in _parts(line, width))


def _parts(line: str, width: int) -> List[str]:
    # A long word stays whole: it may be an address or a path, which is copied.
    return textwrap.wrap(
        line,
        width,
        expand_tabs=False,
        replace_whitespace=False,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [""]
