"""What has arrived of an answer, in pieces that can be shown."""

from __future__ import annotations

import threading
from typing import Any, Dict, Hashable, List, Optional, Sequence, Tuple

from attrs import define, field, frozen

__all__ = ["LiveAnswer", "Outcome", "Piece", "Shown", "outcome"]

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
        is_growing: Whether it is the last piece of a choice that is not finished.
    """

    kind: str
    text: str
    name: str = ""
    is_growing: bool = False


@frozen
class Shown:
    """One choice of an answer, as far as it has arrived."""

    index: int
    pieces: List[Piece]
    finish_reason: Optional[str]


@frozen
class Outcome:
    """What a choice says, whatever the route; of a response, which has no choices, the response."""

    index: int
    reasoning: Optional[str]
    text: Optional[str]
    calls: Sequence[Any]
    finish_reason: Optional[str]


def outcome(answer: Any, choice: Any) -> Outcome:
    """What a choice of an answer says.

    Args:
        answer: The answer.
        choice: None for an answer that has none.
    """
    holder = answer if choice is None else choice
    message = getattr(holder, "message", holder)
    return Outcome(
        getattr(holder, "index", 0),
        getattr(message, "reasoning", None) or None,
        message.content if hasattr(message, "content") else message.text,
        getattr(message, "tool_calls", ()),
        getattr(holder, "finish_reason", None) or getattr(answer, "status", None),
    )


@define
class _Growing:
    kind: str
    key: Hashable
    name: str = ""
    parts: List[str] = field(factory=list)

    def text(self) -> str:
        # In one part from now on, so that the next drawing joins only what is new.
        self.parts = ["".join(self.parts)]
        return self.parts[0]


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

    def replace(self, snapshot: Any) -> None:
        """Forget all events, and take what a stream says that it has received."""
        with self._lock:
            self._choices.clear()
            self._finished.clear()
            if isinstance(snapshot, list):  # Of client.request(…, stream=True).
                for event in snapshot:
                    self._add(event)
            else:
                for choice in getattr(snapshot, "choices", None) or [None]:
                    self._take(outcome(snapshot, choice))

    def choices(self) -> List[Shown]:
        """What has arrived so far, in the order of the choices."""
        with self._lock:
            return [self._shown(index) for index in sorted(self._choices)]

    def _shown(self, index: int) -> Shown:
        grown, reason = self._choices[index], self._finished.get(index)
        last = grown[-1] if grown and reason is None else None
        pieces = [Piece(part.kind, part.text(), part.name, part is last) for part in grown]
        return Shown(index, pieces, reason)

    def _take(self, known: Outcome) -> None:
        for kind, text in (("reasoning", known.reasoning), ("text", known.text)):
            self._add_text(known.index, kind, text or "")
        for number, call in enumerate(known.calls):
            key = _key_of(call) if hasattr(call, "item_id") else ("call", number)
            growing = _Growing("call", key, call.name, [call.arguments])
            self._choices[known.index].append(growing)
        if known.finish_reason not in {None, "in_progress", "queued"}:
            self._finish(known.index, str(known.finish_reason))

    def _add(self, event: Any) -> None:
        kind = getattr(event, "type", None)
        index = getattr(event, "index", 0)
        if kind in _TEXTS:
            self._add_text(index, "text", event.text)
        elif kind in _REASONING:
            self._add_text(index, "reasoning", event.text)
        elif kind in _CALLS:
            self._call(index, event).parts.append(event.arguments)
        elif kind == _WHOLE_CALL:
            self._call(index, event).parts[:] = [event.arguments]
        elif kind == "finish_reason":
            self._finish(index, event.reason)
        elif kind in {"response.completed", "response.incomplete"}:
            self._finish(0, event.response.status)
        elif kind is None:  # An event of client.request(…, stream=True).
            self._add_text(0, "text", f"{event.data}\n")

    def _finish(self, index: int, reason: str) -> None:
        self._choices.setdefault(index, [])
        self._finished[index] = reason

    def _add_text(self, index: int, kind: str, text: str) -> None:
        """Add to the last piece of a choice if it is of this kind, or else to a new one."""
        grown = self._choices.setdefault(index, [])
        if text:  # A token that is no whole character may stand inside text of another kind.
            if not grown or grown[-1].kind != kind:
                grown.append(_Growing(kind, ""))
            grown[-1].parts.append(text)

    def _call(self, index: int, event: Any) -> _Growing:
        grown = self._choices.setdefault(index, [])
        key = _key_of(event)
        call = next((part for part in grown if (part.kind, part.key) == ("call", key)), None)
        if call is None:
            call = _Growing("call", key)
            grown.append(call)
        call.name = call.name or event.name or ""
        return call


def _key_of(event: Any) -> Tuple[str, Hashable]:
    """What the pieces of a call have in common."""
    if hasattr(event, "call_index"):
        return "call", event.call_index
    return "item", event.item_id or event.output_index
