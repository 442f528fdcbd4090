"""The output of a chat choice: reasoning, content and tool calls, token by token."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from .._engine.engine import Engine
from .._engine.generation import Limits, Output, StopReason, Token
from .._engine.structured import is_constrained, structured_text
from .._engine.tokenizer import SPECIAL_TOKENS, THINK_END
from .._engine.tools import ToolCall, choose_calls, scripted_calls, tool_choice
from .._wire.json_types import Json
from .._wire.request_fields import RequestFields
from ..script import Script
from .messages import last_question

__all__ = ["ChatOutput", "TokenDelta", "has_reasoning", "merge_deltas", "write_chat_output"]

Delta = Mapping[str, Json]
"""The ``delta`` of a streamed chat choice."""

_CALL_START = SPECIAL_TOKENS.index("<tool_call>")
_CALL_END = SPECIAL_TOKENS.index("</tool_call>")


@dataclass(frozen=True)
class TokenDelta:
    """One token, and the delta that a stream sends for it, which may be empty."""

    token: Token
    delta: Delta
    is_reasoning: bool = False


@dataclass(frozen=True)
class ChatOutput:
    """The output of one chat choice."""

    index: int
    pieces: Sequence[TokenDelta]
    finish_reason: str
    stop_reason: StopReason = None

    @property
    def text(self) -> str:
        """The text of all tokens, to compare one choice with another."""
        return "".join(piece.token.text for piece in self.pieces)

    @property
    def has_open_call(self) -> bool:
        """Whether the output ends in the middle of a tool call."""
        ids = [piece.token.id for piece in self.pieces]
        return ids.count(_CALL_START) > ids.count(_CALL_END)

    @property
    def text_from_first_call(self) -> str:
        """The text from the first tool call to the end, with its markers."""
        ids = [piece.token.id for piece in self.pieces]
        called = self.pieces[ids.index(_CALL_START) :]
        return "".join(piece.token.text for piece in called)

    def truncated(self, count: int, finish_reason: str) -> ChatOutput:
        """Return the first ``count`` tokens with this finish reason, or self if it has no more."""
        if len(self.pieces) <= count:
            return self
        return ChatOutput(self.index, self.pieces[:count], finish_reason)


def merge_deltas(deltas: Iterable[Delta]) -> dict[str, Json]:
    """Return one delta that equals the given deltas together."""
    merged: dict[str, Json] = {}
    calls: dict[int, dict[str, Json]] = {}
    for delta in deltas:
        for name in ("reasoning", "content"):
            if name in delta:
                parts = [part for part in (merged.get(name), delta[name]) if part is not None]
                merged[name] = "".join(parts) if parts else None
        for call in delta.get("tool_calls", ()):
            _add_call(calls, call)
    return {**merged, "tool_calls": list(calls.values())} if calls else merged


def has_reasoning(fields: RequestFields, script: Script) -> bool:
    """Return whether the output begins with reasoning."""
    thinking_enabled = fields.get("chat_template_kwargs", {}).get("enable_thinking")
    effort = fields.get("reasoning_effort", "none") != "none"
    return script.reasoning is not None or bool(thinking_enabled) or effort


def write_chat_output(
    engine: Engine,
    fields: RequestFields,
    limits: Limits,
    script: Script,
    index: int,
    rng: random.Random,
) -> ChatOutput:
    """Return the output of one choice."""
    question = last_question(fields["messages"])
    reasoning = list(_reasoning(engine, fields, script, question))
    calls = _tool_calls(fields, script, question, rng)
    called = list(_call_pieces(engine, fields, calls))
    # Reasoning counts towards max_tokens: the content has the rest.
    content_limits = replace(limits, max_tokens=max(1, limits.max_tokens - len(reasoning)))
    if called and script.text is None:
        output = engine.writer.write_exactly("", index, None)
    else:
        output = _content(engine, fields, script, question, content_limits, index, rng)
    content = [TokenDelta(token, _text_delta("content", token.released)) for token in output.tokens]
    if called:
        # The tool calls are between the content and its last token, EOS.
        content[-1:] = [*called, *content[-1:]]
        reason = "stop" if tool_choice(fields) == "named" else "tool_calls"
        output = replace(output, finish_reason=script.finish_reason or reason)
    result = ChatOutput(index, [*reasoning, *content], output.finish_reason, output.stop_reason)
    return result if script.generates else result.truncated(limits.max_tokens, "length")


def _content(
    engine: Engine,
    fields: RequestFields,
    script: Script,
    question: str,
    limits: Limits,
    index: int,
    rng: random.Random,
) -> Output:
    if script.generates:
        return engine.writer.write_exactly(script.text or "", index, script.finish_reason)
    if is_constrained(fields):
        return engine.writer.write_within_limits(
            structured_text(fields, question, rng), index, limits
        )
    return engine.writer.answer_question(question, index, limits, rng)


def _reasoning(
    engine: Engine, fields: RequestFields, script: Script, question: str
) -> Iterator[TokenDelta]:
    if not has_reasoning(fields, script):
        return
    text = script.reasoning
    if text is None:
        text = f"The user asks: {question} A short and clear answer is best."
    for token in engine.writer.as_tokens(engine.tokenizer.encode(text)):
        yield TokenDelta(token, _text_delta("reasoning", token.released), is_reasoning=True)
    for token in engine.writer.as_tokens([THINK_END]):
        yield TokenDelta(token, {}, is_reasoning=True)


def _tool_calls(
    fields: RequestFields, script: Script, question: str, rng: random.Random
) -> list[ToolCall]:
    if script.generates:
        return scripted_calls(script.tool_calls, rng)
    return choose_calls(fields, question, rng)


def _call_pieces(
    engine: Engine, fields: RequestFields, calls: Sequence[ToolCall]
) -> Iterator[TokenDelta]:
    """Return the tokens of tool calls, in the format of Hermes models, with their deltas."""
    encode, tokens = engine.tokenizer.encode, engine.writer.as_tokens
    for number, call in enumerate(calls):
        # vLLM lets the model write every call and drops all but the first from the response.
        dropped = number > 0 and not fields.get("parallel_tool_calls", True)
        opening = {"id": call.id, "type": "function", "index": number}
        *header, last = tokens([_CALL_START, *encode(f'\n{{"name": "{call.name}", "arguments": ')])
        yield from (TokenDelta(token, {}) for token in header)
        yield TokenDelta(last, _call_delta({**opening, "function": {"name": call.name}}, dropped))
        for token in tokens(encode(call.arguments)):
            part = {"index": number, "function": {"arguments": token.released}}
            yield TokenDelta(token, _call_delta(part, dropped) if token.released else {})
        yield from (TokenDelta(token, {}) for token in tokens([*encode("}\n"), _CALL_END]))


def _text_delta(name: str, text: str) -> Delta:
    return {name: text} if text else {}


def _call_delta(call: Mapping[str, Json], dropped: bool) -> Delta:
    return {"content": None} if dropped else {"content": None, "tool_calls": [call]}


def _add_call(calls: dict[int, dict[str, Json]], part: Mapping[str, Json]) -> None:
    if part["index"] not in calls:
        calls[part["index"]] = copy.deepcopy(dict(part))
        return
    function = calls[part["index"]]["function"]
    function["arguments"] = function.get("arguments", "") + part["function"]["arguments"]
