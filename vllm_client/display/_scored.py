"""Texts with log-probabilities, from whatever holds them."""

from __future__ import annotations

import math
from typing import Any, Iterable, List, Mapping, Optional, Sequence

from attrs import frozen

from ..types.logprobs import TokenLogprob

__all__ = ["Part", "scored", "scored_text"]

_GAP = 200
"""Characters of a text that no token may have, before a token that is looked for."""

_HOW = (
    "ask for them with logprobs=5 (completions) or logprobs=True, top_logprobs=5 (chat and "
    "responses)"
)


@frozen
class Part:
    """A piece of a text with its token.

    Attributes:
        text: What to show. Together the parts are the text.
        token: The token; None for a piece that no token was sent for.
    """

    text: str
    token: Optional[TokenLogprob] = None


def scored(answer: Any, index: int = 0) -> List[Part]:
    """The parts of an answer, a choice, tokens or events.

    Args:
        answer: As ``heatmap()`` takes it, but no text.
        index: The choice, if there may be several.

    Raises:
        ValueError: There are no log-probabilities.
        TypeError: It is none of these.
    """
    tokens = _tokens(answer, index)
    if not tokens:
        raise ValueError(f"there are no log-probabilities in the answer: {_HOW}")
    text = getattr(_choice(answer, index), "text", None)
    joined = "".join(token.token for token in tokens)
    # Chat sends tokens of reasoning and calls too, which are in no one text.
    if not isinstance(text, str) or text == joined:
        return [Part(token.token, token) for token in tokens]
    return _aligned(tokens, text)


def scored_text(text: str, client: Any, fields: Mapping[str, Any]) -> List[Part]:
    """The parts of a text that need not be a model's, scored by a server.

    Args:
        text: Sent as a prompt.
        client: Has ``completions.create``.
        fields: Further fields of the request.

    Raises:
        VllmError: The server refused the request.
    """
    request = {"echo": True, "logprobs": 5, "max_tokens": 1, **fields}
    choice = client.completions.create(prompt=text, **request).choices[0]
    tokens = [token for token in choice.token_logprobs if (token.text_offset or 0) < len(text)]
    return _aligned(tokens, text)


def _choice(answer: Any, index: int) -> Any:
    """The choice of an answer, also of a row of a batch; anything else unchanged."""
    answer = getattr(answer, "response", None) or answer
    if not hasattr(answer, "choices"):
        return answer
    choice = next((each for each in answer.choices if each.index == index), None)
    if choice is None:
        raise ValueError(f"the answer has no choice {index}")
    return choice


def _tokens(answer: Any, index: int) -> List[TokenLogprob]:
    holder = _choice(answer, index)
    holder = getattr(holder, "columns", holder)  # A perplexity has its tokens there.
    if hasattr(holder, "tokens") and hasattr(holder, "token_logprobs"):
        return [TokenLogprob(*pair) for pair in zip(holder.tokens, holder.token_logprobs)]
    if hasattr(holder, "token_logprobs"):
        return list(holder.token_logprobs)
    if isinstance(holder, Mapping):
        return TokenLogprob.sequence(holder)
    if isinstance(holder, Iterable) and not isinstance(holder, (str, bytes)):
        return [token for item in holder for token in _tokens_of(item, index)]
    raise TypeError(
        f"a heat map needs an answer, a choice, a list of events or tokens, or a text and "
        f"client=, not {type(answer).__name__}"
    )


def _tokens_of(item: Any, index: int) -> Sequence[TokenLogprob]:
    """The tokens of an item of a list: an event, or a token itself."""
    if isinstance(item, TokenLogprob):
        return [item]
    if getattr(item, "index", index) != index:
        return []
    logprobs = getattr(item, "logprobs", None)
    if isinstance(logprobs, list):  # Responses send a list of entries.
        logprobs = {"content": logprobs}
    return TokenLogprob.sequence(logprobs)


def _aligned(tokens: Iterable[TokenLogprob], text: str) -> List[Part]:
    """The parts of a text whose tokens are not exactly its pieces.

    A stop string is cut off the text but not off the tokens, and tokens may come as
    ``token_id:N``. A token that is not in the text shows nothing; text without a token stays.
    """
    parts: List[Part] = []
    cursor = 0
    for token in tokens:
        length = len(token.token)
        found = text.find(token.token, cursor, cursor + length + _GAP)
        if found > cursor:
            parts.append(Part(text[cursor:found]))
        if found >= 0:
            cursor = found + length
        parts.append(Part(token.token if found >= 0 else "", token))
    return [*parts, Part(text[cursor:])] if cursor < len(text) else parts


def logprob_of(token: Optional[TokenLogprob]) -> Optional[float]:
    """The log-probability of a token; None if there is none, or if what was sent is no number."""
    logprob = None if token is None else token.logprob
    is_number = isinstance(logprob, (int, float)) and not math.isnan(logprob) and logprob < math.inf
    return logprob if is_number else None


def probability(logprob: float) -> float:
    """``exp(logprob)``, at most 1; the server writes minus infinity as -9999."""
    return math.exp(min(0.0, logprob))


def entropy(token: TokenLogprob) -> Optional[float]:
    """The entropy in bits of what could have stood there; None without alternatives.

    The server sends only the most likely tokens. The others count as one, so this is the least
    that the entropy can be.
    """
    others = [other for other in token.top_logprobs if other.token != token.token]
    logprobs = [logprob for logprob in map(logprob_of, (token, *others)) if logprob is not None]
    if not others or not logprobs:
        return None
    shares = [probability(logprob) for logprob in logprobs]
    shares.append(max(0.0, 1.0 - math.fsum(shares)))
    return 0.0 - math.fsum(share * math.log2(share) for share in shares if share > 0)  # No -0.0.
