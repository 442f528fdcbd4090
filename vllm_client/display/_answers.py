"""What has arrived of an answer, in pieces that can be shown."""

from __future__ import annotations

import threading
from typing import Any, Dict, Hashable, List, Optional, Tuple

from attrs import define, field, frozen

__all__ = ["LiveAnswer", "Piece", "Shown"]

_TEXTS = {"text", "content", "tokens", "response.output_text.delta", "response.refusal.delta"}
_REASONING = {"reasoning", "response.reasoning_text.delta"}
_CALLS = {"tool_call_delta", "response.function_call_arguments.delta"}
_WHOLE_CALL = "response.function_call_arguments.done"


@frozen
class Piece:
    """A part of an answer.

    Attributes:
        kind: ``"text"``, ``"reasoning"`` or ``"call"``.
        text: The text so far; of a call the text of its arguments.
        name: The function of a call.
    """

    kind: str
    text: str
    name: str = ""


@frozen
class Shown:
    """One choice of an answer, as far as it has arrived."""

    index: int
    pieces: List[Piece]
    finish_reason: Optional[str]


@define
class _Growing:
    kind: str
    key: Hashable
    name: str = ""
    parts: List[str] = field(factory=list)


class LiveAnswer:
    """Takes events in one thread while another one shows what they add up to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._choices: Dict[int, List[_Growing]] = {}
        self._finished: Dict[int, str] = {}

    def add(self, event: Any) -> None:
        """Take an event of any stream."""
        with self._lock:
            self._add(event)

    def choices(self) -> List[Shown]:
        """What has arrived so far, in the order of the choices."""
        with self._lock:
            return [
                Shown(
                    index,
                    [Piece(part.kind, "".join(part.parts), part.name) for part in grown],
                    self._finished.get(index),
                )
                for index, grown in sorted(self._choices.items())
            ]

    def _add(self, event: Any) -> None:
        kind = getattr(event, "type", None)
        index = getattr(event, "index", 0)
        if kind in _TEXTS:
            self._grow(index, "text", "").parts.append(event.text)
        elif kind in _REASONING:
            self._grow(index, "reasoning", "").parts.append(event.text)
        elif kind in _CALLS:
            self._call(index, event).parts.append(event.arguments)
        elif kind == _WHOLE_CALL:
            self._call(index, event).parts[:] = [event.arguments]
        elif kind == "finish_reason":
            self._finish(index, event.reason)
        elif kind in {"response.completed", "response.incomplete"}:
            self._finish(0, event.response.status)
        elif kind is None:  # An event of client.request(…, stream=True).
            self._grow(0, "text", "").parts.append(f"{event.data}\n")

    def _finish(self, index: int, reason: str) -> None:
        self._choices.setdefault(index, [])
        self._finished[index] = reason

    def _grow(self, index: int, kind: str, key: Hashable) -> _Growing:
        """The last piece of a choice if it is of this kind, or else a new one."""
        grown = self._choices.setdefault(index, [])
        if not grown or (grown[-1].kind, grown[-1].key) != (kind, key):
            grown.append(_Growing(kind, key))
        return grown[-1]

    def _call(self, index: int, event: Any) -> _Growing:
        key = _key_of(event)
        grown = self._choices.setdefault(index, [])
        call = next((part for part in grown if (part.kind, part.key) == ("call", key)), None)
        if call is None:
            call = self._grow(index, "call", key)
        call.name = call.name or event.name or ""
        return call


def _key_of(event: Any) -> Tuple[str, Hashable]:
    """What the pieces of a call have in common."""
    if hasattr(event, "call_index"):
        return "call", event.call_index
    return "item", event.item_id or event.output_index
