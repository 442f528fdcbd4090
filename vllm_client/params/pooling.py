"""The fields of the routes of pooling models: embeddings, pooling, classify, score and rerank.

Names, types and defaults are those of vLLM 0.33's request classes. A pooling model reads a text and
returns vectors, probabilities or scores instead of more text.
"""

from __future__ import annotations

from typing import List, Literal, Mapping, Sequence, TypedDict, Union

from ..types.messages import ContentPart, Message
from ..types.shared import JSONObject
from . import Prompt, RequestOptions

__all__ = [
    "ClassifyParams",
    "EmbeddingParams",
    "LateChunking",
    "PoolingParams",
    "RerankParams",
    "ScoreInput",
    "ScoreParams",
    "ScoredContent",
]


class LateChunking(TypedDict):
    """``late_chunking_params``: one vector for every ``chunk_size`` tokens of an input."""

    chunk_size: int


class ScoredContent(TypedDict):
    """A text with images or other media that is scored as one."""

    content: List[ContentPart]


ScoreInput = Union[str, ScoredContent]
"""What ``score`` and ``rerank`` compare: a text, or content with media."""


class PoolingModelParams(RequestOptions, total=False):
    """The fields that all routes of pooling models share."""

    model: str
    """Name of a served model. Default: the server's first model."""
    user: str
    """Accepted for OpenAI compatibility; vLLM ignores it."""
    truncate_prompt_tokens: int
    """Truncate each input to this many tokens; -1 means the model's maximum length."""
    truncation_side: Literal["left", "right"]
    """The end of an input that is truncated. Since vLLM 0.18."""
    padding: Literal["max_length", "do_not_pad"]
    """``"max_length"`` pads each input to the model's maximum length, which some models require.
    Since vLLM 0.29."""
    request_id: str
    """Becomes part of the ``id`` of the response."""
    priority: int
    """A lower value is scheduled earlier. The server ignores it unless it runs with
    ``--scheduling-policy priority``. Default 0."""
    mm_processor_kwargs: JSONObject
    """Arguments for the processor of images and other media."""
    cache_salt: str
    """1 to 1024 characters. Only requests with the same salt share the prefix cache. Since vLLM
    0.9.0."""
    use_activation: bool
    """Apply the model's activation, such as normalisation or softmax, to the output. Default: the
    model's own, true for most. Since vLLM 0.11.1."""


class PoolingInputParams(PoolingModelParams, total=False):
    """The fields of the routes that read texts or conversations."""

    input: Union[Prompt, Sequence[Message], Sequence[Sequence[Message]]]
    """A text, a list of texts, the token ids of one text, or a list of such lists. For embeddings
    also messages, as in ``messages``."""
    messages: Union[Sequence[Message], Sequence[Sequence[Message]]]
    """A conversation instead of ``input``; for embeddings also a list of conversations."""
    add_special_tokens: bool
    """Add the model's special tokens. Default true for ``input``, false for ``messages``."""
    add_generation_prompt: bool
    """Let the chat template begin an answer. Only for ``messages``. Default false."""
    continue_final_message: bool
    """Leave the last message without its end. Only for ``messages``. Default false."""
    chat_template: str
    """A Jinja template. Only for ``messages``; requires ``--trust-request-chat-template``."""
    chat_template_kwargs: JSONObject
    """Arguments for the chat template. Only for ``messages``."""
    media_io_kwargs: Mapping[str, JSONObject]
    """Arguments for reading media, for each kind of media. Only for ``messages``. Since vLLM
    0.18."""


class VectorParams(PoolingInputParams, total=False):
    """The fields of the routes that return vectors."""

    encoding_format: Literal["float", "base64", "bytes", "bytes_only"]
    """How the server writes the vectors. If you omit it, the client requests the cheapest that
    the server has. ``bytes_only`` omits token counts and the model's name. ``bytes`` and
    ``bytes_only``: since vLLM 0.14."""
    embed_dtype: Literal["float32", "float16", "bfloat16", "fp8_e4m3", "fp8_e5m2"]
    """The precision of the vectors on the wire, for all encodings but ``float``. Default
    ``"float32"``. Since vLLM 0.11.1."""
    endianness: Literal["native", "little", "big"]
    """The byte order of the vectors on the wire, for all encodings but ``float``. ``"native"`` is
    read as little. If you omit it, the client requests ``"little"``. Since vLLM 0.11.1."""
    dimensions: int
    """Shorten each vector to this length. Only for models that allow it."""


class EmbeddingParams(VectorParams, total=False):
    """The keywords of ``client.embeddings``: the body of ``POST /v1/embeddings``."""

    late_chunking_params: LateChunking
    """Return one vector for every few tokens. Only for models that return a vector a token. Since
    vLLM 0.33."""


class PoolingParams(VectorParams, total=False):
    """The keywords of ``client.pooling``: the body of ``POST /pooling``."""

    task: str
    """What the model computes, such as ``"embed"``, ``"classify"``, ``"token_embed"`` or
    ``"token_classify"``. Default: the model's own. Since vLLM 0.11.1."""


class ClassifyParams(PoolingInputParams, total=False):
    """The keywords of ``client.classify``: the body of ``POST /classify``."""


class ScoringParams(PoolingModelParams, total=False):
    """The fields that ``score`` and ``rerank`` share."""

    max_tokens_per_query: int
    """Truncate a query to this many tokens; 0 means no limit. Default 0. Since vLLM 0.20."""
    max_tokens_per_doc: int
    """Truncate a document to this many tokens; 0 means no limit. Default 0. Since vLLM 0.20."""
    instruction: str
    """The task, for models whose chat template has a place for it. Since vLLM 0.22."""
    chat_template_kwargs: JSONObject
    """Arguments for the chat template of the pair."""


class ScoreParams(ScoringParams, total=False):
    """The keywords of ``client.score``: the body of ``POST /score``.

    Set one pair of fields: ``queries`` and ``documents``, ``queries`` and ``items``, ``data_1`` and
    ``data_2``, or ``text_1`` and ``text_2``. Each is one input or a list. One input on the first
    side is compared with each of the second side; otherwise both sides have the same length.
    """

    queries: Union[ScoreInput, Sequence[ScoreInput]]
    """The first side. Since vLLM 0.16."""
    documents: Union[ScoreInput, Sequence[ScoreInput]]
    """The second side. Since vLLM 0.16."""
    items: Union[ScoreInput, Sequence[ScoreInput]]
    """The second side, another name of ``documents``. Since vLLM 0.16."""
    data_1: Union[ScoreInput, Sequence[ScoreInput]]
    """The first side. Since vLLM 0.16."""
    data_2: Union[ScoreInput, Sequence[ScoreInput]]
    """The second side. Since vLLM 0.16."""
    text_1: Union[ScoreInput, Sequence[ScoreInput]]
    """The first side; the only name in servers before vLLM 0.16."""
    text_2: Union[ScoreInput, Sequence[ScoreInput]]
    """The second side; the only name in servers before vLLM 0.16."""


class RerankParams(ScoringParams, total=False):
    """The keywords of ``client.rerank``: the body of ``POST /rerank``."""

    query: ScoreInput
    """What the documents are compared with."""
    documents: Union[ScoreInput, Sequence[ScoreInput]]
    """The documents to order."""
    top_n: int
    """Return only this many documents; 0 means all. Default 0."""
