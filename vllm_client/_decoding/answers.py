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


def decoded_answer(content: bytes, from_raw: Callable[[JsonObject], R]) -> R:
    """The completion in the body of a response.

    Args:
        content: The body.
        from_raw: Makes the completion from the decoded JSON.

    Raises:
        InvalidResponseError: The body is something else.
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
    return answer


def aborted_error(partial: Optional[object]) -> GenerationAbortedError:
    """The error for the finish reason ``"abort"``; ``partial`` is what the server sent."""
    return GenerationAbortedError(
        "the server aborted the generation (it shuts down, is paused, or was told to abort): "
        "error.partial holds the text so far",
        partial=partial,
    )
