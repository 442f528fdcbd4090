"""Words in short."""

from __future__ import annotations

__all__ = ["counted", "shortened"]


def shortened(text: str, length: int) -> str:
    """The text on one line, with an ellipsis if it is longer than ``length`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"


def counted(count: int, noun: str) -> str:
    """``"1 word"``, ``"2 words"``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
