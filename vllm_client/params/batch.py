"""The settings of ``client.batch``, beside the request fields of all rows."""

from __future__ import annotations

from typing import Any, Callable, Optional, TypedDict, Union

from . import ChatCompletionParams, CompletionParams
from .pooling import EmbeddingParams, RerankParams, ScoreParams

__all__ = [
    "BatchChatParams",
    "BatchCompletionParams",
    "BatchEmbeddingParams",
    "BatchParams",
    "BatchRerankParams",
    "BatchScoreParams",
]


class BatchParams(TypedDict, total=False):
    """How a run over many rows behaves."""

    max_concurrency: int
    """Requests in flight at once, at most; 1 or more. Below it the limit adapts. Default 256."""
    adaptive: bool
    """Whether the limit falls when the server answers 429 or 503. Default True."""
    patience: float
    """Seconds to wait for a server that is away, or too busy, before the run ends. Default 600."""
    stop_after_failures: Optional[int]
    """The run ends if so many first rows all fail with the same 4xx; None never. Default 20."""
    buffer_bytes: int
    """Bytes of finished rows that may wait for their turn in an ordered run. Default 64 MiB."""
    strict: bool
    """Whether a row that cannot be sent ends the run, instead of being a failed row. Default
    False."""
    progress: Union[bool, Callable[[Any], Any], None]
    """True for a bar, or a function that takes a ``BatchProgress`` ten times a second at most."""


class BatchCompletionParams(CompletionParams, BatchParams, total=False):
    """The keywords of ``client.batch.completions``."""


class BatchChatParams(ChatCompletionParams, BatchParams, total=False):
    """The keywords of ``client.batch.chat``."""


class BatchEmbeddingParams(EmbeddingParams, BatchParams, total=False):
    """The keywords of ``client.batch.embeddings``."""


class BatchScoreParams(ScoreParams, BatchParams, total=False):
    """The keywords of ``client.batch.score``."""


class BatchRerankParams(RerankParams, BatchParams, total=False):
    """The keywords of ``client.batch.rerank``."""
