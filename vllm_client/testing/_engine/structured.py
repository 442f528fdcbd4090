"""Generates text under a constraint: a choice, a JSON value for a schema, a regex or a grammar."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Mapping, Sequence
from typing import Callable

from .._wire.json_types import Json
from .._wire.refusals import RefusalError, parameter_error
from .._wire.request_fields import RequestFields
from .grammars import pattern_of_grammar
from .patterns import text_for_pattern

__all__ = ["is_constrained", "structured_text", "value_for"]

_CONSTRAINTS = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")
_CONSTANTS = {"boolean": True, "null": None}
_TYPES = ("object", "array", "string", "integer", "number", *_CONSTANTS)
# The keywords that values are made from: their JSON type, and its name in messages.
_KEYWORDS: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    **dict.fromkeys(("enum", "anyOf", "oneOf"), (list, "an array")),
    "properties": (dict, "an object"),
    **dict.fromkeys(("minItems", "minLength", "maxLength"), (int, "an integer")),
    **dict.fromkeys(
        ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), ((int, float), "a number")
    ),
}
_WORD = re.compile(r"[^\W_]{3,}")
_DIGITS = re.compile(r"\d+")
_MOST_REFERENCES = 16
"""References inside each other; more belong to a schema that contains itself."""
_ANY_OBJECT = {"type": "object", "properties": {"answer": {"type": "string"}}}
# How vLLM prints a StructuredOutputsParams without any constraint.
_NO_CONSTRAINT = (
    "{'json': None, 'regex': None, 'choice': None, 'grammar': None, 'json_object': None, "
    "'disable_any_whitespace': False, 'disable_additional_properties': False, "
    "'whitespace_pattern': None, 'structural_tag': None, '_backend': None, "
    "'_backend_was_auto': False}"
)


def is_constrained(fields: RequestFields) -> bool:
    """Return whether a request constrains its output."""
    format_type = fields.get("response_format", {}).get("type", "text")
    return "structured_outputs" in fields or format_type != "text"


def structured_text(fields: RequestFields, question: str, rng: random.Random) -> str:
    """Return a text that fits the constraint of a request.

    Raises:
        RefusalError: The constraint is malformed, or this server cannot follow it.
    """
    constraint, operand = _constraint(fields)
    if constraint == "choice":
        return str(rng.choice(operand))
    if constraint == "regex":
        return text_for_pattern(str(operand), rng)
    if constraint == "grammar":
        return text_for_pattern(pattern_of_grammar(str(operand)), rng)
    return json.dumps(value_for(_parse_schema(operand), question, rng), ensure_ascii=False)


def value_for(schema: Json, question: str, rng: random.Random) -> Json:
    """Return a small JSON value that fits a simple schema.

    Args:
        schema: A JSON schema. Patterns and formats are ignored.
        question: The text whose words and numbers are used as strings and integers.
        rng: Makes the choices that the schema leaves open.

    Raises:
        RefusalError: The schema names a type that does not exist, a keyword has a wrong type, or
            the schema contains itself.
    """
    definitions = schema.get("$defs", {}) if isinstance(schema, Mapping) else {}
    return _ValueMaker(question, rng, definitions).value(schema)


class _ValueMaker:
    """Makes values for a schema, from the words of a question where the schema sets none."""

    def __init__(self, question: str, rng: random.Random, definitions: Mapping[str, Json]) -> None:
        self._question = question
        self._rng = rng
        self._definitions = definitions
        self._references = 0

    def value(self, schema: Json) -> Json:
        schema = schema if isinstance(schema, Mapping) else {}
        _check_keywords(schema)
        if "$ref" in schema:
            return self._referenced(str(schema["$ref"]))
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._from_enum(schema["enum"])
        for keyword in ("anyOf", "oneOf"):
            if schema.get(keyword):
                return self.value(schema[keyword][0])
        type_ = schema.get("type", "object" if "properties" in schema else "string")
        type_ = type_[0] if type_ and isinstance(type_, list) else type_
        if type_ not in _TYPES:
            raise RefusalError(f"Grammar error: Invalid type: {type_}")
        if type_ in _CONSTANTS:
            return _CONSTANTS[type_]
        make: Callable[[Mapping[str, Json]], Json] = getattr(self, f"_{type_}")
        return make(schema)

    def _referenced(self, reference: str) -> Json:
        name = reference.rpartition("/")[2]
        if name not in self._definitions or self._references == _MOST_REFERENCES:
            raise RefusalError(f"This stand-in for vLLM cannot follow the reference {reference}")
        self._references += 1
        value = self.value(self._definitions[name])
        self._references -= 1
        return value

    def _from_enum(self, values: Sequence[Json]) -> Json:
        # "What is the weather in Paris?" should choose Paris, if the enum contains it.
        mentioned = [value for value in values if str(value).lower() in self._question.lower()]
        return mentioned[0] if mentioned else self._rng.choice(values)

    def _object(self, schema: Mapping[str, Json]) -> dict[str, Json]:
        properties = schema.get("properties", {})
        return {name: self.value(each) for name, each in properties.items()}

    def _array(self, schema: Mapping[str, Json]) -> list[Json]:
        return [self.value(schema.get("items")) for _ in range(schema.get("minItems", 1))]

    def _string(self, schema: Mapping[str, Json]) -> str:
        # The last word of a question is most often its subject.
        words = _WORD.findall(self._question) or ["text"]
        text = str(words[-1]).ljust(schema.get("minLength", 0), ".")
        return text[: schema.get("maxLength")]

    def _integer(self, schema: Mapping[str, Json]) -> int:
        mentioned = [int(digits) for digits in _DIGITS.findall(self._question)]
        low = schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
        high = schema.get("maximum", schema.get("exclusiveMaximum", max(low, 100) + 1) - 1)
        return next((each for each in mentioned if low <= each <= high), math.ceil(low))

    def _number(self, schema: Mapping[str, Json]) -> float:
        return float(self._integer(schema))


def _check_keywords(schema: Mapping[str, Json]) -> None:
    for name, (type_, described) in _KEYWORDS.items():
        if name in schema and not isinstance(schema[name], type_):
            raise RefusalError(f"Grammar error: {name} must be {described}")


def _parse_schema(schema: Json) -> Json:
    """Return a schema as decoded JSON; the request may contain it as JSON text."""
    try:
        return json.loads(schema) if isinstance(schema, str) else schema
    except ValueError as error:
        raise RefusalError(f"Grammar error: {error}") from error


def _constraint(fields: RequestFields) -> tuple[str, Json]:
    """Return the name of the constraint, and its operand: a schema, choices, a regex or grammar."""
    if "structured_outputs" not in fields:
        return _from_response_format(fields["response_format"])
    options = fields["structured_outputs"]
    names = [name for name in _CONSTRAINTS if options.get(name) is not None]
    if not names:
        message = "You must use one kind of structured outputs constraint but none are specified"
        raise RefusalError(f"{message}: {_NO_CONSTRAINT}")
    if len(names) > 1:
        message = "You can only use one kind of constraints for structured outputs"
        raise parameter_error(f"{message} ('json', 'regex' or 'choice').", "structured_outputs")
    [name] = names
    if name == "choice" and not (isinstance(options["choice"], list) and options["choice"]):
        raise RefusalError("structured_outputs.choice must be a list of strings")
    if name == "structural_tag":
        raise RefusalError(f"This stand-in for vLLM cannot follow structured_outputs.{name}")
    return name, _ANY_OBJECT if name == "json_object" else options[name]


def _from_response_format(response_format: Mapping[str, Json]) -> tuple[str, Json]:
    type_ = response_format["type"]
    if type_ == "json_object":
        return "json", _ANY_OBJECT
    if type_ != "json_schema":
        raise RefusalError(f"This stand-in for vLLM cannot follow a response_format of {type_}")
    if response_format.get("json_schema") is None:
        message = "When response_format type is 'json_schema', the 'json_schema' field must be"
        raise parameter_error(f"{message} provided.", "response_format")
    return "json", response_format["json_schema"].get("schema", _ANY_OBJECT)
