"""The answers of the server, as attrs classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import names_of

if TYPE_CHECKING:
    from .chat import ChatCompletion, ChatCompletionChoice, ChatCompletionMessage
    from .completion import Completion, CompletionChoice
    from .logprobs import TokenLogprob
    from .shared import Usage
    from .tool_calls import ToolCall

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

__getattr__ = names_of(
    __name__,
    {
        "chat": "ChatCompletion ChatCompletionChoice ChatCompletionMessage",
        "completion": "Completion CompletionChoice",
        "logprobs": "TokenLogprob",
        "messages": "",
        "shared": "Usage",
        "tool_calls": "ToolCall",
    },
)
