"""The response of ``/v1/responses``."""

from __future__ import annotations

import json
from typing import Dict, Iterator, List, Literal, Mapping, Optional, TypedDict

from attrs import define, field

from .._shown import Items, shown
from ._answer import TextAnswer
from ._shapes import decoded_arguments, text_of_arguments
from .shared import JSONValue, Usage

__all__ = ["FunctionCallOutput", "Response", "ResponseToolCall"]


class FunctionCallOutput(TypedDict):
    """An item of ``input``: the result of a function that the model called."""

    type: Literal["function_call_output"]
    call_id: str
    output: str


@shown
@define
class ResponseToolCall:
    """A function call that the model requests, in a response or as the event of a stream.

    As an event its arguments are whole JSON. In ``response.tool_calls`` they may break off, if
    ``max_output_tokens`` ended the response, and the model's JSON may be invalid.

    Attributes:
        id: The ``call_id``, which the result of the call names.
        name: The name of the function.
        arguments: The text of the arguments.
        item_id: The ``id`` of the item in ``response.output``.
        output_index: The place of the item in ``response.output``.
        raw: The item as the server sent it; of an event, the event.
    """

    id: str
    name: str
    arguments: str
    item_id: str = ""
    output_index: int = 0
    raw: Dict[str, JSONValue] = field(factory=dict, repr=False, eq=False)
    type: Literal["response.function_call_arguments.done"] = field(
        default="response.function_call_arguments.done", init=False, repr=False
    )

    def parse_args(self) -> JSONValue:
        """Decode the arguments. An empty text is ``{}``.

        Raises:
            InvalidResponseError: The arguments are not JSON. The message and ``body`` show them.
        """
        return decoded_arguments(self.name, self.arguments)

    def result(self, content: object) -> FunctionCallOutput:
        """Return the item that sends the function's result to the model.

        Args:
            content: The result: a text, or any value that ``json.dumps`` accepts.
        """
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        return {"type": "function_call_output", "call_id": self.id, "output": text}

    @classmethod
    def from_raw(cls, raw: Dict[str, JSONValue], output_index: int = 0) -> ResponseToolCall:
        """Read an item of the type ``"function_call"``.

        Raises:
            KeyError, TypeError, AttributeError: It is not one.
        """
        arguments = text_of_arguments(raw.get("arguments"))
        item_id = raw.get("id") or ""
        return cls(
            raw.get("call_id") or item_id, raw["name"], arguments, item_id, output_index, raw
        )


@shown
@define
class Response(TextAnswer):
    """The response of ``/v1/responses``.

    Attributes:
        id: The id, as ``retrieve()`` takes it.
        status: ``"completed"``; ``"incomplete"`` if ``max_output_tokens`` ended the output;
            ``"queued"`` or ``"in_progress"`` while the server works on it; ``"cancelled"`` or
            ``"failed"``.
        model: The name of the model.
        created: When the server began, in seconds since 1970.
        output: The items, as the server sent them: messages, reasoning, calls. They may be sent
            as ``input`` again.
        usage: The token counts; ``prompt_tokens`` are the server's ``input_tokens``,
            ``completion_tokens`` its ``output_tokens``.
        incomplete_reason: Why the status is ``"incomplete"``, such as ``"max_output_tokens"``.
        raw: The decoded JSON as the server sent it.
    """

    id: str
    status: str
    model: str
    created: int
    output: List[Dict[str, JSONValue]]
    usage: Optional[Usage] = None
    incomplete_reason: Optional[str] = None
    raw: Dict[str, JSONValue] = field(factory=dict, repr=False, eq=False)

    @property
    def text(self) -> str:
        """The texts of all messages; empty if there is none, as in an early snapshot."""
        return "".join(self._texts("message", "content", "output_text", "text"))

    @property
    def reasoning(self) -> Optional[str]:
        """The reasoning, or its summary if the server sends no more; None if there is neither."""
        whole = "".join(self._texts("reasoning", "content", "reasoning_text", "text"))
        return whole or "".join(self._texts("reasoning", "summary", "summary_text", "text")) or None

    @property
    def refusal(self) -> Optional[str]:
        """The model's explanation why it refuses to answer; None if it does not."""
        return "".join(self._texts("message", "content", "refusal", "refusal")) or None

    @property
    def tool_calls(self) -> List[ResponseToolCall]:
        """The functions that the program is to call. The list is built on every access."""
        return [
            ResponseToolCall.from_raw(item, index)
            for index, item in enumerate(self.output)
            if item.get("type") == "function_call"
        ]

    def _shown_items(self) -> Items:
        for name in ("text", "reasoning", "refusal", "tool_calls"):
            yield name, getattr(self, name) or None
        for name in ("status", "incomplete_reason", "usage", "model", "id"):
            yield name, getattr(self, name) or None

    def _texts(self, item_type: str, parts: str, part_type: str, key: str) -> Iterator[str]:
        for item in self.output:
            for part in (item.get(parts) or ()) if item.get("type") == item_type else ():
                if part.get("type") == part_type:
                    yield part.get(key) or ""

    @classmethod
    def from_raw(cls, raw: Dict[str, JSONValue]) -> Response:
        """Read the decoded JSON of a response.

        Raises:
            KeyError, TypeError, AttributeError: It is not a response of this route.
        """
        output = raw["output"]
        if not isinstance(output, list):
            raise TypeError(f"the output of a response must be a list, not {output!r}")
        response = cls(
            raw.get("id") or "",
            _status(raw["status"]),
            raw.get("model") or "",
            raw.get("created_at") or 0,
            output,
            _usage(raw.get("usage")),
            (raw.get("incomplete_details") or {}).get("reason"),
            raw,
        )
        # The properties read the items on each access. What they cannot read must fail here.
        _ = response.text, response.reasoning, response.refusal, response.tool_calls
        return response


def _status(status: JSONValue) -> str:
    if not isinstance(status, str):
        raise TypeError(f"the status of a response must be a text, not {status!r}")
    return status


def _usage(raw: Optional[Mapping[str, JSONValue]]) -> Optional[Usage]:
    if raw is None:
        return None
    return Usage(
        raw.get("input_tokens") or 0,
        raw.get("output_tokens") or 0,
        raw.get("total_tokens") or 0,
        raw.get("input_tokens_details"),
        raw.get("output_tokens_details"),
    )
