"""The fields of every request: each has its name, type and explanation here and nowhere else.

Names, types and defaults are those of vLLM 0.33's request classes. A field that you omit is not
sent, so the server's default applies; for sampling fields that is the default of the model's own
generation config. ``None`` is sent as ``null``. The server ignores unknown names without an error,
so this library checks names. It leaves the values to the server, which reads ``"5"`` as 5.

This module has the fields of completions and chat; each further group of routes has a module here.

*Since vLLM 0.22* means that vLLM 0.22 has the field and earlier minor releases do not. *Not None*
means that the server refuses null for the field with status 400.
"""

from __future__ import annotations

from typing import Dict, List, Literal, Mapping, Optional, Sequence, TypedDict, Union

from ..timeouts import TimeoutTypes
from ..types.messages import Message, Tool, ToolChoice
from ..types.shared import JSONObject

__all__ = [
    "LAST_VERSIONS",
    "REPLACED",
    "CallParams",
    "ChatBatchParams",
    "ChatCompletionParams",
    "ChatParams",
    "CompletionParams",
    "JSONObject",
    "Prompt",
    "RepetitionDetection",
    "RequestOptions",
    "SamplingParams",
    "StreamOptions",
    "StructuredOutputs",
    "names",
]

Prompt = Union[str, Sequence[str], Sequence[int], Sequence[Sequence[int]]]
"""A text, a list of texts, the token ids of one prompt, or a list of such lists."""


class StreamOptions(TypedDict, total=False):
    """``stream_options``: what a stream contains besides its text.

    ``include_usage`` adds the token counts at the end. ``continuous_usage_stats`` adds them to
    every chunk as well; without ``include_usage`` the server ignores it.
    """

    include_usage: bool
    continuous_usage_stats: bool


class StructuredOutputs(TypedDict, total=False):
    """``structured_outputs``: a constraint on the output.

    Set exactly one of the first six keys. The last three adjust how the output is written.

    On a server with ``--reasoning-parser``, this and ``response_format`` constrain only what
    follows the end of the reasoning; before it the text is free, at status 200. In chat, switch
    the reasoning off with ``chat_template_kwargs={"enable_thinking": False}`` or
    ``reasoning_effort="none"``, if the model's template knows these. A completion is constrained
    only if the prompt itself ends with the model's end marker (``</think>``).
    """

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
    """``repetition_detection``: end an output that repeats itself. Since vLLM 0.17."""

    max_pattern_size: int
    min_pattern_size: int
    min_count: int


class CallParams(TypedDict, total=False):
    """Keywords of every method that configure the call."""

    extra_headers: Mapping[str, Union[str, None]]
    """Headers for this call. They override the client's; None removes a header."""
    timeout: TimeoutTypes
    """Seconds, ``(connect, read)``, a ``Timeout`` or None. Overrides the client's."""


class RequestOptions(CallParams, total=False):
    """Keywords of a method with a request body that are not fields of the body."""

    extra_body: JSONObject
    """Fields for the body that have no keyword here. They override the keywords."""


