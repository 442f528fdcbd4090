"""The function calls that a model requests."""

from __future__ import annotations

import json
from typing import Literal, Mapping

from attrs import define, field

from .._habits import EVENT_HABITS, habits
from .._shown import shown
from ._shapes import decoded_arguments, text_of_arguments
from .messages import ToolCallMessagePart, ToolMessage
from .shared import JSONValue

__all__ = ["ToolCall"]


@habits(
    **EVENT_HABITS,
    function="use name, and arguments or parse_args()",
    model_dump="use raw()",
    to_dict="use raw()",
)
@shown
@define
class ToolCall:
    """A function call that the model requests, in a message or as the event of a stream.

    ``arguments`` is the complete text of the arguments. It should be JSON, but in a message of
    ``create()`` or ``collect()`` the model's JSON may be invalid. ``index`` is the index of the
    choice.
    """

    id: str
    name: str
    arguments: str
    index: int = 0
    type: Literal["tool_call"] = field(default="tool_call", init=False, repr=False)

    def parse_args(self) -> JSONValue:
        """Decode the arguments. An empty text is ``{}``.

        Raises:
            InvalidResponseError: The arguments are not JSON. The message and ``body`` show them.
        """
        return decoded_arguments(self.name, self.arguments)

    def result(self, content: object) -> ToolMessage:
        """Return the message that sends the function's result to the model.

        Args:
            content: The result: a text, or any value that ``json.dumps`` accepts.
        """
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        return {"role": "tool", "tool_call_id": self.id, "content": text}

    def raw(self) -> ToolCallMessagePart:
        """Return the tool call in the format of a message."""
        return {
            "id": self.id,
            "type": "function",
            "function": {"name": self.name, "arguments": self.arguments},
        }

    _as_json = raw

    @classmethod
    def from_raw(cls, raw: Mapping[str, JSONValue], index: int = 0) -> ToolCall:
        """Read one object of ``tool_calls``; ``index`` is the index of the choice."""
        function = raw["function"]
        arguments = text_of_arguments(function.get("arguments"))
        return cls(raw.get("id") or "", function["name"] or "", arguments, index)
