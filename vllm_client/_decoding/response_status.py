"""The status of a response of ``/v1/responses`` → the response, or the error it stands for."""

from __future__ import annotations

from .._error_bodies import message_in
from ..exceptions import InternalServerError, InvalidResponseError
from ..types._json import JsonObject
from ..types.response import Response
from .answers import aborted_error


def finished_response(raw: JsonObject, *, background: bool = False) -> Response:
    """The response of ``/v1/responses`` in its decoded JSON, if nothing of it is missing.

    Args:
        raw: The decoded JSON.
        background: Whether the response may be unfinished, because the caller did not wait.

    Raises:
        KeyError, TypeError, AttributeError: It is not a response of this route.
        InternalServerError: The generation failed.
        GenerationAbortedError: The server gave up the generation.
        InvalidResponseError: It is unfinished.
    """
    response = Response.from_raw(raw)
    refuse_failed(response)
    if response.status == "cancelled":
        raise aborted_error(response)
    if response.status in {"queued", "in_progress"} and not background:
        raise InvalidResponseError(
            f"the response has the status {response.status!r}: it is incomplete; error.partial "
            "holds what arrived",
            body=raw,
            partial=response,
        )
    return response


def refuse_failed(response: Response) -> Response:
    """The response, unless its generation failed.

    Raises:
        InternalServerError: It failed. The HTTP status was 200, the error has the status 500.
    """
    if response.status != "failed":
        return response
    error = response.raw.get("error")
    raise InternalServerError(
        f"the generation failed: {message_in(response.raw) or 'the server sent no message'}",
        status_code=500,
        code=error.get("code") if isinstance(error, dict) else None,
        body=response.raw,
        partial=response,
    )
