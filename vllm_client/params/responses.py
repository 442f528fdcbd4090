"""The fields of ``POST /v1/responses``: those of vLLM 0.33's request class, and what they hold."""

from __future__ import annotations

from typing import Literal, Mapping, Sequence, TypedDict, Union

from ..types.shared import JSONObject
from . import RequestOptions, StructuredOutputs

__all__ = ["PromptCacheOptions", "ReasoningOptions", "ResponseInput", "ResponseParams"]

ResponseInput = Union[str, Sequence[JSONObject]]
"""A text, or items: messages, items of an earlier ``response.output``, results of tool calls."""


class ReasoningOptions(TypedDict, total=False):
    """``reasoning``: how much the model thinks, for chat templates that support it."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
    summary: Literal["auto", "concise", "detailed"]
    generate_summary: Literal["auto", "concise", "detailed"]


class PromptCacheOptions(TypedDict, total=False):
    """``prompt_cache_options``: the response repeats them, except ``prewarm``."""

    mode: Literal["implicit", "explicit"]
    ttl: Literal["30m"]
    comparison_response_id: str
    prewarm: bool


class ResponseParams(RequestOptions, total=False):
    """The keywords of ``client.responses``: the body of ``POST /v1/responses``.

    The route is part of vLLM since 0.10.0; so is every field without another version.
    """

    input: ResponseInput
    """A text, or the items of a conversation, oldest first."""
    model: str
    """Name of a served model or adapter. Default: the server's first model."""
    instructions: str
    """A system message before the input. A following response does not inherit it."""
    previous_response_id: str
    """Continue this stored response. Requires a server with
    ``VLLM_ENABLE_RESPONSES_API_STORE=1``."""
    max_output_tokens: int
    """Maximum number of tokens of the output, reasoning included. Default: what the model's
    context leaves."""
    max_tool_calls: int
    """Maximum number of calls of the server's own tools, all turns together."""
    background: bool
    """Return at once, with the status ``"queued"``; ``retrieve()`` returns the result later.
    Requires a server with ``VLLM_ENABLE_RESPONSES_API_STORE=1``. Default false."""
    store: bool
    """Keep the response for ``retrieve()``. A server without a store ignores it. Default true."""
    include: Sequence[
        Literal[
            "code_interpreter_call.outputs",
            "computer_call_output.output.image_url",
            "file_search_call.results",
            "message.input_image.image_url",
            "message.output_text.logprobs",
            "reasoning.encrypted_content",
        ]
    ]
    """What the response contains besides. vLLM acts on ``"message.output_text.logprobs"``."""
    metadata: Mapping[str, str]
    """The response repeats it."""
    reasoning: ReasoningOptions
    """How much the model thinks, such as ``{"effort": "low"}``."""
    include_reasoning: bool
    """False removes the reasoning from the response. Default true. Since vLLM 0.26."""
    text: JSONObject
    """The format of the text: ``{"format": {"type": "json_schema", "name": …, "schema": …}}``."""
    tools: Sequence[JSONObject]
    """Functions that the model may call: ``{"type": "function", "name": …, "parameters": …}``,
    without the ``"function": {…}`` of chat. Also the tools that the server runs itself."""
    tool_choice: Union[Literal["none", "auto", "required"], JSONObject]
    """Whether the model calls tools, or ``{"type": "function", "name": …}``. Default ``"auto"``."""
    parallel_tool_calls: bool
    """False removes the calls after the first from the response. Default true."""
    temperature: float
    """0 (greedy) or more. Default 1 or the model's."""
    top_p: float
    """Above 0, at most 1. Sample among the most likely tokens that together have this
    probability. Default 1 or the model's."""
    top_k: int
    """Sample among this many of the most likely tokens; 0 or -1 means all. Default 0 or the
    model's. Since vLLM 0.13."""
    min_p: float
    """0 to 1. Exclude tokens whose probability is below this fraction of the highest one.
    Default 0 or the model's. Since vLLM 0.32."""
    top_logprobs: int
    """Return the log-probabilities of this many of the most likely tokens as well. Requires
    ``include=["message.output_text.logprobs"]``. Default 0."""
    frequency_penalty: float
    """-2 to 2. Positive values penalise tokens by how often they occur in the output. Default 0.
    Since vLLM 0.20."""
    presence_penalty: float
    """-2 to 2. Positive values penalise tokens that occur in the output at all. Default 0. Since
    vLLM 0.20."""
    repetition_penalty: float
    """Above 0. Values above 1 penalise tokens of the prompt and the output. Default 1 or the
    model's. Since vLLM 0.16."""
    logit_bias: Mapping[str, float]
    """Maps a token id, written as a string, to a value that is added to its logit. Since vLLM
    0.13."""
    seed: int
    """Makes sampling repeatable. A signed integer of 64 bits. Since vLLM 0.16."""
    stop: Union[str, Sequence[str]]
    """Up to four texts. The output ends where one of them occurs. Since vLLM 0.16."""
    stop_token_ids: Sequence[int]
    """Tokens that end the output. Since vLLM 0.32."""
    include_stop_str_in_output: bool
    """Keep the stop text at the end of the output. Default false. Since vLLM 0.16."""
    ignore_eos: bool
    """Continue after the end-of-sequence token. Default false. Since vLLM 0.16."""
    skip_special_tokens: bool
    """Omit special tokens from the text. Default true. Since vLLM 0.16."""
    spaces_between_special_tokens: bool
    """Put spaces between special tokens in the text. Default true. Since vLLM 0.33."""
    truncation: Literal["auto", "disabled"]
    """``"auto"`` truncates an input that is too long. Default ``"disabled"``: it is refused."""
    structured_outputs: StructuredOutputs
    """Constrain the output. Not together with ``text={"format": …}``. Since vLLM 0.17."""
    chat_template_kwargs: JSONObject
    """Arguments for the chat template, such as ``{"enable_thinking": False}``. Since vLLM 0.22."""
    media_io_kwargs: Mapping[str, JSONObject]
    """Arguments for reading media, for each kind of media. Requires a server with
    ``--trust-request-mm-kwargs``. Since vLLM 0.18."""
    mm_processor_kwargs: JSONObject
    """Arguments for the processor of images and other media. Requires a server with
    ``--trust-request-mm-kwargs``."""
    enable_response_messages: bool
    """Return the prompt and the output as messages with token ids, in
    ``raw["input_messages"]`` and ``raw["output_messages"]``. Default false. Since vLLM 0.11."""
    previous_input_messages: Sequence[JSONObject]
    """Earlier messages in the Harmony format. Not together with ``previous_response_id``. Since
    vLLM 0.11.1."""
    priority: int
    """A lower value is scheduled earlier. The server ignores it unless it runs with
    ``--scheduling-policy priority``. Default 0."""
    request_id: str
    """Becomes the ``id`` of the response."""
    session_id: str
    """Name of the session to which the request belongs. Since vLLM 0.28."""
    cache_salt: str
    """1 to 128 characters, none of ``@ / \\``. Only requests with the same salt share the
    prefix cache of this prompt."""
    vllm_xargs: Mapping[str, Union[str, int, float, Sequence[Union[str, int, float]]]]
    """Arguments for extensions of the server. Since vLLM 0.16."""
    kv_transfer_params: JSONObject
    """For disaggregated serving. Since vLLM 0.19."""
    ec_transfer_params: JSONObject
    """For disaggregated serving of encoders. Since vLLM 0.26."""
    watermarking: bool
    """Turn the watermarking of the output on or off. Since vLLM 0.30."""
    prompt: JSONObject
    """A stored prompt template of OpenAI. vLLM refuses it."""
    service_tier: Literal["auto", "default", "flex", "scale", "priority"]
    """Accepted for OpenAI compatibility; vLLM ignores it."""
    user: str
    """Accepted for OpenAI compatibility; vLLM ignores it."""
    safety_identifier: str
    """Accepted for OpenAI compatibility; the response repeats it. Since vLLM 0.33."""
    prompt_cache_key: str
    """Accepted for OpenAI compatibility; vLLM ignores it. Since vLLM 0.16."""
    prompt_cache_options: PromptCacheOptions
    """Accepted for OpenAI compatibility; the response repeats it. Since vLLM 0.33."""
    prompt_cache_retention: Literal["in_memory", "24h"]
    """Accepted for OpenAI compatibility; the response repeats it. Since vLLM 0.33."""
    mm_payload: Literal["tensors", "none"]
    """For the render route. Since vLLM 0.32."""
    return_mm_kwargs: bool
    """For the render route. Replaced by ``mm_payload``. Since vLLM 0.32."""
