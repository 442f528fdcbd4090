"""Answers that show themselves, in a notebook and in a terminal; see ``docs/notebooks.md``.

Nothing optional is imported before it is used: IPython is there in a notebook, markdown-it-py
comes with the extra ``notebook``, pandas with the extra ``pandas``, and rich is used if installed.
"""

from __future__ import annotations

from .comparison import Comparison, compare
from .frames import to_frame
from .heatmaps import Heatmap, heatmap
from .showing import show

__all__ = ["Comparison", "Heatmap", "compare", "heatmap", "show", "to_frame"]
