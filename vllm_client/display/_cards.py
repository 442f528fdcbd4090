"""Answers as HTML: static, without scripts, readable on a light and on a dark page.

Colours are translucent and the text has the colour of the page, because no page tells in a way of
its own whether it is dark. All styles are inline, because some viewers drop style sheets.
"""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any, Callable, List, Optional, Sequence

from ._answers import Piece, Shown
from ._reading import Frame
from ._words import UNTYPESET, counted, escaped, readable, shortened

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

__all__ = ["cards", "markdown_html"]

_ROW = "display:flex;flex-wrap:wrap;gap:.8em;align-items:flex-start"
_CARD = (
    "flex:1 1 16em;min-width:0;box-sizing:border-box;border:1px solid rgba(128,128,128,.5);"
    "border-radius:6px;padding:.6em .9em"
)
_WORDS = "white-space:pre-wrap;overflow-wrap:anywhere"
_CODE = f"{_WORDS};margin:.3em 0 0;padding:0;background:none;color:inherit;font-family:monospace"
_CALL = (
    "margin:.5em 0;padding:.4em .7em;border:1px solid rgba(128,128,128,.5);"
    "border-left:4px solid rgba(0,114,178,.8);border-radius:4px"
)
_FAULT = (
    "margin:.5em 0 0;padding:.3em .7em;border-left:4px solid rgba(213,94,0,.9);"
    f"background:rgba(213,94,0,.12);{_WORDS}"
)
_FOOT = "margin-top:.5em;font-size:.85em;opacity:.8"
_EXCERPT = 60
"""Characters of the reasoning to show while it arrives."""


def cards(frames: Sequence[Frame], *, markdown: bool) -> str:
    """All answers, side by side where there is room.

    Raises:
        ImportError: ``markdown`` needs the extra ``notebook``.
    """
    body = markdown_html() if markdown else _plain
    inside = "".join(_card(frame, body) for frame in frames)
    return f'<div class="vllm-show" style="{_ROW}">{inside}</div>'


def _card(frame: Frame, body: Callable[[str], str]) -> str:
    title = f'<div style="font-weight:600">{escaped(frame.title)}</div>' if frame.title else ""
    choices = [
        _heading(shown, frame) + "".join(_piece(piece, shown, body) for piece in shown.pieces)
        for shown in frame.choices
    ]
    return (
        f'<section style="{_CARD}">{title}{"".join(choices)}{_fault(frame.fault)}'
        f'<div style="{_FOOT}">{escaped(figures(frame))}</div></section>'
    )


def figures(frame: Frame) -> str:
    """The line below an answer: how it ended, counts and speed."""
    reasons = [shown.finish_reason for shown in frame.choices if shown.finish_reason]
    if len(reasons) != 1 or not frame.ended:
        return frame.figures
    return f"{reasons[0]} · {frame.figures}"


def _heading(shown: Shown, frame: Frame) -> str:
    if len(frame.choices) == 1:
        return ""
    reason = f" · {escaped(shown.finish_reason)}" if shown.finish_reason else ""
    return f'<div style="{_FOOT}">choice {shown.index}{reason}</div>'


def _piece(piece: Piece, shown: Shown, body: Callable[[str], str]) -> str:
    if piece.kind == "text":
        return body(piece.text)
    return _call(piece) if piece.kind == "call" else _reasoning(piece, shown)


def _plain(text: str) -> str:
    return f'<div class="{UNTYPESET}" dir="auto" style="{_WORDS}">{escaped(text)}</div>'


def _call(piece: Piece) -> str:
    return (
        f'<div class="{UNTYPESET}" style="{_CALL}"><b>{escaped(piece.name)}</b>'
        f'<pre style="{_CODE}">{escaped(indented(piece.text))}</pre></div>'
    )


def indented(arguments: str) -> str:
    """JSON with line breaks; anything else, such as the beginning of JSON, unchanged."""
    try:
        return json.dumps(json.loads(arguments), ensure_ascii=False, indent=2)
    except (ValueError, RecursionError):
        return arguments


def reasoning_title(piece: Piece, shown: Shown) -> str:
    """What folded reasoning shows: its length, and while it arrives its last words."""
    words = counted(len(piece.text.split()), "word")
    if piece is not shown.pieces[-1] or shown.finish_reason:
        return f"Thinking: {words}"
    return f"Thinking: {words} … {shortened(piece.text[-_EXCERPT:], _EXCERPT)}"


def _reasoning(piece: Piece, shown: Shown) -> str:
    return (
        f'<details class="{UNTYPESET}" style="margin:.2em 0 .5em"><summary style="opacity:.8">'
        f"{escaped(reasoning_title(piece, shown))}</summary>"
        f'<div dir="auto" style="{_WORDS};border-left:3px solid rgba(128,128,128,.5);'
        f'padding-left:.7em">{escaped(piece.text)}</div></details>'
    )


def _fault(fault: Optional[str]) -> str:
    return "" if fault is None else f'<div role="alert" style="{_FAULT}">{escaped(fault)}</div>'


@functools.lru_cache(maxsize=1)
def markdown_html() -> Callable[[str], str]:
    """A function that renders Markdown as HTML.

    HTML in the text is shown, not obeyed. Pictures stay links, so that a model cannot make the
    browser of the reader send a request.

    Raises:
        ImportError: markdown-it-py is not installed.
    """
    try:
        import markdown_it  # noqa: PLC0415 — an extra
    except ImportError:
        raise ImportError(
            "markdown=True needs markdown-it-py: pip install 'vllm-sync-client[notebook]'"
        ) from None
    parser = markdown_it.MarkdownIt("js-default").disable("image")
    parser.add_render_rule("link_open", _link)
    return lambda text: (
        f'<div dir="auto" style="overflow-wrap:anywhere">{_rendered(parser, text)}</div>'
    )


def _rendered(parser: MarkdownIt, text: str) -> str:
    html: str = parser.render(readable(text))
    return html


def _link(renderer: Any, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
    """The beginning of a link in the colour of the page, whose own may be dark on dark."""
    tokens[at].attrSet("style", "color:inherit;text-decoration:underline")
    tokens[at].attrSet("rel", "noopener noreferrer")
    html: str = renderer.renderToken(tokens, at, options, env)
    return html


def texts(frame: Frame) -> List[str]:
    """The texts of all choices, for a place that shows only text."""
    pieces = [piece for shown in frame.choices for piece in shown.pieces]
    return [piece.text for piece in pieces if piece.kind == "text"]
