"""Markdown on a terminal, rendered with rich (extra ``cli``) while it arrives."""

from __future__ import annotations

import re
import sys
from time import monotonic
from typing import List

from rich.console import Console

from .._markdown import rich_markdown

__all__ = ["MarkdownPrinter"]

_PAUSE = 0.08
"""Seconds between two pictures of a block: reading needs no more."""
_FENCE = re.compile(r" {0,3}(```+|~~~+)")


class MarkdownPrinter:
    """Prints a text block by block; the block that still grows is drawn again and again.

    Finished blocks are never drawn again, so an answer may be longer than the screen.
    """

    def __init__(self) -> None:
        self._console = Console(file=sys.stdout)
        self._rows = 0
        self._lines: List[str] = []
        self._line = ""
        self._fence = ""
        self._has_printed = False
        self._shown_at = 0.0

    def write(self, text: str) -> None:
        """Print the next piece of the text."""
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._take(line)
        if monotonic() - self._shown_at >= _PAUSE:
            self._show()

    def end_line(self) -> None:
        """Print what is left: the text has ended, or something else is printed next."""
        if self._line:
            self._lines.append(self._line)
            self._line = ""
        self._end_block()

    def _take(self, line: str) -> None:
        is_after_blank = bool(self._lines) and not self._lines[-1].strip() and not self._fence
        # A line that is not indented begins a block; an indented one goes on with a list.
        if is_after_blank and line.strip() and not line.startswith((" ", "\t")):
            self._end_block()
        found = _FENCE.match(line)
        if found and not self._fence:
            self._fence = found[1]
        elif found and line.strip().startswith(self._fence) and not line.strip().strip("`~"):
            self._fence = ""
        self._lines.append(line)

    def _show(self) -> None:
        """Draw the block that grows; of one that is higher than the screen the end."""
        self._draw(self._rendered()[1 - self._console.height :])
        self._shown_at = monotonic()

    def _end_block(self) -> None:
        lines = self._rendered()
        if lines:
            self._draw(lines)
            print(file=self._console.file)
            self._has_printed, self._rows = True, 0
        self._lines, self._fence = [], ""

    def _draw(self, lines: List[str]) -> None:
        # The cursor is in the last row of the former picture: to its first row, then erase below.
        up = f"\x1b[{self._rows - 1}A" if self._rows > 1 else ""
        erase = f"\r{up}\x1b[J" if self._rows else ""
        self._console.file.write(erase + "\n".join(lines))
        self._console.file.flush()
        self._rows = len(lines)

    def _rendered(self) -> List[str]:
        """The lines of the block, with a blank one before it; none if it is blank."""
        text = "\n".join([*self._lines, self._line])
        if not text.strip():
            return []
        with self._console.capture() as captured:
            self._console.print(rich_markdown(text))
        lines = captured.get().split("\n")
        shown = [number for number, line in enumerate(lines) if line.strip()]
        first = [""] if self._has_printed else []
        return first + lines[shown[0] : shown[-1] + 1] if shown else []
