"""The calls of functions that a model asks for."""

from __future__ import annotations

import json
from typing import Any, Literal, Mapping

from attrs import define, field

from ..exceptions import InvalidResponseError
from .messages import ToolCallMessagePart, ToolMessage


@define
class ToolCall:
    """A function the model wants called: in a message, and as the event of a stream.

    ``arguments`` is the whole text of the arguments. It is meant to be JSON, which the model may
    have failed at. ``index`` is the choice's.
    """

    id: str
    name: str
    arguments: str
    index: int = 0
    type: Literal["tool_call"] = field(default="tool_call", init=False, repr=False)

    def parse_args(self) -> Any:
        """The arguments, decoded; none at all are ``{}``.

        Raises:
            InvalidResponseError: They are not JSON; the message and ``body`` show them.
        """
        try:
            return json.loads(self.arguments) if self.arguments.strip() else {}
        except (ValueError, RecursionError) as error:
            raise InvalidResponseError(
                f"the arguments of {self.name} are not JSON ({error}): {self.arguments!r}",
                body=self.arguments,
            ) from None

    def result(self, content: Any) -> ToolMessage:
        """The message that takes the function's result back to the model.

        Args:
            content: The result: text, or whatever JSON can hold.
        """
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        return {"role": "tool", "tool_call_id": self.id, "content": text}

    def raw(self) -> ToolCallMessagePart:
        """The call as it stands in a message."""
        return {
            "id": self.id,
            "type": "function",
            "function": {"name": self.name, "arguments": self.arguments},
        }

    @classmethod
    def from_raw(cls, raw: Mapping[str, Any], index: int = 0) -> ToolCall:
        """One object of ``tool_calls``."""
        function = raw["function"]
        return cls(raw.get("id") or "", function["name"], function.get("arguments") or "", index)
