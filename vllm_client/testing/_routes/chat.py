"""`POST /v1/chat/completions`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .._engine.engine import Engine
from .._engine.tools import check_tools, tool_choice
from .._wire.envelope import FINGERPRINT, Envelope, EventWriter, event_groups, usage
from .._wire.fields import Fields, decode_body, read_fields
from .._wire.refusals import RefusalError, named
from .._wire.replies import EventStream, Reply, Work, json_reply
from ..recorded import RecordedRequest
from ..script import Script
from .chat_output import ChatOutput, Piece, merged, thinks, write_chat
from .checks import check_limits, check_model, check_ranges, check_stream, output_limit
from .messages import chat_prompt, check_messages, text_of

__all__ = ["complete_chat"]

_CALL_KEYS = ("id", "type", "function")


def complete_chat(engine: Engine, request: RecordedRequest, script: Script) -> Reply | EventStream:
    """Answer a chat request.

    Raises:
        RefusalError: vLLM would not take the request.
    """
    body = decode_body(request.headers.get("Content-Type", ""), request.body)
    fields = read_fields(body, chat=True)
    _check(engine, fields)
    prompt = chat_prompt(engine, fields)
    outputs = _outputs(engine, fields, len(prompt), script)
    answer = _Answer(engine, fields, prompt, outputs, thinks(fields, script))
    envelope = Envelope.of(request, fields, engine.models[0], "chatcmpl", answer.object)
    return answer.stream(envelope) if fields.get("stream") else answer.whole(envelope)


def _check(engine: Engine, fields: Fields) -> None:
    check_stream(fields)
    _check_top_logprobs(fields)
    check_tools(fields)
    if fields.get("continue_final_message") and fields.get("add_generation_prompt"):
        message = "Cannot set both `continue_final_message` and `add_generation_prompt` to True."
        raise RefusalError(message)
    check_messages(fields)
    check_model(engine, fields)
    if "chat_template" in fields:
        cause = "Chat template is passed with request, but --trust-request-chat-template is not set"
        raise RefusalError(f"{cause}. Refused request with untrusted chat template.")
    check_ranges(engine, fields)
    check_limits(engine, "logprobs", "sample", fields.get("top_logprobs", 0))
    check_limits(engine, "prompt_logprobs", "prompt", fields.get("prompt_logprobs", 0))


def _check_top_logprobs(fields: Fields) -> None:
    top = fields.get("top_logprobs", 0)
    if top < -1:
        raise named("`top_logprobs` must be a positive value or -1.", "top_logprobs", top)
    if top != 0 and not fields.get("logprobs"):
        raise named("when using `top_logprobs`, `logprobs` must be set to true.", "top_logprobs")


def _outputs(
    engine: Engine, fields: Fields, prompt_tokens: int, script: Script
) -> Sequence[ChatOutput]:
    asked = fields.get("max_completion_tokens", fields.get("max_tokens"))
    maximum = output_limit(engine, asked, prompt_tokens, fields.get("min_tokens", 0))
    limits = engine.limits(fields, maximum)
    outputs = engine.choices(
        fields, 0, lambda index, rng, _: write_chat(engine, fields, limits, script, index, rng)
    )
    if script.abort_after is not None:
        return [output.cut_at(script.abort_after, "abort") for output in outputs]
    return outputs


class _Answer:
    """What was generated for a request, as a whole or as events."""

    def __init__(
        self,
        engine: Engine,
        fields: Fields,
        prompt: Sequence[int],
        outputs: Sequence[ChatOutput],
        reasons: bool,
    ) -> None:
        self._engine = engine
        self._fields = fields
        self._prompt = prompt
        self._outputs = outputs
        self._reasons = reasons
        self._logprobs = engine.logprobs(fields)
        pieces = [piece for output in outputs for piece in output.pieces]
        self._reasoning_tokens = sum(piece.reasoning for piece in pieces)
        ends = [output.finish_reason for output in outputs]
        self._work = Work(len(prompt), len(pieces), ends)
        self._usage = usage(len(prompt), len(pieces))

    @property
    def object(self) -> str:
        return "chat.completion.chunk" if self._fields.get("stream") else "chat.completion"

    def whole(self, envelope: Envelope) -> Reply:
        """Return the answer that is not streamed."""
        details = {"prompt_tokens_details": None, **self._details(self._reasoning_tokens)}
        body = envelope.around(
            [self._choice(output) for output in self._outputs],
            service_tier=None,
            system_fingerprint=FINGERPRINT,
            usage={**self._usage, **details},
            prompt_logprobs=self._prompt_logprobs(),
            **self._prompt_shown(),
            kv_transfer_params=None,
            ec_transfer_params=None,
            metrics=None,
        )
        return json_reply(body, work=self._work)

    def stream(self, envelope: Envelope) -> EventStream:
        """Return the answer as events; those of several choices take turns."""
        writer = EventWriter(envelope, self._fields)
        for choice, count, more in self._choices():
            writer.add(choice, count, **more)
        total = {**self._usage, **(self._details(self._reasoning_tokens) if self._reasons else {})}
        return writer.stream(total, self._work)

    def _choices(self) -> Iterator[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]:
        """Return each event's choice, the usage up to it, and what else the event holds."""
        for output in self._outputs:
            role = {"role": "assistant", "content": ""}
            yield self._opening(output, role), self._count(0, 0), self._prompt_shown()
        if self._echo():
            for output in self._outputs:
                yield self._opening(output, {"content": self._echo()}), self._count(0, 0), {}
        turns = itertools.zip_longest(*(self._deltas(output) for output in self._outputs))
        for choice, count in (delta for turn in turns for delta in turn if delta):
            yield choice, count, {}

    def _opening(self, output: ChatOutput, delta: Mapping[str, Any]) -> dict[str, Any]:
        start = {"index": output.index, "delta": delta}
        return {**start, "logprobs": None, "finish_reason": None}

    def _deltas(self, output: ChatOutput) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        interval = self._fields.get("stream_interval", 1)
        groups = event_groups(output.pieces, interval, output.finish_reason)
        count = reasoning = 0
        for number, group in enumerate(groups, 1):
            count += len(group)
            reasoning += sum(piece.reasoning for piece in group)
            shown = self._shown(group)
            delta = merged(piece.delta for piece in shown)
            last = number == len(groups)
            detailed = self._fields.get("return_token_ids") or self._fields.get("logprobs")
            if delta or last or (shown and detailed):
                yield self._event_choice(output, shown, delta, last), self._count(count, reasoning)

    def _event_choice(
        self, output: ChatOutput, shown: Sequence[Piece], delta: Mapping[str, Any], last: bool
    ) -> dict[str, Any]:
        end = {"finish_reason": output.finish_reason, "stop_reason": output.stop_reason}
        return {
            "index": output.index,
            "delta": delta,
            "logprobs": self._lists(shown) if shown else None,
            **(end if last else {"finish_reason": None}),
            "token_ids": self._ids(shown),
        }

    def _choice(self, output: ChatOutput) -> dict[str, Any]:
        shown = self._shown(output.pieces)
        return {
            "index": output.index,
            "message": self._message(output),
            "logprobs": self._lists(shown),
            "finish_reason": output.finish_reason,
            "stop_reason": output.stop_reason,
            "token_ids": self._ids(shown),
            "routed_experts": None,
        }

    def _message(self, output: ChatOutput) -> dict[str, Any]:
        whole = merged(piece.delta for piece in self._shown(output.pieces))
        forced = tool_choice(self._fields) in ("required", "named")
        if output.has_open_call and not forced:
            # The parser finds no call in an unfinished one, and gives back what it has read.
            whole = {**whole, "content": output.called_text, "tool_calls": []}
        # Nothing at all is null where a parser took everything for its own.
        parsed = "reasoning" in whole or ("tool_calls" in whole and not forced)
        calls = [{name: call[name] for name in _CALL_KEYS} for call in whole.get("tool_calls", ())]
        return {
            "role": "assistant",
            "content": self._echo() + str(whole.get("content") or "") or (None if parsed else ""),
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
            **({"tool_calls": calls} if calls else {}),
            "reasoning": whole.get("reasoning"),
        }

    def _shown(self, pieces: Sequence[Piece]) -> Sequence[Piece]:
        withheld = not self._fields.get("include_reasoning", True)
        return [piece for piece in pieces if not (withheld and piece.reasoning)]

    def _lists(self, pieces: Sequence[Piece]) -> dict[str, Any] | None:
        if not self._fields.get("logprobs"):
            return None
        top = self._fields.get("top_logprobs", 0)
        return self._logprobs.chat([piece.token for piece in pieces], top)

    def _ids(self, pieces: Sequence[Piece]) -> list[int] | None:
        wanted = self._fields.get("return_token_ids")
        return [piece.token.id for piece in pieces] if wanted else None

    def _prompt_shown(self) -> dict[str, Any]:
        ids = self._prompt if self._fields.get("return_token_ids") else None
        decode = self._engine.tokenizer.decode
        wanted = self._fields.get("return_prompt_text")
        text = decode(self._prompt, skip_special_tokens=False) if wanted else None
        return {"prompt_token_ids": ids, "prompt_text": text}

    def _prompt_logprobs(self) -> list[Any] | None:
        top = self._fields.get("prompt_logprobs")
        if top is None and self._fields.get("echo"):
            top = self._fields.get("top_logprobs", 0)
        return None if top is None else self._logprobs.prompt(self._prompt, top)

    def _echo(self) -> str:
        last = self._fields["messages"][-1]
        wanted = self._fields.get("echo") and last["role"] == "assistant"
        return text_of(last) if wanted else ""

    def _count(self, tokens: int, reasoning: int) -> dict[str, Any]:
        return {**usage(len(self._prompt), tokens), **self._details(reasoning)}

    def _details(self, reasoning: int) -> dict[str, Any]:
        details = {"reasoning_tokens": reasoning} if self._reasons else None
        return {"completion_tokens_details": details}
