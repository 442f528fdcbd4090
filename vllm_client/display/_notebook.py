"""Answers in a notebook: outputs that are updated in place."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

from attrs import evolve

from .._visible import visible
from ._answers import Shown
from ._cards import cards
from ._plain import plain_text
from ._reading import Frame

__all__ = ["NotebookScreen"]


_BYTES_PER_SECOND = 500_000
"""Each update holds the whole output, and a browser has to lay it out."""


class NotebookScreen:
    """Draws HTML by ``display(…, display_id=…)``, which every notebook updates in place.

    An update replaces the HTML, and a browser then forgets what the reader had opened. So thinking
    that is over gets an output of its own, which is not updated any more, and can be opened while
    the answer arrives. Answers side by side are one output; there thinking can be opened at the
    end.

    Args:
        markdown: Whether texts are Markdown.

    Raises:
        ImportError: ``markdown`` needs the extra ``notebook``.
    """

    def __init__(self, markdown: bool) -> None:
        cards([], markdown=markdown, is_last=False)  # The error comes before anything is read.
        self._markdown = markdown
        self._output = _Output()
        self._settled: Dict[int, int] = {}
        """How many pieces of a choice stand in outputs before this one."""

    def draw(self, frames: Sequence[Frame]) -> float:
        """Draw, and return the pause that keeps the notebook responsive."""
        size = 0
        if len(frames) == 1:
            over = self._settle(frames[0])
            if over is not None:
                size += self._output.draw([over], markdown=self._markdown)
                self._output = _Output()
            frames = [self._rest(frames[0])]
        return (size + self._output.draw(frames, markdown=self._markdown)) / _BYTES_PER_SECOND

    def close(self, frames: Sequence[Frame]) -> None:
        """Draw for the last time; a saved notebook keeps this output."""
        self.draw(frames)

    def _settle(self, frame: Frame) -> Any:
        """The pieces up to thinking that is over since the last drawing; None if there are none."""
        if len(frame.choices) != 1:
            return None
        shown = frame.choices[0]
        begin = self._settled.get(shown.index, 0)
        ends = [at for at, piece in enumerate(shown.pieces) if piece.kind == "reasoning"]
        end = next((at + 1 for at in reversed(ends) if at + 1 < len(shown.pieces)), 0)
        if end <= begin:
            return None
        self._settled[shown.index] = end
        pieces = [evolve(shown, pieces=shown.pieces[begin:end], finish_reason=None)]
        return evolve(frame, choices=pieces, figures="", ended=True, fault=None)

    def _rest(self, frame: Frame) -> Frame:
        return evolve(frame, choices=[self._rest_of(shown) for shown in frame.choices])

    def _rest_of(self, shown: Shown) -> Shown:
        return evolve(shown, pieces=shown.pieces[self._settled.get(shown.index, 0) :])


class _Output:
    """One output of the cell."""

    def __init__(self) -> None:
        import IPython.display  # noqa: PLC0415 — an extra

        self._display: Any = IPython.display.display  # It has no annotations.
        self._handle: Any = None
        self._last = ""

    def draw(self, frames: Sequence[Frame], *, markdown: bool) -> int:
        """Draw if something has changed. Returns how many bytes were sent."""
        is_last = all(frame.ended for frame in frames)
        html = cards(frames, markdown=markdown, is_last=is_last) if frames else ""
        if html == self._last:
            return 0
        self._last = html
        bundle = {"text/html": html, "text/plain": visible(_plain(frames))}
        if self._handle is None:
            self._handle = self._display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)
        return sum(len(text.encode()) for text in bundle.values())


def _plain(frames: Sequence[Frame]) -> str:
    texts: List[str] = [plain_text(frame) for frame in frames]
    return "".join(texts).rstrip("\n")