class SamplingParams(RequestOptions, total=False):
    """The fields that ``/v1/completions`` and ``/v1/chat/completions`` share."""

    # How tokens are sampled.
    model: Optional[str]
    """Name of a served model or adapter. Default: the server's first model."""
    temperature: Optional[float]
    """0 (greedy) or more. Default 1 or the model's."""
    top_p: Optional[float]
    """Above 0, at most 1. Sample among the most likely tokens that together have this
    probability. Default 1 or the model's."""
    top_k: Optional[int]
    """Sample among this many of the most likely tokens; 0 or -1 means all. Default 0 or the
    model's."""
    min_p: Optional[float]
    """0 to 1. Exclude tokens whose probability is below this fraction of the highest one.
    Default 0 or the model's."""
    seed: Optional[int]
    """Makes sampling repeatable. A signed integer of 64 bits."""
    n: int
    """Number of outputs for each prompt, 1 or more. Must be 1 at temperature 0. Default 1. Not
    None in completions."""
    use_beam_search: bool
    """Use beam search; ``n`` is the beam width. Not possible in a stream. Default false. Not
    None."""
    length_penalty: float
    """Length penalty of beam search. Default 1. Not None."""

    # Where the output ends.
    stop: Optional[Union[str, Sequence[str]]]
    """Up to four texts. The output ends where one of them occurs."""
    stop_token_ids: Optional[Sequence[int]]
    """Tokens that end the output."""
    include_stop_str_in_output: bool
    """Keep the stop text at the end of the output. Default false. Not None."""
    ignore_eos: bool
    """Continue after the end-of-sequence token. Default false. Not None."""
    min_tokens: int
    """Minimum number of tokens before the output may end. Default 0. Not None."""
    repetition_detection: Optional[RepetitionDetection]
    """End an output that repeats itself, with the finish reason ``"repetition"``. Since vLLM
    0.17."""
    thinking_token_budget: Optional[int]
    """Maximum number of tokens for reasoning; -1 means no limit. Since vLLM 0.19 in chat, 0.22
    in completions."""

    # Which tokens are sampled less often, or never.
    frequency_penalty: Optional[float]
    """-2 to 2. Positive values penalise tokens by how often they occur in the output. Default 0."""
    presence_penalty: Optional[float]
    """-2 to 2. Positive values penalise tokens that occur in the output at all. Default 0."""
    repetition_penalty: Optional[float]
    """Above 0. Values above 1 penalise tokens of the prompt and the output. Default 1 or the
    model's."""
    logit_bias: Optional[Mapping[str, float]]
    """Maps a token id, written as a string, to a value that is added to its logit."""
    allowed_token_ids: Optional[Sequence[int]]
    """The only tokens that may be sampled. Since vLLM 0.9.1 in chat."""
    bad_words: Sequence[str]
    """Words that the model must not generate. Not None. Since vLLM 0.9.2 in chat, 0.26 in
    completions."""

    # The form of the output.
    response_format: Optional[Union[JSONObject, type]]
    """``{"type": "text" | "json_object" | "json_schema" | "structural_tag", …}``, or a class as for
    ``parsed_as`` of the response. It constrains only what follows the reasoning."""
    structured_outputs: Optional[StructuredOutputs]
    """Constrain the output; of a model that reasons, only what follows: see
    :class:`StructuredOutputs`. Replaces the ``guided_…`` fields. Since vLLM 0.11."""
    skip_special_tokens: Optional[bool]
    """Omit special tokens from the text. Default true or, since vLLM 0.33, the model's, which
    None means too. Not None up to vLLM 0.32."""
    spaces_between_special_tokens: bool
    """Put spaces between special tokens in the text. Default true. Not None."""

    # What the response contains besides the text.
    prompt_logprobs: Optional[int]
    """Return the log-probabilities of this many tokens at each position of the prompt; -1 means
    all tokens. Not possible in a stream."""
    logprob_token_ids: Optional[Sequence[int]]
    """Return the log-probabilities of these tokens at every position. Requires ``logprobs``.
    Since vLLM 0.26."""
    return_tokens_as_token_ids: Optional[bool]
    """Write tokens in log-probabilities as ``token_id:N``, so that tokens with the same text
    remain distinct. Default: the server's setting."""
    return_token_ids: Optional[bool]
    """Return the token ids of the prompt and the output as well. Since vLLM 0.10.2."""
    return_weight_versions: bool
    """Return which version of the model's weights sampled each token: ``weight_versions`` of a
    choice. Not None. Since vLLM 0.33."""

    # The prompt.
    add_special_tokens: bool
    """Add the model's special tokens to the prompt. Default true, in chat false. Not None."""
    truncate_prompt_tokens: Optional[int]
    """Truncate the prompt to this many tokens; -1 means the model's maximum length."""
    truncation_side: Optional[Literal["left", "right"]]
    """The end of the prompt that is truncated. Since vLLM 0.22."""
    cache_salt: Optional[str]
    """1 to 128 characters, none of ``@ / \\``. Only requests with the same salt share the
    prefix cache of this prompt. Since vLLM 0.9 in chat, 0.10 in completions."""

    # Streams.
    stream_options: Optional[StreamOptions]
    """Only for streams. If you omit it, ``stream()`` requests the token counts."""
    stream_interval: Optional[int]
    """Number of tokens in each chunk of a stream, 1 or more. Default: the server's setting. Since
    vLLM 0.27."""

    # How the server treats the request.
    priority: int
    """A lower value is scheduled earlier. The server ignores it unless it runs with
    ``--scheduling-policy priority``. Default 0. Not None."""
    request_id: str
    """Becomes part of the ``id`` of the response. Not None. Since vLLM 0.10.1 in completions."""
    session_id: Optional[str]
    """Name of the session to which the request belongs. Since vLLM 0.28."""
    user: Optional[str]
    """Accepted for OpenAI compatibility; vLLM ignores it."""
    watermarking: Optional[bool]
    """Turn the watermarking of the output on or off. Since vLLM 0.30."""
    vllm_xargs: Optional[Mapping[str, Union[str, int, float, Sequence[Union[str, int, float]]]]]
    """Arguments for extensions of the server. Since vLLM 0.9.2."""
    kv_transfer_params: Optional[JSONObject]
    """For disaggregated serving. Since vLLM 0.9."""
    ec_transfer_params: Optional[JSONObject]
    """For disaggregated serving of encoders. Since vLLM 0.26."""

    # Rarely used.
    routed_experts_prompt_start: int
    """Omit this many tokens at the beginning of the prompt from the expert routing data. Not
    None. Since vLLM 0.28."""
    mm_payload: Literal["tensors", "none"]
    """For the render routes. Not None. Since vLLM 0.32."""
    return_mm_kwargs: Optional[bool]
    """For the render routes. Replaced by ``mm_payload``. Since vLLM 0.32."""
    return_token_offsets: Optional[bool]
    """For the render routes. Since vLLM 0.25."""


