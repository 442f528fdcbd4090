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
    from .aio.batch import AsyncBatchRows
    from .batch import BatchProgress, BatchReport, BatchRow, BatchRows, read_batch
    from .client import VllmClient
    from .evaluate import Choice, LogLikelihood, LogLikelihoodFailure, Perplexity
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
        BatchChangedError,
        BatchError,
        BatchInputError,
        BatchLockedError,
        BatchStoppedError,
        ContextLengthError,
        EvaluationError,
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
        GenerationStream,
        ServerSentEvent,
        ServerSentEventStream,
        TranscriptionStream,
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
        Generation,
        GenerationChoice,
        Model,
        PoolingResponse,
        RerankResponse,
        Response,
        ResponseToolCall,
        ScoreResponse,
        Tokenization,
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
    "AsyncBatchRows",
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
    "ChatBatchParams",
    "ChatCompletion",
    "ChatCompletionChoice",
    "ChatCompletionMessage",
    "ChatCompletionParams",
    "ChatCompletionStream",
    "Choice",
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
    "EvaluationError",
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
    "LogLikelihood",
    "LogLikelihoodFailure",
    "Message",
    "Model",
    "ModelNotFoundError",
    "NotFoundError",
    "PermissionDeniedError",
    "Perplexity",
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
    "TokenSamplingParams",
    "Tokenization",
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
    "read_batch",
]


__getattr__ = names_of(
    __name__,
    {
        "aio": "AsyncStream AsyncVllmClient",
        "aio.batch": "AsyncBatchRows",
        "batch": "BatchProgress BatchReport BatchRow BatchRows read_batch",
        "client": "VllmClient",
        "evaluate": "Choice LogLikelihood LogLikelihoodFailure Perplexity",
        "events": """
        CompletionStreamEvent Content Done Error FinishReason GenerationStreamEvent Reasoning
        StreamEvent Text Tokens ToolCallDelta
    """,
        "exceptions": """
        APIConnectionError APIStatusError APITimeoutError AuthenticationError BadRequestError
        BatchChangedError BatchError BatchInputError BatchLockedError BatchStoppedError
        ContextLengthError EvaluationError GenerationAbortedError InternalServerError
        InvalidAnswerError InvalidResponseError InvalidStreamError ModelNotFoundError NotFoundError
        PermissionDeniedError RateLimitError ServerStreamError ServiceUnavailableError
        StreamConsumedError StreamError StreamInterruptedError UnprocessableEntityError VllmError
    """,
        "params": """
        CallParams ChatBatchParams ChatCompletionParams CompletionParams Prompt
        RepetitionDetection RequestOptions SamplingParams StreamOptions StructuredOutputs
    """,
        "params.audio": "TranscriptionParams TranslationParams",
        "params.generation": "GenerationParams TokenSamplingParams",
        "params.responses": "ResponseParams",
        "resources._media": "audio_part image_part",
        "response_events": """
        ResponseContentPart ResponseDone ResponseItem ResponseOther ResponseProgress
        ResponseReasoningDelta ResponseReasoningDone ResponseRefusalDelta ResponseRefusalDone
        ResponseStreamEvent ResponseTextDelta ResponseTextDone ResponseToolCallDelta
    """,
        "streams": """
        ChatCompletionStream CompletionStream GenerationStream ServerSentEvent
        ServerSentEventStream TranscriptionStream
    """,
        "streams.responses": "ResponseStream",
        "timeouts": "Timeout TimeoutTypes",
        "timings": "Timings",
        "types.chat": "ChatCompletion ChatCompletionChoice ChatCompletionMessage",
        "types.completion": "Completion CompletionChoice",
        "types.embedding": "EmbeddingResponse PoolingResponse",
        "types.generation": "Generation GenerationChoice",
        "types.logprobs": "TokenLogprob",
        "types.messages": "ContentPart Message Tool",
        "types.model": "Model",
        "types.response": "Response ResponseToolCall",
        "types.scoring": "ClassificationResponse RerankResponse ScoreResponse",
        "types.shared": "Usage",
        "types.tokenization": "Tokenization",
        "types.tool_calls": "ToolCall",
        "types.transcription": "Transcription TranscriptionSegment TranscriptionWord",
    },
)


def __dir__() -> List[str]:
    return sorted({*globals(), *__all__})
