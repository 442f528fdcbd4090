"""The fields of ``/inference/v1/generate``; sampling parameters are an object of their own."""

from __future__ import annotations

from typing import Literal, Mapping, Sequence, TypedDict, Union

from ..types.shared import JSONObject
from . import RepetitionDetection, RequestOptions, StreamOptions, StructuredOutputs

__all__ = ["GenerationParams", "TokenSamplingParams"]


class TokenSamplingParams(TypedDict, total=False):
    """``sampling_params``: how tokens are sampled. Each is a keyword of the method too."""

    n: int
    """Number of outputs, 1 or more. Default 1."""
    max_tokens: int
    """Maximum number of tokens of each output. Default: what the model's context leaves."""
    min_tokens: int
    """Minimum number of tokens before an output may end. Default 0."""
    temperature: float
    """0 (greedy) or more. Default 1 or the model's."""
    top_p: float
    """Above 0, at most 1. Sample among the most likely tokens that together have this
    probability. Default 1."""
    top_k: int
    """Sample among this many of the most likely tokens; 0 or -1 means all. Default 0."""
    min_p: float
    """0 to 1. Exclude tokens whose probability is below this fraction of the highest one."""
    seed: int
    """Makes sampling repeatable."""
    presence_penalty: float
    """-2 to 2. Positive values penalise tokens that occur in the output at all."""
    frequency_penalty: float
    """-2 to 2. Positive values penalise tokens by how often they occur in the output."""
    repetition_penalty: float
    """Above 0. Values above 1 penalise tokens of the prompt and the output."""
    stop: Union[str, Sequence[str]]
    """Texts that end the output."""
    stop_token_ids: Sequence[int]
    """Tokens that end the output."""
    include_stop_str_in_output: bool
    """Keep the stop text at the end of the text. Default false."""
    ignore_eos: bool
    """Continue after the end-of-sequence token. Default false."""
    logprobs: int
    """Return the log-probabilities of the sampled token and of this many of the most likely
    tokens; -1 means all tokens."""
    flat_logprobs: bool
    """Keep log-probabilities in a flat form inside the server."""
    prompt_logprobs: int
    """The same at each position of the prompt. Not possible in a stream."""
    prompt_logprob_token_ids: Sequence[Sequence[int]]
    """Token ids to score at each position of the prompt. Not possible in a stream."""
    prompt_logprob_start: int
    """The first position that ``prompt_logprob_token_ids`` scores."""
    logprob_token_ids: Sequence[int]
    """Return the log-probabilities of these tokens at every position."""
    logit_bias: Mapping[str, float]
    """Maps a token id, written as a string, to a value that is added to its logit."""
    allowed_token_ids: Sequence[int]
    """The only tokens that may be sampled."""
    bad_words: Sequence[str]
    """Words that the model must not generate."""
    structured_outputs: StructuredOutputs
    """Constrain the output."""
    repetition_detection: RepetitionDetection
    """End an output that repeats itself, with the finish reason ``"repetition"``."""
    thinking_token_budget: int
    """Maximum number of tokens for reasoning."""
    detokenize: bool
    """Decode the output. ``output_mode="text"`` requires it. Default true."""
    skip_special_tokens: bool
    """Omit special tokens from the text. Default true."""
    spaces_between_special_tokens: bool
    """Put spaces between special tokens in the text. Default true."""
    stream_interval: int
    """Number of tokens in each chunk of a stream, 1 or more."""
    watermarking: bool
    """Turn the watermarking of the output on or off."""
    extra_args: JSONObject
    """Arguments for extensions of the server."""
    skip_reading_prefix_cache: bool
    """Compute the whole prompt, even if it is in the prefix cache."""
    routed_experts_prompt_start: int
    """Omit this many tokens at the beginning of the prompt from the expert routing data."""
    trace_decode_token_ids: Sequence[int]
    """Emit these tokens instead of sampling. For debugging."""


class GenerationParams(TokenSamplingParams, RequestOptions, total=False):
    """The keywords of ``client.generate``: the body of ``POST /inference/v1/generate``."""

    token_ids: Sequence[int]
    """The prompt, at least one token."""
    sampling_params: TokenSamplingParams
    """The sampling parameters as one object; keywords are added to it."""
    model: str
    """Name of a served model or adapter. Default: the server's first model."""
    output_mode: Literal["tokens", "text", "derender"]
    """``"text"`` returns the decoded text as well, ``"derender"`` (since vLLM 0.33, not in a
    stream) the parsed message, in ``raw``. Default ``"tokens"``."""
    parse_context: JSONObject
    """What ``"derender"`` needs to know of the chat, as ``/render`` returns it. Since vLLM
    0.33."""
    stream_options: StreamOptions
    """Only for streams. If you omit it, ``stream()`` requests the token counts."""
    request_id: str
    """The ``request_id`` of the response."""
    priority: int
    """A lower value is scheduled earlier, with ``--scheduling-policy priority``. Default 0."""
    cache_salt: str
    """Only requests with the same salt share the prefix cache of this prompt."""
    return_token_ids: bool
    """Return the token ids of the prompt, with those of images and other media."""
    token_offsets: Sequence[Sequence[int]]
    """The place of each token in the text, as ``/render`` returns it."""
    features: JSONObject
    """Images and other media, as ``/render`` returns them."""
    content_parts: Sequence[JSONObject]
    """Images and other media, which the server loads. Excludes ``features``."""
    reasoning_ended: bool
    """Whether the prompt ends after the reasoning, as ``/render`` returns it."""
    reasoning_parser_kwargs: JSONObject
    """Arguments for the reasoning parser, as ``/render`` returns them."""
    kv_transfer_params: JSONObject
    """For disaggregated serving."""
    ec_transfer_params: JSONObject
    """For disaggregated serving of encoders."""
