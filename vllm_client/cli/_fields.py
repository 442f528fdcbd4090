"""Request fields on the command line: ``top_k=20``."""

from __future__ import annotations

import argparse
import json
from typing import Any, Tuple

__all__ = ["field", "read_field"]


def read_field(text: str) -> Tuple[str, Any]:
    """``max_tokens=64`` → ``("max_tokens", 64)``. What does not look like JSON is a text.

    Raises:
        ValueError: It is no field and value, or looks like JSON and is none.
    """
    name, separator, value = text.partition("=")
    name = name.strip()
    if not (name and separator):
        raise ValueError(f"write FIELD=JSON, such as max_tokens=64, not {text!r}")
    if name == "stream":
        raise ValueError("stream cannot be set: the command itself decides it")
    try:
        return name, json.loads(value)
    except ValueError as error:
        if value.lstrip().startswith(("{", "[", '"')):
            raise ValueError(f"{name} is not JSON ({error}): {value}") from error
        return name, value


def field(text: str) -> Tuple[str, Any]:
    """As :func:`read_field`, for an option.

    Raises:
        argparse.ArgumentTypeError: As there.
    """
    try:
        return read_field(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
