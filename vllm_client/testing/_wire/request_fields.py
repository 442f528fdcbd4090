"""Reads the fields of a request body as leniently as vLLM does.

``"5"`` is read as an integer, ``"yes"`` as a bool and ``true`` as 1. A value that cannot be read is
refused with the error list of vLLM's validation (pydantic). Unknown fields are kept unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Callable, NamedTuple

from .json_types import Json, JsonObject
from .refusals import FieldError, RefusalError, field_error, validation_error

__all__ = ["RequestFields", "decode_body", "read_fields"]

RequestFields = Mapping[str, Json]
"""The fields of a request body, converted to their types by ``read_fields``."""

_INTEGERS = (
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "n",
    "seed",
    "min_tokens",
    "top_k",
    "prompt_logprobs",
    "top_logprobs",
    "stream_interval",
    "priority",
    "top_n",
    "dimensions",
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
    "return_weight_versions",
    "parallel_tool_calls",
    "include_reasoning",
    "add_generation_prompt",
    "continue_final_message",
    "return_prompt_text",
    "background",
    "store",
)
_STRINGS = (
    "model",
    "suffix",
    "user",
    "request_id",
    "cache_salt",
    "chat_template",
    "instructions",
    "previous_response_id",
)
_OBJECTS = (
    "stream_options",
    "structured_outputs",
    "chat_template_kwargs",
    "reasoning",
    "text",
)
_LISTS = ("messages",)
_INTEGER_LISTS = ("stop_token_ids", "allowed_token_ids", "logprob_token_ids", "tokens")
_TRUE = ("1", "on", "t", "true", "y", "yes")
_FALSE = ("0", "off", "f", "false", "n", "no")
_MAX_STOP_STRINGS = 4
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def decode_body(content_type: str, body: bytes) -> dict[str, Json]:
    """Return the JSON object of a request.

    Raises:
        RefusalError: The body is not a JSON object, or its Content-Type is not JSON.
    """
    if content_type.partition(";")[0].strip().lower() != "application/json":
        message = (
            "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
        )
        raise RefusalError(message, error_type="Bad Request")
    if not body:
        raise validation_error([field_error("missing", "body", "Field required", "None")])
    decoded = _decode(body)
    if not isinstance(decoded, dict):
        message = "Input should be a valid dictionary or object to extract fields from"
        shown = _describe(decoded)
        raise validation_error([field_error("model_attributes_type", "body", message, shown)])
    return decoded


def read_fields(body: JsonObject, *, chat: bool = False, response: bool = False) -> RequestFields:
    """Return the fields of a body, converted to their types and without those that are null.

    Args:
        body: The decoded JSON.
        chat: Whether this is a chat request, where ``logprobs`` is a bool instead of an int.
        response: Whether this is a request of ``/v1/responses``, whose ``tools``, ``prompt``
            and ``input`` have other shapes.

    Raises:
        RefusalError: At least one field has a wrong type.
    """
    readers = {**_READERS, "logprobs": _boolean if chat else _integer}
    readers.update({"tools": _flat_tools, "prompt": _object, "input": _input} if response else {})
    fields: dict[str, Json] = {}
    errors: list[FieldError] = []
    for name, value in body.items():
        if value is None:
            continue
        try:
            fields[name] = readers[name](value) if name in readers else value
        except _InvalidValueError as invalid:
            loc, shown = f"body.{name}", _describe(value)
            errors += [field_error(p.type, loc, p.message, shown, p.ctx) for p in invalid.problems]
    if errors:
        raise validation_error(errors)
    return fields


class _Problem(NamedTuple):
    """One thing that is wrong with a value, in pydantic's terms."""

    type: str
    message: str
    ctx: JsonObject | None = None


class _InvalidValueError(Exception):
    """A value cannot be read as the type of its field."""

    def __init__(self, *problems: _Problem) -> None:
        self.problems = problems


def _invalid_value(error_type: str, message: str) -> _InvalidValueError:
    return _InvalidValueError(_Problem(error_type, message))


def _decode(body: bytes) -> object:
    try:
        return json.loads(body)
    except UnicodeDecodeError as error:
        raise RefusalError("", body={"detail": "There was an error parsing the body"}) from error
    except json.JSONDecodeError as error:
        loc, context = f"body.{error.pos}", {"error": error.msg}
        invalid = field_error("json_invalid", loc, "JSON decode error", _describe({}), context)
        raise validation_error([invalid]) from error


def _describe(value: object) -> str:
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
        raise _invalid_value("int_from_float", message)
    if not isinstance(value, str):
        raise _invalid_value("int_type", "Input should be a valid integer")
    try:
        return int(value)
    except ValueError:
        message = "Input should be a valid integer, unable to parse string as an integer"
        raise _invalid_value("int_parsing", message) from None


