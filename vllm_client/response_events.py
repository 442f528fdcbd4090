"""The events of a stream of ``client.responses``: a tagged union of small classes.

``type`` is the server's word. Distinguish them by ``event.type``, by ``isinstance`` or with
``match``; type checkers narrow on all three. Events compare by their fields; ``raw``, the decoded
JSON of the event, is ignored.
"""

from __future__ import annotations

from typing import Dict, List, Literal, Optional, Union

from attrs import define, field

from ._shown import shown
from .events import Error
from .types.response import Response, ResponseToolCall
from .types.shared import JSONValue

__all__ = [
    "Error",
    "ResponseContentPart",
    "ResponseDone",
    "ResponseItem",
    "ResponseOther",
    "ResponseProgress",
    "ResponseReasoningDelta",
    "ResponseReasoningDone",
    "ResponseRefusalDelta",
    "ResponseRefusalDone",
    "ResponseStreamEvent",
    "ResponseTextDelta",
    "ResponseTextDone",
    "ResponseToolCall",
    "ResponseToolCallDelta",
]


@shown
@define
class ResponseProgress:
    """The server has accepted the request, or works on it. ``response`` has no output yet."""

    response: Response
    type: Literal["response.created", "response.queued", "response.in_progress"]
    raw: Dict[str, JSONValue] = field(factory=dict, repr=False, eq=False)


@shown
@define
class ResponseItem:
    """An item of the output begins (``….added``) or is complete (``….done``).

    ``item`` is what the server sent: a message, reasoning, or a call. A function call that is
    complete is a :class:`ResponseToolCall` event as well.
    """

    item: Dict[str, JSONValue]
    output_index: int
    type: Literal["response.output_item.added", "response.output_item.done"]
    raw: Dict[str, JSONValue] = field(factory=dict, repr=False, eq=False)


@shown
@define
class ResponseContentPart:
    """A part of a message or of reasoning begins (``….added``) or is complete (``….done``)."""

    part: Dict[str, JSONValue]
    item_id: str
    output_index: int
    content_index: int
    type: Literal["response.content_part.added", "response.content_part.done"]
    raw: Dict[str, JSONValue] = field(factory=dict, repr=False, eq=False)


@shown
@define
class ResponseTextDelta:
    """A piece of the text. ``logprobs`` are those of its tokens, as the server sent them."""

    text: str
    item_id: str = ""
    output_index: int = 0
    content_index: int = 0
    logprobs: Optional[List[JSONValue]] = None
    raw: Dict[str, JSONValue] = field(factory=dict, repr=False, eq=False)
    type: Literal["response.output_text.delta"] = field(
        default="response.output_text.delta", init=False, repr=False
    )


@shown
@define
class ResponseTextDone:
    """A part of the text, whole."""

    text: str
    item_id: str = ""
    output_index: int = 0
    content_index: int = 0
    raw: Dict[str, JSONValue] = field(factory=dict, repr=False, eq=False)
    type: Literal["response.output_text.done"] = field(
        default="response.output_text.done", init=False, repr=False
    )


@shown
@define
class ResponseReasoningDelta:
    """A piece of the reasoning before the answer."""

    text: str
    item_id: str = ""
    output_index: int = 0
    content_index: int = 0
    raw: Dict[str, JSONValue] = field(factory=dict, repr=False, eq=False)
    type: Literal["response.reasoning_text.delta"] = field(
        default="response.reasoning_text.delta", init=False, repr=False
    )


@shown
@define
class ResponseReasoningDone:
    """A part of the reasoning, whole."""

    text: str
    item_id: str = ""
    output_index: int = 0
    content_index: int = 0
    raw: Dict[str, JSONValue] = field(factory=dict, repr=False, eq=False)
    type: Literal["response.reasoning_text.done"] = field(
        default="response.reasoning_text.done", init=False, repr=False
    )


@shown
@define
class ResponseRefusalDelta:
    """A piece of the model's explanation why it refuses to answer."""

    text: str
    item_id: str = ""
    output_index: int = 0
    content_index: int = 0
    raw: Dict[str, JSONValue] = field(factory=dict, repr=False, eq=False)
    type: Literal["response.refusal.delta"] = field(
        default="response.refusal.delta", init=False, repr=False
    )


@shown
@define
class ResponseRefusalDone:
    """The model's explanation why it refuses to answer, whole."""

    text: str
    item_id: str = ""
    output_index: int = 0
    content_index: int = 0
    raw: Dict[str, JSONValue] = field(factory=dict, repr=False, eq=False)
    type: Literal["response.refusal.done"] = field(
        default="response.refusal.done", init=False, repr=False
    )


@shown
@define
class ResponseToolCallDelta:
    """A piece of the ``arguments`` of a function call.

    ``id`` (the ``call_id``) and ``name`` are those of the item that began the call; empty if the
    server sent no such item.
    """

    arguments: str
    id: str = ""
    name: str = ""
    item_id: str = ""
    output_index: int = 0
    raw: Dict[str, JSONValue] = field(factory=dict, repr=False, eq=False)
    type: Literal["response.function_call_arguments.delta"] = field(
        default="response.function_call_arguments.delta", init=False, repr=False
    )


@shown
@define
class ResponseDone:
    """The response is complete. Always the last event of a stream that succeeded.

    ``response.status`` is ``"completed"``, or ``"incomplete"`` if ``max_output_tokens`` ended the
    output. Up to 0.32, vLLM ends both with ``"response.completed"``.
    """

    response: Response
    type: Literal["response.completed", "response.incomplete"]
    raw: Dict[str, JSONValue] = field(factory=dict, repr=False, eq=False)


@shown
@define
class ResponseOther:
    """An event without a class here: of the server's own tools, or of a later server.

    Attributes:
        name: The server's word for it, such as ``"response.web_search_call.searching"``.
        raw: The decoded JSON.
    """

    name: str
    raw: Dict[str, JSONValue]
    type: Literal["other"] = field(default="other", init=False, repr=False)


ResponseStreamEvent = Union[
    ResponseProgress,
    ResponseItem,
    ResponseContentPart,
    ResponseTextDelta,
    ResponseTextDone,
    ResponseReasoningDelta,
    ResponseReasoningDone,
    ResponseRefusalDelta,
    ResponseRefusalDone,
    ResponseToolCallDelta,
    ResponseToolCall,
    ResponseDone,
    ResponseOther,
    Error,
]
"""The events of a stream of ``client.responses``."""
