"""A synchronous-first client of the vLLM inference server.

::

    from vllm_client import VllmClient

    client = VllmClient("http://localhost:8000")
    with client.completions.stream(prompt="What is machine learning?", max_tokens=500) as stream:
        for text in stream.text_deltas():
            print(text, end="", flush=True)
"""

from __future__ import annotations

from ._version import __version__
from .client import VllmClient
from .events import CompletionStreamEvent, Done, Error, FinishReason, Text
from .exceptions import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ContextLengthError,
    GenerationAbortedError,
    InternalServerError,
    InvalidResponseError,
    InvalidStreamError,
    ModelNotFoundError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerStreamError,
    ServiceUnavailableError,
    StreamConsumedError,
    StreamError,
    StreamInterruptedError,
    UnprocessableEntityError,
    VllmError,
)
from .params import CompletionParams
from .streams import CompletionStream
from .timeouts import Timeout
from .timings import Timings
from .types import Completion, CompletionChoice, Usage

__all__ = [
    "APIConnectionError",
    "APIStatusError",
    "APITimeoutError",
    "AuthenticationError",
    "BadRequestError",
    "Completion",
    "CompletionChoice",
    "CompletionParams",
    "CompletionStream",
    "CompletionStreamEvent",
    "ContextLengthError",
    "Done",
    "Error",
    "FinishReason",
    "GenerationAbortedError",
    "InternalServerError",
    "InvalidResponseError",
    "InvalidStreamError",
    "ModelNotFoundError",
    "NotFoundError",
    "PermissionDeniedError",
    "RateLimitError",
    "ServerStreamError",
    "ServiceUnavailableError",
    "StreamConsumedError",
    "StreamError",
    "StreamInterruptedError",
    "Text",
    "Timeout",
    "Timings",
    "UnprocessableEntityError",
    "Usage",
    "VllmClient",
    "VllmError",
    "__version__",
]
