"""A request of ``/v1/responses``, put as the chat request that has the same output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from .._wire.json_types import Json, JsonObject
from .._wire.refusals import field_error, parameter_error, validation_error
from .._wire.request_fields import RequestFields

__all__ = ["chat_fields", "check_input", "messages_of"]

_SAME_IN_CHAT = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "logit_bias",
    "seed",
    "stop",
    "stop_token_ids",
    "include_stop_str_in_output",
    "ignore_eos",
    "structured_outputs",
    "include_reasoning",
    "parallel_tool_calls",
    "chat_template_kwargs",
)


def check_input(fields: RequestFields) -> None:
    """Refuse what vLLM's request class refuses."""
    if "input" not in fields:
        shown = f"<dict of {len(fields)} items>"
        raise validation_error([field_error("missing", "body.input", "Field required", shown)])
    if "prompt" in fields:
        raise parameter_error("prompt template is not supported", "prompt")
    if fields.get("background") and not fields.get("store", True):
        message = "background can only be used when `store` is true"
        raise parameter_error(message, "background")
    choice = fields.get("tool_choice", "auto")
    if choice == "required" and not fields.get("tools"):
        message = "Tool choice 'required' must be specified with 'tools' parameter."
        raise parameter_error(message, "tool_choice")
    names = [tool.get("name") for tool in fields.get("tools", ())]
    if isinstance(choice, Mapping) and choice.get("name") not in names:
        message = "Tool choice 'function' not found in 'tools' parameter."
        raise parameter_error(message, "tool_choice")


def chat_fields(fields: RequestFields, conversation: Sequence[JsonObject]) -> RequestFields:
    """Return the fields of the chat request.

    Args:
        fields: The fields of the request.
        conversation: The messages, without the instructions.
    """
    chat = {name: fields[name] for name in _SAME_IN_CHAT if name in fields}
    system = {"role": "system", "content": fields.get("instructions")}
    chat["messages"] = [system, *conversation] if "instructions" in fields else conversation
    if "max_output_tokens" in fields:
        chat["max_completion_tokens"] = fields["max_output_tokens"]
    effort = fields.get("reasoning", {}).get("effort")
    chat.update({"reasoning_effort": effort} if effort else {})
    text_format = fields.get("text", {}).get("format")
    chat.update({"response_format": _response_format(text_format)} if text_format else {})
    return {**chat, **_tools(fields)}


def messages_of(items: str | Sequence[Mapping[str, Json]]) -> list[JsonObject]:
    """Return the messages that the items of an input, or of an output, stand for."""
    if isinstance(items, str):
        return [{"role": "user", "content": items}]
    return list(_messages(items))


def _messages(items: Sequence[Mapping[str, Json]]) -> Iterator[JsonObject]:
    for item in items:
        kind = item.get("type", "message")
        if kind == "message":
            yield {"role": item.get("role", "user"), "content": item.get("content")}
        elif kind == "function_call":
            function = {"name": item.get("name"), "arguments": item.get("arguments")}
            yield {"role": "assistant", "tool_calls": [{"type": "function", "function": function}]}
        elif kind == "function_call_output":
            yield {"role": "tool", "content": str(item.get("output"))}


def _tools(fields: RequestFields) -> JsonObject:
    functions = [tool for tool in fields.get("tools", ()) if tool.get("type") == "function"]
    if not functions:
        return {}
    choice = fields.get("tool_choice", "auto")
    if isinstance(choice, Mapping):
        choice = {"type": "function", "function": {"name": choice["name"]}}
    tools = [{"type": "function", "function": tool} for tool in functions]
    return {"tools": tools, "tool_choice": choice}


def _response_format(text_format: Mapping[str, Json]) -> JsonObject:
    kind = text_format.get("type", "text")
    return {"type": kind, "json_schema": text_format} if kind == "json_schema" else {"type": kind}
