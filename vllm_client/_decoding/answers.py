"""Bodies of responses that are not streamed → completions."""

from __future__ import annotations

from typing import Callable, Iterable, Mapping, Optional, TypeVar

from .._error_bodies import frame_error, message_in
from ..exceptions import GenerationAbortedError, InvalidResponseError
from ..types._json import JsonObject
from .chunks import ABORTED, MISSHAPEN, finish_reason_of, shortened
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
        choices = [choice for choice in raw.get("choices", ()) if choice is not None]
        reasons = {choice.get("index") or 0: finish_reason_of(choice) for choice in choices}
    except MISSHAPEN as error:
        message = message_in(raw) or f"the response has not the shape of its route ({error!r})"
        text = content.decode("utf-8", "replace")
        raise InvalidResponseError(f"{message}: {shortened(text)}", body=raw) from error
    if expected:
        _refuse_error([raw, *choices], answer)
    if not ABORTED.isdisjoint(reasons.values()):
        raise aborted_error(answer)
    _check_complete(raw, reasons, answer, expected)
    return answer


def _refuse_error(members: Iterable[JsonObject], answer: object) -> None:
    # Gateways report an error of their model beside a part of the text.
    for member in members:
        if member.get("error"):
            error = InvalidResponseError(
                f"the server reported an error inside the response: {message_in(member)}",
                body=member,
                partial=answer,
            )
            error.is_retryable = frame_error(member).is_retryable
            raise error


def _check_complete(
    raw: JsonObject, reasons: Mapping[int, Optional[str]], answer: object, expected: int
) -> None:
    # The same rule as for streams: every choice that was asked for, each with a finish reason.
    missing = [index for index in range(expected) if reasons.get(index) is None]
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
        "the server aborted the generation (it failed, shuts down, is paused, or was told to "
        "abort): error.partial holds the text so far",
        partial=partial,
    )
