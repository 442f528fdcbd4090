"""``to_frame()``: answers, rows of a batch and log-probabilities as a pandas frame."""

from __future__ import annotations

import math
from typing import Any, Dict, Iterable, Iterator, List, Optional

from .._frames import data_frame
from ..types.logprobs import TokenLogprob
from ._answers import outcome
from ._scored import logprob_of, probability, scored

__all__ = ["to_frame"]

_TOKEN_COLUMNS = ("token", "logprob", "text_offset", "probability", "alternatives")


def to_frame(answers: Any) -> Any:
    """Put answers, rows of a batch or tokens into a ``pandas.DataFrame``.

    Args:
        answers: A completion, chat completion or response, or any iterable of them: one row for
            each choice. Rows of ``client.batch`` or ``read_batch()``: the same, with the number,
            the name, the error and the times of the row in front. A choice, or a list of
            ``TokenLogprob``: one row for each token, with its alternatives as a dict. A result of
            ``client.evaluate`` with tokens: what its own ``to_frame()`` returns.

    Returns:
        The frame. Columns without any value are left out, except those of tokens.

    Raises:
        TypeError: An item is none of these.
        ValueError: A choice has no log-probabilities.
        ImportError: pandas is not installed; it comes with the extra ``pandas``.
    """
    scores: Any
    for scores in (answers, getattr(answers, "columns", None)):  # A perplexity has them there.
        if hasattr(scores, "token_logprobs") and hasattr(scores, "to_frame"):
            return scores.to_frame()
    if hasattr(answers, "token_logprobs"):
        return _token_frame(_tokens(answers))
    items = items_of(answers)
    if items and all(isinstance(item, TokenLogprob) for item in items):
        return _token_frame(items)
    rows = list(rows_of(items))
    names = dict.fromkeys(name for row in rows for name in row)
    used = [name for name in names if any(row.get(name) is not None for row in rows)]
    return data_frame([{name: row.get(name) for name in used} for row in rows])


def _token_frame(tokens: Iterable[TokenLogprob]) -> Any:
    return data_frame(list(map(_token_row, tokens)), _TOKEN_COLUMNS)


def items_of(answers: Any) -> List[Any]:
    """Answers, rows or tokens as a list, also a single one.

    Raises:
        TypeError: It is neither one of them nor an iterable.
    """
    if _is_answer(answers) or hasattr(answers, "custom_id"):
        return [answers]
    if not isinstance(answers, Iterable):
        raise _refused(answers)
    return list(answers)


def rows_of(items: Iterable[Any]) -> Iterator[Dict[str, Any]]:
    """The values of answers and rows of batches, one dict for each choice.

    Raises:
        TypeError: An item is neither.
    """
    for item in items:
        if hasattr(item, "custom_id"):
            yield from _batch_rows(item)
        elif _is_answer(item):
            yield from _answer_rows(item)
        else:
            raise _refused(item)


def _refused(item: object) -> TypeError:
    return TypeError(
        f"expected answers or rows of a batch, not {type(item).__name__}: pass a Completion, a "
        "ChatCompletion, a BatchRow, or a list of them"
    )


def _is_answer(item: Any) -> bool:
    return hasattr(item, "text") and hasattr(item, "usage") and hasattr(item, "model")


def _batch_rows(row: Any) -> Iterator[Dict[str, Any]]:
    known = {
        "index": row.index,
        "custom_id": row.custom_id,
        "error": None if row.error is None else f"{type(row.error).__name__}: {row.error}",
        "attempts": row.attempts,
        "duration": row.duration,
        "queued": row.queued,
    }
    answers = _answer_rows(row.response) if _is_answer(row.response) else [{}]
    for values in answers:
        yield {**known, **values}


def _answer_rows(answer: Any) -> Iterator[Dict[str, Any]]:
    usage = answer.usage
    counts = {
        "prompt_tokens": None if usage is None else usage.prompt_tokens,
        "completion_tokens": None if usage is None else usage.completion_tokens,
        "model": answer.model or None,
        "id": getattr(answer, "id", None) or getattr(answer, "request_id", None),
    }
    for choice in getattr(answer, "choices", None) or [None]:
        yield {**_choice_values(answer, choice), **counts}


def _choice_values(answer: Any, choice: Any) -> Dict[str, Any]:
    """The values of a choice; of a response, which has none, those of the response."""
    whole = outcome(answer, choice)
    number = choice.index if choice is not None and len(answer.choices) > 1 else None
    return {
        "choice": number,
        "text": whole.text,
        "reasoning": whole.reasoning,
        "tool_calls": "\n".join(f"{call.name}({call.arguments})" for call in whole.calls) or None,
        "finish_reason": whole.finish_reason,
        **_likelihood(choice),
    }


def _likelihood(choice: Any) -> Dict[str, Optional[float]]:
    """Sum and perplexity; None if one of the tokens has no log-probability."""
    tokens = list(getattr(choice, "token_logprobs", ()))
    if tokens and tokens[0].logprob is None:  # Nothing stands before an echoed prompt.
        del tokens[0]
    logprobs = [logprob for logprob in map(logprob_of, tokens) if logprob is not None]
    if not logprobs or len(logprobs) < len(tokens):
        return {"logprob": None, "perplexity": None}
    total = math.fsum(logprobs)
    return {"logprob": total, "perplexity": _exp(-total / len(logprobs))}


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def _tokens(choice: Any) -> List[TokenLogprob]:
    return [part.token for part in scored(choice) if part.token is not None]


def _token_row(token: TokenLogprob) -> Dict[str, Any]:
    logprob = logprob_of(token)
    return {
        "token": token.token,
        "logprob": token.logprob,
        "text_offset": token.text_offset,
        "probability": None if logprob is None else probability(logprob),
        "alternatives": {other.token: other.logprob for other in token.top_logprobs},
    }
