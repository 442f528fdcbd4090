"""Types that several requests or responses share."""

from __future__ import annotations

from typing import Any, Dict, Literal, Mapping, Optional

from attrs import asdict, define, field

from .._habits import EVENT_HABITS, habits
from .._shown import Items, fields_of, shown

__all__ = ["JSONObject", "JSONValue", "Usage"]

JSONValue = Any
"""A decoded JSON value that the server sent.

The one place where types end: a recursive type would require a cast for each index of
``completion.raw["choices"][0]["text"]``.
"""

JSONObject = Mapping[str, object]
"""A JSON object that you send; any dictionary whose values ``json.dumps`` accepts."""


@habits(**EVENT_HABITS, model_dump="use to_dict()")
@shown
@define
class Usage:
    """The number of tokens of a request, as counted by the server.

    It is both ``completion.usage`` and an event of a stream. The server counts a prompt once, even
    if ``n`` is above 1. A count that the server omits is 0.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_tokens_details: Optional[Dict[str, JSONValue]] = None
    completion_tokens_details: Optional[Dict[str, JSONValue]] = None
    type: Literal["usage"] = field(default="usage", init=False, repr=False)

    def _shown_items(self) -> Items:
        for name, value in fields_of(self):
            if isinstance(value, dict):
                # Most counts of the details are 0.
                value = {key: count for key, count in value.items() if count} or None  # noqa: PLW2901
            yield name, value

    def to_dict(self) -> Dict[str, JSONValue]:
        """The counts as the server sends them."""
        return asdict(self, recurse=False, filter=lambda each, _: each.name != "type")

    @classmethod
    def from_raw(cls, raw: Optional[Mapping[str, JSONValue]]) -> Optional[Usage]:
        """Read the ``usage`` object of a response or chunk. Returns None if there is none."""
        if not raw and not isinstance(raw, dict):  # Null and empty values say nothing.
            return None
        return cls(
            raw.get("prompt_tokens") or 0,
            raw.get("completion_tokens") or 0,
            raw.get("total_tokens") or 0,
            raw.get("prompt_tokens_details"),
            raw.get("completion_tokens_details"),
        )
