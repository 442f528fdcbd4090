"""The response of ``POST /tokenize``."""

from __future__ import annotations

from typing import Dict, List, Optional

from attrs import define, field

from .._shown import shown
from ._answer import Answer
from .shared import JSONValue

__all__ = ["Tokenization"]


@shown
@define
class Tokenization(Answer):
    """The tokens of a prompt.

    Attributes:
        tokens: Their ids.
        count: How many they are.
        max_model_len: The length of the model's context, in tokens.
        token_strs: With ``return_token_strs``, the tokenizer's raw pieces, which are no text.
        raw: The decoded JSON as the server sent it.
    """

    tokens: List[int]
    count: int
    max_model_len: Optional[int] = None
    token_strs: Optional[List[str]] = None
    raw: Dict[str, JSONValue] = field(factory=dict, repr=False, eq=False)

    @classmethod
    def from_raw(cls, raw: Dict[str, JSONValue]) -> Tokenization:
        """Read the decoded JSON of a response.

        Raises:
            KeyError, TypeError, AttributeError: It is not a response of this route.
        """
        tokens = list(raw["tokens"])
        return cls(
            tokens,
            raw.get("count", len(tokens)),
            raw.get("max_model_len"),
            raw.get("token_strs"),
            raw,
        )
