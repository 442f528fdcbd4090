"""Which tools the stand-in calls, and with which arguments.

With `tool_choice` `auto` it calls each tool of which a word, of four letters or more of its name
or description, is in the last user message, and none once the last message is a tool's. With
`required` it calls the same ones, else the first; a named tool is called in any case.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._wire.fields import Fields
from .._wire.refusals import RefusalError, named
from .structured import value_for

__all__ = ["Call", "calls_for", "check_tools", "scripted_calls", "tool_choice"]

_WORD = re.compile(r"[^\W_]{4,}")


@dataclass(frozen=True)
class Call:
    """A call of a tool; `arguments` is a JSON text."""

    id: str
    name: str
    arguments: str


def check_tools(fields: Fields) -> None:
    """Refuse tools, and choices among them, that vLLM refuses."""
    tools = fields.get("tools")
    choice = fields.get("tool_choice")
    if tools == []:
        message = "`tools` must not be an empty array."
        hint = "Either provide at least one tool or omit the field entirely."
        raise named(f"{message} {hint}", "tools")
    if choice in (None, "none"):
        return
    if not tools:
        raise named("When using `tool_choice`, `tools` must be set.", "tool_choice")
    if choice not in ("auto", "required"):
        _check_named(choice, tools)
    if choice != "auto" and "structured_outputs" in fields:
        message = "You can only either use constraints for structured outputs or tools, not both."
        raise RefusalError(message)


def tool_choice(fields: Fields) -> str:
    """Return `none`, `auto`, `required` or `named`."""
    default = "auto" if fields.get("tools") else "none"
    choice = fields.get("tool_choice", default)
    return choice if isinstance(choice, str) else "named"


def calls_for(fields: Fields, question: str, rng: random.Random) -> list[Call]:
    """Return the calls that answer a question."""
    tools = [tool["function"] for tool in fields.get("tools", ())]
    return [
        _call(tool["name"], json.dumps(_arguments(tool, question, rng), ensure_ascii=False), rng)
        for tool in _chosen(fields, tools, question)
    ]


def scripted_calls(given: Sequence[Mapping[str, Any]], rng: random.Random) -> list[Call]:
    """Return the calls of a script, whose arguments may be an object or a text."""
    calls = []
    for each in given:
        arguments = each.get("arguments", {})
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        calls.append(_call(each["name"], text, rng, each.get("id")))
    return calls


def _chosen(
    fields: Fields, tools: Sequence[Mapping[str, Any]], question: str
) -> Sequence[Mapping[str, Any]]:
    choice = tool_choice(fields)
    if choice == "named":
        return [tool for tool in tools if tool["name"] == fields["tool_choice"]["function"]["name"]]
    if choice == "none" or (choice == "auto" and fields["messages"][-1]["role"] == "tool"):
        return []
    asked = _words(question)
    mentioned = [tool for tool in tools if asked & _words(_described(tool))]
    return mentioned or (tools[:1] if choice == "required" else [])


def _arguments(tool: Mapping[str, Any], question: str, rng: random.Random) -> Any:
    return value_for(tool.get("parameters") or {"type": "object"}, question, rng)


def _call(name: str, arguments: str, rng: random.Random, id_: str | None = None) -> Call:
    return Call(id_ or f"chatcmpl-tool-{rng.getrandbits(64):016x}", name, arguments)


def _described(tool: Mapping[str, Any]) -> str:
    return f"{tool['name']} {tool.get('description') or ''}"


def _words(text: str) -> frozenset[str]:
    return frozenset(word.rstrip("s") for word in _WORD.findall(text.lower()))


def _check_named(choice: Any, tools: Sequence[Mapping[str, Any]]) -> None:
    if not isinstance(choice, Mapping):
        kinds = 'Only named tools, "none", "auto" or "required" are supported.'
        raise named(f"Invalid value for `tool_choice`: {choice}! {kinds}", "tool_choice")
    function = choice.get("function")
    name = function.get("name") if isinstance(function, Mapping) else None
    if name not in [tool["function"]["name"] for tool in tools]:
        message = "The tool specified in `tool_choice` does not match any of the specified `tools`"
        raise named(message, "tool_choice")
