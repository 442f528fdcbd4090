"""The answers of the server, as attrs classes."""

from __future__ import annotations

from .chat import ChatCompletion, ChatCompletionChoice, ChatCompletionMessage, ToolCall
from .completion import Completion, CompletionChoice
from .logprobs import TokenLogprob
from .shared import Usage

__all__ = [
    "ChatCompletion",
    "ChatCompletionChoice",
    "ChatCompletionMessage",
    "Completion",
    "CompletionChoice",
    "TokenLogprob",
    "ToolCall",
    "Usage",
]
