"""Data types: responses as attrs classes, messages and other parts of requests as TypedDicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, List

from .._lazy import names_of

if TYPE_CHECKING:
    from .chat import ChatCompletion, ChatCompletionChoice, ChatCompletionMessage
    from .completion import Completion, CompletionChoice
    from .embedding import Embedding, EmbeddingResponse, PoolingOutput, PoolingResponse
    from .generation import Generation, GenerationChoice
    from .logprobs import TokenLogprob
    from .messages import (
        AssistantMessage,
        AudioPart,
        ContentPart,
        FunctionCall,
        FunctionDefinition,
        FunctionName,
        ImagePart,
        InputAudio,
        InputAudioPart,
        MediaURL,
        Message,
        MessageContent,
        NamedToolChoice,
        SystemMessage,
        TextPart,
        Tool,
        ToolCallMessagePart,
        ToolChoice,
        ToolMessage,
        UserMessage,
        VideoPart,
    )
    from .model import Model
    from .response import FunctionCallOutput, Response, ResponseToolCall
    from .scoring import (
        Classification,
        ClassificationResponse,
        RerankDocument,
        RerankResponse,
        RerankResult,
        Score,
        ScoreResponse,
    )
    from .shared import JSONObject, JSONValue, Usage
    from .tokenization import Tokenization
    from .tool_calls import ToolCall
    from .transcription import Transcription, TranscriptionSegment, TranscriptionWord

__all__ = [
    "AssistantMessage",
    "AudioPart",
    "ChatCompletion",
    "ChatCompletionChoice",
    "ChatCompletionMessage",
    "Classification",
    "ClassificationResponse",
    "Completion",
    "CompletionChoice",
    "ContentPart",
    "Embedding",
    "EmbeddingResponse",
    "FunctionCall",
    "FunctionCallOutput",
    "FunctionDefinition",
    "FunctionName",
    "Generation",
    "GenerationChoice",
    "ImagePart",
    "InputAudio",
    "InputAudioPart",
    "JSONObject",
    "JSONValue",
    "MediaURL",
    "Message",
    "MessageContent",
    "Model",
    "NamedToolChoice",
    "PoolingOutput",
    "PoolingResponse",
    "RerankDocument",
    "RerankResponse",
    "RerankResult",
    "Response",
    "ResponseToolCall",
    "Score",
    "ScoreResponse",
    "SystemMessage",
    "TextPart",
    "TokenLogprob",
    "Tokenization",
    "Tool",
    "ToolCall",
    "ToolCallMessagePart",
    "ToolChoice",
    "ToolMessage",
    "Transcription",
    "TranscriptionSegment",
    "TranscriptionWord",
    "Usage",
    "UserMessage",
    "VideoPart",
]

__getattr__ = names_of(
    __name__,
    {
        "chat": "ChatCompletion ChatCompletionChoice ChatCompletionMessage",
        "completion": "Completion CompletionChoice",
        "embedding": "Embedding EmbeddingResponse PoolingOutput PoolingResponse",
        "generation": "Generation GenerationChoice",
        "logprobs": "TokenLogprob",
        "messages": """
        AssistantMessage AudioPart ContentPart FunctionCall FunctionDefinition FunctionName
        ImagePart InputAudio InputAudioPart MediaURL Message MessageContent NamedToolChoice
        SystemMessage TextPart Tool ToolCallMessagePart ToolChoice ToolMessage UserMessage
        VideoPart
    """,
        "model": "Model",
        "response": "FunctionCallOutput Response ResponseToolCall",
        "scoring": """
        Classification ClassificationResponse RerankDocument RerankResponse RerankResult Score
        ScoreResponse
    """,
        "shared": "JSONObject JSONValue Usage",
        "tokenization": "Tokenization",
        "tool_calls": "ToolCall",
        "transcription": "Transcription TranscriptionSegment TranscriptionWord",
    },
)


def __dir__() -> List[str]:
    return sorted({*globals(), *__all__})
