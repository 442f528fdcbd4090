"""A shortcut for chunks that differ from an earlier chunk in a single text.

In a stream nearly every chunk has the same bytes before and after one JSON string. Once such a
chunk has been parsed, one with the same surroundings can only mean the same with another text. So
only its string is decoded, with the function that ``json`` itself uses. Any other chunk is parsed
as usual. Measured: half of the cost of a chunk, see docs/performance.md.

``ENABLED = False`` parses every chunk; tests compare the two.
"""

from __future__ import annotations

from json import decoder
from typing import Callable, Dict, Generic, Optional, Tuple, TypeVar

from attrs import define, field

ENABLED = True
_scanstring: Callable[[str, int], Tuple[str, int]] = getattr(decoder, "scanstring")  # noqa: B009
_MOST_TEMPLATES = 64
_MOST_MISSES = 16
_LONGEST_CHUNK = 16384
"""Characters."""

E = TypeVar("E")

MakeEvent = Callable[[str, str], E]
"""Builds the event for a chunk from its text and its raw JSON."""


@define(eq=False)
class ChunkTemplates(Generic[E]):
    """Caches the JSON around the text of earlier chunks, with the function for their event."""

    _length: int = field(default=0, init=False)
    """Characters before the text in the chunk that was learnt last."""
    _templates: Dict[str, Tuple[str, MakeEvent[E]]] = field(factory=dict, init=False)
    """The JSON before a text → the JSON after it, and the function."""
    _misses: int = field(default=0, init=False)
    """Templates learnt since the last match."""

    @property
    def learning(self) -> bool:
        """Whether :meth:`learn` would remember anything."""
        # If the chunks of a stream never repeat (running usage, say), stop paying for each.
        return ENABLED and self._misses < _MOST_MISSES and len(self._templates) < _MOST_TEMPLATES

    def match(self, chunk: str) -> Optional[E]:
        """The event of a chunk that fits a template.

        None for any other chunk, and for one without text.
        """
        length = self._length
        template = self._templates.get(chunk[:length])
        if template is None:
            return None
        after, make_event = template
        try:
            text, end = _scanstring(chunk, length)
        except ValueError:
            return None
        if not text or chunk[end:] != after:
            return None
        self._misses = 0
        return make_event(text, chunk)

    def forget(self) -> None:
        """Drop all templates: the JSON outside the choices has changed."""
        self._templates.clear()

    def learn(self, chunk: str, key: str, text: str, make_event: MakeEvent[E]) -> None:
        """Remember the template of a chunk, parsed in full, whose only text is this one.

        Args:
            chunk: The raw JSON of the chunk.
            key: The JSON key of the text; a chunk with two such keys is not remembered.
            text: The text as it was parsed.
            make_event: Builds the event of this chunk with another text.
        """
        if not self.learning or len(chunk) > _LONGEST_CHUNK:
            return
        self._misses += 1
        # Quotes inside a JSON string are escaped, so this can only be a key.
        opening = f'"{key}":"'
        before, found, after = chunk.partition(opening)
        if not found or _may_hide_a_key(before, key) or _may_hide_a_key(after, key):
            return
        length = len(before) + len(opening)
        scanned, end = _scanstring(chunk, length)
        if scanned == text:
            self._length = length
            self._templates[chunk[:length]] = chunk[end:], make_event


def _may_hide_a_key(json_text: str, key: str) -> bool:
    """Whether a second key of this name could be here, perhaps in another spelling."""
    return f'"{key}"' in json_text or "\\u" in json_text