def _number(value: object) -> float:
    if isinstance(value, (int, float)):
        return float(value)
    if not isinstance(value, str):
        raise _invalid_value("float_type", "Input should be a valid number")
    try:
        return float(value)
    except ValueError:
        message = "Input should be a valid number, unable to parse string as a number"
        raise _invalid_value("float_parsing", message) from None


def _boolean(value: object) -> bool:
    if isinstance(value, (list, dict)):
        raise _invalid_value("bool_type", "Input should be a valid boolean")
    word = str(value).lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise _invalid_value(
        "bool_parsing", "Input should be a valid boolean, unable to interpret input"
    )


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise _invalid_value("string_type", "Input should be a valid string")
    return value


def _object(value: object) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise _invalid_value("dict_type", "Input should be a valid dictionary")
    return value


def _list(value: object) -> list[Json]:
    if not isinstance(value, list):
        raise _invalid_value("list_type", "Input should be a valid list")
    return value


def _integers(value: object) -> list[int]:
    return [_integer(item) for item in _list(value)]


def _stop(value: object) -> list[str]:
    # pydantic reports both alternatives, string and list.
    no_string = _Problem("string_type", "Input should be a valid string")
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise _InvalidValueError(no_string, _Problem("list_type", "Input should be a valid list"))
    if len(value) > _MAX_STOP_STRINGS:
        limit = f"at most {_MAX_STOP_STRINGS} items after validation, not {len(value)}"
        lengths = {"max_length": _MAX_STOP_STRINGS, "actual_length": len(value)}
        context = {"field_type": "List", **lengths}
        too_long = _Problem("too_long", f"List should have {limit}", context)
        raise _InvalidValueError(no_string, too_long)
    return [_string(item) for item in value]


def _bad_words(value: object) -> list[str]:
    return [_string(item) for item in _list(value)]


def _repetition_detection(value: object) -> dict[str, int]:
    sizes = ("max_pattern_size", "min_pattern_size", "min_count")
    return {name: _integer(each) for name, each in _object(value).items() if name in sizes}


def _logit_bias(value: object) -> dict[str, float]:
    return {token_id: _number(bias) for token_id, bias in _object(value).items()}


def _prompt(value: object) -> object:
    """Read a text, a list of token ids, a list of texts, or a list of lists of token ids."""
    if isinstance(value, str):
        return value
    items = _list(value)
    one_type = any(all(isinstance(item, type_) for item in items) for type_ in (str, int))
    return items if one_type else [_integers(item) for item in items]


def _tools(value: object) -> list[Json]:
    for tool in _list(value):
        _string(_object(_object(tool).get("function")).get("name"))
    return _list(value)


def _truncation(value: object) -> int:
    length = _integer(value)
    if length < -1:
        message = "Input should be greater than or equal to -1"
        raise _InvalidValueError(_Problem("greater_than_equal", message, {"ge": -1}))
    return length


def _response_format(value: object) -> dict[str, Json]:
    if not isinstance(_object(value).get("json_schema", {}), (dict, type(None))):
        message = "Input should be a valid dictionary or object to extract fields from"
        raise _invalid_value("model_attributes_type", message)
    return _object(value)


def _flat_tools(value: object) -> list[Json]:
    for tool in _list(value):
        if _object(tool).get("type") == "function":
            _string(tool.get("name"))
    return _list(value)


def _input(value: object) -> object:
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise _InvalidValueError(
            _Problem("string_type", "Input should be a valid string"),
            _Problem("list_type", "Input should be a valid list"),
        )
    return [_object(item) for item in value]


def _effort(value: object) -> str:
    if value not in _EFFORTS:
        *others, last = map(repr, _EFFORTS)
        expected = f"{', '.join(others)} or {last}"
        context = {"expected": expected}
        raise _InvalidValueError(_Problem("literal_error", f"Input should be {expected}", context))
    return str(value)


_READERS: dict[str, Callable[[object], object]] = {
    **dict.fromkeys(_INTEGERS, _integer),
    **dict.fromkeys(_NUMBERS, _number),
    **dict.fromkeys(_BOOLS, _boolean),
    **dict.fromkeys(_STRINGS, _string),
    **dict.fromkeys(_OBJECTS, _object),
    **dict.fromkeys(_LISTS, _list),
    **dict.fromkeys(_INTEGER_LISTS, _integers),
    "bad_words": _bad_words,
    "repetition_detection": _repetition_detection,
    "logit_bias": _logit_bias,
    "prompt": _prompt,
    "response_format": _response_format,
    "stop": _stop,
    "tools": _tools,
    "truncate_prompt_tokens": _truncation,
    "reasoning_effort": _effort,
}
