"""Markdown on a terminal, rendered with rich (extra ``cli``) while it arrives."""

from __future__ import annotations

import re
import sys
from time import monotonic
from typing import List, Optional

from markdown_it import MarkdownIt
from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown

from ._output import visible

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
        self._live: Optional[Live] = None
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
        if not "".join([*self._lines, self._line]).strip():
            return
        if self._live is None:
            if self._has_printed:
                self._console.print()
            self._live = Live(
                console=self._console,
                auto_refresh=False,
                redirect_stdout=False,
                redirect_stderr=False,
                vertical_overflow="crop",
            )
            self._live.start()
        self._live.update(_rendered("\n".join([*self._lines, self._line])), refresh=True)
        self._shown_at = monotonic()

    def _end_block(self) -> None:
        self._show()
        if self._live is not None:
            self._live.stop()
            self._live = None
            self._has_printed = True
        self._lines, self._fence = [], ""


def _rendered(text: str) -> Markdown:
    text = visible(text)
    markdown = Markdown(text, hyperlinks=False)  # Its target is shown beside each link.
    # Otherwise rich drops HTML, and with it a part of the answer.
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    markdown.parsed = parser.parse(text)
    return markdown
