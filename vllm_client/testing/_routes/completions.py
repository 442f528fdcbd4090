"""`POST /v1/completions`."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .._engine.engine import Engine
from .._engine.generation import Output, Token
from .._engine.structured import constrained, structured_text
from .._wire.envelope import FINGERPRINT, Envelope, EventWriter, event_groups, usage
from .._wire.fields import Fields, decode_body, read_fields
from .._wire.refusals import RefusalError, named
from .._wire.replies import EventStream, Reply, Work, json_reply
from ..recorded import RecordedRequest
from ..script import Script
from .checks import check_limits, check_model, check_ranges, check_stream, output_limit

__all__ = ["complete"]

_DEFAULT_MAX_TOKENS = 16
_MAX_PROMPTS = 1024


def complete(engine: Engine, request: RecordedRequest, script: Script) -> Reply | EventStream:
    """Answer a completion request.

    Raises:
        RefusalError: vLLM would not take the request.
    """
    body = decode_body(request.headers.get("Content-Type", ""), request.body)
    fields = read_fields(body)
    _check(engine, fields)
    prompts = _prompts(engine, fields)
    answer = _Answer(engine, fields, prompts, _outputs(engine, fields, prompts, script))
    envelope = Envelope.of(request, fields, engine.models[0], "cmpl", "text_completion")
    return answer.stream(envelope) if fields.get("stream") else answer.whole(envelope)


def _check(engine: Engine, fields: Fields) -> None:
    check_stream(fields)
    logprobs = fields.get("logprobs", 0)
    if logprobs < -1:
        raise named("`logprobs` must be a positive value or -1.", "logprobs", logprobs)
    if fields.get("prompt") in (None, ""):
        message = "Either prompt or prompt_embeds must be provided and non-empty."
        raise named(message, "prompt")
    check_model(engine, fields)
    if fields.get("suffix"):
        message = "suffix is only supported for models with FIM completion rendering"
        raise RefusalError(message, param="suffix")
    check_ranges(engine, fields)
    check_limits(engine, "logprobs", "sample", logprobs)
    check_limits(engine, "prompt_logprobs", "prompt", fields.get("prompt_logprobs", 0))


def _prompts(engine: Engine, fields: Fields) -> list[list[int]]:
    """Return the token ids of each prompt, whichever of the four ways they came."""
    prompt = fields["prompt"]
    if isinstance(prompt, str) or (prompt and all(isinstance(item, int) for item in prompt)):
        prompt = [prompt]
    if not prompt:
        raise RefusalError("You must pass at least one prompt")
    if len(prompt) > _MAX_PROMPTS:
        hint = "To increase this limit, set the VLLM_MAX_COMPLETION_PROMPTS environment variable."
        count = f"prompt list length {len(prompt)} exceeds the maximum allowed count"
        raise named(f"{count} of {_MAX_PROMPTS}. {hint}", "prompt")
    return [_token_ids(engine, each, fields.get("truncate_prompt_tokens")) for each in prompt]


def _token_ids(engine: Engine, prompt: str | Sequence[int], truncate: int | None) -> list[int]:
    ids = engine.tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt)
    if not ids:
        raise RefusalError("The decoder prompt cannot be empty")
    for id_ in ids:
        if not 0 <= id_ < engine.tokenizer.vocab_size:
            raise RefusalError(f"Token id {id_} is out of vocabulary")
    if truncate is not None:
        ids = ids[-(engine.max_model_len if truncate == -1 else truncate) :]
    return ids


def _outputs(
    engine: Engine, fields: Fields, prompts: Sequence[Sequence[int]], script: Script
) -> list[Output]:
    asked = fields.get("max_tokens", _DEFAULT_MAX_TOKENS)
    scoring = asked == 0 and fields.get("echo", False)
    outputs: list[Output] = []
    for prompt in prompts:
        minimum = fields.get("min_tokens", 0)
        max_tokens = output_limit(engine, 1 if scoring else asked, len(prompt), minimum)
        write = _writing(engine, fields, prompt, max_tokens, script)
        outputs += engine.choices(fields, len(outputs), write)
    if scoring:
        return [Output(output.index, (), "length") for output in outputs]
    if script.abort_after is not None:
        return [output.aborted_after(script.abort_after) for output in outputs]
    return outputs


def _writing(
    engine: Engine, fields: Fields, prompt: Sequence[int], max_tokens: int, script: Script
) -> Callable[[int, random.Random, bool], Output]:
    """Return what writes one choice for a prompt."""
    limits = engine.limits(fields, max_tokens)
    if script.text is not None:
        given = script.text
        return lambda index, *_: engine.writer.script(given, index, script.finish_reason)
    if constrained(fields):
        question = engine.tokenizer.decode(prompt)
        return lambda index, rng, _: engine.writer.copy(
            structured_text(fields, question, rng), index, limits
        )
    return lambda index, rng, again: engine.writer.continue_prompt(
        prompt, index, limits, rng, anew=again
    )


class _Answer:
    """What was generated for a request, as a whole or as events."""

    def __init__(
        self,
        engine: Engine,
        fields: Fields,
        prompts: Sequence[Sequence[int]],
        outputs: Sequence[Output],
    ) -> None:
        self._engine = engine
        self._fields = fields
        self._prompts = prompts
        self._outputs = outputs
        self._logprobs = engine.logprobs(fields)
        prompt_tokens = sum(map(len, prompts))
        # The engine generates one token even when only the prompt is to be scored.
        completion_tokens = sum(len(output.tokens) or 1 for output in outputs)
        reasons = [output.finish_reason for output in outputs]
        self._work = Work(prompt_tokens, completion_tokens, reasons)
        self._usage = usage(prompt_tokens, completion_tokens)

    def whole(self, envelope: Envelope) -> Reply:
        """Return the answer that is not streamed."""
        details = {"prompt_tokens_details": None, "completion_tokens_details": None}
        body = envelope.around(
            [self._choice(output) for output in self._outputs],
            service_tier=None,
            system_fingerprint=FINGERPRINT,
            usage={**self._usage, **details},
            kv_transfer_params=None,
            ec_transfer_params=None,
            metrics=None,
        )
        return json_reply(body, work=self._work)

    def stream(self, envelope: Envelope) -> EventStream:
        """Return the answer as events; those of several choices take turns."""
        writer = EventWriter(envelope, self._fields)
        turns = itertools.zip_longest(*(self._deltas(output) for output in self._outputs))
        for choice, count in (delta for turn in turns for delta in turn if delta):
            writer.add(choice, count)
        return writer.stream(self._usage, self._work)

    def _choice(self, output: Output) -> dict[str, Any]:
        fields, prompt = self._fields, self._prompt(output)
        with_ids = fields.get("return_token_ids")
        return {
            "index": output.index,
            "text": self._echoed(output) + output.text,
            "logprobs": self._lists([*self._echoed_tokens(output), *output.tokens]),
            "finish_reason": output.finish_reason,
            "stop_reason": output.stop_reason,
            "token_ids": output.token_ids if with_ids else None,
            "prompt_logprobs": self._prompt_logprobs(prompt),
            "prompt_token_ids": list(prompt) if with_ids else None,
            "routed_experts": None,
        }

    def _deltas(self, output: Output) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Return each event's choice, with the usage up to it."""
        prompt = self._prompt(output)
        interval = self._fields.get("stream_interval", 1)
        groups = event_groups(output.tokens, interval, output.finish_reason)
        count = offset = 0
        for number, tokens in enumerate(groups):
            first, last = number == 0, number == len(groups) - 1
            text = "".join(token.released for token in tokens)
            listed = [*self._echoed_tokens(output), *tokens] if first else tokens
            logprobs = self._lists(listed, offset)
            offset += self._logprobs.length(listed)
            count += len(tokens)
            choice = {
                "index": output.index,
                "text": self._echoed(output) + text if first else text,
                "logprobs": logprobs,
                "finish_reason": output.finish_reason if last else None,
                "stop_reason": output.stop_reason if last else None,
                "prompt_token_ids": list(prompt) if first and self._shows_prompt() else None,
                "token_ids": self._ids(tokens),
            }
            yield choice, usage(len(prompt), count)

    def _lists(self, tokens: Sequence[Token], offset: int = 0) -> dict[str, Any] | None:
        top = self._fields.get("logprobs")
        return None if top is None else self._logprobs.completion(tokens, top, offset)

    def _ids(self, tokens: Sequence[Token]) -> list[int] | None:
        return [token.id for token in tokens] if self._fields.get("return_token_ids") else None

    def _prompt(self, output: Output) -> Sequence[int]:
        return self._prompts[output.index // self._fields.get("n", 1)]

    def _prompt_logprobs(self, prompt: Sequence[int]) -> list[Any] | None:
        top = self._fields.get("prompt_logprobs")
        if top is None and self._fields.get("echo"):
            top = self._fields.get("logprobs")
        return None if top is None else self._logprobs.prompt(prompt, top)

    def _shows_prompt(self) -> bool:
        # An echo shows the ids as well, in a stream only.
        return bool(self._fields.get("return_token_ids") or self._fields.get("echo"))

    def _echoed(self, output: Output) -> str:
        # vLLM leaves the prompt's text out where its ids are asked for.
        shown = self._fields.get("echo") and not self._fields.get("return_token_ids")
        return self._engine.tokenizer.decode(self._prompt(output)) if shown else ""

    def _echoed_tokens(self, output: Output) -> Sequence[Token]:
        listed = self._fields.get("echo") and "logprobs" in self._fields
        return self._logprobs.prompt_tokens(self._prompt(output)) if listed else ()
