"""Names for JSON in annotations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["Json", "JsonObject"]

Json = Any
"""A decoded JSON value. ``Any``, because the code reads into it without a check at every level."""

JsonObject = Mapping[str, object]
"""A JSON object that the server writes."""
