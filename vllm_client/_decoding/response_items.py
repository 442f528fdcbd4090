"""The items of the output of ``/v1/responses`` while their pieces arrive."""

from __future__ import annotations

from typing import Dict, List, Optional

from attrs import define, field

from ..types._json import JsonObject
from ..types.shared import JSONValue


@define(eq=False)
class PartPieces:
    """A part of a message or of reasoning.

    Attributes:
        part: The part as it began.
        key: The member that holds its text.
        texts: The pieces of the text.
        logprobs: The log-probabilities of its tokens.
    """

    part: JsonObject
    key: str = "text"
    texts: List[str] = field(factory=list)
    logprobs: List[JSONValue] = field(factory=list)

    def replace_text(self, text: str) -> None:
        """Set the whole text. An empty one replaces nothing."""
        if text:
            self.texts[:] = [text]

    def raw(self) -> JsonObject:
        """The part, with the text that has arrived."""
        part = {**self.part, self.key: "".join(self.texts)}
        return {**part, "logprobs": list(self.logprobs)} if self.logprobs else part


@define(eq=False)
class ItemPieces:
    """An item of the output.

    Attributes:
        item: The item as it began; once it is complete, as it ended.
        output_index: Its place in the output.
        parts: Its parts, by their ``content_index``.
        members: The pieces of members that are texts, such as ``arguments``.
        ended: Whether the server sent the complete item.
        call_emitted: Whether its ``ResponseToolCall`` event was made.
    """

    item: JsonObject
    output_index: int = 0
    parts: Dict[int, PartPieces] = field(factory=dict)
    members: Dict[str, List[str]] = field(factory=dict)
    ended: bool = False
    call_emitted: bool = False

    def part(self, index: int, kind: str, key: str = "text") -> PartPieces:
        """The part at this index; a new one of this kind if the server did not announce it."""
        if index not in self.parts:
            self.parts[index] = PartPieces({"type": kind}, key)
        return self.parts[index]

    def raw(self) -> JsonObject:
        """The item, with everything that has arrived."""
        if self.ended:
            return self.item
        texts = {name: "".join(pieces) for name, pieces in self.members.items()}
        parts = [self.parts[index].raw() for index in sorted(self.parts)]
        return {**self.item, **texts, **({"content": parts} if parts else {})}


class OutputItems:
    """All items of a response."""

    def __init__(self) -> None:
        self._items: List[ItemPieces] = []

    def raw(self) -> List[JsonObject]:
        """The items so far, in the order of the output."""
        return [each.raw() for each in sorted(self._items, key=lambda item: item.output_index)]

    def begin(self, item: JsonObject, output_index: int) -> ItemPieces:
        """A new item."""
        pieces = ItemPieces(item, output_index)
        self._items.append(pieces)
        return pieces

    def end(self, item: JsonObject, output_index: int) -> ItemPieces:
        """The item that the server sent as complete, perhaps without having begun it."""
        pieces = self.find(item.get("id"), output_index) or self.begin(item, output_index)
        pieces.item, pieces.ended = item, True
        return pieces

    def find(self, item_id: Optional[str], output_index: int) -> Optional[ItemPieces]:
        """The item with this id.

        Some servers send no ids, or other ones in later events: then the item that is at this
        index and has not ended.
        """
        candidates = [
            each for each in self._items if each.output_index == output_index and not each.ended
        ]
        named = [each for each in self._items if item_id and each.item.get("id") == item_id]
        found = named or candidates
        return found[-1] if found else None
