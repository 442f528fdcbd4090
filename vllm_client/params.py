"""Every field of every request, named and typed once.

The names, types and defaults are those of vLLM 0.32 (its request classes). A field that is left
out is not sent, so the server's default holds, which for sampling is the model's own generation
config; ``None`` is sent as ``null``. The server reads values loosely and drops names it does not
know without a word, so names are checked here and values there.
"""

from __future__ import annotations

from typing import Any, Dict, List, Literal, Mapping, Sequence, TypedDict, Union

from .types.messages import Message, Tool, ToolChoice

JSONObject = Mapping[str, Any]

Prompt = Union[str, Sequence[str], Sequence[int], Sequence[Sequence[int]]]
"""A text, several texts, the token ids of one prompt, or those of several."""


class StreamOptions(TypedDict, total=False):
    """``stream_options``: what a stream tells besides its text."""

    include_usage: bool
    continuous_usage_stats: bool


class StructuredOutputs(TypedDict, total=False):
    """``structured_outputs``: exactly one of the first six, and how it is written."""

    json: Union[str, JSONObject]
    regex: str
    choice: Sequence[str]
    grammar: str
    json_object: bool
    structural_tag: str
    whitespace_pattern: str
    disable_any_whitespace: bool
    disable_additional_properties: bool


class RepetitionDetection(TypedDict, total=False):
    """``repetition_detection``: end a generation that turns in circles. By vLLM 0.18."""

    max_pattern_size: int
    min_pattern_size: int
    min_count: int


class RequestOptions(TypedDict, total=False):
    """What belongs to one call, not to its body."""

    extra_body: JSONObject
    """Fields for the body that have no keyword here; they win over the keywords."""
    extra_headers: Mapping[str, Union[str, None]]
    """Headers for this call; they win over the client's. None leaves one out."""
    timeout: Any
    """Seconds, ``(connect, read)`` or ``Timeout`` for this call, instead of the client's."""


class SamplingParams(RequestOptions, total=False):
    """What ``/v1/completions`` and ``/v1/chat/completions`` have in common."""

    model: str
    """Name of a served model or adapter; the server's first model when left out."""
    frequency_penalty: float
    """-2 to 2: against tokens by how often they came in the output. Default 0."""
    presence_penalty: float
    """-2 to 2: against tokens that came in the output at all. Default 0."""
    repetition_penalty: float
    """Above 0; above 1 is against tokens of prompt and output. Default 1 or the model's."""
    logit_bias: Mapping[str, float]
    """Token id (as a string) to what is added to its logit."""
    n: int
    """How many outputs for each prompt, 1 or more; must be 1 at temperature 0. Default 1."""
    seed: int
    """Makes sampling repeatable; 64 bits, signed."""
    stop: Union[str, Sequence[str]]
    """Up to four texts that end an output."""
    stop_token_ids: Sequence[int]
    """Tokens that end an output."""
    include_stop_str_in_output: bool
    """Keep the stop text at the end of the output. Default false."""
    stream_options: StreamOptions
    """With a stream only. ``stream()`` asks for usage unless this is given."""
    temperature: float
    """0 (greedy) and up. Default 1 or the model's."""
    top_p: float
    """Above 0 to 1: sample among the likeliest tokens that add up to this. Default 1."""
    top_k: int
    """Sample among this many likeliest tokens; 0 or -1 is all of them. Default 0."""
    min_p: float
    """0 to 1: leave out tokens less likely than this part of the likeliest. Default 0."""
    user: str
    """Taken for OpenAI's sake and ignored."""
    use_beam_search: bool
    """Beam search; ``n`` is the width. Not with a stream."""
    length_penalty: float
    """For beam search. Default 1."""
    ignore_eos: bool
    """Go on past the end-of-sequence token. Default false."""
    min_tokens: int
    """No end before this many tokens. Default 0."""
    skip_special_tokens: bool
    """Leave special tokens out of the text. Default true."""
    spaces_between_special_tokens: bool
    """Default true."""
    truncate_prompt_tokens: int
    """Keep this many tokens of the prompt; -1 for as many as the model takes."""
    truncation_side: Literal["left", "right"]
    """Which end of the prompt is cut. By vLLM 0.22."""
    allowed_token_ids: Sequence[int]
    """Sample these tokens only."""
    bad_words: Sequence[str]
    """Words that must not come. For completions by vLLM 0.28."""
    prompt_logprobs: int
    """Log-probabilities of the prompt's tokens, this many each; -1 is all. Not with a stream."""
    logprob_token_ids: Sequence[int]
    """Tokens whose log-probabilities are wanted at every position. By vLLM 0.28."""
    response_format: JSONObject
    """``{"type": "text" | "json_object" | "json_schema" | "structural_tag", …}``."""
    structured_outputs: StructuredOutputs
    """Constrain the output. By vLLM 0.11; it replaces the ``guided_…`` fields."""
    add_special_tokens: bool
    """Put the model's special tokens before the prompt. Default true, in chat false."""
    priority: int
    """Lower is sooner, with ``--scheduling-policy priority``. Default 0."""
    request_id: str
    """Becomes part of the answer's ``id``. Completions by vLLM 0.10.2."""
    session_id: str
    """Names a session that several requests belong to. By vLLM 0.28."""
    return_tokens_as_token_ids: bool
    """Write tokens in log-probabilities as ``token_id:N``, so that none fall together."""
    return_token_ids: bool
    """Give the token ids of prompt and output besides the text. By vLLM 0.10.2."""
    cache_salt: str
    """1 to 128 characters that keep others out of this prompt's cache. By vLLM 0.10.0."""
    kv_transfer_params: JSONObject
    """For disaggregated serving. By vLLM 0.9.2."""
    ec_transfer_params: JSONObject
    """For disaggregated serving of encoders. By vLLM 0.28."""
    vllm_xargs: Mapping[str, Union[str, int, float, Sequence[Union[str, int, float]]]]
    """For extensions of the server. By vLLM 0.9.2."""
    repetition_detection: RepetitionDetection
    """End with the finish reason ``"repetition"``. By vLLM 0.18."""
    thinking_token_budget: int
    """Tokens for thinking at the most; -1 is no limit. By vLLM 0.20."""
    stream_interval: int
    """Tokens to an event, 1 or more. By vLLM 0.28."""
    watermarking: bool
    """By vLLM 0.30."""
    routed_experts_prompt_start: int
    """Leave out the first prompt tokens of the expert routing data."""
    mm_payload: Literal["tensors", "none"]
    """For the render routes."""
    return_mm_kwargs: bool
    """For the render routes; ``mm_payload`` replaces it."""
    return_token_offsets: bool
    """For the render routes."""


