"""The words of a model, made safe for a terminal."""

from __future__ import annotations

import re

__all__ = ["visible"]

# C0 and C1 control characters except tab and line feed, those that have no width, and those that
# change the direction of writing.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]"
    # Joiners are part of emoji and of Persian words; beside other characters they only hide.
    r"|(?<![^\x00-\x7f\u200c\u200d])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\x7f\u200c\u200d])"
)


def visible(text: str) -> str:
    """The text with its control characters as escapes, which no terminal executes."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
