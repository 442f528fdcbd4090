"""``to_frame()``: answers, rows of a batch and log-probabilities as a pandas frame."""

from __future__ import annotations

import math
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional

from ..types.logprobs import TokenLogprob
from ._scored import scored

__all__ = ["to_frame"]

_TOKEN_COLUMNS = ("token", "logprob", "text_offset")


def to_frame(answers: Any) -> Any:
    """Put answers, rows of a batch or tokens into a ``pandas.DataFrame``.

    Args:
        answers: A completion, chat completion or response, or any iterable of them: one row for
            each choice. Rows of ``client.batch`` or ``read_batch()``: the same, with the number,
            the name, the error and the times of the row in front. A choice, or a list of
            ``TokenLogprob``: one row for each token, with its alternatives as a dict.

    Returns:
        The frame. Columns without any value are left out, except those of tokens.

    Raises:
        TypeError: An item is none of these.
        ValueError: A choice has no log-probabilities.
        ImportError: pandas is not installed; it comes with the extra ``pandas``.
    """
    if hasattr(answers, "token_logprobs"):
        return frame_of(map(_token_row, _tokens(answers)), _TOKEN_COLUMNS)
    items = [answers] if _is_answer(answers) or hasattr(answers, "custom_id") else list(answers)
    if items and all(isinstance(item, TokenLogprob) for item in items):
        return frame_of(map(_token_row, items), _TOKEN_COLUMNS)
    rows = list(rows_of(items))
    names = dict.fromkeys(name for row in rows for name in row)
    used = [name for name in names if any(row.get(name) is not None for row in rows)]
    return frame_of([{name: row.get(name) for name in used} for row in rows])


def frame_of(rows: Iterable[Mapping[str, Any]], columns: Iterable[str] = ()) -> Any:
    """A frame of rows.

    Raises:
        ImportError: pandas is not installed.
    """
    try:
        import pandas as pd  # noqa: PLC0415 — an extra
    except ImportError:
        raise ImportError("frames need pandas: pip install 'vllm-sync-client[pandas]'") from None
    rows = list(rows)
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=list(columns))


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
            raise TypeError(
                f"expected answers or rows of a batch, not {type(item).__name__}: pass a "
                "Completion, a ChatCompletion, a BatchRow, or a list of them"
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
    message = getattr(choice, "message", choice or answer)
    text = message.content if hasattr(message, "content") else message.text
    calls = [f"{call.name}({call.arguments})" for call in getattr(message, "tool_calls", ())]
    number = choice.index if choice is not None and len(answer.choices) > 1 else None
    return {
        "choice": number,
        "text": text,
        "reasoning": getattr(message, "reasoning", None) or None,
        "tool_calls": "\n".join(calls) or None,
        "finish_reason": getattr(choice or answer, "finish_reason", None)
        or getattr(answer, "status", None),
        **_likelihood(choice),
    }


def _likelihood(choice: Any) -> Dict[str, Optional[float]]:
    tokens = getattr(choice, "token_logprobs", ())
    logprobs = [token.logprob for token in tokens if token.logprob is not None]
    if not logprobs:
        return {"logprob": None, "perplexity": None}
    total = math.fsum(logprobs)
    return {"logprob": total, "perplexity": math.exp(min(700.0, -total / len(logprobs)))}


def _tokens(choice: Any) -> List[TokenLogprob]:
    return [part.token for part in scored(choice) if part.token is not None]


def _token_row(token: TokenLogprob) -> Dict[str, Any]:
    return {
        "token": token.token,
        "logprob": token.logprob,
        "text_offset": token.text_offset,
        "probability": None if token.logprob is None else math.exp(token.logprob),
        "alternatives": {other.token: other.logprob for other in token.top_logprobs},
    }
