"""The words of a model, made safe for a page."""

from __future__ import annotations

import html
from typing import Dict, Union

# A browser drops or replaces control characters, so a page shows the pictures that Unicode has
# for them. C1 has no pictures; nor have those that turn the direction of what follows, such as
# the rest of a page or the name of a file.
_PICTURES: Dict[int, Union[int, str]] = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"},
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),
    **{code: f"‹U+{code:04X}›" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))},
}

UNTYPESET = "tex2jax_ignore mathjax_ignore"
"""The classes that keep a notebook from typesetting what stands between two dollar signs."""


def escaped(text: str) -> str:
    """The text for a place in HTML, in or between tags, with pictures for control characters."""
    return html.escape(readable(text))


def readable(text: str) -> str:
    """The text with pictures for control characters."""
    return text.translate(_PICTURES)


def shortened(text: str, length: int) -> str:
    """The text on one line, with an ellipsis if it is longer than ``length`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"


def counted(count: int, noun: str) -> str:
    """``"1 word"``, ``"2 words"``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
