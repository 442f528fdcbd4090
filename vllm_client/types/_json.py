"""The type of decoded JSON objects, the only data here whose type nobody can know."""

from __future__ import annotations

from typing import Dict

from .shared import JSONValue

JsonObject = Dict[str, JSONValue]
"""A decoded JSON object. ``JSONObject`` is what a program passes in."""
