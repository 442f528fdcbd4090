"""Classes as the form of an answer: the JSON schema of a class, and a text read as its instance.

pydantic makes both for its own classes, msgspec for attrs classes, dataclasses and TypedDicts.
Neither is imported before a program passes such a class.
"""

from __future__ import annotations

import re
from typing import Any, Dict, Type, TypeVar, cast

T = TypeVar("T")

_KINDS = "a pydantic model, an attrs class, a dataclass or a TypedDict"
# What the two libraries raise for a class that has no schema: a type that JSON does not have, an
# annotation that names nothing, a class that is not complete.
_NO_SCHEMA = (TypeError, NameError, RuntimeError, ValueError)


def response_format(answer_type: type) -> Dict[str, object]:
    """The ``response_format`` that makes the server write instances of a class.

    Raises:
        TypeError: It is a class of another kind, or a field cannot be expressed in a JSON schema.
        ImportError: The library that this kind of class needs is not installed.
    """
    _check_kind(answer_type)
    try:
        schema = _schema(answer_type)
    except _NO_SCHEMA as error:
        raise TypeError(
            f"response_format: {answer_type.__name__} has no JSON schema: {error}"
        ) from error
    name = re.sub(r"[^A-Za-z0-9_-]", "_", answer_type.__name__)[:64]
    schema_of_name = {"name": name, "schema": _with_plain_root(schema), "strict": True}
    return {"type": "json_schema", "json_schema": schema_of_name}


def read(answer_type: Type[T], text: str) -> T:
    """The instance of a class that a JSON text describes.

    Raises:
        ValueError: The text is not JSON, or does not fit the class.
        TypeError, ImportError: As :func:`response_format` does.
    """
    _check_kind(answer_type)
    if _is_pydantic(answer_type):
        from pydantic import TypeAdapter  # noqa: PLC0415 — optional

        return TypeAdapter(answer_type).validate_json(text)
    msgspec = _msgspec(answer_type)
    try:
        return cast("T", msgspec.json.decode(text, type=answer_type))
    except msgspec.MsgspecError as error:  # Not a ValueError in every release.
        raise ValueError(str(error)) from error


def _schema(answer_type: type) -> Dict[str, Any]:
    if _is_pydantic(answer_type):
        from pydantic import TypeAdapter  # noqa: PLC0415 — optional

        return TypeAdapter(answer_type).json_schema()
    schema: Dict[str, Any] = _msgspec(answer_type).json.schema(answer_type)
    return schema


def _with_plain_root(schema: Dict[str, Any]) -> Dict[str, Any]:
    # Both libraries may write the root as a reference to a definition. Some servers require an
    # object there.
    definitions: Dict[str, Any] = schema.get("$defs", {})
    name = schema.get("$ref", "").rpartition("/")[2]
    if name not in definitions:
        return schema
    root = dict(definitions[name])
    refers_to_itself = f"'#/$defs/{name}'" in str(definitions)
    if not refers_to_itself:
        definitions = {key: each for key, each in definitions.items() if key != name}
    return {**root, "$defs": definitions} if definitions else root


def _is_pydantic(answer_type: object) -> bool:
    return hasattr(answer_type, "__pydantic_core_schema__")


def _check_kind(answer_type: object) -> None:
    marks = ("__attrs_attrs__", "__dataclass_fields__", "__struct_fields__")
    is_class = isinstance(answer_type, type)
    is_typed_dict = is_class and hasattr(answer_type, "__total__")
    if is_class and (is_typed_dict or any(hasattr(answer_type, mark) for mark in marks)):
        return
    if not (is_class and _is_pydantic(answer_type)):
        raise TypeError(
            f"the form of an answer must be a dict of the API, or {_KINDS}, not {answer_type!r}"
        )


def _msgspec(answer_type: type) -> Any:
    try:
        import msgspec  # noqa: PLC0415 — in the extra ``structured``
    except ImportError:
        raise ImportError(
            f"{answer_type.__name__} is read with msgspec, which is not installed: "
            'run pip install "vllm-sync-client[structured]"'
        ) from None
    return msgspec
