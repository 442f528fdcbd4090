"""Short tracebacks in IPython: the frames of the program, without those of the libraries below.

IPython shows what the method ``_render_traceback_`` of an exception returns. Everything else, such
as a terminal or a log, shows the whole traceback.
"""

from __future__ import annotations

import sys
import traceback
from types import TracebackType
from typing import Any, List, Optional

__all__ = ["rendered", "shorten_interrupt"]

_LIBRARIES = frozenset(
    {
        *("IPython", "concurrent", "http", "ipykernel", "requests", "socket", "ssl", "sseclient"),
        *("threading", "urllib3", "vllm_client"),
    }
)


def rendered(error: BaseException, note: str = "") -> List[str]:
    """The lines that IPython shows: the frames of the program, the error, and its cause in short.

    Args:
        error: The error. Nothing of it changes.
        note: A last line.
    """
    # IPython asks for the lines, so it is loaded, unless somebody imitates it.
    shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    shown = _without_libraries(error.__traceback__)
    if shell is None or shown is None:
        return traceback.format_exception(type(error), error, error.__traceback__)
    cause, is_suppressed = error.__cause__, error.__suppress_context__
    error.__cause__ = None  # IPython would show its frames too.
    try:
        lines = shell.InteractiveTB.structured_traceback(type(error), error, shown, tb_offset=0)
    finally:
        error.__cause__, error.__suppress_context__ = cause, is_suppressed
    hidden = _length(error.__traceback__) - _length(shown)
    text = f"({hidden} frames of libraries are hidden: sys.last_value.__traceback__ has them"
    if cause is not None:
        text += f"; sys.last_value.__cause__ is a {type(cause).__module__}.{type(cause).__name__}"
    return [*lines, *filter(None, [f"{text})", note])]


def shorten_interrupt(interrupt: KeyboardInterrupt) -> None:
    """Let IPython show an interrupt without the frames of the libraries."""
    if "IPython" in sys.modules:
        # A function without the interrupt in it: a cycle would keep the frames, and what they
        # hold, until the next garbage collection.
        setattr(interrupt, "_render_traceback_", _rendered_interrupt)  # noqa: B010


def _rendered_interrupt() -> List[str]:
    interrupt: Any = sys.last_value  # IPython sets it first.
    if hasattr(interrupt, "partial"):  # Of show(), whose caller may have no name for the stream.
        return rendered(interrupt, "What had arrived is in sys.last_value.partial.")
    return rendered(interrupt, "What a stream received before is in its `snapshot`.")


def _without_libraries(frames: Optional[TracebackType]) -> Optional[TracebackType]:
    """A copy of a traceback without the frames of libraries; None if no other is left."""
    if frames is None:
        return None
    below = _without_libraries(frames.tb_next)
    if str(frames.tb_frame.f_globals.get("__name__")).partition(".")[0] in _LIBRARIES:
        return below
    return TracebackType(below, frames.tb_frame, frames.tb_lasti, frames.tb_lineno)


def _length(frames: Optional[TracebackType]) -> int:
    return sum(1 for _ in traceback.walk_tb(frames))
