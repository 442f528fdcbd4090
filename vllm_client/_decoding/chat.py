"""Chunks of a chat → events."""

from __future__ import annotations

from functools import partial
from typing import Any, Dict, List, Optional, Tuple

from ..events import Content, Reasoning, StreamEvent, ToolCallDelta
from ..types.chat import ChatCompletion
from .accumulator import Accumulator, CallPieces, MessagePieces
from .chunks import Decoder, index_of, says, typed
from .fast_json import loads
from .templates import Say

# After these a tool call may lack its end.
_CUT_OFF = frozenset({"length", "abort", "repetition"})


class ChatDecoder(Decoder[StreamEvent, ChatCompletion]):
    """Chunks of ``/v1/chat/completions``.

    Args:
        expected: How many choices were asked for.
        forced: Whether ``tool_choice`` left the model no choice but to call.
    """

    def __init__(self, expected: int, *, forced: bool = False) -> None:
        pieces = Accumulator("chat.completion", partial(MessagePieces, forced=forced))
        super().__init__(expected, pieces, ChatCompletion.from_raw)

    def _decode_choice(self, choice: Dict[str, Any], held: Any, events: List[StreamEvent]) -> None:
        pieces: MessagePieces = self._pieces.choice(index_of(choice))
        delta = choice.get("delta") or {}
        pieces.role = delta.get("role") or pieces.role
        logprobs, token_ids = choice.get("logprobs"), choice.get("token_ids") or None
        pieces.add_tokens(logprobs, token_ids)
        calls = delta.get("tool_calls") or ()
        if calls:
            # The chunk's tokens are those of the calls, at least in part.
            logprobs = token_ids = None
        self._decode_texts(delta, pieces, (logprobs, token_ids), held, events)
        for call in calls:
            _decode_call(call, pieces, held, events)
        reason = choice.get("finish_reason")
        if reason is not None:
            if reason not in _CUT_OFF:
                _give_calls(pieces, events)
            self._finish(choice, pieces, held, events)

    def _only_text(self, choice: Dict[str, Any]) -> Optional[Tuple[str, str, Say]]:
        said = [name for name, value in choice["delta"].items() if value]
        pieces: MessagePieces = self._pieces.choice(index_of(choice))
        if said == ["content"]:
            say = says(Content, pieces, pieces.contents)
        elif said == ["reasoning"]:
            say = says(Reasoning, pieces, pieces.reasonings)
        else:
            return None
        return said[0], choice["delta"][said[0]], say

    def _decode_texts(
        self,
        delta: Dict[str, Any],
        pieces: MessagePieces,
        tokens: Tuple[Any, Any],
        held: Any,
        events: List[StreamEvent],
    ) -> None:
        index, (logprobs, token_ids) = pieces.index, tokens
        reasoning = delta.get("reasoning") or delta.get("reasoning_content")  # up to 0.14
        content = delta.get("content")
        if reasoning:
            pieces.reasonings.append(typed(str, reasoning))
            pieces.thinking = True
        if content:
            pieces.contents.append(typed(str, content))
            pieces.thinking = False
        # A token that shows nothing goes with the text before it, tokens of both with the later.
        said = logprobs is not None or token_ids is not None
        thinking = pieces.thinking
        if reasoning and not thinking:
            events.append(Reasoning(reasoning, index, None, None, held))
        elif thinking and (reasoning or said):
            events.append(Reasoning(reasoning or "", index, logprobs, token_ids, held))
        if content or (said and not thinking):
            events.append(Content(content or "", index, logprobs, token_ids, held))


def _decode_call(
    call: Dict[str, Any], pieces: MessagePieces, held: Any, events: List[StreamEvent]
) -> None:
    number = index_of(call)
    if number not in pieces.calls:
        _give_calls(pieces, events, only_whole=True)
    open_call = pieces.calls.setdefault(number, CallPieces())
    function = call.get("function") or {}
    open_call.id = open_call.id or call.get("id") or ""
    open_call.name = open_call.name or function.get("name") or ""
    arguments = typed(str, function.get("arguments") or "")
    open_call.arguments.append(arguments)
    events.append(
        ToolCallDelta(number, call.get("id"), function.get("name"), arguments, pieces.index, held)
    )


def _give_calls(
    pieces: MessagePieces, events: List[StreamEvent], *, only_whole: bool = False
) -> None:
    for number in sorted(pieces.calls):
        open_call = pieces.calls[number]
        if open_call.given:
            continue
        call = open_call.joined(pieces.index)
        # That another call begins does not yet mean that no piece of this one follows.
        if not only_whole or _is_json(call.arguments):
            open_call.given = True
            events.append(call)


def _is_json(text: str) -> bool:
    try:
        loads(text)
    except (ValueError, RecursionError):
        return False
    return True
