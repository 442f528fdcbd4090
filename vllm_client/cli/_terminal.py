"""What the program knows about its terminal."""

from __future__ import annotations

import os
import sys
from typing import Any, TextIO

from .._visible import visible

__all__ = ["BOLD", "DIM", "has_colour", "is_dumb", "is_terminal", "note", "painted"]

BOLD, DIM = "1", "2"


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
    line = painted(f"vllm-client: {visible(str(text))}", DIM, sys.stderr)
    print(f"{before}{line}", file=sys.stderr, flush=True)
