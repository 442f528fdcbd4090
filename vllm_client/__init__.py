"""A synchronous-first client for the vLLM inference server.

::

    from vllm_client import VllmClient

    client = VllmClient("http://localhost:8000")
    with client.completions.stream(prompt="What is machine learning?", max_tokens=500) as stream:
        for text in stream.text_deltas():
            print(text, end="", flush=True)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, List

from ._lazy import names_of
from ._version import __version__

if TYPE_CHECKING:
    from .aio import AsyncStream, AsyncVllmClient
    from .client import VllmClient
    from .events import (
        CompletionStreamEvent,
        Content,
        Done,
        Error,
        FinishReason,
        GenerationStreamEvent,
        Reasoning,
        StreamEvent,
        Text,
        Tokens,
        ToolCallDelta,
    )
    from .exceptions import (
        APIConnectionError,
        APIStatusError,
        APITimeoutError,
        AuthenticationError,
        BadRequestError,
        ContextLengthError,
        GenerationAbortedError,
        InternalServerError,
        InvalidAnswerError,
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
    from .params import (
        CallParams,
        ChatBatchParams,
        ChatCompletionParams,
        CompletionParams,
        Prompt,
        RepetitionDetection,
        RequestOptions,
        SamplingParams,
        StreamOptions,
        StructuredOutputs,
    )
    from .params.audio import TranscriptionParams, TranslationParams
    from .params.generation import GenerationParams, TokenSamplingParams
    from .resources._media import audio_part, image_part
    from .streams import (
        ChatCompletionStream,
        CompletionStream,
        GenerationStream,
        ServerSentEvent,
        ServerSentEventStream,
        TranscriptionStream,
    )
    from .timeouts import Timeout, TimeoutTypes
    from .timings import Timings
    from .types import (
        ChatCompletion,
        ChatCompletionChoice,
        ChatCompletionMessage,
        Completion,
        CompletionChoice,
        Generation,
        GenerationChoice,
        Model,
        TokenLogprob,
        ToolCall,
        Transcription,
        TranscriptionSegment,
        TranscriptionWord,
        Usage,
    )
    from .types.messages import ContentPart, Message, Tool

__all__ = [
    "APIConnectionError",
    "APIStatusError",
    "APITimeoutError",
    "AsyncStream",
    "AsyncVllmClient",
    "AuthenticationError",
    "BadRequestError",
    "CallParams",
    "ChatBatchParams",
    "ChatCompletion",
    "ChatCompletionChoice",
    "ChatCompletionMessage",
    "ChatCompletionParams",
    "ChatCompletionStream",
    "Completion",
    "CompletionChoice",
    "CompletionParams",
    "CompletionStream",
    "CompletionStreamEvent",
    "Content",
    "ContentPart",
    "ContextLengthError",
    "Done",
    "Error",
    "FinishReason",
    "Generation",
    "GenerationAbortedError",
    "GenerationChoice",
    "GenerationParams",
    "GenerationStream",
    "GenerationStreamEvent",
    "InternalServerError",
    "InvalidAnswerError",
    "InvalidResponseError",
    "InvalidStreamError",
    "Message",
    "Model",
    "ModelNotFoundError",
    "NotFoundError",
    "PermissionDeniedError",
    "Prompt",
    "RateLimitError",
    "Reasoning",
    "RepetitionDetection",
    "RequestOptions",
    "SamplingParams",
    "ServerSentEvent",
    "ServerSentEventStream",
    "ServerStreamError",
    "ServiceUnavailableError",
    "StreamConsumedError",
    "StreamError",
    "StreamEvent",
    "StreamInterruptedError",
    "StreamOptions",
    "StructuredOutputs",
    "Text",
    "Timeout",
    "TimeoutTypes",
    "Timings",
    "TokenLogprob",
    "TokenSamplingParams",
    "Tokens",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "Transcription",
    "TranscriptionParams",
    "TranscriptionSegment",
    "TranscriptionStream",
    "TranscriptionWord",
    "TranslationParams",
    "UnprocessableEntityError",
    "Usage",
    "VllmClient",
    "VllmError",
    "__version__",
    "audio_part",
    "image_part",
]


__getattr__ = names_of(
    __name__,
    {
        "aio": "AsyncStream AsyncVllmClient",
        "client": "VllmClient",
        "events": """
        CompletionStreamEvent Content Done Error FinishReason GenerationStreamEvent Reasoning
        StreamEvent Text Tokens ToolCallDelta
    """,
        "exceptions": """
        APIConnectionError APIStatusError APITimeoutError AuthenticationError BadRequestError
        ContextLengthError GenerationAbortedError InternalServerError InvalidAnswerError
        InvalidResponseError InvalidStreamError ModelNotFoundError NotFoundError
        PermissionDeniedError RateLimitError ServerStreamError ServiceUnavailableError
        StreamConsumedError StreamError StreamInterruptedError UnprocessableEntityError VllmError
    """,
        "params": """
        CallParams ChatBatchParams ChatCompletionParams CompletionParams Prompt
        RepetitionDetection RequestOptions SamplingParams StreamOptions StructuredOutputs
    """,
        "params.audio": "TranscriptionParams TranslationParams",
        "params.generation": "GenerationParams TokenSamplingParams",
        "resources._media": "audio_part image_part",
        "streams": """
        ChatCompletionStream CompletionStream GenerationStream ServerSentEvent
        ServerSentEventStream TranscriptionStream
    """,
        "timeouts": "Timeout TimeoutTypes",
        "timings": "Timings",
        "types.chat": "ChatCompletion ChatCompletionChoice ChatCompletionMessage",
        "types.completion": "Completion CompletionChoice",
        "types.generation": "Generation GenerationChoice",
        "types.logprobs": "TokenLogprob",
        "types.messages": "ContentPart Message Tool",
        "types.model": "Model",
        "types.shared": "Usage",
        "types.tool_calls": "ToolCall",
        "types.transcription": "Transcription TranscriptionSegment TranscriptionWord",
    },
)


def __dir__() -> List[str]:
    return sorted({*globals(), *__all__})
