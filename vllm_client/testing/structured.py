"""Text under constraints: one of several choices, or a small JSON value that fits a schema."""

from __future__ import annotations

import json
import random
import re
from typing import Any, Mapping

from .fields import Fields
from .refusals import Refusal, named

__all__ = ["constrained", "structured_text", "value_for"]

_KINDS = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")
_TYPES = ("object", "array", "string", "integer", "number", "boolean", "null")
_WORD = re.compile(r"[^\W_]{3,}")
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
        Refusal: the constraint is malformed, or beyond the stand-in.
    """
    kind, wanted = _constraint(fields)
    if kind == "choice":
        return str(rng.choice(wanted))
    schema = json.loads(wanted) if isinstance(wanted, str) else wanted
    return json.dumps(value_for(schema, question, rng), ensure_ascii=False)


def value_for(schema: Any, question: str, rng: random.Random) -> Any:
    """Return a small JSON value that fits a simple schema.

    Args:
        schema: a JSON schema; `$ref`, patterns and formats are not looked at.
        question: a text from whose words strings are made.
        rng: decides where the schema leaves a choice.

    Raises:
        Refusal: the schema names a type that there is not.
    """
    if not isinstance(schema, Mapping):
        return _string({}, question, rng)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return _from_enum(schema["enum"], question, rng)
    for several in ("anyOf", "oneOf"):
        if schema.get(several):
            return value_for(schema[several][0], question, rng)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind not in _TYPES:
        raise Refusal(f"Grammar error: Invalid type: {kind}")
    if kind == "object":
        return _object(schema, question, rng)
    if kind == "array":
        count = max(schema.get("minItems", 1), 0)
        return [value_for(schema.get("items"), question, rng) for _ in range(count)]
    if kind in ("integer", "number"):
        return _number(schema, question)
    return {"boolean": True, "null": None}.get(kind, _string(schema, question, rng))
