"""What the model writes in a chat: reasoning, content and calls, token by token."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .._engine.engine import Engine
from .._engine.generation import Limits, Output, StopReason, Token
from .._engine.structured import constrained, structured_text
from .._engine.tokenizer import SPECIAL_TOKENS, THINK_END
from .._engine.tools import Call, calls_for, scripted_calls, tool_choice
from .._wire.fields import Fields
from ..script import Script
from .messages import last_question

__all__ = ["ChatOutput", "Piece", "merged", "thinks", "write_chat"]

Delta = Mapping[str, Any]

_CALL_START = SPECIAL_TOKENS.index("<tool_call>")
_CALL_END = SPECIAL_TOKENS.index("</tool_call>")


@dataclass(frozen=True)
class Piece:
    """One token, and what a stream shows of it, which may be nothing."""

    token: Token
    delta: Delta
    reasoning: bool = False


@dataclass(frozen=True)
class ChatOutput:
    """The answer of one choice."""

    index: int
    pieces: Sequence[Piece]
    finish_reason: str
    stop_reason: StopReason = None

    @property
    def text(self) -> str:
        """All that was written, to tell one choice from another."""
        return "".join(piece.token.text for piece in self.pieces)

    @property
    def has_open_call(self) -> bool:
        """Whether the answer ends within a call."""
        ids = [piece.token.id for piece in self.pieces]
        return ids.count(_CALL_START) > ids.count(_CALL_END)

    @property
    def called_text(self) -> str:
        """What was written from the first call on, markers and all."""
        ids = [piece.token.id for piece in self.pieces]
        called = self.pieces[ids.index(_CALL_START) :]
        return "".join(piece.token.text for piece in called)

    def cut_at(self, count: int, finish_reason: str) -> ChatOutput:
        """Return the same answer as it is after `count` tokens, if it has more."""
        if len(self.pieces) <= count:
            return self
        return ChatOutput(self.index, self.pieces[:count], finish_reason)


def merged(deltas: Iterable[Delta]) -> dict[str, Any]:
    """Return what several deltas add up to, which is a delta again."""
    whole: dict[str, Any] = {}
    calls: dict[int, dict[str, Any]] = {}
    for delta in deltas:
        for name in ("reasoning", "content"):
            if name in delta:
                parts = [part for part in (whole.get(name), delta[name]) if part is not None]
                whole[name] = "".join(parts) if parts else None
        for call in delta.get("tool_calls", ()):
            _add_call(calls, call)
    return {**whole, "tool_calls": list(calls.values())} if calls else whole


def thinks(fields: Fields, script: Script) -> bool:
    """Whether the answer begins with reasoning."""
    asked = fields.get("chat_template_kwargs", {}).get("enable_thinking")
    effort = fields.get("reasoning_effort", "none") != "none"
    return script.reasoning is not None or bool(asked) or effort


def write_chat(
    engine: Engine,
    fields: Fields,
    limits: Limits,
    script: Script,
    index: int,
    rng: random.Random,
) -> ChatOutput:
    """Return the answer of one choice."""
    question = last_question(fields["messages"])
    reasoning = list(_reasoning(engine, fields, script, question))
    calls = _calls(fields, script, question, rng)
    called = list(_call_pieces(engine, fields, calls))
    # Reasoning counts as well: what it leaves is for the content.
    room = replace(limits, max_tokens=max(1, limits.max_tokens - len(reasoning)))
    if called and script.text is None:
        end = engine.writer.script("", index, None)
    else:
        end = _content(engine, fields, script, question, room, index, rng)
    content = [Piece(token, _text_delta("content", token.released)) for token in end.tokens]
    if called:
        # The calls stand between the content and the end of the text.
        content[-1:] = [*called, *content[-1:]]
        reason = "stop" if tool_choice(fields) == "named" else "tool_calls"
        end = replace(end, finish_reason=script.finish_reason or reason)
    output = ChatOutput(index, [*reasoning, *content], end.finish_reason, end.stop_reason)
    return output if script.generates else output.cut_at(limits.max_tokens, "length")


def _content(
    engine: Engine,
    fields: Fields,
    script: Script,
    question: str,
    limits: Limits,
    index: int,
    rng: random.Random,
) -> Output:
    if script.generates:
        return engine.writer.script(script.text or "", index, script.finish_reason)
    if constrained(fields):
        return engine.writer.copy(structured_text(fields, question, rng), index, limits)
    return engine.writer.answer(question, index, limits, rng)


def _reasoning(engine: Engine, fields: Fields, script: Script, question: str) -> Iterator[Piece]:
    if not thinks(fields, script):
        return
    text = script.reasoning
    if text is None:
        text = f"The user asks: {question} A short and clear answer is best."
    for token in engine.writer.tokens(engine.tokenizer.encode(text)):
        yield Piece(token, _text_delta("reasoning", token.released), reasoning=True)
    for token in engine.writer.tokens([THINK_END]):
        yield Piece(token, {}, reasoning=True)


def _calls(fields: Fields, script: Script, question: str, rng: random.Random) -> list[Call]:
    if script.generates:
        return scripted_calls(script.tool_calls, rng)
    return calls_for(fields, question, rng)


def _call_pieces(engine: Engine, fields: Fields, calls: Sequence[Call]) -> Iterator[Piece]:
    """Return the tokens of calls as a hermes model writes them, and what is shown of each."""
    encode, tokens = engine.tokenizer.encode, engine.writer.tokens
    for number, call in enumerate(calls):
        # The model does not know that one call is enough: the others are dropped on the way.
        dropped = number > 0 and not fields.get("parallel_tool_calls", True)
        opening = {"id": call.id, "type": "function", "index": number}
        *header, last = tokens([_CALL_START, *encode(f'\n{{"name": "{call.name}", "arguments": ')])
        yield from (Piece(token, {}) for token in header)
        yield Piece(last, _call_delta({**opening, "function": {"name": call.name}}, dropped))
        for token in tokens(encode(call.arguments)):
            part = {"index": number, "function": {"arguments": token.released}}
            yield Piece(token, _call_delta(part, dropped) if token.released else {})
        yield from (Piece(token, {}) for token in tokens([*encode("}\n"), _CALL_END]))


def _text_delta(name: str, text: str) -> Delta:
    return {name: text} if text else {}


def _call_delta(call: Mapping[str, Any], dropped: bool) -> Delta:
    return {"content": None} if dropped else {"content": None, "tool_calls": [call]}


def _add_call(calls: dict[int, dict[str, Any]], part: Mapping[str, Any]) -> None:
    if part["index"] not in calls:
        calls[part["index"]] = copy.deepcopy(dict(part))
        return
    function = calls[part["index"]]["function"]
    function["arguments"] = function.get("arguments", "") + part["function"]["arguments"]
