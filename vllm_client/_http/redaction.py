"""Secrets that a server repeats are removed from errors."""

from __future__ import annotations

import json
from typing import Any, Tuple

from ..exceptions import VllmError

_DEEPEST = 50


def hide(error: BaseException, secrets: Tuple[str, ...]) -> None:
    """Take out of an error what a server has repeated of the request's secrets."""
    if secrets and isinstance(error, VllmError):
        error.args = _without(error.args, secrets)
        for name, value in vars(error).items():
            if name != "partial":  # The model's words are the caller's.
                setattr(error, name, _without(value, secrets))


def _without(value: Any, secrets: Tuple[str, ...], depth: int = 0) -> Any:
    if isinstance(value, str):
        for secret in secrets:
            # Also as a string of JSON or of Python would have it.
            for spelt in (secret, json.dumps(secret)[1:-1], repr(secret)[1:-1]):
                value = value.replace(spelt, "***")
        return value
    if not isinstance(value, (list, tuple, dict)):
        return value
    if depth == _DEEPEST:
        return None  # What is not searched is not shown.
    if isinstance(value, dict):
        pairs = value.items()
        return {_without(k, secrets): _without(v, secrets, depth + 1) for k, v in pairs}
    return type(value)(_without(each, secrets, depth + 1) for each in value)
