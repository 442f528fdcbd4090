"""Refuses what vLLM refuses after the types of the fields are checked, with vLLM's messages."""

from __future__ import annotations

from .._engine.engine import Engine
from .._wire.refusals import RefusalError, parameter_error
from .._wire.request_fields import RequestFields

__all__ = [
    "check_context",
    "check_logprobs_limit",
    "check_model",
    "check_ranges",
    "check_stream",
    "output_limit",
]

_MAX_N = 16384
_MAX_LISTED_IDS = 128


def check_stream(fields: RequestFields) -> None:
    """Refuse fields that vLLM does not allow with, or without, ``stream``."""
    if fields.get("stream_options") is not None and not fields.get("stream"):
        message = "Stream options can only be defined when `stream=True`."
        raise parameter_error(message, "stream_options")
    prompt_logprobs = fields.get("prompt_logprobs", 0)
    if fields.get("stream") and prompt_logprobs != 0:
        message = "`prompt_logprobs` are not available when `stream=True`."
        raise parameter_error(message, "prompt_logprobs")
    if prompt_logprobs < -1:
        message = "`prompt_logprobs` must be a positive value or -1."
        raise parameter_error(message, "prompt_logprobs", prompt_logprobs)


def check_model(engine: Engine, fields: RequestFields) -> None:
    """Refuse a model that is not served. Without ``model``, vLLM uses its default model."""
    name = fields.get("model")
    if name and name not in engine.models and name not in engine.adapters:
        aliases = ", ".join(engine.models)
        message = f"The model `{name}` does not exist. Valid aliases: {aliases}."
        raise RefusalError(message, status=404, param="model")


def check_ranges(engine: Engine, fields: RequestFields) -> None:
    """Refuse sampling parameters outside of their range."""
    _check_without_param(fields)
    _check_words_and_repetition(fields)
    _check_with_param(fields)
    if fields.get("temperature") == 0 and fields.get("n", 1) > 1:
        raise RefusalError(f"n must be 1 when using greedy sampling, got {fields['n']}.")
    if fields.get("use_beam_search") and fields.get("stream"):
        raise RefusalError("Streaming is not currently supported with beam search")
    _check_token_ids(engine, fields)


def check_logprobs_limit(engine: Engine, name: str, source: str, value: int) -> None:
    """Refuse more log-probabilities than ``max_logprobs``.

    Args:
        engine: The engine of the server.
        name: The name of the parameter.
        source: The word in vLLM's message: ``sample`` or ``prompt``.
        value: The value of the parameter. -1 asks for the whole vocabulary.

    Raises:
        RefusalError: The request asks for too many.
    """
    wanted = engine.tokenizer.vocab_size if value == -1 else value
    if wanted > engine.max_logprobs:
        limit = f"which is greater than max allowed: {engine.max_logprobs}"
        raise parameter_error(f"Requested {source} logprobs of {wanted}, {limit}", name, wanted)


def check_context(engine: Engine, prompt_tokens: int) -> None:
    """Refuse a prompt that is longer than the context."""
    longest = engine.max_model_len
    if prompt_tokens > longest:
        message = (
            f"This model's maximum context length is {longest} tokens. However, your prompt "
            f"contains at least {longest + 1} input tokens, which exceeds this limit even without "
            "any output tokens. Please reduce the length of the input prompt."
        )
        raise parameter_error(message, "input_tokens", longest + 1)


def output_limit(engine: Engine, requested: int | None, prompt_tokens: int, min_tokens: int) -> int:
    """Return how many tokens a choice may have: the requested number, or what the context allows.

    Args:
        engine: The engine of the server.
        requested: ``max_tokens`` of the request, or None for as many as the context allows.
        prompt_tokens: The length of the prompt.
        min_tokens: ``min_tokens`` of the request.

    Raises:
        RefusalError: The prompt, ``max_tokens`` or ``min_tokens`` exceeds the context.
    """
    longest = engine.max_model_len
    if requested is not None and requested > longest:
        message = f"max_tokens={requested} cannot be greater than max_model_len={longest}."
        raise parameter_error(
            f"{message} Please request fewer output tokens.", "max_tokens", requested
        )
    check_context(engine, prompt_tokens)
    room = longest - prompt_tokens
    limit = room if requested is None else min(requested, room)
    if limit < 1:
        raise parameter_error(f"max_tokens must be at least 1, got {limit}.", "max_tokens", limit)
    if min_tokens > limit:
        message = f"min_tokens must be less than or equal to max_tokens={limit}, got {min_tokens}."
        raise RefusalError(message)
    return limit


