"""Text under constraints: one of several choices, or a small JSON value that fits a schema."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from .._wire.fields import Fields
from .._wire.refusals import RefusalError, named

__all__ = ["constrained", "structured_text", "value_for"]

_KINDS = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")
_CONSTANTS = {"boolean": True, "null": None}
_TYPES = ("object", "array", "string", "integer", "number", *_CONSTANTS)
_WORD = re.compile(r"[^\W_]{3,}")
_DIGITS = re.compile(r"\d+")
_ANY_OBJECT = {"type": "object", "properties": {"answer": {"type": "string"}}}
_NONE = (
    "{'json': None, 'regex': None, 'choice': None, 'grammar': None, 'json_object': None, "
    "'disable_any_whitespace': False, 'disable_additional_properties': False, "
    "'whitespace_pattern': None, 'structural_tag': None, '_backend': None, "
    "'_backend_was_auto': False}"
)


def constrained(fields: Fields) -> bool:
    """Whether a request constrains its output."""
    kind = fields.get("response_format", {}).get("type", "text")
    return "structured_outputs" in fields or kind != "text"


def structured_text(fields: Fields, question: str, rng: random.Random) -> str:
    """Return a text that fits the constraint of a request.

    Raises:
        RefusalError: the constraint is malformed, or beyond the stand-in.
    """
    kind, wanted = _constraint(fields)
    if kind == "choice":
        return str(rng.choice(wanted))
    return json.dumps(value_for(_schema(wanted), question, rng), ensure_ascii=False)


def value_for(schema: Any, question: str, rng: random.Random) -> Any:
    """Return a small JSON value that fits a simple schema.

    Args:
        schema: a JSON schema; `$ref`, patterns and formats are not looked at.
        question: a text from whose words strings are made.
        rng: decides where the schema leaves a choice.

    Raises:
        RefusalError: the schema names a type that there is not.
    """
    return _Values(question, rng).value(schema)


class _Values:
    """Makes values, drawn from the words of a question where the schema has none."""

    def __init__(self, question: str, rng: random.Random) -> None:
        self._question = question
        self._rng = rng

    def value(self, schema: Any) -> Any:
        schema = schema if isinstance(schema, Mapping) else {}
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._from_enum(schema["enum"])
        for several in ("anyOf", "oneOf"):
            if schema.get(several):
                return self.value(schema[several][0])
        kind = schema.get("type", "object" if "properties" in schema else "string")
        kind = kind[0] if isinstance(kind, list) else kind
        if kind not in _TYPES:
            raise RefusalError(f"Grammar error: Invalid type: {kind}")
        if kind in _CONSTANTS:
            return _CONSTANTS[kind]
        make: Callable[[Mapping[str, Any]], Any] = getattr(self, f"_{kind}")
        return make(schema)

    def _from_enum(self, values: Sequence[Any]) -> Any:
        # "What is the weather in Paris?" should ask for Paris if that is on offer.
        asked = [value for value in values if str(value).lower() in self._question.lower()]
        return asked[0] if asked else self._rng.choice(values)

    def _object(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        properties = schema.get("properties", {})
        return {name: self.value(each) for name, each in properties.items()}

    def _array(self, schema: Mapping[str, Any]) -> list[Any]:
        return [self.value(schema.get("items")) for _ in range(schema.get("minItems", 1))]

    def _string(self, schema: Mapping[str, Any]) -> str:
        # The last word is most often what a question is about.
        words = _WORD.findall(self._question) or ["text"]
        text = str(words[-1]).ljust(schema.get("minLength", 0), ".")
        return text[: schema.get("maxLength")]

    def _integer(self, schema: Mapping[str, Any]) -> int:
        asked = [int(digits) for digits in _DIGITS.findall(self._question)]
        low = schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
        high = schema.get("maximum", schema.get("exclusiveMaximum", max(low, 100) + 1) - 1)
        return next((each for each in asked if low <= each <= high), math.ceil(low))

    def _number(self, schema: Mapping[str, Any]) -> float:
        return float(self._integer(schema))


def _schema(given: Any) -> Any:
    """Return a schema as an object; it may come as a JSON text."""
    try:
        return json.loads(given) if isinstance(given, str) else given
    except ValueError as error:
        raise RefusalError(f"Grammar error: {error}") from error


def _constraint(fields: Fields) -> tuple[str, Any]:
    """Return the kind of a constraint, and what it demands."""
    if "structured_outputs" not in fields:
        return _from_response_format(fields["response_format"])
    given = fields["structured_outputs"]
    kinds = [kind for kind in _KINDS if given.get(kind) is not None]
    if not kinds:
        message = "You must use one kind of structured outputs constraint but none are specified"
        raise RefusalError(f"{message}: {_NONE}")
    if len(kinds) > 1:
        message = "You can only use one kind of constraints for structured outputs"
        raise named(f"{message} ('json', 'regex' or 'choice').", "structured_outputs")
    if kinds == ["choice"] and not (isinstance(given["choice"], list) and given["choice"]):
        raise RefusalError("structured_outputs.choice must be a list of strings")
    if kinds[0] not in ("json", "json_object", "choice"):
        raise RefusalError(f"This stand-in for vLLM cannot follow structured_outputs.{kinds[0]}")
    return kinds[0], _ANY_OBJECT if kinds == ["json_object"] else given[kinds[0]]


def _from_response_format(given: Mapping[str, Any]) -> tuple[str, Any]:
    kind = given["type"]
    if kind == "json_object":
        return "json", _ANY_OBJECT
    if kind != "json_schema":
        raise RefusalError(f"This stand-in for vLLM cannot follow a response_format of {kind}")
    if given.get("json_schema") is None:
        message = "When response_format type is 'json_schema', the 'json_schema' field must be"
        raise named(f"{message} provided.", "response_format")
    return "json", given["json_schema"].get("schema", _ANY_OBJECT)
