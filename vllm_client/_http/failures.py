"""Errors of requests, urllib3 and http.client → ours, and whether another attempt is safe."""

from __future__ import annotations

import http.client
import socket
import ssl
from typing import Iterator, Optional

import requests
import urllib3
from attrs import frozen

from ..exceptions import APIConnectionError, APITimeoutError, VllmError
from ..timeouts import Timeout
from .call import TIMED_OUT, Call

WIRE_ERRORS = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
    ValueError,
    AttributeError,
)
"""What the libraries below may raise when the wire breaks, or is shut down by another thread."""

_NOT_CONNECTED = (
    urllib3.exceptions.NewConnectionError,  # A name that does not resolve is one of these.
    urllib3.exceptions.ProxyError,
)
_UNANSWERED = (
    http.client.BadStatusLine,
    ConnectionError,
    ssl.SSLEOFError,
    ssl.SSLZeroReturnError,
)


@frozen(eq=False, repr=False)
class Fault:
    """Why an attempt gave no answer: the error, whether to try again, and how soon."""

    error: VllmError
    again: bool
    retry_after: Optional[str] = None
    stale: bool = False


def explained(error: BaseException, origin: str, timeout: Timeout) -> Fault:
    """The fault behind an error that came before the head of an answer was whole."""
    causes = list(_causes(error))
    fault = _fault(causes, origin, timeout)
    for cause in causes:
        if isinstance(cause, requests.RequestException):
            cause.request = None  # It holds the key, and errors get logged and kept.
    fault.error.__cause__ = error
    return fault


def _fault(causes: list[BaseException], origin: str, timeout: Timeout) -> Fault:
    unanswered = isinstance(causes[-1], _UNANSWERED)
    if any(isinstance(cause, requests.exceptions.SSLError) for cause in causes) and not unanswered:
        return Fault(_ssl_error(causes[-1], origin), again=False)
    # Before the time-outs: urllib3 counts a refused connection among them.
    if any(isinstance(cause, _NOT_CONNECTED) for cause in causes):
        text = f"nothing answers at {origin}: is `vllm serve` running there? ({causes[-1]})"
        return Fault(APIConnectionError(text), again=True)
    if any(isinstance(cause, urllib3.exceptions.ConnectTimeoutError) for cause in causes):
        text = f"no connection to {origin} within {timeout.connect} s: is the address right?"
        return Fault(APITimeoutError(text), again=True)
    if is_timeout(causes):
        text = (
            f"{origin} sent nothing for {timeout.read} s; the request may have been queued: "
            "a longer wait is allowed with Timeout(read=…)"
        )
        return Fault(APITimeoutError(text), again=False)
    text = f"{origin} closed the connection before it answered: {causes[-1]}"
    return Fault(APIConnectionError(text), again=unanswered, stale=unanswered)


def _ssl_error(cause: BaseException, origin: str) -> APIConnectionError:
    error = APIConnectionError(
        f"no TLS connection to {origin}: {cause} (a CA bundle of your own goes into "
        "REQUESTS_CA_BUNDLE or session.verify)"
    )
    error.is_retryable = False
    return error


def _causes(error: BaseException) -> Iterator[BaseException]:
    # requests and urllib3 keep the error below as an argument or as the reason, not as the cause.
    seen: Optional[BaseException] = error
    while seen is not None:
        yield seen
        inner = getattr(seen, "reason", None)
        if not isinstance(inner, BaseException):
            inner = next(
                (arg for arg in reversed(seen.args) if isinstance(arg, BaseException)), None
            )
        seen = inner


def is_timeout(causes: list[BaseException]) -> bool:
    """Whether one of these says that time ran out."""
    # socket.timeout became TimeoutError in Python 3.10.
    kinds = (urllib3.exceptions.TimeoutError, requests.Timeout, socket.timeout, TimeoutError)
    return any(isinstance(cause, kinds) for cause in causes)


def broken(error: BaseException, timeout: Timeout) -> Optional[APITimeoutError]:
    """The time-out behind an error in the middle of a body, None if it is none."""
    if not is_timeout(list(_causes(error))):
        return None
    return APITimeoutError(
        f"nothing came for {timeout.read} s in the middle of the answer; "
        "Timeout(read=…) sets the longest silence allowed"
    )


def stopped(
    call: Call,
    timeout: Timeout,
    closed: Optional[VllmError] = None,
    failed: Optional[VllmError] = None,
) -> VllmError:
    """The error that says why a call was stopped.

    Args:
        call: It.
        timeout: Its limits.
        closed: The error if it was by closing.
        failed: The error of an attempt before.
    """
    if call.reason == TIMED_OUT:
        before = "" if failed is None else f"; the attempt before failed: {failed}"
        return APITimeoutError(
            f"the call took longer than the {timeout.total} s of its total limit{before}"
        )
    return closed or APIConnectionError("the client was closed before the answer was whole")
