"""``POST /v1/completions``."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence

from .._engine.engine import Engine
from .._engine.generation import Output, Token
from .._engine.logprobs import PromptLogprob
from .._engine.structured import is_constrained, structured_text
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
from .checks import check_logprobs_limit, check_model, check_ranges, check_stream, output_limit

__all__ = ["complete"]

_DEFAULT_MAX_TOKENS = 16
_MAX_PROMPTS = 1024


def complete(engine: Engine, request: RecordedRequest, script: Script) -> Reply | EventStream:
    """Return the response to a completion request.

    Raises:
        RefusalError: vLLM refuses such a request.
    """
    body = decode_body(request.headers.get("Content-Type", ""), request.body)
    fields = read_fields(body)
    _check(engine, fields)
    prompts = _prompts(engine, fields)
    response = _CompletionResponse(
        engine, fields, prompts, _outputs(engine, fields, prompts, script)
    )
    envelope = Envelope.for_request(request, fields, engine.models[0], "cmpl", "text_completion")
    return response.stream(envelope) if fields.get("stream") else response.reply(envelope)


def _check(engine: Engine, fields: RequestFields) -> None:
    check_stream(fields)
    logprobs = fields.get("logprobs", 0)
    if logprobs < -1:
        raise parameter_error("`logprobs` must be a positive value or -1.", "logprobs", logprobs)
    if fields.get("prompt") in (None, ""):
        message = "Either prompt or prompt_embeds must be provided and non-empty."
        raise parameter_error(message, "prompt")
    check_model(engine, fields)
    if fields.get("suffix"):
        message = "suffix is only supported for models with FIM completion rendering"
        raise RefusalError(message, param="suffix")
    check_ranges(engine, fields)
    check_logprobs_limit(engine, "logprobs", "sample", logprobs)
    check_logprobs_limit(engine, "prompt_logprobs", "prompt", fields.get("prompt_logprobs", 0))


def _prompts(engine: Engine, fields: RequestFields) -> list[list[int]]:
    """Return the token ids of each prompt, for all four types of ``prompt``."""
    prompt = fields["prompt"]
    if isinstance(prompt, str) or (prompt and all(isinstance(item, int) for item in prompt)):
        prompt = [prompt]
    if not prompt:
        raise RefusalError("You must pass at least one prompt")
    if len(prompt) > _MAX_PROMPTS:
        hint = "To increase this limit, set the VLLM_MAX_COMPLETION_PROMPTS environment variable."
        count = f"prompt list length {len(prompt)} exceeds the maximum allowed count"
        raise parameter_error(f"{count} of {_MAX_PROMPTS}. {hint}", "prompt")
    return [_token_ids(engine, each, fields.get("truncate_prompt_tokens")) for each in prompt]


def _token_ids(engine: Engine, prompt: str | Sequence[int], truncate: int | None) -> list[int]:
    ids = engine.tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt)
    for id_ in ids:
        if not 0 <= id_ < engine.tokenizer.vocab_size:
            raise RefusalError(f"Token id {id_} is out of vocabulary")
    if truncate is not None:
        longest = engine.max_model_len if truncate == -1 else truncate
        ids = ids[max(len(ids) - longest, 0) :]
    if not ids:
        raise RefusalError("The decoder prompt cannot be empty")
    return ids


def _outputs(
    engine: Engine, fields: RequestFields, prompts: Sequence[Sequence[int]], script: Script
) -> list[Output]:
    requested = fields.get("max_tokens", _DEFAULT_MAX_TOKENS)
    scoring = requested == 0 and fields.get("echo", False)
    outputs: list[Output] = []
    for prompt in prompts:
        minimum = fields.get("min_tokens", 0)
        max_tokens = output_limit(engine, 1 if scoring else requested, len(prompt), minimum)
        write = _choice_writer(engine, fields, prompt, max_tokens, script)
        outputs += engine.choices(fields, len(outputs), write)
    if scoring:
        return [Output(output.index, (), "length") for output in outputs]
    if script.abort_after is not None:
        return [output.aborted_after(script.abort_after) for output in outputs]
    return outputs


def _choice_writer(
    engine: Engine, fields: RequestFields, prompt: Sequence[int], max_tokens: int, script: Script
) -> Callable[[int, random.Random, bool], Output]:
    """Return the function that writes one choice for a prompt. See ``Engine.choices``."""
    limits = engine.limits_for(fields, max_tokens)
    if script.text is not None:
        scripted_text = script.text
        return lambda index, *_: engine.writer.write_exactly(
            scripted_text, index, script.finish_reason
        )
    if is_constrained(fields):
        question = engine.tokenizer.decode(prompt)
        return lambda index, rng, _: engine.writer.write_within_limits(
            structured_text(fields, question, rng), index, limits
        )
    return lambda index, rng, is_retry: engine.writer.continue_prompt(
        prompt, index, limits, rng, new_sentence=is_retry
    )


class _CompletionResponse:
    """Builds the response from the generated outputs, streamed or not."""

    def __init__(
        self,
        engine: Engine,
        fields: RequestFields,
        prompts: Sequence[Sequence[int]],
        outputs: Sequence[Output],
    ) -> None:
        self._engine = engine
        self._fields = fields
        self._prompts = prompts
        self._outputs = outputs
        self._logprobs = engine.logprobs_for(fields)
        prompt_tokens = sum(map(len, prompts))
        # vLLM generates one token even if the request only scores its prompt.
        completion_tokens = sum(len(output.tokens) or 1 for output in outputs)
        reasons = [output.finish_reason for output in outputs]
        self._stats = GenerationStats(prompt_tokens, completion_tokens, reasons)
        self._usage = usage_counts(prompt_tokens, completion_tokens)

    def reply(self, envelope: Envelope) -> Reply:
        """Return the response that is not streamed."""
        details = {"prompt_tokens_details": None, "completion_tokens_details": None}
        body = envelope.wrap(
            [self._choice(output) for output in self._outputs],
            service_tier=None,
            system_fingerprint=FINGERPRINT,
            usage={**self._usage, **details},
            kv_transfer_params=None,
            ec_transfer_params=None,
            metrics=None,
        )
        return json_reply(body, stats=self._stats)

    def stream(self, envelope: Envelope) -> EventStream:
        """Return the streamed response. The events of several choices alternate."""
        writer = EventWriter(envelope, self._fields)
        turns = itertools.zip_longest(*(self._event_choices(output) for output in self._outputs))
        for choice, usage_so_far in (delta for turn in turns for delta in turn if delta):
            writer.add(choice, usage_so_far)
        return writer.stream(self._usage, self._stats)

    def _choice(self, output: Output) -> JsonObject:
        fields, prompt = self._fields, self._prompt_of(output)
        with_ids = fields.get("return_token_ids")
        return {
            "index": output.index,
            "text": self._echoed_text(output) + output.text,
            "logprobs": self._logprob_lists([*self._echoed_tokens(output), *output.tokens]),
            "finish_reason": output.finish_reason,
            "stop_reason": output.stop_reason,
            "token_ids": output.token_ids if with_ids else None,
            "prompt_logprobs": self._prompt_logprobs(prompt),
            "prompt_token_ids": list(prompt) if with_ids else None,
            "routed_experts": None,
            **weight_versions(self._fields, len(output.tokens)),
        }

    def _event_choices(self, output: Output) -> Iterator[tuple[JsonObject, JsonObject]]:
        """Yield the choice of each event, and the usage of this choice up to that event."""
        prompt = self._prompt_of(output)
        interval = self._fields.get("stream_interval", 1)
        groups = group_by_event(output.tokens, interval, output.finish_reason)
        count = offset = 0
        for number, tokens in enumerate(groups):
            first, last = number == 0, number == len(groups) - 1
            text = "".join(token.released for token in tokens)
            listed = [*self._echoed_tokens(output), *tokens] if first else tokens
            logprobs = self._logprob_lists(listed, offset)
            offset += self._logprobs.text_length(listed)
            count += len(tokens)
            choice = {
                "index": output.index,
                "text": self._echoed_text(output) + text if first else text,
                "logprobs": logprobs,
                "finish_reason": output.finish_reason if last else None,
                "stop_reason": output.stop_reason if last else None,
                "prompt_token_ids": list(prompt) if first and self._wants_prompt_ids() else None,
                "token_ids": self._requested_token_ids(tokens),
                **(weight_versions(self._fields, count) if last else {}),
            }
            yield choice, usage_counts(len(prompt), count)

    def _logprob_lists(self, tokens: Sequence[Token], offset: int = 0) -> JsonObject | None:
        top = self._fields.get("logprobs")
        return None if top is None else self._logprobs.completion_lists(tokens, top, offset)

    def _requested_token_ids(self, tokens: Sequence[Token]) -> list[int] | None:
        return [token.id for token in tokens] if self._fields.get("return_token_ids") else None

    def _prompt_of(self, output: Output) -> Sequence[int]:
        return self._prompts[output.index // self._fields.get("n", 1)]

    def _prompt_logprobs(self, prompt: Sequence[int]) -> list[PromptLogprob] | None:
        top = self._fields.get("prompt_logprobs")
        if top is None and self._fields.get("echo"):
            top = self._fields.get("logprobs")
        return None if top is None else self._logprobs.prompt_logprobs(prompt, top)

    def _wants_prompt_ids(self) -> bool:
        # In a stream, vLLM sends the ids for an echo too.
        return bool(self._fields.get("return_token_ids") or self._fields.get("echo"))

    def _echoed_text(self, output: Output) -> str:
        # vLLM does not echo the text if the request asks for token ids.
        shown = self._fields.get("echo") and not self._fields.get("return_token_ids")
        return self._engine.tokenizer.decode(self._prompt_of(output)) if shown else ""

    def _echoed_tokens(self, output: Output) -> Sequence[Token]:
        listed = self._fields.get("echo") and "logprobs" in self._fields
        return self._logprobs.prompt_tokens(self._prompt_of(output)) if listed else ()
