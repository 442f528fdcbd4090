"""A shortcut for chunks that differ from an earlier one in a single text.

In a stream nearly every chunk has the same bytes before and after one JSON string. Once such a
chunk has been parsed, one with the same surroundings can only mean the same with another text, so
its string alone is decoded, with the function json itself uses. Anything else is parsed as usual.

``ENABLED = False`` switches it off; tests hold it against the plain way.
"""

from __future__ import annotations

from json import decoder
from typing import Any, Callable, Dict, Tuple

ENABLED = True
_scanstring: Callable[[str, int], Tuple[str, int]] = getattr(decoder, "scanstring")  # noqa: B009
_MOST_SHAPES = 64
_MOST_VAIN = 16
_LONGEST = 16384


Say = Callable[[str, str], Any]
"""Makes what a chunk says from its text and the chunk as it came."""


class RepeatedShape:
    """Remembers the surroundings of texts, each with how to say again what they said."""

    def __init__(self) -> None:
        self._length = 0
        self._shapes: Dict[str, Tuple[str, Say]] = {}
        self._vain = 0 if ENABLED else _MOST_VAIN

    @property
    def learning(self) -> bool:
        """Whether :meth:`learn` would remember anything."""
        # A stream whose chunks never repeat (running usage, say) shall not pay for every one.
        return self._vain < _MOST_VAIN and len(self._shapes) < _MOST_SHAPES

    def again(self, data: str) -> Any:
        """What a chunk of known shape says; None for any other, and for one without text."""
        length = self._length
        shape = self._shapes.get(data[:length])
        if shape is None:
            return None
        rest, say = shape
        try:
            text, end = _scanstring(data, length)
        except ValueError:
            return None
        if not text or data[end:] != rest:
            return None
        self._vain = 0
        return say(text, data)

    def forget(self) -> None:
        """What stands beside the texts has changed: no shape seen before may stand for it."""
        self._shapes.clear()

    def learn(self, data: str, key: str, text: str, say: Say) -> None:
        """Remember the shape of a chunk, parsed in full, whose only text is this one.

        Args:
            data: The chunk as it came.
            key: The member that holds the text; it has to be the only one of that name.
            text: What was parsed.
            say: Says what this chunk said, with another text.
        """
        if not self.learning or len(data) > _LONGEST:
            return
        self._vain += 1
        # Quotes inside a JSON string are escaped, so this can only be a member's name.
        opening = f'"{key}":"'
        before, found, after = data.partition(opening)
        if not found or opening in after:
            return
        length = len(before) + len(opening)
        scanned, end = _scanstring(data, length)
        if scanned == text:
            self._length = length
            self._shapes[data[:length]] = data[end:], say
