"""Answers in a terminal, drawn by rich: live while they arrive, whole at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Sequence, TextIO

from .._markdown import rich_markdown
from .._visible import visible
from ._answers import Piece
from ._cards import indented, reasoning_title
from ._plain import figures
from ._reading import Frame

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.text import Text

__all__ = ["RichScreen"]

_NARROWEST = 36
"""Columns of an answer; with less room they stand below each other."""


class RichScreen:
    """Draws with ``rich.live.Live``; the last drawing stays on the screen.

    Args:
        file: A terminal.
        markdown: Whether texts are Markdown.

    Raises:
        ImportError: rich is not installed.
    """

    def __init__(self, file: TextIO, markdown: bool) -> None:
        import rich.console  # noqa: PLC0415 — rich is optional
        import rich.live  # noqa: PLC0415
        import rich.panel  # noqa: PLC0415
        import rich.table  # noqa: PLC0415
        import rich.text  # noqa: PLC0415

        self._rich = rich
        self._console = rich.console.Console(file=file)
        self._markdown = markdown
        self._live = rich.live.Live(console=self._console, auto_refresh=False, transient=True)

    def draw(self, frames: Sequence[Frame]) -> float:
        """Draw the last lines that fit on the screen."""
        if not self._live.is_started:
            self._live.start()
        self._live.update(_LastLines(self._all(frames)), refresh=True)
        return 0.0

    def close(self, frames: Sequence[Frame]) -> None:
        """Print everything, also what does not fit on the screen."""
        self._live.stop()
        if frames:
            self._console.print(self._all(frames))

    def _all(self, frames: Sequence[Frame]) -> RenderableType:
        answers = [self._answer(frame) for frame in frames]
        if len(frames) == 1:
            return answers[0]
        panels = [self._panel(frame.title, answer) for frame, answer in zip(frames, answers)]
        if self._console.width < _NARROWEST * len(panels):
            stacked: RenderableType = self._rich.console.Group(*panels)
            return stacked
        table = self._rich.table.Table.grid(expand=True)
        for _ in panels:
            table.add_column(ratio=1)
        table.add_row(*panels)
        return table

    def _answer(self, frame: Frame) -> RenderableType:
        parts: List[RenderableType] = []
        for shown in frame.choices:
            if len(frame.choices) > 1:
                parts.append(self._text(f"choice {shown.index}", "dim"))
            parts += [self._piece(piece) for piece in shown.pieces]
        if frame.fault is not None:
            parts.append(self._text(f"! {frame.fault}", "bold red"))
        group: RenderableType = self._rich.console.Group(*parts, self._text(figures(frame), "dim"))
        return group

    def _piece(self, piece: Piece) -> RenderableType:
        if piece.kind == "reasoning":
            return self._text(reasoning_title(piece), "dim italic")
        if piece.kind == "call":
            return self._panel(piece.name, self._text(indented(piece.text)))
        return rich_markdown(piece.text) if self._markdown else self._text(piece.text)

    def _text(self, text: str, style: str = "") -> Text:
        styled: Text = self._rich.text.Text(visible(text), style=style)
        return styled

    def _panel(self, title: str, inside: RenderableType) -> RenderableType:
        panel: RenderableType = self._rich.panel.Panel(
            inside, title=self._text(title), title_align="left"
        )
        return panel


class _LastLines:
    """The last lines of a drawing, as many as the screen has."""

    def __init__(self, whole: RenderableType) -> None:
        self._whole = whole

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.segment import Segment  # noqa: PLC0415 — rich is optional

        lines = console.render_lines(self._whole, options.update(height=None), pad=False)
        for line in lines[-max(1, console.height - 1) :]:
            yield from line
            yield Segment.line()