class CompletionParams(SamplingParams, total=False):
    """The keywords of ``client.completions``: the body of ``POST /v1/completions``."""

    prompt: Prompt
    """A text, a list of texts, or token ids. At most 1024 prompts."""
    prompt_embeds: Optional[Union[str, Sequence[str]]]
    """A serialised tensor in Base64. Requires a server with ``--enable-prompt-embeds``. Since
    vLLM 0.9."""
    max_tokens: Optional[int]
    """Maximum number of tokens of each output. 0 is possible only with ``echo``. Default 16."""
    logprobs: Optional[int]
    """Return the log-probabilities of the sampled token and of this many of the most likely
    tokens at each position of the output. 0 means the sampled token only."""
    echo: Optional[bool]
    """Return the prompt before the output. Default false."""
    suffix: Optional[str]
    """Text that follows the output. Only for models that fill in the middle."""


class ChatParams(SamplingParams, total=False):
    """The fields that one chat and a batch of chats share: all but the messages."""

    max_completion_tokens: Optional[int]
    """Maximum number of tokens of the answer, reasoning included. Default: what the model's
    context leaves."""
    max_tokens: Optional[int]
    """The older name of ``max_completion_tokens``, which takes precedence if both are set."""
    logprobs: Optional[bool]
    """Return the log-probabilities of the answer's tokens. Default false."""
    top_logprobs: Optional[int]
    """Return the log-probabilities of this many of the most likely tokens as well. Requires
    ``logprobs=True``. Default 0."""
    tools: Optional[Sequence[Union[Tool, JSONObject]]]
    """Functions that the model may call."""
    tool_choice: Optional[Union[ToolChoice, JSONObject]]
    """``"none"``, ``"auto"``, ``"required"`` or a named function. With ``tools`` the default is
    ``"auto"``, which requires a server with ``--enable-auto-tool-choice``."""
    parallel_tool_calls: Optional[bool]
    """False removes the calls after the first from the response. Default true."""
    reasoning_effort: Optional[Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]]
    """For chat templates that support it. Since vLLM 0.10.1."""
    include_reasoning: bool
    """False removes the reasoning from the response. Default true. Not None. Since vLLM 0.10.1."""
    echo: bool
    """Return the last message before the answer, if both have the same role. Default false. Not
    None."""
    add_generation_prompt: bool
    """Let the chat template begin the answer. Default true. Not None."""
    continue_final_message: bool
    """Continue the last message. Requires ``add_generation_prompt=False``. Default false. Not
    None."""
    documents: Optional[Sequence[Mapping[str, str]]]
    """Documents, for chat templates with retrieval."""
    chat_template: Optional[str]
    """A Jinja template. Requires a server with ``--trust-request-chat-template``."""
    chat_template_kwargs: Optional[JSONObject]
    """Arguments for the chat template, such as ``{"enable_thinking": False}``."""
    mm_processor_kwargs: Optional[JSONObject]
    """Arguments for the processor of images and other media. Requires a server with
    ``--trust-request-mm-kwargs``."""
    media_io_kwargs: Optional[Mapping[str, JSONObject]]
    """Arguments for reading media, for each kind of media. Requires a server with
    ``--trust-request-mm-kwargs``. Since vLLM 0.18."""
    return_prompt_text: Optional[bool]
    """Return the prompt that the chat template made. Since vLLM 0.21."""


class ChatCompletionParams(ChatParams, total=False):
    """The keywords of ``client.chat.completions``: the body of ``POST /v1/chat/completions``."""

    messages: Sequence[Message]
    """The conversation, oldest message first."""


class ChatBatchParams(ChatParams, total=False):
    """The keywords of ``client.chat.completions.batch``.

    The server refuses ``tools``, ``use_beam_search`` and an ``n`` above 1 there.
    """

    messages: Sequence[Sequence[Message]]
    """The conversations, each with its oldest message first."""


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
"""Fields of old servers, which vLLM 0.33 ignores → what to use instead."""

LAST_VERSIONS: Dict[str, str] = {**dict.fromkeys(REPLACED, "0.11"), "logits_processors": "0.16"}
"""The same fields → the last version of vLLM that reads them."""


def names(params: type) -> List[str]:
    """Return the field names of one of the TypedDicts of this module, inherited ones first."""
    # __annotations__ of a TypedDict includes the inherited fields.
    return list(params.__annotations__)
