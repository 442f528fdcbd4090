"""The body of a request as bytes."""

from __future__ import annotations

import json
from typing import Any, List, Mapping, Optional, Tuple, Union
from urllib.parse import urlencode

import urllib3
from attrs import frozen

JSON = "application/json"

Data = Union[bytes, str, Mapping[str, Any]]
"""Bytes or text as they are, or the fields of a form."""
FormFile = Union[bytes, str, Tuple[str, Union[bytes, str]], Tuple[str, Union[bytes, str], str]]
"""The content of a file, or ``(name, content)``, or ``(name, content, content type)``."""


@frozen
class Payload:
    """The body of a request.

    Attributes:
        content: Its bytes.
        content_type: None leaves the header out.
        json: What the bytes were encoded from, if it was JSON: ambiguous errors depend on it.
    """

    content: bytes = b""
    content_type: Optional[str] = None
    json: object = None

    @classmethod
    def of_json(cls, json: object) -> Payload:
        """The payload of a JSON value. Raises TypeError or ValueError if it is none."""
        return cls(encoded(json), JSON, json)

    @classmethod
    def of(cls, json: object, data: Optional[Data], files: Optional[Mapping[str, Any]]) -> Payload:
        """The payload of one of three kinds.

        Args:
            json: A JSON value.
            data: Bytes, text, or the fields of a form; beside ``files`` its further fields.
            files: The files of a multipart form, by field; open files are read to their end.

        Raises:
            TypeError, ValueError: More than one kind is given, or it cannot be encoded.
        """
        if json is not None:
            if data is not None or files is not None:
                raise TypeError("a request has one body: give json=…, or data=… and files=…")
            return cls.of_json(json)
        if files is not None:
            return cls(*_multipart(data, files))
        if isinstance(data, Mapping):
            form = urlencode(_form_fields(data)).encode("ascii")
            return cls(form, "application/x-www-form-urlencoded")
        if data is None:
            return cls()
        if not isinstance(data, (bytes, bytearray, memoryview, str)):
            raise TypeError(f"data must be bytes, text or a dict, not {type(data).__name__}")
        return cls(data.encode("utf-8") if isinstance(data, str) else bytes(data))


def _form_fields(data: Mapping[str, Any]) -> List[Tuple[str, Any]]:
    """One pair for each value: a list is a field that is repeated; None is left out."""
    pairs = []
    for name, value in data.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        pairs += [(name, _form_text(each)) for each in values if each is not None]
    return pairs


def _form_text(value: object) -> Union[str, bytes]:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, (str, bytes)) else str(value)


def _multipart(data: object, files: Mapping[str, Any]) -> Tuple[bytes, str]:
    if data is not None and not isinstance(data, Mapping):
        raise TypeError("beside files, data must be a dict: the other fields of the form")
    parts = _form_fields(data or {})
    parts += [(name, _file_part(name, file)) for name, file in files.items()]
    return urllib3.encode_multipart_formdata(parts)


def _file_part(field: str, file: Any) -> Tuple[Any, ...]:
    parts = file if isinstance(file, tuple) else (_file_name(field, file), file)
    if len(parts) not in {2, 3}:
        raise TypeError(f"file {field!r} must be a file, or (name, content[, content type])")
    content = parts[1].read() if hasattr(parts[1], "read") else parts[1]
    if not isinstance(content, (bytes, bytearray, str)):
        raise TypeError(
            f"the content of file {field!r} must be bytes, not {type(content).__name__}"
        )
    return (parts[0], content, *parts[2:])


def _file_name(field: str, file: object) -> str:
    name = getattr(file, "name", None)
    return name.replace("\\", "/").rpartition("/")[2] if isinstance(name, str) else field


def encoded(body: object) -> bytes:
    """The body as UTF-8 JSON.

    Raises:
        TypeError, ValueError: It cannot be JSON; the message names the field.
    """
    try:
        return _dump(body)
    except (TypeError, ValueError, RecursionError):
        fields = body.items() if isinstance(body, dict) else [("json", body)]
        for name, value in fields:
            _check_encodable(name, value)
        raise


def _plain(value: Any) -> object:
    """A value that JSON does not know as one that it does: NumPy's, pandas', and a message.

    Raises:
        TypeError: It has no such form.
    """
    for name in ("_as_json", "tolist"):
        convert = getattr(value, name, None)
        if convert is not None and not isinstance(value, type):
            return convert()
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


# json.dumps would make one for each value.
_encoder = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain
)


def _dump(value: object) -> bytes:
    return _encoder.encode(value).encode("utf-8")


def _check_encodable(name: str, value: object) -> None:
    try:
        _dump({name: value})
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} contains half a character (a lone surrogate, {error.object[error.start]!r}), "
            "which UTF-8 cannot encode"
        ) from None
    except (TypeError, ValueError, RecursionError) as error:
        error_class = TypeError if isinstance(error, TypeError) else ValueError
        raise error_class(f"{name} cannot be sent as JSON: {error}") from None
