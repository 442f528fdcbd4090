"""The words of a model, made safe for a terminal and for a page."""

from __future__ import annotations

import html
import re
from typing import Dict, Union

__all__ = ["UNTYPESET", "Pieces", "escaped", "readable", "visible"]

# C0 and C1 control characters except tab and line feed, those that have no width, those that
# change the direction of writing, and halves of characters (lone surrogates), which no file takes.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff"
    "\ud800-\udfff]"
    # Joiners are part of emoji and of Persian words; beside other characters they only hide.
    r"|(?<![^\x00-\x7f\u200c\u200d])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f\u200c\u200d])"
)
_JOINERS = "\u200c\u200d"

# A browser drops or replaces control characters, so a page shows the pictures that Unicode has
# for them. C1 and halves of characters have no pictures; nor have those that turn the direction of
# what follows, such as the rest of a page or the name of a file.
_PICTURES: Dict[int, Union[int, str]] = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"},
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),
    **{code: f"‹U+{code:04X}›" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))},
}
_HALVES = re.compile("[\ud800-\udfff]")

UNTYPESET = "tex2jax_ignore mathjax_ignore"
"""The classes that keep a notebook from typesetting what stands between two dollar signs."""


def visible(text: str) -> str:
    """The text with its control characters as escapes, which no terminal executes."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class Pieces:
    """:func:`visible` for a text that arrives in pieces.

    What a joiner means depends on the characters around it, also across pieces.
    """

    def __init__(self) -> None:
        self._last = ""
        self._held = ""

    def add(self, piece: str) -> str:
        """What to print of the next piece, and of what was held back before."""
        text = self._held + piece
        kept = text.rstrip(_JOINERS)
        self._held = text[len(kept) :]
        before = len(visible(self._last))
        shown = visible(self._last + kept)[before:]
        self._last = kept[-1:] or self._last
        return shown

    def end(self) -> str:
        """What is still held back; the next piece begins another text."""
        held, self._held, self._last = self._held, "", ""
        return visible(held)


def escaped(text: str) -> str:
    """The text for a place in HTML, in or between tags, with pictures for control characters."""
    return html.escape(readable(text))


def readable(text: str) -> str:
    """The text with pictures for control characters."""
    return _HALVES.sub("\ufffd", text.translate(_PICTURES))
