"""A value for each field of a request, and what is seen of it in the response."""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping, Optional

from attrs import field, frozen

from vllm_client import ChatCompletion
from vllm_client.params import ChatCompletionParams, CompletionParams, RequestOptions, names

from .make_models import MARKERS, SPECIAL, VOCABULARY

HELLO = [{"role": "user", "content": "What is the weather in Paris?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Paris", "Oslo"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
CALL = (
    r'<tool_call>\n\{"name": "get_weather", "arguments": \{"city": "(Paris|Oslo)"\}\}\n</tool_call>'
)
"""A pattern of the text that is one call; it makes a model of random weights call a tool."""
TOKENS = range(len(SPECIAL), VOCABULARY)
"""The tokens that are text."""
END_OF_THINKING = str(VOCABULARY + MARKERS.index("</think>"))
NO_THINKING = {"chat_template_kwargs": {"enable_thinking": False}}

Seen = Callable[[Any], bool]


@frozen
class Sample:
    """A value of a field.

    Attributes:
        value: The value.
        beside: Other fields that it needs.
        seen: Whether the response shows that the server has read it; None if nothing is to be seen.
        plain_only: Whether only a server without parsers shows it.
        refused: Part of the error, where a server without the right setting refuses it.
        whole: Whether ``create()`` takes it.
        streams: Whether ``stream()`` takes it.
    """

    value: Any
    beside: Mapping[str, Any] = field(factory=dict)
    seen: Optional[Seen] = None
    plain_only: bool = False
    refused: str = ""
    whole: bool = True
    streams: bool = True


def _text(answer: Any) -> str:
    """All text of choice 0, reasoning included."""
    if isinstance(answer, ChatCompletion):
        return (answer.reasoning or "") + answer.text
    return str(answer.text)


def _tokens(answer: Any) -> int:
    return int(answer.usage.completion_tokens)


def _reason_is(reason: str) -> Seen:
    return lambda answer: answer.finish_reason == reason


COMMON: Dict[str, Sample] = {
    "model": Sample("tiny", seen=lambda a: a.model == "tiny"),
    "frequency_penalty": Sample(0.5),
    "presence_penalty": Sample(-0.5),
    "repetition_penalty": Sample(1.2),
    "logit_bias": Sample({"40": 100.0}, {"return_token_ids": True}, lambda a: _all_are(a, {40})),
    "n": Sample(2, seen=lambda a: len(a.choices) == 2),
    "seed": Sample(-5),
    "stop": Sample([" ", "e"], seen=lambda a: " " not in _text(a) and "e" not in _text(a)),
    "stop_token_ids": Sample(list(TOKENS), seen=lambda a: a.choices[0].stop_reason > 2),
    "include_stop_str_in_output": Sample(True, {"stop": ["e", " "], "max_tokens": 64}),
    "stream_options": Sample({"include_usage": True, "continuous_usage_stats": True}, whole=False),
    "temperature": Sample(0),
    "top_p": Sample(0.5),
    "top_k": Sample(5),
    "min_p": Sample(0.1),
    "user": Sample("someone"),
    "use_beam_search": Sample(True, {"n": 2}, lambda a: len(a.choices) == 2, streams=False),
    "length_penalty": Sample(1.5, {"n": 2, "use_beam_search": True}, streams=False),
    "ignore_eos": Sample(True, seen=_reason_is("length")),
    "min_tokens": Sample(8, seen=lambda a: _tokens(a) == 8),
    "skip_special_tokens": Sample(
        False, {"allowed_token_ids": [1]}, lambda a: "<|im_" in _text(a), plain_only=True
    ),
    "spaces_between_special_tokens": Sample(False),
    "truncate_prompt_tokens": Sample(2, seen=lambda a: a.usage.prompt_tokens == 2),
    "truncation_side": Sample("right", {"truncate_prompt_tokens": 2}),
    "allowed_token_ids": Sample(
        [40, 41], {"return_token_ids": True}, lambda a: _all_are(a, {40, 41})
    ),
    "bad_words": Sample(["the", "One"]),
    "prompt_logprobs": Sample(1, seen=lambda a: _prompt_logprobs(a)[0] is None, streams=False),
    "logprob_token_ids": Sample([40, 41]),
    "response_format": Sample({"type": "text"}),
    "structured_outputs": Sample({"choice": ["Paris", "Oslo"]}),
    "add_special_tokens": Sample(False),
    "priority": Sample(0),
    "request_id": Sample("r-1", seen=lambda a: a.id.endswith("r-1")),
    "session_id": Sample("s-1"),
    "return_tokens_as_token_ids": Sample(True),
    "return_token_ids": Sample(True, seen=lambda a: len(a.choices[0].token_ids) == _tokens(a)),
    "return_weight_versions": Sample(True),
    "cache_salt": Sample("salt"),
    "kv_transfer_params": Sample({"do_remote_prefill": False}),
    "ec_transfer_params": Sample({}),
    "vllm_xargs": Sample({"a": 1}),
    "repetition_detection": Sample(
        {"max_pattern_size": 2, "min_pattern_size": 1, "min_count": 4},
        {"allowed_token_ids": [40]},
        _reason_is("repetition"),
    ),
    "thinking_token_budget": Sample(-1),
    "stream_interval": Sample(4),
    "watermarking": Sample(False),
    "routed_experts_prompt_start": Sample(0),
    "mm_payload": Sample("none"),
    "return_mm_kwargs": Sample(False),
    "return_token_offsets": Sample(False),
}

COMPLETIONS: Dict[str, Sample] = {
    **COMMON,
    "prompt": Sample(["One", "Two"], seen=lambda a: len(a.choices) == 2),
    "prompt_embeds": Sample("bm90IGEgdGVuc29y", refused="prompt_embeds"),
    "max_tokens": Sample(3, seen=lambda a: _tokens(a) == 3),
    "logprobs": Sample(2, seen=lambda a: len(a.choices[0].token_logprobs) == _tokens(a)),
    "echo": Sample(True, seen=lambda a: a.text.startswith("One, two")),
    "suffix": Sample("end", refused="suffix"),
    "logprob_token_ids": Sample([40, 41], {"logprobs": 1}),
    "return_tokens_as_token_ids": Sample(
        True,
        {"logprobs": 1},
        lambda a: a.choices[0].token_logprobs[0].token.startswith("token_id:"),
    ),
}

CHAT: Dict[str, Sample] = {
    **COMMON,
    "messages": Sample([*HELLO, {"role": "assistant", "content": "Mild."}, *HELLO]),
    "max_completion_tokens": Sample(3, seen=lambda a: _tokens(a) == 3),
    "max_tokens": Sample(3, seen=lambda a: _tokens(a) == 3),
    "logprobs": Sample(True, seen=lambda a: len(a.choices[0].token_logprobs) == _tokens(a)),
    "top_logprobs": Sample(
        2, {"logprobs": True}, lambda a: len(a.choices[0].token_logprobs[0].top_logprobs) == 2
    ),
    "tools": Sample([WEATHER], {"tool_choice": "none"}),
    "tool_choice": Sample("none", {"tools": [WEATHER]}),
    "parallel_tool_calls": Sample(False, {"tools": [WEATHER], "tool_choice": "none"}),
    "reasoning_effort": Sample("low"),
    "include_reasoning": Sample(False, seen=lambda a: a.reasoning is None),
    "echo": Sample(True),
    "add_generation_prompt": Sample(False),
    "continue_final_message": Sample(
        True,
        {
            "messages": [*HELLO, {"role": "assistant", "content": "It is"}],
            "add_generation_prompt": False,
        },
    ),
    "documents": Sample([{"title": "a", "text": "b"}]),
    "chat_template": Sample("{{ messages[0].content }}", refused="hat template"),
    "chat_template_kwargs": Sample({"enable_thinking": False}),
    "mm_processor_kwargs": Sample({"num_crops": 1}, refused="mm"),
    "media_io_kwargs": Sample({"video": {"num_frames": 1}}, refused="mm"),
    "return_prompt_text": Sample(
        True, seen=lambda a: "weather" in a.raw["prompt_text"], plain_only=True
    ),
    "logprob_token_ids": Sample([40, 41], {"logprobs": True}),
    "return_tokens_as_token_ids": Sample(
        True,
        {"logprobs": True},
        lambda a: a.choices[0].token_logprobs[0].token.startswith("token_id:"),
    ),
    "structured_outputs": Sample(
        {"choice": ["Paris", "Oslo"]}, NO_THINKING, lambda a: a.text in {"Paris", "Oslo"}
    ),
}

BASES: Dict[str, Dict[str, Any]] = {
    "completions": {"prompt": "One, two", "max_tokens": 8, "seed": 1},
    "chat": {"messages": HELLO, "max_tokens": 8, "seed": 1},
}
SAMPLES = {"completions": COMPLETIONS, "chat": CHAT}


def fields_of(route: str) -> Dict[str, Optional[Sample]]:
    """Every field of the route as the package declares it, with its sample."""
    params = CompletionParams if route == "completions" else ChatCompletionParams
    declared = [name for name in names(params) if name not in names(RequestOptions)]
    return {name: SAMPLES[route].get(name) for name in declared}


def _all_are(answer: Any, tokens: set[int]) -> bool:
    ids = answer.choices[0].token_ids
    return bool(ids) and set(ids) <= {*tokens, 2}


def _prompt_logprobs(answer: Any) -> Any:
    if isinstance(answer, ChatCompletion):
        return answer.raw["prompt_logprobs"]
    return answer.choices[0].prompt_logprobs
