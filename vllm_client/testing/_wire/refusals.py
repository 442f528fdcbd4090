"""How vLLM says no: the bodies of its HTTP errors."""

from __future__ import annotations

import http.client
from typing import Any

__all__ = ["ENGINE_DIED", "RefusalError", "error_body", "invalid", "named", "phrase"]

ENGINE_DIED = "EngineCore encountered an issue. See stack trace (above) for the root cause."

_TYPES = {
    400: "BadRequestError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    422: "UnprocessableEntityError",
    500: "InternalServerError",
    501: "NotImplementedError",
    503: "ServiceUnavailableError",
}


class RefusalError(Exception):
    """A request that the server answers with an error.

    Args:
        message: what `error.message` says.
        status: the HTTP status, which is `error.code` too.
        error_type: `error.type`; by default what vLLM writes for this status.
        param: `error.param`.
        body: the whole JSON, where it is not of the usual shape.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        error_type: str | None = None,
        param: str | None = None,
        body: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = body or error_body(message, status, error_type=error_type, param=param)


def error_body(
    message: str, status: int, *, error_type: str | None = None, param: str | None = None
) -> dict[str, Any]:
    """Return the JSON of an error, as a body or as a frame in a stream."""
    kind = error_type or _TYPES.get(status) or phrase(status)
    return {"error": {"message": message, "type": kind, "param": param, "code": status}}


def phrase(status: int) -> str:
    """Return the reason phrase of a status, or nothing for one that has none."""
    return http.client.responses.get(status, "")


def named(message: str, parameter: str, value: object = None) -> RefusalError:
    """Return the refusal of one parameter, which vLLM repeats at the end of its message."""
    shown = f"parameter={parameter}" + ("" if value is None else f", value={value}")
    return RefusalError(f"{message} ({shown})", param=parameter)


def invalid(errors: list[dict[str, Any]]) -> RefusalError:
    """Return the refusal of fields of the wrong type, which vLLM lists as Python writes them."""
    count = f"{len(errors)} validation error{'s' if len(errors) > 1 else ''}"
    lines = "".join(f"\n  {error}" for error in errors)
    return RefusalError(f"{count}:{lines}", error_type="Bad Request", param=errors[0]["loc"])
