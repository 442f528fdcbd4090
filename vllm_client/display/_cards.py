"""Answers as HTML: static, without scripts, readable on a light and on a dark page.

Colours are translucent and the text has the colour of the page, because no page tells in a way of
its own whether it is dark. All styles are inline, because some viewers drop style sheets.
"""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any, Callable, Optional, Sequence

from .._visible import UNTYPESET, escaped, readable
from ._answers import Piece, Shown
from ._plain import figures
from ._reading import Frame
from ._words import counted, shortened

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
"""Characters of the reasoning to show in its title while it arrives."""
_LAST_WORDS = 600
"""Characters of the reasoning to show below its title while it arrives."""
# Reversed, because a browser then shows the end of what does not fit.
_WINDOW = "max-height:4.6em;overflow:hidden;display:flex;flex-direction:column-reverse"
# Style sheets of the classic notebook and of others make it a block, without its triangle.
_SUMMARY = "display:list-item;cursor:pointer;opacity:.8"
_ASIDE = "border-left:3px solid rgba(128,128,128,.5);padding-left:.7em"
_HINT = "To stop, interrupt the kernel (■). What has arrived stays."


def cards(frames: Sequence[Frame], *, markdown: bool, is_last: bool) -> str:
    """All answers, side by side where there is room.

    Args:
        frames: The answers.
        markdown: Whether texts are Markdown.
        is_last: Whether this stays. Only then thinking can be opened, because what replaces it
            would close it again.

    Raises:
        ImportError: ``markdown`` needs the extra ``notebook``.
    """
    body = markdown_html() if markdown else _plain
    inside = "".join(_card(frame, body, is_last) for frame in frames)
    hint = "" if is_last else f'<div style="{_FOOT};flex:1 0 100%;margin-top:0">{_HINT}</div>'
    return f'<div class="vllm-show" style="{_ROW}">{inside}{hint}</div>'


def _card(frame: Frame, body: Callable[[str], str], is_last: bool) -> str:
    title = _line(frame.title, "font-weight:600") if frame.title else ""
    choices = [
        _heading(shown, frame) + "".join(_piece(piece, body, is_last) for piece in shown.pieces)
        for shown in frame.choices
    ]
    foot = _line(figures(frame), _FOOT) if frame.figures else ""
    return (
        f'<section style="{_CARD}">{title}{"".join(choices)}{_fault(frame.fault)}{foot}</section>'
    )


def _heading(shown: Shown, frame: Frame) -> str:
    if len(frame.choices) == 1:
        return ""
    reason = f" · {shown.finish_reason}" if shown.finish_reason else ""
    return _line(f"choice {shown.index}{reason}", _FOOT)


def _line(text: str, style: str) -> str:
    return f'<div class="{UNTYPESET}" style="{style}">{escaped(text)}</div>'


def _piece(piece: Piece, body: Callable[[str], str], is_last: bool) -> str:
    if piece.kind == "text":
        return body(piece.text)
    if piece.kind == "call":
        return _call(piece)
    return _folded(piece) if is_last else _unfolded(piece)


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


def reasoning_title(piece: Piece) -> str:
    """What folded reasoning shows: its length, and if it is not over its last words."""
    words = counted(len(piece.text.split()), "word")
    if not piece.is_growing:
        return f"Thinking: {words}"
    return f"Thinking: {words} … {shortened(piece.text[-_EXCERPT:], _EXCERPT)}"


def _folded(piece: Piece) -> str:
    return (
        f'<details class="{UNTYPESET}" style="margin:.2em 0 .5em"><summary style="{_SUMMARY}">'
        f"{escaped(reasoning_title(piece))}</summary>"
        f'<div dir="auto" style="{_WORDS};{_ASIDE}">{escaped(piece.text)}</div></details>'
    )


def _unfolded(piece: Piece) -> str:
    """Reasoning that nobody can open yet: its title, and while it arrives its last lines."""
    title = f"Thinking: {counted(len(piece.text.split()), 'word')}"
    if not piece.is_growing:
        return _line(title, "margin:.2em 0 .5em;opacity:.8")
    beginning = "… " if len(piece.text) > _LAST_WORDS else ""
    words = escaped(beginning + piece.text[-_LAST_WORDS:])
    inner = f'<div dir="auto" style="{_WORDS}">{words}</div>'
    return (
        f'<div class="{UNTYPESET}" style="margin:.2em 0 .5em;opacity:.8">{title} …'
        f'<div style="{_WINDOW};{_ASIDE}">{inner}</div></div>'
    )


def _fault(fault: Optional[str]) -> str:
    if fault is None:
        return ""
    return f'<div role="alert" class="{UNTYPESET}" style="{_FAULT}">{escaped(fault)}</div>'


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
    return readable(html)  # Once more: "&#x202e;" is a control character only now.


def _link(renderer: Any, tokens: Sequence[Token], at: int, options: Any, env: Any) -> str:
    """The beginning of a link in the colour of the page, whose own may be dark on dark."""
    tokens[at].attrSet("style", "color:inherit;text-decoration:underline")
    tokens[at].attrSet("rel", "noopener noreferrer")
    html: str = renderer.renderToken(tokens, at, options, env)
    return html
