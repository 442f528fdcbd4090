"""Answers in a notebook: one output that is updated in place."""

from __future__ import annotations

from time import perf_counter
from typing import Any, Dict, Sequence

from .._visible import visible
from ._cards import cards, figures, texts
from ._reading import Frame

__all__ = ["NotebookScreen"]


_BYTES_PER_SECOND = 500_000
"""Jupyter drops outputs beyond one million bytes a second."""
_SHARE = 0.2
"""The largest share of the time that drawing may take."""


class NotebookScreen:
    """Draws HTML by ``display(…, display_id=…)``, which every notebook updates in place.

    Args:
        markdown: Whether texts are Markdown.

    Raises:
        ImportError: ``markdown`` needs the extra ``notebook``.
    """

    def __init__(self, markdown: bool) -> None:
        import IPython.display  # noqa: PLC0415 — an extra

        self._display: Any = IPython.display.display  # It has no annotations.
        self._markdown = markdown
        self._handle: Any = None
        self._last = cards([], markdown=markdown)

    def draw(self, frames: Sequence[Frame]) -> float:
        """Draw, and return the pause that keeps the notebook responsive."""
        begun = perf_counter()
        html = cards(frames, markdown=self._markdown)
        if html != self._last:
            self._last = html
            self._update(html, frames)
        return max(len(html) / _BYTES_PER_SECOND, (perf_counter() - begun) / _SHARE)

    def close(self, frames: Sequence[Frame]) -> None:
        """Draw for the last time; a saved notebook keeps this output."""
        self.draw(frames)

    def _update(self, html: str, frames: Sequence[Frame]) -> None:
        plain = "\n\n".join("\n".join([*texts(frame), figures(frame)]) for frame in frames)
        bundle: Dict[str, Any] = {"text/html": html, "text/plain": visible(plain)}
        if self._handle is None:
            self._handle = self._display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)
