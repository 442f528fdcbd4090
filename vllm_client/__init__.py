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
    from .batch import BatchProgress, BatchReport, BatchRow, BatchRows, read_batch
    from .client import VllmClient
    from .events import (
        CompletionStreamEvent,
        Content,
        Done,
        Error,
        FinishReason,
        Reasoning,
        StreamEvent,
        Text,
        ToolCallDelta,
    )
    from .exceptions import (
        APIConnectionError,
        APIStatusError,
        APITimeoutError,
        AuthenticationError,
        BadRequestError,
        BatchChangedError,
        BatchError,
        BatchInputError,
        BatchLockedError,
        BatchStoppedError,
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
    from .params import (
        CallParams,
        ChatCompletionParams,
        CompletionParams,
        Prompt,
        RepetitionDetection,
        RequestOptions,
        SamplingParams,
        StreamOptions,
        StructuredOutputs,
    )
    from .params.responses import ResponseParams
    from .resources._media import audio_part, image_part
    from .response_events import (
        ResponseContentPart,
        ResponseDone,
        ResponseItem,
        ResponseOther,
        ResponseProgress,
        ResponseReasoningDelta,
        ResponseReasoningDone,
        ResponseRefusalDelta,
        ResponseRefusalDone,
        ResponseStreamEvent,
        ResponseTextDelta,
        ResponseTextDone,
        ResponseToolCallDelta,
    )
    from .streams import (
        ChatCompletionStream,
        CompletionStream,
        ServerSentEvent,
        ServerSentEventStream,
    )
    from .streams.responses import ResponseStream
    from .timeouts import Timeout, TimeoutTypes
    from .timings import Timings
    from .types import (
        ChatCompletion,
        ChatCompletionChoice,
        ChatCompletionMessage,
        ClassificationResponse,
        Completion,
        CompletionChoice,
        EmbeddingResponse,
        Model,
        PoolingResponse,
        RerankResponse,
        Response,
        ResponseToolCall,
        ScoreResponse,
        TokenLogprob,
        ToolCall,
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
    "BatchChangedError",
    "BatchError",
    "BatchInputError",
    "BatchLockedError",
    "BatchProgress",
    "BatchReport",
    "BatchRow",
    "BatchRows",
    "BatchStoppedError",
    "CallParams",
    "ChatCompletion",
    "ChatCompletionChoice",
    "ChatCompletionMessage",
    "ChatCompletionParams",
    "ChatCompletionStream",
    "ClassificationResponse",
    "Completion",
    "CompletionChoice",
    "CompletionParams",
    "CompletionStream",
    "CompletionStreamEvent",
    "Content",
    "ContentPart",
    "ContextLengthError",
    "Done",
    "EmbeddingResponse",
    "Error",
    "FinishReason",
    "GenerationAbortedError",
    "InternalServerError",
    "InvalidResponseError",
    "InvalidStreamError",
    "Message",
    "Model",
    "ModelNotFoundError",
    "NotFoundError",
    "PermissionDeniedError",
    "PoolingResponse",
    "Prompt",
    "RateLimitError",
    "Reasoning",
    "RepetitionDetection",
    "RequestOptions",
    "RerankResponse",
    "Response",
    "ResponseContentPart",
    "ResponseDone",
    "ResponseItem",
    "ResponseOther",
    "ResponseParams",
    "ResponseProgress",
    "ResponseReasoningDelta",
    "ResponseReasoningDone",
    "ResponseRefusalDelta",
    "ResponseRefusalDone",
    "ResponseStream",
    "ResponseStreamEvent",
    "ResponseTextDelta",
    "ResponseTextDone",
    "ResponseToolCall",
    "ResponseToolCallDelta",
    "SamplingParams",
    "ScoreResponse",
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
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "UnprocessableEntityError",
    "Usage",
    "VllmClient",
    "VllmError",
    "__version__",
    "audio_part",
    "image_part",
    "read_batch",
]


__getattr__ = names_of(
    __name__,
    {
        "aio": "AsyncStream AsyncVllmClient",
        "batch": "BatchProgress BatchReport BatchRow BatchRows read_batch",
        "client": "VllmClient",
        "events": """
        CompletionStreamEvent Content Done Error FinishReason Reasoning StreamEvent Text
        ToolCallDelta
    """,
        "exceptions": """
        APIConnectionError APIStatusError APITimeoutError AuthenticationError BadRequestError
        BatchChangedError BatchError BatchInputError BatchLockedError BatchStoppedError
        ContextLengthError GenerationAbortedError InternalServerError InvalidResponseError
        InvalidStreamError ModelNotFoundError NotFoundError PermissionDeniedError RateLimitError
        ServerStreamError ServiceUnavailableError StreamConsumedError StreamError
        StreamInterruptedError UnprocessableEntityError VllmError
    """,
        "params": """
        CallParams ChatCompletionParams CompletionParams Prompt RepetitionDetection RequestOptions
        SamplingParams StreamOptions StructuredOutputs
    """,
        "params.responses": "ResponseParams",
        "resources._media": "audio_part image_part",
        "response_events": """
        ResponseContentPart ResponseDone ResponseItem ResponseOther ResponseProgress
        ResponseReasoningDelta ResponseReasoningDone ResponseRefusalDelta ResponseRefusalDone
        ResponseStreamEvent ResponseTextDelta ResponseTextDone ResponseToolCallDelta
    """,
        "streams": """
        ChatCompletionStream CompletionStream ServerSentEvent ServerSentEventStream
    """,
        "streams.responses": "ResponseStream",
        "timeouts": "Timeout TimeoutTypes",
        "timings": "Timings",
        "types.chat": "ChatCompletion ChatCompletionChoice ChatCompletionMessage",
        "types.completion": "Completion CompletionChoice",
        "types.embedding": "EmbeddingResponse PoolingResponse",
        "types.logprobs": "TokenLogprob",
        "types.messages": "ContentPart Message Tool",
        "types.model": "Model",
        "types.response": "Response ResponseToolCall",
        "types.scoring": "ClassificationResponse RerankResponse ScoreResponse",
        "types.shared": "Usage",
        "types.tool_calls": "ToolCall",
    },
)


def __dir__() -> List[str]:
    return sorted({*globals(), *__all__})
