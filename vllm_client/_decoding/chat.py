"""Chunks of a chat → events."""

from __future__ import annotations

from functools import partial
from typing import List, Optional, Tuple

from ..events import Content, Reasoning, StreamEvent, ToolCallDelta
from ..types._json import JsonObject
from ..types._shapes import text_of_arguments, text_of_content
from ..types.chat import ChatCompletion
from ..types.shared import JSONValue
from ..types.tool_calls import ToolCall
from .accumulator import CallPieces, MessagePieces
from .chunks import ABORTED, Decoder, TextOnly, finish_reason_of, index_of, typed
from .fast_json import is_json

# With these finish reasons the arguments of a tool call may be incomplete.
_CUT_OFF = frozenset({"length", "repetition", *ABORTED})


class ChatDecoder(Decoder[StreamEvent, ChatCompletion, MessagePieces]):
    """Chunks of ``/v1/chat/completions``.

    Args:
        expected: How many choices were asked for.
        forced: Whether ``tool_choice`` left the model no choice but to call a tool.
        hides_reasoning: Whether the request has ``include_reasoning=False``.
    """

    object_name = "chat.completion"

    def __init__(
        self, expected: int, *, forced: bool = False, hides_reasoning: bool = False
    ) -> None:
        self.new_pieces = partial(MessagePieces, forced=forced, hides_reasoning=hides_reasoning)
        super().__init__(expected)

    def snapshot(self) -> ChatCompletion:
        """What has arrived so far."""
        return ChatCompletion.from_raw(self._raw_snapshot())

    def _decode_choice(
        self, choice: JsonObject, raw_chunk: JSONValue, events: List[StreamEvent]
    ) -> None:
        pieces = self._pieces.choice(index_of(choice))
        if "text" in choice and "delta" not in choice:
            raise TypeError("a chunk of /v1/completions, not of /v1/chat/completions")
        self._keep_others(choice, pieces)
        delta = choice.get("delta") or pieces.new_in(choice.get("message"))
        pieces.role = delta.get("role") or pieces.role
        logprobs, token_ids = choice.get("logprobs"), choice.get("token_ids") or None
        pieces.add_tokens(logprobs, token_ids)
        refusal = delta.get("refusal")
        if refusal:
            pieces.refusals.append(typed(str, refusal))
        calls = delta.get("tool_calls") or ()
        if calls:
            # At least some of the chunk's tokens belong to the calls, and none of the events of
            # a call has a place for them. A program finds them in event.chunk.
            logprobs = token_ids = None
        events += _texts(delta, pieces, (logprobs, token_ids), raw_chunk)
        for call in filter(None, calls):
            events += _call_events(call, pieces, raw_chunk)
        reason = finish_reason_of(choice)
        if reason is not None:
            if reason not in _CUT_OFF:
                events += _open_calls(pieces)
            events.append(self._finish(reason, choice, pieces, raw_chunk))

    def last_events(self) -> List[StreamEvent]:
        """The tool calls whose pieces came after the finish reason of their choice."""
        return [
            call
            for pieces in self._pieces.choices()
            if pieces.finish_reason not in _CUT_OFF
            for call in _open_calls(pieces)
        ]

    def _text_only(self, choice: JsonObject) -> Optional[TextOnly[StreamEvent]]:
        delta = choice.get("delta") or {}
        keys = [name for name, value in delta.items() if value]
        pieces = self._pieces.choice(index_of(choice))
        if keys == ["content"]:
            return "content", delta["content"], Content, pieces.contents
        if keys == ["reasoning"]:
            return "reasoning", delta["reasoning"], Reasoning, pieces.reasonings
        return None


def _texts(
    delta: JsonObject,
    pieces: MessagePieces,
    tokens: Tuple[JSONValue, JSONValue],
    raw_chunk: JSONValue,
) -> List[StreamEvent]:
    """The events for the reasoning and the content of a chunk."""
    events: List[StreamEvent] = []
    index, (logprobs, token_ids) = pieces.index, tokens
    reasoning = delta.get("reasoning") or delta.get("reasoning_content")  # Until vLLM 0.14.
    content = text_of_content(delta.get("content"))
    if reasoning:
        pieces.reasonings.append(typed(str, reasoning))
        pieces.thinking = True
    if content:
        pieces.contents.append(content)
        pieces.thinking = False
    # A token without text belongs to the kind of text before it. If a chunk has both kinds, its
    # tokens go with the later one.
    has_tokens = logprobs is not None or token_ids is not None
    thinking = pieces.thinking
    if reasoning and not thinking:
        events.append(Reasoning(reasoning, index, None, None, raw_chunk))
    elif thinking and (reasoning or has_tokens):
        events.append(Reasoning(reasoning or "", index, logprobs, token_ids, raw_chunk))
    if content or (has_tokens and not thinking):
        events.append(Content(content or "", index, logprobs, token_ids, raw_chunk))
    return events


def _call_events(
    call: JsonObject, pieces: MessagePieces, raw_chunk: JSONValue
) -> List[StreamEvent]:
    """The events for a piece of a tool call, after the calls that it shows to be complete."""
    call_id, function = call.get("id"), call.get("function") or {}
    name, arguments = function.get("name"), text_of_arguments(function.get("arguments"))
    number = pieces.number_of_call(call.get("index"), call_id or "", name or "", arguments)
    # A piece of a new call is no proof that the calls before it are complete: pieces of several
    # calls may alternate. Whole JSON is.
    events = [] if number in pieces.calls else _open_calls(pieces, next_has_begun=True)
    open_call = pieces.calls.setdefault(number, CallPieces())
    open_call.id = open_call.id or call_id or ""
    open_call.name = open_call.name or name or ""
    open_call.add(arguments)
    events.append(ToolCallDelta(number, call_id, name, arguments, pieces.index, raw_chunk))
    return events


def _open_calls(pieces: MessagePieces, *, next_has_begun: bool = False) -> List[StreamEvent]:
    """The complete tool calls of a choice that have had no event yet, and now get one.

    Up to 0.27, vLLM sends the finish reason ``tool_calls`` also for a call that ``max_tokens`` cut
    off. So only whole JSON counts as complete, or no arguments at all in a finished choice.
    """
    events: List[StreamEvent] = []
    for number in sorted(pieces.calls):
        open_call = pieces.calls[number]
        if open_call.emitted:
            continue
        call: ToolCall = open_call.joined(pieces.index)
        is_empty = not call.arguments.strip()
        if is_json(call.arguments) or (is_empty and not next_has_begun):
            open_call.emitted = True
            events.append(call)
    return events
