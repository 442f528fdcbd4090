"""The streams that a program reads: iterators of events whose end can be trusted."""

from __future__ import annotations

from .base import OnError, Stream
from .chunks import (
    ChatCompletionStream,
    CompletionStream,
    GenerationStream,
    TranscriptionStream,
)
from .server_sent import ServerSentEvent, ServerSentEventStream

__all__ = [
    "ChatCompletionStream",
    "CompletionStream",
    "GenerationStream",
    "OnError",
    "ServerSentEvent",
    "ServerSentEventStream",
    "Stream",
    "TranscriptionStream",
]
