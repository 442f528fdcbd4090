"""Bodies of responses that are not streamed → completions."""

from __future__ import annotations

import json
from typing import Callable, Optional, TypeVar

from .._error_bodies import message_in
from ..exceptions import GenerationAbortedError, InvalidResponseError
from ..types._json import JsonObject
from .chunks import MISSHAPEN, shortened
from .fast_json import loads

R = TypeVar("R")


def decoded_answer(content: bytes, from_raw: Callable[[JsonObject], R], expected: int = 0) -> R:
    """The completion in the body of a response.

    Args:
        content: The body.
        from_raw: Makes the completion from the decoded JSON.
        expected: How many choices were asked for.

    Raises:
        InvalidResponseError: The body is something else, or lacks a choice or a finish reason.
        GenerationAbortedError: The server gave up the generation.
    """
    try:
        raw: JsonObject = loads(content)
    except (ValueError, RecursionError) as error:
        text = content.decode("utf-8", "replace")
        raise InvalidResponseError(
            f"the response is not JSON ({error}): {shortened(text)}", body=text
        ) from error
    try:
        answer = from_raw(raw)
        aborted = any(choice.get("finish_reason") == "abort" for choice in raw.get("choices", ()))
    except MISSHAPEN as error:
        message = message_in(raw) or f"the response has not the shape of its route ({error!r})"
        raise InvalidResponseError(
            f"{message}: {shortened(json.dumps(raw, ensure_ascii=False))}", body=raw
        ) from error
    if aborted:
        raise aborted_error(answer)
    _check_complete(raw, answer, expected)
    return answer


def _check_complete(raw: JsonObject, answer: object, expected: int) -> None:
    # The same rule as for streams: every choice that was asked for, each with a finish reason.
    choices = raw["choices"] if expected else ()
    finished = {choice.get("index", 0) for choice in choices if choice.get("finish_reason")}
    missing = [index for index in range(expected) if index not in finished]
    if missing:
        raise InvalidResponseError(
            f"choice {', '.join(map(str, missing))} has no finish reason: the response is "
            "incomplete; error.partial holds what arrived",
            body=raw,
            partial=answer,
        )


def aborted_error(partial: Optional[object]) -> GenerationAbortedError:
    """The error for the finish reason ``"abort"``; ``partial`` is what the server sent."""
    return GenerationAbortedError(
        "the server aborted the generation (it shuts down, is paused, or was told to abort): "
        "error.partial holds the text so far",
        partial=partial,
    )
