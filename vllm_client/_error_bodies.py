"""Error bodies of every shape → the error they mean."""

from __future__ import annotations

import json
import re
from typing import Any, Dict, Mapping, Optional, Type

from .exceptions import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    ContextLengthError,
    InternalServerError,
    ModelNotFoundError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerStreamError,
    ServiceUnavailableError,
    UnprocessableEntityError,
)

_BY_STATUS: Dict[int, Type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    422: UnprocessableEntityError,
    429: RateLimitError,
    503: ServiceUnavailableError,
}

_ADVICE = {
    401: "pass api_key=… or set VLLM_API_KEY",
    405: "this route does not take that method",
}

# vLLM has no code of its own for it; these openings are its own words, by version and route.
_TOO_LONG = (
    r"maximum (?:context|model) length|longer than the maximum model length"
    r"|cannot be greater than max_model_len"
)
# A prompt that fills the context exactly; the same words answer a max_tokens of 0.
_NO_ROOM = "max_tokens must be at least 1, got 0"
_NO_MODEL = r"(?s)The model .* does not exist"

# An error page says what it is in its first lines; the patterns below take quadratic time.
_LOOKED_AT = 8192
_LONGEST_MESSAGE = 2000


def status_error(
    status: int, text: str, headers: Mapping[str, str], *, reason: str = "", sent: Any = None
) -> APIStatusError:
    """The error an HTTP answer with a status that is no success stands for.

    ``sent`` is the body of the request, where it says what an ambiguous message means.
    """
    body = decoded_or_text(text)
    fields = _fields(body)
    message = fields["message"] or _from_html(text) or reason or "the body is empty"
    if 300 <= status < 400:
        message = _redirection(headers.get("location"))
    elif status in _ADVICE:
        message = f"{message} ({_ADVICE[status]})"
    return _class_of(status, message, fields, sent)(
        message,
        status_code=status,
        error_type=fields["type"],
        param=fields["param"],
        code=fields["code"],
        body=body,
        request_id=headers.get("x-request-id"),
    )


def frame_error(frame: Any) -> ServerStreamError:
    """The error of a frame inside a stream, after the status was 200 already."""
    fields = _fields(frame)
    code = fields["code"]
    if isinstance(code, str) and re.fullmatch("[0-9]{3}", code):
        code = int(code)
    message = fields["message"] or "the server sent an error that says nothing"
    return ServerStreamError(
        f"the server reported an error inside the stream: {message}",
        error_type=fields["type"],
        param=fields["param"],
        code=code,
        body=frame,
    )


def message_in(body: Any) -> Optional[str]:
    """The error message in a decoded body, None where there is none."""
    message = _fields(body)["message"]
    return message if isinstance(body, dict) else None


def decoded_or_text(text: str) -> Any:
    """JSON decoded, anything else as it is."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _fields(body: Any) -> Dict[str, Any]:
    # {"error": {…}}, {"error": "…"}, {"detail": …}, flat up to 0.10.0, or no object at all.
    if not isinstance(body, dict):
        body = {"message": body} if isinstance(body, str) and "<" not in body[:200] else {}
    error = body.get("error", body)
    if not isinstance(error, dict):
        error = {"message": error}
    message = error.get("message") or error.get("detail") or body.get("detail")
    return {
        "message": _words(message)[:_LONGEST_MESSAGE],
        "type": error.get("type"),
        "param": error.get("param"),
        "code": error.get("code"),
    }


def _words(message: Any) -> str:
    if isinstance(message, list) and all(isinstance(item, dict) for item in message):
        # FastAPI's own: what is wrong, and where.
        message = "; ".join(map(_complaint, message))
    if isinstance(message, str) or message is None:
        return (message or "").strip()
    try:
        return json.dumps(message, ensure_ascii=False)
    except RecursionError:
        return ""


def _complaint(item: Mapping[str, Any]) -> str:
    where, what = item.get("loc"), item.get("msg")
    if not isinstance(where, list) or not isinstance(what, str):
        return _words(item)
    return f"{'.'.join(map(str, where))}: {what}"


def _from_html(text: str) -> str:
    page = text[:_LOOKED_AT]
    title = re.search(r"<title[^>]*>(.*?)</title>", page, re.IGNORECASE | re.DOTALL)
    words = title.group(1) if title else re.sub(r"<[^>]*(?:>|$)", " ", page)
    return " ".join(words.split())[:200]


def _redirection(target: Optional[str]) -> str:
    return (
        f"the server redirects to {target or 'nowhere'}; redirects are not followed, "
        "because they can turn a POST into a GET: use that address as base_url if it is right"
    )


def _class_of(
    status: int, message: str, fields: Mapping[str, Any], sent: Any
) -> Type[APIStatusError]:
    if status == 400 and _is_too_long(message, fields, sent):
        return ContextLengthError
    if status == 404 and (fields["param"] == "model" or re.search(_NO_MODEL, message)):
        return ModelNotFoundError
    if status >= 500:
        return _BY_STATUS.get(status, InternalServerError)
    return _BY_STATUS.get(status, APIStatusError)


def _is_too_long(message: str, fields: Mapping[str, Any], sent: Any) -> bool:
    if str(fields["param"]).startswith("body."):
        return False  # A value of the wrong type; the message may quote whatever it was.
    if fields["code"] == "context_length_exceeded" or re.search(_TOO_LONG, message):
        return True
    asked = sent if isinstance(sent, dict) else {}
    limits = (asked.get("max_tokens"), asked.get("max_completion_tokens"))
    # The server reads "0" as 0.
    return _NO_ROOM in message and not any(limit in (0, "0") for limit in limits)