class CompletionParams(SamplingParams, total=False):
    """The keywords of ``client.completions``: the body of ``POST /v1/completions``."""

    prompt: Prompt
    """A text, several, or token ids; 1024 prompts at the most."""
    prompt_embeds: Union[str, Sequence[str]]
    """Base64 of a serialised tensor, with ``--enable-prompt-embeds``. By vLLM 0.9.2."""
    max_tokens: int
    """Length of each output in tokens, 0 only with ``echo``. Default 16."""
    logprobs: int
    """Log-probabilities of the output's tokens, this many for each; 0 is the sampled one's."""
    echo: bool
    """Put the prompt before the output. Default false."""
    suffix: str
    """Text after the output, for models that fill in the middle."""


class ChatCompletionParams(SamplingParams, total=False):
    """The keywords of ``client.chat.completions``: the body of ``POST /v1/chat/completions``."""

    messages: Sequence[Message]
    """The conversation, oldest first."""
    max_completion_tokens: int
    """Length of the answer in tokens, thinking included. Default: what the model has left."""
    max_tokens: int
    """The older name of ``max_completion_tokens``, which wins over it."""
    logprobs: bool
    """Log-probabilities of the answer's tokens. Default false."""
    top_logprobs: int
    """Those of this many likeliest tokens besides; needs ``logprobs=True``. Default 0."""
    tools: Sequence[Union[Tool, JSONObject]]
    """Functions the model may call."""
    tool_choice: Union[ToolChoice, JSONObject]
    """``"auto"`` (the default with tools; the server needs ``--enable-auto-tool-choice``),
    ``"none"``, ``"required"`` or a named function."""
    parallel_tool_calls: bool
    """False drops the calls after the first. Default true."""
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
    """For templates that know it. By vLLM 0.10.2."""
    include_reasoning: bool
    """False withholds the thinking. Default true. By vLLM 0.10.2."""
    echo: bool
    """Put the last message, if of the same role, before the answer. Default false."""
    add_generation_prompt: bool
    """Let the template begin the answer. Default true."""
    continue_final_message: bool
    """Go on with the last message; wants ``add_generation_prompt=False``. Default false."""
    documents: Sequence[Mapping[str, str]]
    """For templates that know retrieval."""
    chat_template: str
    """A Jinja template, with ``--trust-request-chat-template``."""
    chat_template_kwargs: JSONObject
    """For the template, such as ``{"enable_thinking": False}``."""
    mm_processor_kwargs: JSONObject
    """For the processor of images and the like, with ``--trust-request-mm-kwargs``."""
    media_io_kwargs: Mapping[str, JSONObject]
    """For reading media, by kind, with ``--trust-request-mm-kwargs``."""
    return_prompt_text: bool
    """Give the prompt that the template made. By vLLM 0.22."""


REPLACED: Dict[str, str] = {
    "guided_json": 'structured_outputs={"json": …}',
    "guided_regex": 'structured_outputs={"regex": …}',
    "guided_choice": 'structured_outputs={"choice": […]}',
    "guided_grammar": 'structured_outputs={"grammar": …}',
    "guided_json_object": 'structured_outputs={"json_object": True}',
    "guided_whitespace_pattern": 'structured_outputs={…, "whitespace_pattern": …}',
    "guided_decoding_backend": "the server's --structured-outputs-config",
    "structural_tag": 'structured_outputs={"structural_tag": …}',
    "best_of": "n",
    "logits_processors": "logit_bias, bad_words or allowed_token_ids",
}
"""Fields of old servers, which vLLM 0.32 ignores, and what stands in their place."""


def names(params: type) -> List[str]:
    """The field names of one of the TypedDicts of this module, inherited ones first."""
    # __annotations__ of a TypedDict holds what it inherits too.
    return list(params.__annotations__)
