"""What ``json.loads`` returns. Decoded JSON is the only data here whose type nobody can know."""

from __future__ import annotations

from typing import Any, Dict

Json = Any
"""Any JSON value."""

JsonObject = Dict[str, Json]
"""A JSON object."""
