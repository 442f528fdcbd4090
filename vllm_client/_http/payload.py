"""The body of a request as bytes."""

from __future__ import annotations

import json


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


def _dump(value: object) -> bytes:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8")


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
