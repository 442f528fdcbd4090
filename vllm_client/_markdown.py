"""Markdown of a model for a terminal, drawn by rich."""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence

from ._visible import visible

if TYPE_CHECKING:
    from markdown_it.token import Token
    from rich.markdown import Markdown

__all__ = ["rich_markdown"]


def rich_markdown(text: str) -> Markdown:
    """The text as rich draws it, with nothing left out and nothing that a terminal executes.

    Raises:
        ImportError: rich is not installed.
    """
    from markdown_it import MarkdownIt  # noqa: PLC0415 — rich is optional, and brings it
    from rich.markdown import Markdown  # noqa: PLC0415

    text = visible(text)
    markdown = Markdown(text, hyperlinks=False)  # Its target is shown beside each link.
    # Otherwise rich drops HTML, and with it a part of the answer.
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    markdown.parsed = parser.parse(text)
    _make_visible(markdown.parsed)
    return markdown


def _make_visible(tokens: Sequence[Token]) -> None:
    # Once more: "&#x202e;" is a control character only now.
    for token in tokens:
        token.content = visible(token.content)
        _make_visible(token.children or ())
