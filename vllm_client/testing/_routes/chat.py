"""``POST /v1/chat/completions``."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from .._engine.engine import Engine
from .._engine.logprobs import PromptLogprob
from .._engine.tools import check_tools, tool_choice
from .._wire.envelope import (
    FINGERPRINT,
    Envelope,
    EventWriter,
    group_by_event,
    usage_counts,
    weight_versions,
)
from .._wire.json_types import JsonObject
from .._wire.refusals import RefusalError, parameter_error
from .._wire.replies import EventStream, GenerationStats, Reply, json_reply
from .._wire.request_fields import RequestFields, decode_body, read_fields
from ..recorded import RecordedRequest
from ..script import Script
from .chat_output import ChatOutput, TokenDelta, has_reasoning, merge_deltas, write_chat_output
from .checks import check_logprobs_limit, check_model, check_ranges, check_stream, output_limit
from .messages import chat_prompt, check_messages, message_text

__all__ = ["chat_outputs", "complete_chat"]

_CALL_KEYS = ("id", "type", "function")


def complete_chat(engine: Engine, request: RecordedRequest, script: Script) -> Reply | EventStream:
    """Return the response to a chat request.

    Raises:
        RefusalError: vLLM refuses such a request.
    """
    body = decode_body(request.headers.get("Content-Type", ""), request.body)
    fields = read_fields(body, chat=True)
    _check(engine, fields)
    prompt = chat_prompt(engine, fields)
    outputs = chat_outputs(engine, fields, len(prompt), script)
    response = _ChatResponse(engine, fields, prompt, outputs, has_reasoning(fields, script))
    envelope = Envelope.for_request(request, fields, engine.models[0], "chatcmpl", response.object)
    return response.stream(envelope) if fields.get("stream") else response.reply(envelope)


def _check(engine: Engine, fields: RequestFields) -> None:
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
    check_logprobs_limit(engine, "logprobs", "sample", fields.get("top_logprobs", 0))
    check_logprobs_limit(engine, "prompt_logprobs", "prompt", fields.get("prompt_logprobs", 0))


def _check_top_logprobs(fields: RequestFields) -> None:
    top = fields.get("top_logprobs", 0)
    if top < -1:
        raise parameter_error("`top_logprobs` must be a positive value or -1.", "top_logprobs", top)
    if top != 0 and not fields.get("logprobs"):
        raise parameter_error(
            "when using `top_logprobs`, `logprobs` must be set to true.", "top_logprobs"
        )


def chat_outputs(
    engine: Engine, fields: RequestFields, prompt_tokens: int, script: Script
) -> Sequence[ChatOutput]:
    """Return the output of each choice."""
    requested = fields.get("max_completion_tokens", fields.get("max_tokens"))
    maximum = output_limit(engine, requested, prompt_tokens, fields.get("min_tokens", 0))
    limits = engine.limits_for(fields, maximum)
    outputs = engine.choices(
        fields,
        0,
        lambda index, rng, _: write_chat_output(engine, fields, limits, script, index, rng),
    )
    if script.abort_after is not None:
        return [output.truncated(script.abort_after, "abort") for output in outputs]
    return outputs


class _ChatResponse:
    """Builds the response from the generated outputs, streamed or not."""

    def __init__(
        self,
        engine: Engine,
        fields: RequestFields,
        prompt: Sequence[int],
        outputs: Sequence[ChatOutput],
        with_reasoning: bool,
    ) -> None:
        self._engine = engine
        self._fields = fields
        self._prompt = prompt
        self._outputs = outputs
        self._with_reasoning = with_reasoning
        self._logprobs = engine.logprobs_for(fields)
        pieces = [piece for output in outputs for piece in output.pieces]
        self._reasoning_tokens = sum(piece.is_reasoning for piece in pieces)
        ends = [output.finish_reason for output in outputs]
        self._stats = GenerationStats(len(prompt), len(pieces), ends)
        self._usage = usage_counts(len(prompt), len(pieces))

    @property
    def object(self) -> str:
        return "chat.completion.chunk" if self._fields.get("stream") else "chat.completion"

    def reply(self, envelope: Envelope) -> Reply:
        """Return the response that is not streamed."""
        details = {"prompt_tokens_details": None, **self._token_details(self._reasoning_tokens)}
        body = envelope.wrap(
            [self._choice(output) for output in self._outputs],
            service_tier=None,
            system_fingerprint=FINGERPRINT,
            usage={**self._usage, **details},
            prompt_logprobs=self._prompt_logprobs(),
            **self._prompt_fields(),
            kv_transfer_params=None,
            ec_transfer_params=None,
            metrics=None,
        )
        return json_reply(body, stats=self._stats)

    def stream(self, envelope: Envelope) -> EventStream:
        """Return the streamed response. The events of several choices alternate."""
        writer = EventWriter(envelope, self._fields)
        for choice, usage_so_far, more in self._all_event_choices():
            writer.add(choice, usage_so_far, **more)
        total = self._usage
        if self._with_reasoning:
            total = {**total, **self._token_details(self._reasoning_tokens)}
        return writer.stream(total, self._stats)

    def _all_event_choices(self) -> Iterator[tuple[JsonObject, JsonObject, JsonObject]]:
        """Yield the choice of each event, its usage so far, and the other fields of the event."""
        for output in self._outputs:
            choice = _opening_choice(output, {"role": "assistant", "content": ""})
            yield choice, self._usage_so_far(0, 0), self._prompt_fields()
        if self._echoed_text():
            for output in self._outputs:
                choice = _opening_choice(output, {"content": self._echoed_text()})
                yield choice, self._usage_so_far(0, 0), {}
        turns = itertools.zip_longest(*(self._event_choices(output) for output in self._outputs))
        for choice, usage_so_far in (delta for turn in turns for delta in turn if delta):
            yield choice, usage_so_far, {}

    def _event_choices(self, output: ChatOutput) -> Iterator[tuple[JsonObject, JsonObject]]:
        interval = self._fields.get("stream_interval", 1)
        groups = group_by_event(output.pieces, interval, output.finish_reason)
        count = reasoning = 0
        for number, group in enumerate(groups, 1):
            count += len(group)
            reasoning += sum(piece.is_reasoning for piece in group)
            visible = self._visible(group)
            delta = merge_deltas(piece.delta for piece in visible)
            last = number == len(groups)
            detailed = self._fields.get("return_token_ids") or self._fields.get("logprobs")
            if delta or last or (visible and detailed):
                choice = self._event_choice(output, visible, delta, last)
                yield choice, self._usage_so_far(count, reasoning)

    def _event_choice(
        self,
        output: ChatOutput,
        visible: Sequence[TokenDelta],
        delta: JsonObject,
        last: bool,
    ) -> JsonObject:
        end = {"finish_reason": output.finish_reason, "stop_reason": output.stop_reason}
        return {
            "index": output.index,
            "delta": delta,
            "logprobs": self._logprob_lists(visible) if visible else None,
            **(end if last else {"finish_reason": None}),
            "token_ids": self._requested_token_ids(visible),
            **(weight_versions(self._fields, len(output.pieces)) if last else {}),
        }

    def _choice(self, output: ChatOutput) -> JsonObject:
        visible = self._visible(output.pieces)
        return {
            "index": output.index,
            "message": self._message(output),
            "logprobs": self._logprob_lists(visible),
            "finish_reason": output.finish_reason,
            "stop_reason": output.stop_reason,
            "token_ids": self._requested_token_ids(visible),
            "routed_experts": None,
            **weight_versions(self._fields, len(output.pieces)),
        }

    def _message(self, output: ChatOutput) -> JsonObject:
        merged = merge_deltas(piece.delta for piece in self._visible(output.pieces))
        forced = tool_choice(self._fields) in ("required", "named")
        if output.has_open_call and not forced:
            # vLLM's parser does not recognise an unfinished call: its text becomes content.
            merged = {**merged, "content": output.text_from_first_call, "tool_calls": []}
        # Empty content is null if vLLM's parsers moved all text elsewhere, else "".
        parsed = self._with_reasoning or ("tool_calls" in merged and not forced)
        content = self._echoed_text() + str(merged.get("content") or "")
        calls = [{name: call[name] for name in _CALL_KEYS} for call in merged.get("tool_calls", ())]
        return {
            "role": "assistant",
            "content": content or (None if parsed else ""),
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
            **({"tool_calls": calls} if calls else {}),
            "reasoning": merged.get("reasoning"),
        }

    def _visible(self, pieces: Sequence[TokenDelta]) -> Sequence[TokenDelta]:
        withheld = not self._fields.get("include_reasoning", True)
        return [piece for piece in pieces if not (withheld and piece.is_reasoning)]

    def _logprob_lists(self, pieces: Sequence[TokenDelta]) -> JsonObject | None:
        if not self._fields.get("logprobs"):
            return None
        top = self._fields.get("top_logprobs", 0)
        return self._logprobs.chat_entries([piece.token for piece in pieces], top)

    def _requested_token_ids(self, pieces: Sequence[TokenDelta]) -> list[int] | None:
        wanted = self._fields.get("return_token_ids")
        return [piece.token.id for piece in pieces] if wanted else None

    def _prompt_fields(self) -> JsonObject:
        ids = self._prompt if self._fields.get("return_token_ids") else None
        decode = self._engine.tokenizer.decode
        wanted = self._fields.get("return_prompt_text")
        text = decode(self._prompt, skip_special_tokens=False) if wanted else None
        return {"prompt_token_ids": ids, "prompt_text": text}

    def _prompt_logprobs(self) -> list[PromptLogprob] | None:
        top = self._fields.get("prompt_logprobs")
        if top is None and self._fields.get("echo"):
            top = self._fields.get("top_logprobs", 0)
        return None if top is None else self._logprobs.prompt_logprobs(self._prompt, top)

    def _echoed_text(self) -> str:
        last = self._fields["messages"][-1]
        wanted = self._fields.get("echo") and last["role"] == "assistant"
        return message_text(last) if wanted else ""

    def _usage_so_far(self, tokens: int, reasoning: int) -> JsonObject:
        return {**usage_counts(len(self._prompt), tokens), **self._token_details(reasoning)}

    def _token_details(self, reasoning: int) -> JsonObject:
        details = {"reasoning_tokens": reasoning} if self._with_reasoning else None
        return {"completion_tokens_details": details}


def _opening_choice(output: ChatOutput, delta: JsonObject) -> JsonObject:
    return {"index": output.index, "delta": delta, "logprobs": None, "finish_reason": None}
