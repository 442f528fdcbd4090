"""Log-probabilities of both routes as one kind of sequence, built when somebody asks."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence

from attrs import define, field


@define
class TokenLogprob:
    """One token and how likely it was.

    Attributes:
        token: Its text, or ``token_id:N`` with ``return_tokens_as_token_ids``.
        logprob: Natural logarithm of its probability, before temperature and constraints; None
            for the first token of an echoed prompt. Minus infinity is -9999.0.
        top_logprobs: The likeliest tokens in its place. Completions name them by their text, so
            tokens with equal texts fall together.
        text_offset: Where it begins, in characters of the tokens' texts; completions only.
        bytes: The UTF-8 of its text; chat only.
    """

    token: str
    logprob: Optional[float]
    top_logprobs: List[TokenLogprob] = field(factory=list, repr=False)
    text_offset: Optional[int] = None
    bytes: Optional[List[int]] = field(default=None, repr=False)

    @classmethod
    def sequence(cls, logprobs: Optional[Mapping[str, Any]]) -> List[TokenLogprob]:
        """The tokens of a ``logprobs`` object, of a choice or an event of either route."""
        if not logprobs:
            return []
        if "tokens" in logprobs:
            return cls._of_completion(logprobs)
        return [cls._of_chat(entry) for entry in logprobs.get("content") or ()]

    @classmethod
    def _of_completion(cls, logprobs: Mapping[str, Any]) -> List[TokenLogprob]:
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
    def _of_chat(cls, entry: Mapping[str, Any]) -> TokenLogprob:
        top: Sequence[Dict[str, Any]] = entry.get("top_logprobs") or ()
        return cls(
            entry["token"],
            entry["logprob"],
            [cls._of_chat(other) for other in top],
            None,
            entry.get("bytes"),
        )


def _ranked(top: Mapping[str, float]) -> List[TokenLogprob]:
    return [TokenLogprob(token, logprob) for token, logprob in top.items()]
