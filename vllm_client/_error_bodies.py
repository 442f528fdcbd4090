"""Error bodies of every known format → the exception to raise."""

from __future__ import annotations

import json
import re
from typing import Dict, Mapping, NamedTuple, Optional, Tuple, Type

from ._route_hints import not_served
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
    405: "the route exists, but not with this HTTP method",
}

_PROXY_ADVICE = "unset HTTP_PROXY or ALL_PROXY, or add the host to NO_PROXY"

# vLLM has no error code for a prompt that is too long. These parts of its messages identify the
# error; they depend on version and route.
_PROMPT_TOO_LONG = (
    r"maximum (?:context|model) length|longer than the maximum model length"
    r"|cannot be greater than max_model_len"
)
# vLLM sends this message for a prompt that exactly fills the context, and also for max_tokens=0.
_NO_ROOM_OR_ZERO = "max_tokens must be at least 1, got 0"
_NO_SUCH_MODEL = r"(?s)The model .* does not exist"

# Names of the message, vLLM's first.
_MESSAGES = ("message", "detail", "msg", "error_description", "error_msg", "title")

# Characters. Search only the beginning of an HTML page: the patterns below are quadratic.
_SEARCHED_HTML = 8192
_LONGEST_MESSAGE = 2000
# Bytes. An error body names itself at its beginning and is short.
_SEARCHED_JSON = 256
_LARGEST_ERROR = 1 << 20


class _ErrorFields(NamedTuple):
    """What an error body contains, in any of its formats."""

    message: str
    type: Optional[str]
    param: Optional[str]
    code: object


def status_error(
    status: int,
    text: str,
    headers: Mapping[str, str],
    *,
    reason: str = "",
    sent: object = None,
    route: Tuple[str, str] = ("", ""),
    proxy: Optional[str] = None,
) -> APIStatusError:
    """Build the exception for an HTTP error response.

    Args:
        status: The HTTP status of the response.
        text: The response body.
        headers: The response headers.
        reason: The reason phrase of the status line, for a response without a message.
        sent: The request body. It resolves messages that are ambiguous.
        route: The method and the URL, for the advice on a route that is not served.
        proxy: The proxy that may have sent the response instead of the server.
    """
    body = decoded_or_text(text)
    fields = _error_fields(body)
    visible = "" if _names_no_reason(body) else _message_of_html(text)
    message = fields.message or visible or _no_message(text, reason)
    if status == 404 and message == "Not Found":
        message = f"{message}: {not_served(*route)}"
    if 300 <= status < 400:
        message = _redirect_message(headers.get("location"))
    elif status in _ADVICE:
        message = f"{message} ({_ADVICE[status]})"
    if proxy and (status == 407 or not isinstance(body, dict)):
        message = f"{message} (perhaps from the proxy {proxy}: {_PROXY_ADVICE})"
    return _class_of(status, message, fields, sent)(
        message,
        status_code=status,
        error_type=fields.type,
        param=fields.param,
        code=fields.code,
        body=body,
        request_id=headers.get("x-request-id"),
    )


def may_be_error(content: bytes) -> bool:
    """Whether a body that was sent with a success status must be decoded to see what it is."""
    return b'"error"' in content[:_SEARCHED_JSON] and len(content) <= _LARGEST_ERROR


def error_in_success(
    content: bytes, headers: Mapping[str, str], *, sent: object = None
) -> Optional[APIStatusError]:
    """Build the exception for an error body that was sent with a success status.

    vLLM 0.14 to 0.16 send ``{"error": {…, "code": 500}}`` with status 200 if the engine has died.
    Returns None for any other body.

    Args:
        content: The response body.
        headers: The response headers.
        sent: The request body.
    """
    if not may_be_error(content):
        return None
    text = content.decode("utf-8", "replace")
    body = decoded_or_text(text)
    if not isinstance(body, dict) or body.get("choices") or not body.get("error"):
        return None
    code = _number(_error_fields(body).code)
    if code is None or not 400 <= code < 600:
        return None
    return status_error(code, text, headers, sent=sent)


def _number(code: object) -> Optional[int]:
    if isinstance(code, str) and re.fullmatch("[0-9]{3}", code):
        return int(code)
    return code if type(code) is int else None


