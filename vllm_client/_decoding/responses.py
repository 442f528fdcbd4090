"""The SSE events of ``/v1/responses`` → events.

A stream is complete only with ``response.completed`` or ``response.incomplete``. These carry the
whole response, as ``create()`` returns it.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, NamedTuple, Optional

from .._error_bodies import decoded_or_text, frame_error, message_in
from ..exceptions import InvalidStreamError
from ..response_events import (
    ResponseContentPart,
    ResponseDone,
    ResponseItem,
    ResponseOther,
    ResponseProgress,
    ResponseReasoningDelta,
    ResponseReasoningDone,
    ResponseRefusalDelta,
    ResponseRefusalDone,
    ResponseStreamEvent,
    ResponseTextDelta,
    ResponseTextDone,
    ResponseToolCallDelta,
)
from ..types._json import JsonObject
from ..types._shapes import text_of_arguments
from ..types.response import Response, ResponseToolCall
from ..types.shared import Usage
from .chunks import MISSHAPEN, shortened, typed
from .fast_json import is_json, loads
from .response_items import ItemPieces, OutputItems

Events = List[ResponseStreamEvent]


class _TextKind(NamedTuple):
    """What the events of a kind of text have in common."""

    item: str
    part: str
    key: str
    delta: Callable[..., ResponseStreamEvent]
    done: Callable[..., ResponseStreamEvent]


_TEXT = _TextKind("message", "output_text", "text", ResponseTextDelta, ResponseTextDone)
_REASONING = _TextKind(
    "reasoning", "reasoning_text", "text", ResponseReasoningDelta, ResponseReasoningDone
)
_REFUSAL = _TextKind("message", "refusal", "refusal", ResponseRefusalDelta, ResponseRefusalDone)
_TEXT_KINDS = {
    "response.output_text": _TEXT,
    "response.reasoning_text": _REASONING,
    "response.refusal": _REFUSAL,
}
# Events without a class whose pieces belong to a member of an item: the item and the member.
_OTHER_PIECES = {
    "response.mcp_call_arguments": ("mcp_call", "arguments"),
    "response.custom_tool_call_input": ("custom_tool_call", "input"),
    "response.code_interpreter_call_code": ("code_interpreter_call", "code"),
}
_ENDS = ("response.completed", "response.incomplete", "response.cancelled")


class ResponseDecoder:
    """The state of one stream, and how its SSE events become events.

    Attributes:
        usage: The token counts of the complete response.
        aborted: Whether the server gave up the generation.
        complete: Whether the stream has ended as it should. Written by ``streams``.
        ended: Whether the event that ends a response has arrived.
        had_output: Whether the latest event held a piece of the output.
    """

    def __init__(self) -> None:
        self.usage: Optional[Usage] = None
        self.aborted = False
        self.complete = False
        self.ended = False
        self.had_output = False
        self._response: JsonObject = {}
        self._items = OutputItems()

    def decode(self, name: str, data: str) -> Events:
        """The events of one SSE event.

        Args:
            name: The name of the SSE event, for data without a ``type``.
            data: Its data.

        Raises:
            ServerStreamError: It is an error, or the response failed.
            InvalidStreamError: It is not an event of this route.
        """
        try:
            raw: JsonObject = loads(data) or {}  # Gateways send `null` as a keep-alive.
            kind = typed(str, raw.get("type") or name)
            _refuse_error(kind, raw)
            self.had_output = kind.endswith(".delta")
            return self._decode(kind, raw) if raw else []
        except MISSHAPEN as error:
            raise InvalidStreamError(
                f"an event of the stream cannot be decoded ({error!r}): {shortened(data)}"
            ) from error

    def decode_end(self, data: str) -> Events:
        """The events of data that end a response; none of other data, which may be cut off.

        Raises:
            ServerStreamError: It is an error, or the response failed.
            InvalidStreamError: It ends a response that has not the shape of one.
        """
        raw = decoded_or_text(data)
        if not isinstance(raw, dict):
            return []
        _refuse_error(str(raw.get("type")), raw)
        return self.decode("", data) if raw.get("type") in _ENDS else []

    def snapshot(self) -> Response:
        """What has arrived so far; once the stream is complete, the response it ended with."""
        if self.ended:
            return Response.from_raw(self._response)
        return self._snapshot_of(self._response)

    def _snapshot_of(self, response: JsonObject) -> Response:
        return Response.from_raw({"status": "in_progress", **response, "output": self._items.raw()})

    def _decode(self, kind: str, raw: JsonObject) -> Events:
        if kind in _DECODERS:
            return _DECODERS[kind](self, kind, raw)
        stem, _, step = kind.rpartition(".")
        if stem in _TEXT_KINDS and step in {"delta", "done"}:
            return [self._text_event(_TEXT_KINDS[stem], step, raw)]
        if stem in _OTHER_PIECES and step == "delta":
            self._add_piece(*_OTHER_PIECES[stem], raw)
        return [ResponseOther(kind, raw)]

    def _decode_progress(self, kind: Any, raw: JsonObject) -> Events:
        said = {name: value for name, value in raw["response"].items() if value is not None}
        response = self._snapshot_of({**self._response, **said})
        self._response = response.raw
        return [ResponseProgress(response, kind, raw)]

    def _decode_end(self, kind: Any, raw: JsonObject) -> Events:
        response = dict(raw["response"])
        # An empty value replaces nothing: some gateways omit the output that they streamed.
        response["output"] = response.get("output") or self._items.raw()
        response["status"] = response.get("status") or kind.rpartition(".")[2]
        whole = Response.from_raw(response)
        self._response, self.usage, self.ended = response, whole.usage, True
        if whole.status == "failed":
            raise frame_error(response)
        self.aborted = "cancelled" in {whole.status, kind.rpartition(".")[2]}
        return [ResponseDone(whole, kind, raw)]

    def _decode_item(self, kind: Any, raw: JsonObject) -> Events:
        item, index = dict(raw["item"]), _index(raw, "output_index")
        Response.from_raw({"status": "in_progress", "output": [item]})  # Refuse other shapes.
        event = ResponseItem(raw["item"], index, kind, raw)
        if kind.endswith(".added"):
            self._items.begin(item, index)
            return [event]
        pieces = self._items.end(item, index)
        # Without arguments the status tells whether more were to come.
        cut_off = item.get("status") in {"incomplete", "in_progress"}
        call = _whole_call(pieces, raw, may_be_empty=not cut_off)
        return [event] if call is None else [call, event]

    def _decode_part(self, kind: Any, raw: JsonObject) -> Events:
        part, index = raw["part"], _index(raw, "content_index")
        is_reasoning = part["type"] == "reasoning_text"
        item = self._item_of(raw, "reasoning" if is_reasoning else "message")
        pieces = item.part(index, part["type"])
        pieces.part, pieces.key = part, "refusal" if part["type"] == "refusal" else "text"
        pieces.replace_text(typed(str, part.get(pieces.key) or ""))
        return [ResponseContentPart(part, _item_id(raw), item.output_index, index, kind, raw)]

    def _decode_arguments_delta(self, _: str, raw: JsonObject) -> Events:
        pieces = self._add_piece("function_call", "arguments", raw)
        item, delta = pieces.item, pieces.members["arguments"][-1]
        call_id, name = item.get("call_id") or "", item.get("name") or ""
        index = pieces.output_index
        return [ResponseToolCallDelta(delta, call_id, name, _item_id(raw), index, raw)]

    def _decode_arguments_done(self, kind: str, raw: JsonObject) -> Events:
        pieces = self._item_of(raw, "function_call")
        arguments = text_of_arguments(raw.get("arguments"))
        if arguments:
            pieces.members["arguments"] = [arguments]
        if raw.get("name"):
            pieces.item["name"] = typed(str, raw["name"])
        call = _whole_call(pieces, raw, may_be_empty=False)
        return [ResponseOther(kind, raw) if call is None else call]

    def _text_event(self, kind: _TextKind, step: str, raw: JsonObject) -> ResponseStreamEvent:
        pieces, index = self._item_of(raw, kind.item), _index(raw, "content_index")
        part = pieces.part(index, kind.part, kind.key)
        place = (_item_id(raw), pieces.output_index, index)
        if step == "done":
            part.replace_text(typed(str, raw.get(kind.key) or ""))
            return kind.done("".join(part.texts), *place, raw=raw)
        text, logprobs = typed(str, raw.get("delta") or ""), raw.get("logprobs") or []
        part.logprobs += typed(list, logprobs)
        part.texts.append(text)
        more = {"logprobs": logprobs} if logprobs else {}
        return kind.delta(text, *place, raw=raw, **more)

    def _add_piece(self, kind: str, member: str, raw: JsonObject) -> ItemPieces:
        pieces = self._item_of(raw, kind)
        text = typed(str, raw.get("delta") or "")
        pieces.members.setdefault(member, []).append(text)
        return pieces

    def _item_of(self, raw: JsonObject, kind: str) -> ItemPieces:
        """The item that an event belongs to; a new one of this kind if it was not announced."""
        item_id, index = _item_id(raw), _index(raw, "output_index")
        item = {"id": item_id, "type": kind, "status": "in_progress"}
        if kind == "function_call":
            item["name"] = ""
        return self._items.find(item_id, index) or self._items.begin(item, index)


def _refuse_error(kind: str, raw: JsonObject) -> None:
    if kind == "response.failed":
        raise frame_error(raw.get("response") or raw)
    if kind.startswith("response."):
        return  # An "error" in it is that of a part, such as a call of the server's own tools.
    # vLLM sends an object without a type, OpenAI an event of the type "error".
    is_error = kind == "error" or raw.get("error") or raw.get("object") == "error"
    if is_error or ("type" not in raw and message_in(raw)):
        raise frame_error(raw)


def _whole_call(
    pieces: ItemPieces, raw: JsonObject, *, may_be_empty: bool
) -> Optional[ResponseToolCall]:
    """The event of a function call, once its arguments are whole JSON."""
    item = pieces.raw()
    if pieces.call_emitted or item.get("type") != "function_call" or not item.get("name"):
        return None
    call = ResponseToolCall.from_raw(item, pieces.output_index)
    call.raw = raw
    is_empty = not call.arguments.strip()
    pieces.call_emitted = may_be_empty if is_empty else is_json(call.arguments)
    return call if pieces.call_emitted else None


def _index(raw: JsonObject, name: str) -> int:
    index = raw.get(name) or 0
    if type(index) is not int or index < 0:
        raise TypeError(f"not an index: {index!r}")
    return index


def _item_id(raw: JsonObject) -> str:
    return typed(str, raw.get("item_id") or "")


_Decode = Callable[[ResponseDecoder, str, JsonObject], Events]
_DECODERS: Dict[str, _Decode] = {
    **dict.fromkeys(
        ("response.created", "response.queued", "response.in_progress"),
        ResponseDecoder._decode_progress,
    ),
    **dict.fromkeys(_ENDS, ResponseDecoder._decode_end),
    "response.output_item.added": ResponseDecoder._decode_item,
    "response.output_item.done": ResponseDecoder._decode_item,
    "response.content_part.added": ResponseDecoder._decode_part,
    "response.content_part.done": ResponseDecoder._decode_part,
    "response.function_call_arguments.delta": ResponseDecoder._decode_arguments_delta,
    "response.function_call_arguments.done": ResponseDecoder._decode_arguments_done,
}
