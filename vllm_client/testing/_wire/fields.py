"""Reads the fields of a request body as loosely as vLLM does.

`"5"` passes for an integer, `"yes"` for a bool and `true` for 1. What cannot be read is refused
with the list of errors that vLLM's validation (pydantic's) gives. Unknown fields are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Callable

from .refusals import RefusalError, invalid

__all__ = ["Fields", "decode_body", "read_fields"]

Fields = Mapping[str, Any]
# Kind, message, and what else an error has.
_Found = tuple[str, str, dict[str, Any]]

_INTEGERS = (
    "max_tokens",
    "max_completion_tokens",
    "n",
    "seed",
    "min_tokens",
    "top_k",
    "prompt_logprobs",
    "top_logprobs",
    "stream_interval",
    "truncate_prompt_tokens",
    "priority",
)
_NUMBERS = (
    "temperature",
    "top_p",
    "min_p",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "length_penalty",
)
_BOOLS = (
    "stream",
    "echo",
    "ignore_eos",
    "use_beam_search",
    "include_stop_str_in_output",
    "skip_special_tokens",
    "return_token_ids",
    "return_tokens_as_token_ids",
    "parallel_tool_calls",
    "include_reasoning",
    "add_generation_prompt",
    "continue_final_message",
    "return_prompt_text",
)
_STRINGS = (
    "model",
    "suffix",
    "user",
    "request_id",
    "cache_salt",
    "chat_template",
)
_OBJECTS = (
    "stream_options",
    "structured_outputs",
    "response_format",
    "chat_template_kwargs",
)
_LISTS = ("messages",)
_INTEGER_LISTS = ("stop_token_ids", "allowed_token_ids", "tokens")
_TRUE = ("1", "on", "t", "true", "y", "yes")
_FALSE = ("0", "off", "f", "false", "n", "no")
_MAX_STOP_STRINGS = 4
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def decode_body(content_type: str, body: bytes) -> dict[str, Any]:
    """Return the JSON object of a request.

    Raises:
        RefusalError: it is none, or does not say that it is.
    """
    if content_type.partition(";")[0].strip().lower() != "application/json":
        message = (
            "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
        )
        raise RefusalError(message, error_type="Bad Request")
    if not body:
        raise invalid([_error("missing", "body", "Field required", "None")])
    decoded = _decode(body)
    if not isinstance(decoded, dict):
        message = "Input should be a valid dictionary or object to extract fields from"
        raise invalid([_error("model_attributes_type", "body", message, _shown(decoded))])
    return decoded


def read_fields(body: Mapping[str, Any], *, chat: bool = False) -> Fields:
    """Return the fields of a body in their own types; those that are null are left out.

    Args:
        body: the decoded JSON.
        chat: whether `logprobs` is a bool, as in chat, or a number.

    Raises:
        RefusalError: fields have the wrong type.
    """
    readers = {**_READERS, "logprobs": _boolean if chat else _integer}
    fields: dict[str, Any] = {}
    errors: list[dict[str, Any]] = []
    for name, value in body.items():
        if value is None:
            continue
        try:
            fields[name] = readers[name](value) if name in readers else value
        except _WrongError as wrong:
            errors += [
                {**_error(kind, f"body.{name}", message, _shown(value)), **more}
                for kind, message, more in wrong.found
            ]
    if errors:
        raise invalid(errors)
    return fields


class _WrongError(Exception):
    """What is wrong with a value: kind, message and context of each error."""

    def __init__(self, *found: _Found) -> None:
        self.found = found


def _wrong(kind: str, message: str) -> _WrongError:
    return _WrongError((kind, message, {}))


def _decode(body: bytes) -> object:
    try:
        return json.loads(body)
    except UnicodeDecodeError as error:
        raise RefusalError("", body={"detail": "There was an error parsing the body"}) from error
    except json.JSONDecodeError as error:
        wrong = _error("json_invalid", f"body.{error.pos}", "JSON decode error", _shown({}))
        raise invalid([{**wrong, "ctx": {"error": error.msg}}]) from error


def _error(kind: str, loc: str, message: str, shown: str) -> dict[str, Any]:
    return {"type": kind, "loc": loc, "msg": message, "input": shown}


def _shown(value: object) -> str:
    if isinstance(value, (list, dict)):
        return f"<{type(value).__name__} of {len(value)} items>"
    return str(value)


def _integer(value: object) -> int:
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if value.is_integer():
            return int(value)
        message = "Input should be a valid integer, got a number with a fractional part"
        raise _wrong("int_from_float", message)
    if not isinstance(value, str):
        raise _wrong("int_type", "Input should be a valid integer")
    try:
        return int(value)
    except ValueError:
        message = "Input should be a valid integer, unable to parse string as an integer"
        raise _wrong("int_parsing", message) from None


def _number(value: object) -> float:
    if isinstance(value, (int, float)):
        return float(value)
    if not isinstance(value, str):
        raise _wrong("float_type", "Input should be a valid number")
    try:
        return float(value)
    except ValueError:
        message = "Input should be a valid number, unable to parse string as a number"
        raise _wrong("float_parsing", message) from None


def _boolean(value: object) -> bool:
    if isinstance(value, (list, dict)):
        raise _wrong("bool_type", "Input should be a valid boolean")
    word = str(value).lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise _wrong("bool_parsing", "Input should be a valid boolean, unable to interpret input")


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise _wrong("string_type", "Input should be a valid string")
    return value


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong("dict_type", "Input should be a valid dictionary")
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong("list_type", "Input should be a valid list")
    return value


def _integers(value: object) -> list[int]:
    return [_integer(item) for item in _list(value)]


def _stop(value: object) -> list[str]:
    no_string: _Found = ("string_type", "Input should be a valid string", {})
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise _WrongError(no_string, ("list_type", "Input should be a valid list", {}))
    if len(value) > _MAX_STOP_STRINGS:
        limit = f"at most {_MAX_STOP_STRINGS} items after validation, not {len(value)}"
        lengths = {"max_length": _MAX_STOP_STRINGS, "actual_length": len(value)}
        context = {"ctx": {"field_type": "List", **lengths}}
        raise _WrongError(no_string, ("too_long", f"List should have {limit}", context))
    return [_string(item) for item in value]


def _logit_bias(value: object) -> dict[str, float]:
    return {key: _number(each) for key, each in _object(value).items()}


def _prompt(value: object) -> object:
    if isinstance(value, str):
        return value
    items = _list(value)
    kinds = (str, int)
    plain = any(all(isinstance(item, kind) for item in items) for kind in kinds)
    return items if plain else [_integers(item) for item in items]


def _tools(value: object) -> list[Any]:
    for tool in _list(value):
        _string(_object(_object(tool).get("function")).get("name"))
    return _list(value)


def _effort(value: object) -> str:
    if value not in _EFFORTS:
        *others, last = map(repr, _EFFORTS)
        expected = f"{', '.join(others)} or {last}"
        context = {"ctx": {"expected": expected}}
        raise _WrongError(("literal_error", f"Input should be {expected}", context))
    return str(value)


_READERS: dict[str, Callable[[object], object]] = {
    **dict.fromkeys(_INTEGERS, _integer),
    **dict.fromkeys(_NUMBERS, _number),
    **dict.fromkeys(_BOOLS, _boolean),
    **dict.fromkeys(_STRINGS, _string),
    **dict.fromkeys(_OBJECTS, _object),
    **dict.fromkeys(_LISTS, _list),
    **dict.fromkeys(_INTEGER_LISTS, _integers),
    "logit_bias": _logit_bias,
    "prompt": _prompt,
    "stop": _stop,
    "tools": _tools,
    "reasoning_effort": _effort,
}
