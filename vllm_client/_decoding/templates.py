"""A shortcut for chunks that differ from an earlier chunk in a single text, and in columns.

In a stream nearly every chunk has the same bytes before and after one JSON string. Once such a
chunk has been parsed, one with the same surroundings can only mean the same with another text. So
only its string is decoded, with the function that ``json`` itself uses, and the values that the
server sends with each token (``columns.py``). Any other chunk is parsed as usual. Measured: half of
the cost of a chunk, see docs/performance.md.

``ENABLED = False`` parses every chunk; tests compare the two.
"""

from __future__ import annotations

from json import decoder
from typing import TYPE_CHECKING, Callable, Dict, Generic, Iterable, Optional, Tuple, TypeVar

from attrs import define, field

if TYPE_CHECKING:
    from .columns import Columns

ENABLED = True
_scanstring: Callable[[str, int], Tuple[str, int]] = getattr(decoder, "scanstring")  # noqa: B009
_MOST_TEMPLATES = 64
_MOST_MISSES = 16
_LONGEST_CHUNK = 16384
"""Characters."""

E = TypeVar("E")

MakeEvent = Callable[[str, str], E]
"""Builds the event for a chunk from its text and its raw JSON."""
MatchColumns = Callable[[str, str, str], Optional[E]]
"""``Columns.match``."""
FindColumns = Callable[[str, int], "Optional[Columns[E]]"]
"""Finds the columns in a chunk behind the end of its text."""
_Template = Tuple[Optional[str], MakeEvent[E], Optional[MatchColumns[E]]]
"""The JSON after a text, and the function; or None, and a function for chunks with columns."""


@define(eq=False)
class ChunkTemplates(Generic[E]):
    """Caches the JSON around the text of earlier chunks, with the function for their event."""

    _length: int = field(default=0, init=False)
    """Characters before the text in the chunk that was learnt last."""
    _templates: Dict[str, _Template[E]] = field(factory=dict, init=False)
    """The JSON before a text → the template."""
    _misses: int = field(default=0, init=False)
    """Templates learnt since the last match."""

    @property
    def learning(self) -> bool:
        """Whether :meth:`learn` would remember anything."""
        # If the chunks of a stream never repeat, stop paying for each.
        return ENABLED and self._misses < _MOST_MISSES and len(self._templates) < _MOST_TEMPLATES

    def match(self, chunk: str) -> Optional[E]:
        """The event of a chunk that fits a template.

        None for any other chunk, and for one without text.
        """
        length = self._length
        template = self._templates.get(chunk[:length])
        if template is None:
            return None
        after, make_event, match_columns = template
        try:
            text, end = _scanstring(chunk, length)
        except ValueError:
            return None
        rest = chunk[end:]
        if text and rest == after:
            self._misses = 0
            return make_event(text, chunk)
        if not text or match_columns is None:
            return None
        event = match_columns(text, chunk, rest)
        if event is not None:
            self._misses = 0
        return event

    def forget(self) -> None:
        """Drop all templates: the JSON outside the choices has changed."""
        self._templates.clear()

    def learn(
        self,
        chunk: str,
        key: str,
        text: str,
        make_event: MakeEvent[E],
        find_columns: Optional[FindColumns[E]] = None,
    ) -> None:
        """Remember the template of a chunk, parsed in full, whose only text is this one.

        Args:
            chunk: The raw JSON of the chunk.
            key: The JSON key of the text; a chunk with two such keys is not remembered.
            text: The text as it was parsed.
            make_event: Builds the event of this chunk with another text.
            find_columns: Finds the columns of the chunk; None if it has none.
        """
        if not self.learning or len(chunk) > _LONGEST_CHUNK:
            return
        self._misses += 1
        # Quotes inside a JSON string are escaped, so this can only be a key.
        opening = f'"{key}":"'
        before, found, _ = chunk.partition(opening)
        if not found:
            return
        length = len(before) + len(opening)
        scanned, end = _scanstring(chunk, length)
        around, keys = [before, chunk[end:]], [key]
        template: _Template[E] = chunk[end:], make_event, None
        if find_columns is not None:
            columns = find_columns(chunk, end)
            if columns is None:
                return
            around, keys = [before, *columns.around], [key, *columns.keys]
            template = None, make_event, columns.match
        if scanned == text and not _may_hide_a_key(around, keys):
            self._length = length
            self._templates[chunk[:length]] = template


def _may_hide_a_key(pieces: Iterable[str], keys: Iterable[str]) -> bool:
    """Whether a second key of these names could be here, perhaps in another spelling."""
    text = "\n".join(pieces)
    return "\\u" in text or any(f'"{key}"' in text for key in keys)
