"""The bodies of vLLM's HTTP errors. The message texts are vLLM's own: do not reword them."""

from __future__ import annotations

import http.client
from collections.abc import Sequence
from typing import TypedDict

from .json_types import JsonObject

__all__ = [
    "ENGINE_DIED",
    "FieldError",
    "RefusalError",
    "error_body",
    "field_error",
    "parameter_error",
    "reason_phrase",
    "validation_error",
]

ENGINE_DIED = "EngineCore encountered an issue. See stack trace (above) for the root cause."

_TYPE_OF_STATUS = {
    400: "BadRequestError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    422: "UnprocessableEntityError",
    500: "InternalServerError",
    501: "NotImplementedError",
    503: "ServiceUnavailableError",
}


class _FieldErrorBase(TypedDict):
    type: str
    loc: str
    msg: str
    input: str


class FieldError(_FieldErrorBase, total=False):
    """One entry of pydantic's list of errors."""

    ctx: JsonObject


class RefusalError(Exception):
    """Raised where vLLM refuses a request. The server then sends this error as the response.

    Args:
        message: The text of ``error.message``.
        status: The HTTP status, also sent as ``error.code``.
        error_type: ``error.type``; by default the type that vLLM uses for this status.
        param: ``error.param``.
        body: The complete JSON body, if it does not have the usual shape.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        error_type: str | None = None,
        param: str | None = None,
        body: JsonObject | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = body or error_body(message, status, error_type=error_type, param=param)


def error_body(
    message: str, status: int, *, error_type: str | None = None, param: str | None = None
) -> JsonObject:
    """Return the JSON of an error, for the body of a response or for an SSE event."""
    type_ = error_type or _TYPE_OF_STATUS.get(status) or reason_phrase(status)
    return {"error": {"message": message, "type": type_, "param": param, "code": status}}


def reason_phrase(status: int) -> str:
    """Return the reason phrase of an HTTP status; an unknown status has an empty one."""
    return http.client.responses.get(status, "")


def parameter_error(message: str, parameter: str, value: object = None) -> RefusalError:
    """Return the refusal of one parameter. vLLM repeats its name at the end of the message."""
    suffix = f"parameter={parameter}" + ("" if value is None else f", value={value}")
    return RefusalError(f"{message} ({suffix})", param=parameter)


def field_error(
    error_type: str,
    loc: str,
    message: str,
    shown: str,
    context: JsonObject | None = None,
) -> FieldError:
    """Return one entry for ``validation_error``.

    Args:
        error_type: Pydantic's name of the error, such as ``int_parsing``.
        loc: The place of the error, such as ``body.max_tokens``.
        message: Pydantic's message.
        shown: The invalid value as text.
        context: Pydantic's ``ctx``, if the error has one.
    """
    error: FieldError = {"type": error_type, "loc": loc, "msg": message, "input": shown}
    if context is not None:
        error["ctx"] = context
    return error


def validation_error(errors: Sequence[FieldError]) -> RefusalError:
    """Return the refusal of fields with a wrong type. vLLM prints each error as a Python dict."""
    count = f"{len(errors)} validation error{'s' if len(errors) > 1 else ''}"
    lines = "".join(f"\n  {error}" for error in errors)
    return RefusalError(f"{count}:{lines}", error_type="Bad Request", param=errors[0]["loc"])
