"""The log-probabilities of both routes in one form, built when they are used."""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Sequence

from attrs import define, field

from .._shown import shown
from .shared import JSONValue

__all__ = ["TokenLogprob"]


@shown
@define
class TokenLogprob:
    """A token and its log-probability.

    Attributes:
        token: The text of the token, or ``token_id:N`` with ``return_tokens_as_token_ids``.
        logprob: Natural logarithm of the probability, before temperature and constraints. None
            for the first token of an echoed prompt. Minus infinity is -9999.0.
        top_logprobs: The most likely tokens at this position. Completions identify them by their
            text, so of several tokens with the same text only one remains.
        text_offset: Number of characters of the tokens before this one. Only in completions.
        bytes: The UTF-8 bytes of the text. Only in chat.
    """

    token: str
    logprob: Optional[float]
    top_logprobs: List[TokenLogprob] = field(factory=list, repr=False)
    text_offset: Optional[int] = None
    bytes: Optional[List[int]] = field(default=None, repr=False)

    @classmethod
    def sequence(cls, logprobs: Optional[Mapping[str, JSONValue]]) -> List[TokenLogprob]:
        """Read the ``logprobs`` object of a choice or an event of either route."""
        if not logprobs:
            return []
        if logprobs.get("tokens"):
            return cls._of_completion(logprobs)
        return [cls._of_chat(entry) for entry in logprobs.get("content") or () if entry]

    @classmethod
    def _of_completion(cls, logprobs: Mapping[str, JSONValue]) -> List[TokenLogprob]:
        tokens = logprobs["tokens"]
        columns = (
            logprobs.get(name) or [None] * len(tokens)
            for name in ("token_logprobs", "top_logprobs", "text_offset")
        )
        return [
            cls(token, logprob, _ranked(top or {}), offset)
            for token, logprob, top, offset in zip(tokens, *columns)
        ]

    @classmethod
    def _of_chat(cls, entry: Mapping[str, JSONValue]) -> TokenLogprob:
        top: Sequence[Dict[str, JSONValue]] = entry.get("top_logprobs") or ()
        return cls(
            entry["token"],
            entry["logprob"],
            [cls._of_chat(other) for other in top],
            None,
            entry.get("bytes"),
        )


def _ranked(top: Mapping[str, float]) -> List[TokenLogprob]:
    return [TokenLogprob(token, logprob) for token, logprob in top.items()]
