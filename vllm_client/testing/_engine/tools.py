"""Chooses the tools to call, and their arguments.

With ``tool_choice="auto"``, a tool is called if its name or description shares a word of four
letters or more with the last user message. No tool is called if the last message is the result of
a tool. With ``"required"`` the same tools are called; if there is none, the first tool is called.
A named tool is always called.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .._wire.json_types import Json
from .._wire.refusals import RefusalError, parameter_error
from .._wire.request_fields import RequestFields
from .structured import value_for

__all__ = ["ToolCall", "check_tools", "choose_calls", "scripted_calls", "tool_choice"]

_WORD = re.compile(r"[^\W_]{4,}")


@dataclass(frozen=True)
class ToolCall:
    """A tool call. ``arguments`` is JSON text."""

    id: str
    name: str
    arguments: str


def check_tools(fields: RequestFields) -> None:
    """Refuse the values of ``tools`` and ``tool_choice`` that vLLM refuses."""
    tools = fields.get("tools")
    choice = fields.get("tool_choice")
    if tools == []:
        message = "`tools` must not be an empty array."
        hint = "Either provide at least one tool or omit the field entirely."
        raise parameter_error(f"{message} {hint}", "tools")
    if choice in (None, "none"):
        return
    if not tools:
        raise parameter_error("When using `tool_choice`, `tools` must be set.", "tool_choice")
    if choice not in ("auto", "required"):
        _check_named_tool(choice, tools)
    if choice != "auto" and "structured_outputs" in fields:
        message = "You can only either use constraints for structured outputs or tools, not both."
        raise RefusalError(message)


def tool_choice(fields: RequestFields) -> str:
    """Return ``none``, ``auto``, ``required`` or ``named``."""
    default = "auto" if fields.get("tools") else "none"
    choice = fields.get("tool_choice", default)
    return choice if isinstance(choice, str) else "named"


def choose_calls(fields: RequestFields, question: str, rng: random.Random) -> list[ToolCall]:
    """Return the tool calls that the model makes for a question."""
    tools = [tool["function"] for tool in fields.get("tools", ())]
    calls = []
    for tool in _select_tools(fields, tools, question):
        arguments = value_for(tool.get("parameters") or {"type": "object"}, question, rng)
        calls.append(_new_call(tool["name"], json.dumps(arguments, ensure_ascii=False), rng))
    return calls


def scripted_calls(tool_calls: Sequence[Mapping[str, Json]], rng: random.Random) -> list[ToolCall]:
    """Return the tool calls of a script. Their arguments are an object or a text."""
    calls = []
    for call in tool_calls:
        arguments = call.get("arguments", {})
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        calls.append(_new_call(call["name"], text, rng, call.get("id")))
    return calls


def _select_tools(
    fields: RequestFields, tools: Sequence[Mapping[str, Json]], question: str
) -> Sequence[Mapping[str, Json]]:
    choice = tool_choice(fields)
    if choice == "named":
        return [tool for tool in tools if tool["name"] == fields["tool_choice"]["function"]["name"]]
    if choice == "none" or (choice == "auto" and fields["messages"][-1]["role"] == "tool"):
        return []
    question_words = _words(question)
    mentioned = [tool for tool in tools if question_words & _words(_name_and_description(tool))]
    return mentioned or (tools[:1] if choice == "required" else [])


def _new_call(name: str, arguments: str, rng: random.Random, id_: str | None = None) -> ToolCall:
    return ToolCall(id_ or f"chatcmpl-tool-{rng.getrandbits(64):016x}", name, arguments)


def _name_and_description(tool: Mapping[str, Json]) -> str:
    return f"{tool['name']} {tool.get('description') or ''}"


def _words(text: str) -> frozenset[str]:
    return frozenset(word.rstrip("s") for word in _WORD.findall(text.lower()))


def _check_named_tool(choice: object, tools: Sequence[Mapping[str, Json]]) -> None:
    if not isinstance(choice, Mapping):
        kinds = 'Only named tools, "none", "auto" or "required" are supported.'
        raise parameter_error(f"Invalid value for `tool_choice`: {choice}! {kinds}", "tool_choice")
    function = choice.get("function")
    name = function.get("name") if isinstance(function, Mapping) else None
    if name not in [tool["function"]["name"] for tool in tools]:
        message = "The tool specified in `tool_choice` does not match any of the specified `tools`"
        raise parameter_error(message, "tool_choice")
