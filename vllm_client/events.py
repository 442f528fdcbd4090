"""The events of a stream: tagged unions of small classes.

Distinguish them by ``event.type``, by ``isinstance`` or with ``match``; type checkers narrow on
all three. Events compare by their fields; ``chunk`` is ignored.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Dict, List, Literal, Optional, TypeVar, Union

from attrs import define, field, fields_dict

from ._habits import EVENT_HABITS, PIECE_HABITS, habits
from ._shown import shown
from .exceptions import VllmError
from .types.shared import JSONValue, Usage
from .types.tool_calls import ToolCall

__all__ = [
    "CompletionStreamEvent",
    "Content",
    "Done",
    "Error",
    "FinishReason",
    "GenerationStreamEvent",
    "Reasoning",
    "StreamEvent",
    "Text",
    "Tokens",
    "ToolCall",
    "ToolCallDelta",
    "Usage",
]

_C = TypeVar("_C", bound=type)


def _lazy_chunk(cls: _C) -> _C:
    """Let ``chunk`` hold the chunk's JSON text until its first use, which decodes it.

    Few programs read it, and a decoded chunk needs ten times the memory of its text.
    """
    slot = cls.__dict__["chunk"]

    def chunk(event: object) -> object:
        text_or_decoded = slot.__get__(event)
        if isinstance(text_or_decoded, str):
            text_or_decoded = json.loads(text_or_decoded)
            slot.__set__(event, text_or_decoded)
        return text_or_decoded

    doc = "The decoded JSON chunk of the event."
    setattr(cls, "chunk", property(chunk, slot.__set__, doc=doc))  # noqa: B010
    setattr(cls, "_raw_chunk", slot)  # noqa: B010 — the same memory under another name
    return habits(**PIECE_HABITS)(shown(cls))


def tag_of(event_class: type) -> object:
    """The ``type`` of the events of a class."""
    return fields_dict(event_class)["type"].default


class _LateLogprobs:
    """Lets an event have the JSON of its ``logprobs`` until their first use, which decodes it.

    The attribute is not set until then. A property would cost every event without it.
    """

    __slots__ = ("_logprobs_json",)

    if not TYPE_CHECKING:  # Type checkers would allow any attribute.  # pragma: no branch

        def __getattr__(self, name: str) -> object:
            if name != "logprobs":
                return object.__getattribute__(self, name)  # Raises as if we were not here.
            self.logprobs = logprobs = json.loads(self._logprobs_json)
            return logprobs


@_lazy_chunk
@define
class Text(_LateLogprobs):
    """A piece of the text of choice ``index``.

    ``text`` is empty for a token that ends inside a character. ``logprobs`` and ``token_ids`` are
    those of the chunk, as the server sent them. ``chunk`` is the decoded JSON chunk.
    """

    text: str
    index: int = 0
    logprobs: Optional[Dict[str, JSONValue]] = None
    token_ids: Optional[List[int]] = None
    chunk: Optional[Dict[str, JSONValue]] = field(default=None, eq=False, repr=False)
    type: Literal["text"] = field(default="text", init=False, repr=False)


@_lazy_chunk
@define
class Content(_LateLogprobs):
    """A piece of the answer in chat. The fields are those of ``Text``."""

    text: str
    index: int = 0
    logprobs: Optional[Dict[str, JSONValue]] = None
    token_ids: Optional[List[int]] = None
    chunk: Optional[Dict[str, JSONValue]] = field(default=None, eq=False, repr=False)
    type: Literal["content"] = field(default="content", init=False, repr=False)


@_lazy_chunk
@define
class Reasoning(_LateLogprobs):
    """A piece of the reasoning before the answer. The fields are those of ``Text``."""

    text: str
    index: int = 0
    logprobs: Optional[Dict[str, JSONValue]] = None
    token_ids: Optional[List[int]] = None
    chunk: Optional[Dict[str, JSONValue]] = field(default=None, eq=False, repr=False)
    type: Literal["reasoning"] = field(default="reasoning", init=False, repr=False)


@_lazy_chunk
@define
class ToolCallDelta:
    """A piece of a tool call: first its ``id`` and ``name``, then pieces of its ``arguments``.

    ``call_index`` numbers the calls of a choice; ``index`` is the index of the choice. The
    log-probabilities of the tokens are in ``chunk``.
    """

    call_index: int
    id: Optional[str] = None
    name: Optional[str] = None
    arguments: str = ""
    index: int = 0
    chunk: Optional[Dict[str, JSONValue]] = field(default=None, eq=False, repr=False)
    type: Literal["tool_call_delta"] = field(default="tool_call_delta", init=False, repr=False)


@_lazy_chunk
@define
class Tokens:
    """Tokens of choice ``index``, from ``client.generate``.

    ``text`` is empty unless the request has ``output_mode="text"``. ``logprobs`` are those of the
    chunk, as the server sent them. ``chunk`` is the decoded JSON chunk.
    """

    token_ids: List[int]
    index: int = 0
    text: str = ""
    logprobs: Optional[Dict[str, JSONValue]] = field(default=None, repr=False)
    chunk: JSONValue = field(default=None, repr=False, eq=False)
    type: Literal["tokens"] = field(default="tokens", init=False, repr=False)


@_lazy_chunk
@define
class FinishReason:
    """Choice ``index`` is finished; no more of it follows.

    ``reason`` is ``"stop"``, ``"length"``, ``"repetition"``, ``"abort"``, or in chat
    ``"tool_calls"``. ``stop_reason`` is the stop string or the id of the stop token that ended
    the output; after ``"repetition"`` it is ``"repetition_detected"``.
    """

    reason: str
    index: int = 0
    stop_reason: Union[int, str, None] = None
    chunk: Optional[Dict[str, JSONValue]] = field(default=None, eq=False, repr=False)
    type: Literal["finish_reason"] = field(default="finish_reason", init=False, repr=False)


@habits(**EVENT_HABITS)
@shown
@define
class Done:
    """The stream is complete. Always the last event of a stream that succeeded."""

    type: Literal["done"] = field(default="done", init=False, repr=False)


@habits(**EVENT_HABITS)
@shown
@define
class Error:
    """The error of a stream opened with ``on_error="event"``. Always its last event."""

    error: VllmError
    type: Literal["error"] = field(default="error", init=False, repr=False)


CompletionStreamEvent = Union[Text, FinishReason, Usage, Done, Error]
"""The events of a stream of ``client.completions``."""

StreamEvent = Union[Content, Reasoning, ToolCallDelta, ToolCall, FinishReason, Usage, Done, Error]
"""The events of a stream of ``client.chat.completions``."""
GenerationStreamEvent = Union[Tokens, FinishReason, Usage, Done, Error]
"""The events of a stream of ``client.generate``."""
