"""The output of ``/v1/responses``: items, and the SSE events that send them in pieces."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping

from .._wire.json_types import Json, JsonObject
from .chat_output import TokenDelta

__all__ = ["OutputWriter"]


class OutputWriter:
    """Writes the items of an output and their events.

    Attributes:
        items: The items.
        events: The events, each with its type.

    Args:
        pieces: The tokens of a chat choice, with their deltas.
    """

    def __init__(self, pieces: Iterable[TokenDelta]) -> None:
        self.items: list[JsonObject] = []
        self.events: list[JsonObject] = []
        # The item that is being written; empty between two items.
        self._item: dict[str, Json] = {}
        self._text = ""
        for piece in pieces:
            self._add_delta(piece.delta)
        self._end_item()
        if not self.items:
            self.items.append(_new_item("message"))

    def _add_delta(self, delta: Mapping[str, Json]) -> None:
        if delta.get("reasoning"):
            self._add_text("reasoning", delta["reasoning"])
        if delta.get("content"):
            self._add_text("message", delta["content"])
        for call in delta.get("tool_calls", ()):
            self._add_call(call)

    def _add_text(self, kind: str, text: str) -> None:
        if self._item.get("type") != kind:
            self._begin_item(_new_item(kind))
            self._emit_part("added", {**_part(kind, ""), **_logprobs(kind, [])})
        self._text += text
        name = _TEXT_EVENTS[kind]
        more = _logprobs(kind, [])
        self._emit(f"{name}.delta", content_index=0, delta=text, **self._place(), **more)

    def _add_call(self, call: Mapping[str, Json]) -> None:
        function = call["function"]
        if "id" in call:
            names = {"call_id": call["id"], "name": function["name"]}
            self._begin_item({**_new_item("function_call"), **names})
        arguments = function.get("arguments", "")
        self._text += arguments
        if arguments:
            self._emit("response.function_call_arguments.delta", delta=arguments, **self._place())

    def _begin_item(self, item: JsonObject) -> None:
        self._end_item()
        self._item, self._text = dict(item), ""
        begun = {**item, "status": "in_progress"}
        self._emit("response.output_item.added", item=begun, output_index=len(self.items))

    def _end_item(self) -> None:
        if not self._item:
            return
        kind = self._item["type"]
        if kind == "function_call":
            self._item["arguments"] = self._text
            end = {"arguments": self._text, "name": self._item["name"]}
            self._emit("response.function_call_arguments.done", **self._place(), **end)
        else:
            part = {**_part(kind, self._text), **_logprobs(kind, None)}
            self._item["content"] = [part]
            end = {"content_index": 0, "text": self._text, **_logprobs(kind, [])}
            self._emit(f"{_TEXT_EVENTS[kind]}.done", **self._place(), **end)
            self._emit_part("done", part)
        self._emit("response.output_item.done", item=self._item, output_index=len(self.items))
        self.items.append(self._item)
        self._item = {}

    def _emit_part(self, step: str, part: JsonObject) -> None:
        self._emit(f"response.content_part.{step}", content_index=0, part=part, **self._place())

    def _place(self) -> dict[str, Json]:
        return {"item_id": self._item["id"], "output_index": len(self.items)}

    def _emit(self, kind: str, **members: object) -> None:
        self.events.append({**members, "type": kind})


_TEXT_EVENTS = {"message": "response.output_text", "reasoning": "response.reasoning_text"}
_PREFIXES = {"message": "msg", "reasoning": "rs", "function_call": "fc"}


def _new_item(kind: str) -> JsonObject:
    """Return an item without content, with its keys in the same order as vLLM."""
    id_ = f"{_PREFIXES[kind]}_{uuid.uuid4().hex[:16]}"
    if kind == "message":
        head: JsonObject = {"id": id_, "content": [], "role": "assistant"}
        return {**head, "status": "completed", "type": kind, "phase": None}
    if kind == "reasoning":
        head = {"id": id_, "summary": [], "type": kind, "content": None}
        return {**head, "encrypted_content": None, "status": "completed"}
    head = {"arguments": "", "call_id": "", "name": "", "type": kind, "id": id_}
    return {**head, "namespace": None, "status": "completed"}


def _part(kind: str, text: str) -> JsonObject:
    if kind == "reasoning":
        return {"text": text, "type": "reasoning_text"}
    return {"annotations": [], "text": text, "type": "output_text"}


def _logprobs(kind: str, value: object) -> JsonObject:
    return {"logprobs": value} if kind == "message" else {}
