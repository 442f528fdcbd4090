"""The text of an answer as an instance of the class that the program asked for."""

from __future__ import annotations

from typing import Any, Optional, Type, TypeVar

from .. import _structured
from ..exceptions import InvalidAnswerError

T = TypeVar("T")


def parse_choices(answer: Any, answer_type: type) -> None:
    """Set ``parsed`` of each choice; a choice that only calls tools keeps None.

    Raises:
        InvalidAnswerError: The text of a choice does not fit. The other choices are parsed.
    """
    failure: Optional[InvalidAnswerError] = None
    for choice in answer.choices:
        text = choice._text_to_parse
        if text is None:
            continue
        try:
            choice.parsed = parse_text(text, answer_type, choice, answer)
        except InvalidAnswerError as error:
            failure = failure or error
    if failure is not None:
        raise failure


def parse_text(text: str, answer_type: Type[T], choice: Any, answer: object) -> T:
    """The text of a choice as an instance of ``answer_type``.

    Raises:
        InvalidAnswerError: The text does not fit.
    """
    try:
        return _structured.read(answer_type, text)
    except (ValueError, RecursionError) as error:
        index = 0 if choice is None else choice.index
        finish_reason = None if choice is None else choice.finish_reason
        cut = " max_tokens or the model's context cut the text (finish reason 'length')."
        raise InvalidAnswerError(
            f"the text of choice {index} is not a JSON {answer_type.__name__}: {error}."
            f"{cut if finish_reason == 'length' else ''} error.text holds the text, and "
            "error.partial the whole answer",
            text=text,
            index=index,
            finish_reason=finish_reason,
            partial=answer,
        ) from error
