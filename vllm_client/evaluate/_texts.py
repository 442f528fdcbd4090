"""The perplexity of a text, in windows if it is longer than the context."""

from __future__ import annotations

import math
from array import array
from typing import Any, Callable, Iterable, List, Optional, Sequence, Tuple

from attrs import frozen

from ..exceptions import EvaluationError
from ._boundary import spans
from ._pairs import ids_of
from ._scorer import PromptScores, Scorer
from .results import Perplexity, TokenColumns

ScoreAll = Callable[[Iterable[List[int]]], Iterable[PromptScores]]
"""Scores prompts, several at a time, and returns the scores in their order."""


@frozen
class Passage:
    """What :func:`perplexity` scores.

    Attributes:
        source: A text, tokens, or the messages of a conversation.
        is_chat: Whether it is messages.
        window: The most tokens of one request; None for what the server allows.
        stride: How many tokens each further request scores; None for half a window.
    """

    source: Any
    is_chat: bool
    window: Optional[int] = None
    stride: Optional[int] = None

    def __attrs_post_init__(self) -> None:
        for name, size in (("window", self.window), ("stride", self.stride)):
            if size is not None and (isinstance(size, bool) or not isinstance(size, int)):
                raise TypeError(f"{name} must be a number of tokens, not {size!r}")


def perplexity(scorer: Scorer, passage: Passage, score_all: ScoreAll) -> Perplexity:
    """Score a passage.

    Raises:
        ValueError: The passage is empty, or a window or stride is not possible.
        EvaluationError: There is no exact score.
        VllmError: The server refused a request.
    """
    lead, body = _tokens(scorer, passage)
    window, stride = _sizes(scorer, passage, len(lead))
    parts = list(spans(len(body), window - len(lead), stride))
    scores = score_all(lead + body[begin:end] for begin, end, _ in parts)
    first = len(lead) or 1
    columns, method = [], scorer.method
    for (begin, _, scored), each in zip(parts, scores):
        columns.append(each.columns(max(len(lead) + scored - begin, first)))
        method = each.method
    whole = _joined(columns)
    text = passage.source if isinstance(passage.source, str) else "".join(whole.tokens)
    return Perplexity(
        -math.fsum(whole.token_logprobs),
        len(whole),
        window,
        stride,
        len(parts),
        len(text.encode("utf-8", "replace")),
        len(text.split()),
        len(body) - len(whole),
        lead[0] if lead else None,
        method,
        whole,
    )


def _tokens(scorer: Scorer, passage: Passage) -> Tuple[List[int], List[int]]:
    """The special tokens in front of each window, and the tokens of the passage."""
    source = passage.source
    if len(source) == 0:
        raise ValueError("the text is empty: there is nothing to score")
    if passage.is_chat:
        ids = scorer.encode_conversation(source)
    else:
        ids = scorer.encode(source) if isinstance(source, str) else ids_of(source)
    lead = scorer.lead_of(ids)
    body = ids[len(lead) :] if ids[: len(lead)] == lead else ids
    if len(body) + len(lead) < 2:
        raise EvaluationError(
            "the text is a single token with none before it, which has no probability: give "
            "bos_token_id=…"
        )
    return lead, body


def _sizes(scorer: Scorer, passage: Passage, lead: int) -> Tuple[int, int]:
    window, stride = passage.window, passage.stride
    if window is None:
        window = scorer.longest_prompt()
    room = window - lead
    if stride is None:
        stride = max(room // 2, 1)
    if room < 2:
        raise ValueError(f"window must be {lead + 2} or more, not {window}")
    if not 1 <= stride < room:
        raise ValueError(f"stride must be from 1 to {room - 1} with this window, not {stride}")
    return window, stride


def _joined(parts: Sequence[TokenColumns]) -> TokenColumns:
    tokens: List[str] = []
    ids, logprobs, ranks = array("q"), array("d"), array("q")
    for part in parts:
        tokens += part.tokens
        ids += part.token_ids
        logprobs += part.token_logprobs
        ranks += part.ranks or array("q")
    return TokenColumns(tokens, ids, logprobs, ranks if len(ranks) == len(ids) else None)
