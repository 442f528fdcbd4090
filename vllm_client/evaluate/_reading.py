"""Scores of the tokens of a prompt, read from a response by token id."""

from __future__ import annotations

import math
from array import array
from typing import Any, Collection, Dict, List, Mapping, Optional, Sequence

from ..exceptions import EvaluationError, InvalidResponseError
from ..types._json import JsonObject
from .results import TokenColumns

_ID_PREFIX = "token_id:"
_HIGHEST_LOGPROB = 1e-3
"""What rounding may add to 0. More is no logarithm of a probability."""


def from_prompt_logprobs(
    entries: Sequence[Any], ids: Sequence[int], body: object, start: int
) -> TokenColumns:
    """The tokens from ``start`` on, of the ``prompt_logprobs`` of a response.

    Args:
        entries: One for each token: an object by token id, null for the first token.
        ids: The tokens of the prompt.
        body: The response, for errors.
        start: The first token to read, 1 or more.

    Raises:
        InvalidResponseError: An entry does not have its token.
        EvaluationError: The values are no log-probabilities.
    """
    if len(entries) != len(ids):
        raise InvalidResponseError(
            f"the response has prompt_logprobs of {len(entries)} tokens, its prompt {len(ids)}",
            body=body,
        )
    tokens: List[str] = []
    logprobs, ranks = array("d"), array("q")
    try:
        for id_, entry in zip(ids[start:], entries[start:]):
            own: JsonObject = entry[str(id_)]
            logprobs.append(own["logprob"])
            ranks.append(own.get("rank") or 0)
            tokens.append(own.get("decoded_token") or "")
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidResponseError(
            f"prompt_logprobs lacks a token of the prompt: {error!r}", body=body
        ) from None
    _check(logprobs)
    return TokenColumns(tokens, array("q", ids[start:]), logprobs, ranks if all(ranks) else None)


def from_echo(
    logprobs: Mapping[str, Any], ids: Sequence[int], body: object, start: int
) -> TokenColumns:
    """The same of the ``logprobs`` of an echoed prompt, whose tokens are ``token_id:N``.

    ``ranks`` holds 1 and 2 only: whether a token is the most likely one.
    """
    columns = logprobs["tokens"], logprobs["token_logprobs"], logprobs.get("top_logprobs")
    names, values, tops = (list(column or [])[: len(ids)] for column in columns)
    if names != [f"{_ID_PREFIX}{id_}" for id_ in ids]:
        raise InvalidResponseError("the response echoes other tokens than were sent", body=body)
    scored = array("d")
    ranks = array("q")
    try:
        scored.extend(values[start:])
        for value, top in zip(scored, tops[start:]):
            ranks.append(1 if value >= max(top.values()) else 2)
    except (TypeError, AttributeError) as error:
        problem = f"echoed log-probabilities are missing: {error}"
        raise InvalidResponseError(problem, body=body) from None
    _check(scored)
    known = ranks if len(ranks) == len(scored) else None
    return TokenColumns(names[start:], array("q", ids[start:]), scored, known)


def next_logprobs(logprobs: Optional[Mapping[str, Any]], ids: Sequence[int]) -> Dict[int, float]:
    """The log-probabilities of these tokens at the first generated place; none if one is missing.

    Raises:
        EvaluationError: The values are no log-probabilities.
    """
    tops = (logprobs or {}).get("top_logprobs")
    if not tops or not isinstance(tops[0], Mapping):
        return {}
    top = tops[0]
    names = {id_: f"{_ID_PREFIX}{id_}" for id_ in ids}
    if not top.keys() >= set(names.values()):
        return {}
    found: Dict[int, float] = {id_: top[name] for id_, name in names.items()}
    if None in found.values():
        return {}
    _check(found.values())
    return found


def _check(values: Collection[float]) -> None:
    if any(math.isnan(value) for value in values):
        raise EvaluationError(
            "the server sends NaN for a log-probability: its model computes no numbers, which an "
            "unsuitable --dtype may be the reason for"
        )
    if any(value > _HIGHEST_LOGPROB for value in values):
        raise EvaluationError(
            "the server sends scores that are no log-probabilities (one is above 0): start it "
            "without --logprobs-mode, or with --logprobs-mode raw_logprobs"
        )
