"""The log-likelihood of one continuation: its tokens, and where it begins among them."""

from __future__ import annotations

import operator
from typing import Any, Iterable, List, Optional, Sequence, Tuple, Union

from attrs import frozen

from ..exceptions import EvaluationError
from ._boundary import common_prefix
from ._scorer import PROMPT_LOGPROBS, PromptScores, Scorer
from .results import LogLikelihood

JOINT = "joint"
TOKENS = "tokens"
BOUNDARIES = (JOINT, TOKENS)

Tokens = Sequence[int]
Part = Union[str, Tokens]


@frozen
class Pair:
    """What is scored after what.

    Attributes:
        context: A text, tokens, or the messages of a conversation.
        continuation: A text, or tokens after tokens.
        is_chat: Whether the context is messages.
        boundary: How the two are joined.
        truncate: ``"left"`` cuts a context that is too long; None leaves it to the server to
            refuse it.
    """

    context: Any
    continuation: Any
    is_chat: bool = False
    boundary: str = JOINT
    truncate: Optional[str] = None
    index: int = 0

    def __attrs_post_init__(self) -> None:
        check_ways(self.boundary, self.truncate)
        self._check_parts()

    def _check_parts(self) -> None:
        if self.is_chat:
            if not isinstance(self.continuation, str):
                raise TypeError("with messages, the continuation must be a text")
        elif isinstance(self.context, str) != isinstance(self.continuation, str):
            raise TypeError("context and continuation must both be texts, or both token ids")
        if len(self.continuation) == 0:
            raise ValueError("the continuation is empty: there is nothing to score")


def check_ways(boundary: object, truncate: object) -> None:
    """Refuse a value that ``boundary`` or ``truncate`` does not have.

    Raises:
        ValueError: It has none of those that there are.
    """
    if boundary not in BOUNDARIES:
        raise ValueError(f"boundary must be 'joint' or 'tokens', not {boundary!r}")
    if truncate not in {None, "left"}:
        raise ValueError(f"truncate must be None or 'left', not {truncate!r}")


def loglikelihood(scorer: Scorer, pair: Pair) -> LogLikelihood:
    """Score one pair.

    Raises:
        EvaluationError: There is no exact score.
        VllmError: The server refused a request.
    """
    context = context_ids(scorer, pair.context, is_chat=pair.is_chat)
    scores = _scored_at_once(scorer, pair) if context and pair.truncate is None else None
    whole = _joined(scorer, pair, context) if scores is None else scores.ids
    start = common_prefix(context, whole)
    rescored = len(context) - start
    if rescored:
        scorer.warn_of_space(pair.context)
    check_scored(start, whole, pair.continuation)
    sent, start = with_lead(scorer, whole, start)
    cut = 0
    if pair.truncate is not None:
        sent, cut = cut_left(scorer, sent, start)
        start -= cut
    if scores is None or sent is not whole:
        scores = scorer.score_ids([sent])[0]
    columns = scores.columns(start)
    if pair.is_chat and not rescored and scores.method == PROMPT_LOGPROBS:
        _check_answer(columns.tokens, pair.continuation)
    return LogLikelihood(
        columns.tokens,
        columns.token_ids,
        columns.token_logprobs,
        columns.ranks,
        context_tokens_rescored=rescored,
        truncated_tokens=cut,
        bos_token_id=scorer.bos_of(sent),
        boundary=pair.boundary,
        method=scores.method,
        index=pair.index,
    )


def context_ids(scorer: Scorer, context: Any, *, is_chat: bool) -> List[int]:
    """The tokens of a context alone."""
    if is_chat:
        return scorer.encode_chat(context)
    return scorer.encode(context) if isinstance(context, str) else ids_of(context)


def whole_ids(scorer: Scorer, context: Any, continuation: Any, *, is_chat: bool) -> List[int]:
    """The tokens of a context and what follows it, tokenized as one text."""
    if is_chat:
        return scorer.encode_chat(context, continuation)
    if isinstance(context, str):
        return scorer.encode(context + continuation)
    return ids_of(context) + ids_of(continuation)


def ids_of(tokens: Iterable[Any]) -> List[int]:
    """Token ids, those of NumPy too, as JSON has them.

    Raises:
        TypeError: One is no whole number.
    """
    return [operator.index(token) for token in tokens]


def _joined(scorer: Scorer, pair: Pair, context: List[int]) -> List[int]:
    if pair.boundary == TOKENS and isinstance(pair.continuation, str):
        return context + scorer.tokens.of_text(pair.continuation, special=False)
    return whole_ids(scorer, pair.context, pair.continuation, is_chat=pair.is_chat)


def _scored_at_once(scorer: Scorer, pair: Pair) -> Optional[PromptScores]:
    """The scores of a pair whose tokens the server finds with them."""
    if pair.boundary == JOINT and pair.is_chat:
        return scorer.score_answer(pair.context, pair.continuation)
    if pair.boundary == JOINT and isinstance(pair.context, str):
        return scorer.score_text(pair.context + pair.continuation)
    return None


def check_scored(start: int, whole: Sequence[int], continuation: Any) -> None:
    """Refuse a continuation of which no token is left.

    Raises:
        EvaluationError: The tokens are those of the context.
    """
    if start >= len(whole):
        raise EvaluationError(
            f"the tokenizer makes no token of the continuation {continuation!r} after this context"
        )


def with_lead(scorer: Scorer, whole: List[int], start: int) -> Tuple[List[int], int]:
    """The tokens to send, with one before the first that is scored, and where that one is now.

    Raises:
        EvaluationError: The first token has none before it, and no special token is known.
    """
    if start:
        return whole, start
    lead = scorer.lead()
    if not lead:
        raise EvaluationError(
            "nothing precedes the first scored token, so it has no probability: give a context, "
            "or bos_token_id=… (this tokenizer adds none; evaluations often take the token that "
            "ends a text)"
        )
    return lead + whole, len(lead)


def cut_left(scorer: Scorer, whole: List[int], start: int) -> Tuple[List[int], int]:
    """Cut the context on the left until the prompt fits; special tokens in front stay.

    Returns:
        The tokens to send, and how many were left out.

    Raises:
        EvaluationError: The continuation alone does not fit.
    """
    longest = scorer.longest_prompt()
    excess = len(whole) - longest
    if excess <= 0:
        return whole, 0
    kept = len(scorer.lead()) if scorer.bos_of(whole) is not None else 0
    if start - excess < max(kept, 1):
        raise EvaluationError(
            f"the continuation has {len(whole) - start} tokens, and a prompt of this server at "
            f"most {longest}, of which one must precede it"
        )
    return whole[:kept] + whole[kept + excess :], excess


def _check_answer(tokens: Sequence[str], answer: str) -> None:
    """Refuse the score of an answer that the chat template changed, by stripping it for example.

    Raises:
        EvaluationError: Other characters were scored.
    """
    scored = "".join(tokens)
    # Some tokenizers leave out the space in front of a token, and broken characters cannot be
    # compared.
    same = "".join(scored.split()) == "".join(answer.split())
    ends = len(scored) - len(scored.rstrip()) == len(answer) - len(answer.rstrip())
    if not (same and ends) and "\ufffd" not in scored:
        raise EvaluationError(
            f"the chat template changes the answer {answer!r}: the prompt has {scored!r}"
        )
