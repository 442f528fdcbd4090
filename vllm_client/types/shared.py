"""Parts that several answers have in common."""

from __future__ import annotations

from typing import Any, Dict, Literal, Mapping, Optional

from attrs import define, field


@define
class Usage:
    """How many tokens a request took, as the server counted them.

    Both ``completion.usage`` and the stream event of the same name. A prompt is counted once even
    with ``n`` above 1. A count that the server left out is 0.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_tokens_details: Optional[Dict[str, Any]] = None
    completion_tokens_details: Optional[Dict[str, Any]] = None
    type: Literal["usage"] = field(default="usage", init=False, repr=False)

    @classmethod
    def from_raw(cls, raw: Optional[Mapping[str, Any]]) -> Optional[Usage]:
        """The ``usage`` object of an answer or chunk; None when there is none."""
        if raw is None:
            return None
        return cls(
            raw.get("prompt_tokens") or 0,
            raw.get("completion_tokens") or 0,
            raw.get("total_tokens") or 0,
            raw.get("prompt_tokens_details"),
            raw.get("completion_tokens_details"),
        )