def _check_without_param(fields: RequestFields) -> None:
    # vLLM sets `param` in some of its errors, but not in these.
    n = fields.get("n", 1)
    if n < 1:
        raise RefusalError(f"n must be at least 1, got {n}.")
    if n > _MAX_N:
        hint = "To increase this limit, set the VLLM_MAX_N_SEQUENCES environment variable."
        raise RefusalError(f"n must be at most {_MAX_N}, got {n}. {hint}")
    for name in ("presence_penalty", "frequency_penalty"):
        if not -2 <= fields.get(name, 0) <= 2:
            raise RefusalError(f"{name} must be in [-2, 2], got {fields[name]}.")
    if fields.get("repetition_penalty", 1) <= 0:
        value = fields["repetition_penalty"]
        raise RefusalError(f"repetition_penalty must be greater than zero, got {value}.")
    if fields.get("top_k", 0) < -1:
        raise RefusalError(f"top_k must be 0 (disable), or at least 1, got {fields['top_k']}.")
    if not 0 <= fields.get("min_p", 0) <= 1:
        raise RefusalError(f"min_p must be in [0, 1], got {fields['min_p']}.")
    if fields.get("min_tokens", 0) < 0:
        value = fields["min_tokens"]
        raise RefusalError(f"min_tokens must be greater than or equal to 0, got {value}.")
    if not all(fields.get("stop", ())):
        raise RefusalError("stop cannot contain an empty string.")


def _check_words_and_repetition(fields: RequestFields) -> None:
    words = fields.get("bad_words", [])
    if not all(word.strip() for word in words):
        raise RefusalError(f"bad_words cannot contain an empty string. Got bad_words={words}")
    limits = fields.get("repetition_detection", {})
    longest, shortest = (limits.get(f"{end}_pattern_size", 0) for end in ("max", "min"))
    if longest < 0 or not 0 <= shortest <= longest:
        message = "max_pattern_size, min_pattern_size must be >=0, with min_pattern_size <= "
        raise RefusalError(f"{message}max_pattern_size.")
    if longest and limits.get("min_count", 0) < 2:
        raise RefusalError("min_count must be >= 2 to detect repetitive patterns.")


def _check_with_param(fields: RequestFields) -> None:
    temperature = fields.get("temperature", 1.0)
    if temperature < 0:
        message = f"temperature must be non-negative, got {temperature}."
        raise parameter_error(message, "temperature", temperature)
    if temperature > 2:
        message = f"temperature must be in [0, 2], got {temperature}."
        raise parameter_error(message, "temperature", temperature)
    top_p = fields.get("top_p", 1.0)
    if not 0 < top_p <= 1:
        raise parameter_error(f"top_p must be in (0, 1], got {top_p}.", "top_p", top_p)
    interval = fields.get("stream_interval", 1)
    if interval < 1:
        message = f"stream_interval must be at least 1, got {interval}."
        raise parameter_error(message, "stream_interval", interval)
    if fields.get("cache_salt") == "":
        message = "Parameter 'cache_salt' must be a non-empty string if provided."
        raise parameter_error(message, "cache_salt")


def _is_integer(key: str) -> bool:
    try:
        int(key)
    except ValueError:
        return False
    return True


def _check_token_ids(engine: Engine, fields: RequestFields) -> None:
    size = engine.tokenizer.vocab_size
    bias = fields.get("logit_bias", {})
    not_numbers = [key for key in bias if not _is_integer(key)]
    if not_numbers:
        problem = "logit_bias contains key(s) that cannot be converted to integer token IDs"
        raise parameter_error(f"{problem}: {not_numbers}", "logit_bias", not_numbers)
    unknown = [int(key) for key in bias if not 0 <= int(key) < size]
    if unknown:
        message = f"token_id(s) {unknown} in logit_bias contain out-of-vocab token ids."
        raise parameter_error(f"{message} Vocabulary size: {size}", "logit_bias", unknown)
    _check_listed_ids(fields, size)
    allowed = fields.get("allowed_token_ids", ())
    if any(not 0 <= id_ < size for id_ in allowed):
        message = "allowed_token_ids contains out-of-vocab token id!"
        raise parameter_error(message, "allowed_token_ids", allowed)


def _check_listed_ids(fields: RequestFields, vocab_size: int) -> None:
    name = "logprob_token_ids"
    listed = fields.get(name)
    if listed is None:
        return
    if not fields.get("logprobs") and fields.get("logprobs") != 0:
        raise parameter_error(f"when using `{name}`, `logprobs` must be set.", name)
    if len(listed) > _MAX_LISTED_IDS:
        limit = f"which is greater than max allowed: {_MAX_LISTED_IDS}"
        problem = f"Requested {name} of length {len(listed)}, {limit}"
        raise parameter_error(problem, name, len(listed))
    unknown = [id_ for id_ in listed if not 0 <= id_ < vocab_size]
    if unknown:
        problem = f"token_id(s) {unknown} in {name} contain out-of-vocab token ids."
        raise parameter_error(f"{problem} Vocabulary size: {vocab_size}", name, unknown)