def frame_error(frame: object) -> ServerStreamError:
    """Build the exception for an error frame, which is sent in a stream after status 200."""
    fields = _error_fields(frame)
    code = _number(fields.code)
    page = _message_of_html(frame) if isinstance(frame, str) else ""
    message = fields.message or page or "the server sent an error frame without a message"
    return ServerStreamError(
        f"the server reported an error inside the stream: {message}",
        error_type=fields.type,
        param=fields.param,
        code=fields.code if code is None else code,
        body=frame,
    )


def message_in(body: object) -> Optional[str]:
    """Return the error message of a decoded JSON object; None if the body is not an object."""
    return _error_fields(body).message if isinstance(body, dict) else None


def decoded_or_text(text: str) -> object:
    """Decode a text as JSON. Returns a text that is not JSON unchanged."""
    try:
        decoded: object = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return decoded


def _error_fields(body: object) -> _ErrorFields:
    # {"error": {…}}, {"error": "…"}, {"detail": …}, flat (vLLM up to 0.10.0), or not an object.
    if not isinstance(body, dict):
        body = {"message": body} if isinstance(body, str) and "<" not in body[:200] else {}
    error = body.get("error") or body.get("errors") or body
    members = error if isinstance(error, dict) else body
    message = _as_text(_message_of(members) or _message_of(body))
    if isinstance(error, (str, list)):
        # {"error": "invalid_token", "error_description": "…"}, or the phrase of the status.
        message = ": ".join(dict.fromkeys(filter(None, [_as_text(error), message])))
    elif not isinstance(error, dict):
        message = message or _as_text(error)
    return _ErrorFields(
        message[:_LONGEST_MESSAGE],
        members.get("type"),
        members.get("param"),
        members.get("code"),
    )


def _message_of(members: Mapping[str, object]) -> object:
    return next((members[name] for name in _MESSAGES if members.get(name)), None)


def _as_text(message: object) -> str:
    if isinstance(message, list) and all(isinstance(item, dict) for item in message):
        # FastAPI's validation errors: a list of objects with location and message.
        message = "; ".join(map(_validation_message, message))
    if isinstance(message, str) or message is None:
        return (message or "").strip()
    try:
        return json.dumps(message, ensure_ascii=False)
    except RecursionError:
        return ""


def _validation_message(item: Mapping[str, object]) -> str:
    location, message = item.get("loc"), item.get("msg")
    if not isinstance(location, list) or not isinstance(message, str):
        return _as_text(item)
    return f"{'.'.join(map(str, location))}: {message}"


def _message_of_html(text: str) -> str:
    page = text[:_SEARCHED_HTML]
    title = re.search(r"<title[^>]*>(.*?)</title>", page, re.IGNORECASE | re.DOTALL)
    words = title.group(1).split() if title else []
    return " ".join(words or re.sub(r"<[^>]*(?:>|$)", " ", page).split())[:200]


def _names_no_reason(body: object) -> bool:
    """Whether a body has the place of a message, and nothing there."""
    return isinstance(body, dict) and ("error" in body or "message" in body or "detail" in body)


def _no_message(text: str, reason: str) -> str:
    if text.strip():
        return f"{reason or 'an error'}, without a message in the response body"
    return reason or "the response body is empty"


def _redirect_message(target: Optional[str]) -> str:
    return (
        f"the server redirects to {target or 'an address that it does not name'}; this client does "
        "not follow redirects, because they can turn a POST into a GET: if the address is right, "
        "use it as base_url, without the route at its end"
    )


def _class_of(
    status: int, message: str, fields: _ErrorFields, request_body: object
) -> Type[APIStatusError]:
    if status == 400 and _is_too_long(message, fields, request_body):
        return ContextLengthError
    if status == 404 and (fields.param == "model" or re.search(_NO_SUCH_MODEL, message)):
        return ModelNotFoundError
    if status >= 500:
        return _BY_STATUS.get(status, InternalServerError)
    return _BY_STATUS.get(status, APIStatusError)


def _is_too_long(message: str, fields: _ErrorFields, request_body: object) -> bool:
    if str(fields.param).startswith("body."):
        return False  # A value of the wrong type. The message quotes it, so it can be any text.
    if fields.code == "context_length_exceeded" or re.search(_PROMPT_TOO_LONG, message):
        return True
    body = request_body if isinstance(request_body, dict) else {}
    limits = (body.get("max_tokens"), body.get("max_completion_tokens"))
    # vLLM reads "0" as 0.
    return _NO_ROOM_OR_ZERO in message and not any(limit in (0, "0") for limit in limits)
