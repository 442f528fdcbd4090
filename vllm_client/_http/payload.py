"""A request body as bytes."""

from __future__ import annotations

import json
from typing import Any


def encoded(body: Any) -> bytes:
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


def _dump(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8")


def _check_encodable(name: str, value: Any) -> None:
    try:
        _dump({name: value})
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} holds half a character (a lone surrogate, {error.object[error.start]!r}), "
            "which UTF-8 cannot carry"
        ) from None
    except (TypeError, ValueError, RecursionError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name} cannot be sent as JSON: {error}") from None
