"""The events of a stream: tagged unions of small classes.

Tell them apart by ``event.type``, by ``isinstance`` or with ``match``; type checkers narrow on
all three. Two events are equal when what they say is equal, whatever chunk it came in.
"""

from __future__ import annotations

import json
from typing import Any, Dict, List, Literal, Optional, TypeVar, Union

from attrs import define, field

from .exceptions import VllmError
from .types.shared import Usage
from .types.tool_calls import ToolCall

_C = TypeVar("_C", bound=type)


def _lazy_chunk(cls: _C) -> _C:
    """Let ``chunk`` hold the text that came over the wire, and decode it on first use.

    Few loops look at it, and a decoded chunk takes ten times the memory of its text.
    """
    slot = cls.__dict__["chunk"]

    def chunk(event: object) -> Any:
        held = slot.__get__(event)
        if isinstance(held, str):
            held = json.loads(held)
            slot.__set__(event, held)
        return held

    doc = "The decoded JSON chunk the event came in."
    setattr(cls, "chunk", property(chunk, slot.__set__, doc=doc))  # noqa: B010
    return cls


@_lazy_chunk
@define
class Text:
    """A piece of text of choice ``index``, or a token that shows none yet.

    ``logprobs`` and ``token_ids`` are the chunk's own, as the server sent them; a token that ends
    in half a character has an empty ``text``. ``chunk`` is the decoded JSON chunk.
    """

    text: str
    index: int = 0
    logprobs: Optional[Dict[str, Any]] = None
    token_ids: Optional[List[int]] = None
    chunk: Optional[Dict[str, Any]] = field(default=None, eq=False, repr=False)
    type: Literal["text"] = field(default="text", init=False, repr=False)


@_lazy_chunk
@define
class Content:
    """A piece of the answer in chat. Fields as those of ``Text``."""

    text: str
    index: int = 0
    logprobs: Optional[Dict[str, Any]] = None
    token_ids: Optional[List[int]] = None
    chunk: Optional[Dict[str, Any]] = field(default=None, eq=False, repr=False)
    type: Literal["content"] = field(default="content", init=False, repr=False)


@_lazy_chunk
@define
class Reasoning:
    """A piece of the thinking before the answer. Fields as those of ``Text``."""

    text: str
    index: int = 0
    logprobs: Optional[Dict[str, Any]] = None
    token_ids: Optional[List[int]] = None
    chunk: Optional[Dict[str, Any]] = field(default=None, eq=False, repr=False)
    type: Literal["reasoning"] = field(default="reasoning", init=False, repr=False)


@_lazy_chunk
@define
class ToolCallDelta:
    """A piece of a tool call: its ``id`` and ``name`` first, then text of its ``arguments``.

    ``call_index`` numbers the calls of a choice, ``index`` is the choice's. The log-probabilities
    of its tokens are in ``chunk``.
    """

    call_index: int
    id: Optional[str] = None
    name: Optional[str] = None
    arguments: str = ""
    index: int = 0
    chunk: Optional[Dict[str, Any]] = field(default=None, eq=False, repr=False)
    type: Literal["tool_call_delta"] = field(default="tool_call_delta", init=False, repr=False)


@_lazy_chunk
@define
class FinishReason:
    """Choice ``index`` is finished; nothing of it follows.

    ``reason`` is ``"stop"``, ``"length"``, ``"repetition"``, in chat also ``"tool_calls"``, or
    ``"abort"``. ``stop_reason`` is the stop string or the id of the stop token that was met.
    """

    reason: str
    index: int = 0
    stop_reason: Any = None
    chunk: Optional[Dict[str, Any]] = field(default=None, eq=False, repr=False)
    type: Literal["finish_reason"] = field(default="finish_reason", init=False, repr=False)


@define
class Done:
    """The answer is whole. Always the last event of a stream that succeeded."""

    type: Literal["done"] = field(default="done", init=False, repr=False)


@define
class Error:
    """What went wrong, as the last event of a stream opened with ``on_error="event"``."""

    error: VllmError
    type: Literal["error"] = field(default="error", init=False, repr=False)


CompletionStreamEvent = Union[Text, FinishReason, Usage, Done, Error]
"""What a stream of ``client.completions`` gives."""

StreamEvent = Union[Content, Reasoning, ToolCallDelta, ToolCall, FinishReason, Usage, Done, Error]
"""What a stream of ``client.chat.completions`` gives."""
