"""Errors of requests, urllib3 and http.client → our errors, and whether a retry is safe."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from typing import Callable, Iterator, List, Optional, Tuple, Type

import requests
import urllib3
from attrs import frozen

from ..exceptions import APIConnectionError, APITimeoutError, VllmError
from ..timeouts import Timeout
from .call import TIMED_OUT, Call
from .connections import SendTimeoutError

WIRE_ERRORS = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
    ValueError,
    AttributeError,
    TypeError,
)
"""What the libraries may raise when a connection breaks, another thread shuts it down, or the
environment names a proxy that is none."""

_UNUSABLE_PROXY = (
    requests.exceptions.InvalidProxyURL,
    urllib3.exceptions.ProxySchemeUnknown,
    urllib3.exceptions.ProxySchemeUnsupported,
)
_TIMEOUTS = (
    urllib3.exceptions.TimeoutError,
    requests.Timeout,
    socket.timeout,  # An alias of TimeoutError since Python 3.10.
    TimeoutError,
)
_CLOSED_BEFORE_RESPONSE = (
    http.client.BadStatusLine,
    ConnectionError,
    ssl.SSLEOFError,
    ssl.SSLZeroReturnError,
)


@frozen(eq=False, repr=False)
class FailedAttempt:
    """An attempt without a usable response.

    Attributes:
        error: What the caller gets if there is no retry.
        may_retry: Whether a retry is safe and may help.
        was_reused: Whether the server closed the connection before it answered, as it does with
            one that was idle for too long: then a new connection may work at once. ``Call.reused``
            tells whether it really was an old one.
    """

    error: VllmError
    may_retry: bool
    was_reused: bool = False


@frozen
class _Rule:
    """What an error of a library stands for.

    Attributes:
        causes: The library's errors.
        error: Ours.
        message: Its text; ``{origin}``, ``{proxy}``, ``{timeout}`` and ``{cause}`` are filled in.
        may_retry: As in ``FailedAttempt``.
        is_retryable: As in our errors: whether a program may repeat the call.
        applies: Whether it holds for this last cause, and this proxy of the request.
    """

    causes: Tuple[Type[BaseException], ...]
    error: Type[APIConnectionError]
    message: str
    may_retry: bool
    is_retryable: bool = True
    applies: Callable[[BaseException, str], bool] = lambda *_: True


_PROXY_ADVICE = " (unset HTTP_PROXY, HTTPS_PROXY or ALL_PROXY, or add the host to NO_PROXY)"
_PROXY_FAILS = "the proxy {proxy} does not connect to {origin}: {cause}" + _PROXY_ADVICE

# The first rule that fits applies, so specific errors precede general ones: NewConnectionError is
# a subclass of urllib3's TimeoutError (checked with 2.8.0).
_RULES = (
    _Rule(
        (requests.exceptions.SSLError,),
        APIConnectionError,
        "{origin} answers, but not with TLS ({cause}): does it expect http?",
        may_retry=False,
        is_retryable=False,
        applies=lambda cause, _: "WRONG_VERSION_NUMBER" in str(cause),
    ),
    _Rule(
        (requests.exceptions.SSLError,),
        APIConnectionError,
        "no TLS connection to {origin}: {cause} (set REQUESTS_CA_BUNDLE or session.verify to use "
        "a CA bundle of your own)",
        may_retry=False,
        is_retryable=False,
        # TLS reports a connection that the server closed as an SSLError; that is no TLS problem.
        applies=lambda cause, _: not isinstance(cause, _CLOSED_BEFORE_RESPONSE),
    ),
    _Rule(
        _UNUSABLE_PROXY,
        APIConnectionError,
        "the proxy {proxy} cannot be used: {cause}" + _PROXY_ADVICE,
        may_retry=False,
        is_retryable=False,
    ),
    _Rule(
        (urllib3.exceptions.ProxyError,),
        APIConnectionError,
        _PROXY_FAILS,
        may_retry=True,
    ),
    _Rule(
        # urllib3 does not mark the errors of a SOCKS proxy as those of a proxy.
        (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError),
        APIConnectionError,
        _PROXY_FAILS,
        may_retry=True,
        applies=lambda _, proxy: proxy.lower().startswith("socks"),
    ),
    _Rule(
        (SendTimeoutError,),
        APITimeoutError,
        "the request could not be sent: {origin} accepted no more of it for {timeout.read} s; "
        "Timeout(read=…) allows a longer wait",
        may_retry=False,
    ),
    _Rule(
        # A name that does not resolve raises a NewConnectionError too.
        (urllib3.exceptions.NewConnectionError,),
        APIConnectionError,
        "nothing answers at {origin}: is `vllm serve` running there? ({cause})",
        may_retry=True,
    ),
    _Rule(
        (urllib3.exceptions.ConnectTimeoutError,),
        APITimeoutError,
        "no connection to {origin} within {timeout.connect} s: is the address correct?",
        may_retry=True,
    ),
    _Rule(
        _TIMEOUTS,
        APITimeoutError,
        "{origin} sent nothing for {timeout.read} s; the request may still wait in the queue: "
        "Timeout(read=…) allows a longer wait",
        may_retry=False,
    ),
)


def failed_attempt(
    error: BaseException, origin: str, timeout: Timeout, proxy: Optional[str]
) -> FailedAttempt:
    """What an error means that a library raised before the head of a response was complete.

    Args:
        error: The library's error.
        origin: Scheme, host and port of the server.
        timeout: The time limits of the call.
        proxy: The URL of the proxy that the request goes through.
    """
    causes = list(_causes(error))
    failed = _by_rule(causes, origin, timeout, proxy) or _by_cause(causes[-1], origin, proxy)
    failed.error.__cause__ = error
    return failed


def _by_rule(
    causes: List[BaseException], origin: str, timeout: Timeout, proxy: Optional[str]
) -> Optional[FailedAttempt]:
    for rule in _RULES:
        if _any_is(causes, rule.causes) and rule.applies(causes[-1], proxy or ""):
            text = rule.message.format(
                origin=origin,
                proxy=without_login(proxy or "of the session"),
                timeout=timeout,
                cause=_text(causes[-1], proxy),
            )
            error = rule.error(text)
            refused = str(causes[-1]).startswith("Tunnel connection failed: 4")
            error.is_retryable = rule.is_retryable and not refused
            return FailedAttempt(error, rule.may_retry and not refused)
    return None


def _by_cause(cause: BaseException, origin: str, proxy: Optional[str]) -> FailedAttempt:
    if isinstance(cause, _CLOSED_BEFORE_RESPONSE):
        text = f"{origin} closed the connection before it answered: {cause}"
        if _is_other_protocol(cause):
            text = f"{origin} answers, but not with HTTP ({cause!s:.80}): does it expect https?"
        return FailedAttempt(APIConnectionError(text), may_retry=True, was_reused=True)
    unusable = isinstance(cause, http.client.InvalidURL)
    if not unusable and isinstance(
        cause, (http.client.HTTPException, urllib3.exceptions.ProtocolError)
    ):
        text = f"the response of {origin} broke off or is not HTTP: {cause}"
        return FailedAttempt(APIConnectionError(text), may_retry=False)
    through, advice = "", ""
    if proxy:
        through, advice = f" through the proxy {without_login(proxy)}", _PROXY_ADVICE
    error = APIConnectionError(
        f"the request to {origin} cannot be sent{through}: {_text(cause, proxy)}{advice}"
    )
    error.is_retryable = False
    return FailedAttempt(error, may_retry=False)


def _is_other_protocol(cause: BaseException) -> bool:
    is_line = isinstance(cause, http.client.BadStatusLine) and not isinstance(cause, OSError)
    return is_line and not str(cause).strip().startswith(("HTTP/1", "''"))


def _text(cause: BaseException, proxy: Optional[str]) -> str:
    # urllib3 puts the connection before the message: its class, perhaps ours, and its address.
    text = re.sub(r"^(?:\w+\(.*?\)|<.*?>): ", "", str(cause))
    return text.replace(proxy, without_login(proxy)) if proxy else text


def without_login(proxy: str) -> str:
    """The URL of a proxy without user name and password, whatever else is wrong with it."""
    scheme, login_and_host = re.findall(r"(?s)\A(\w*://|)(.*)", proxy)[0]
    return f"{scheme}{login_and_host.rpartition('@')[2]}"


def _any_is(causes: List[BaseException], kinds: Tuple[Type[BaseException], ...]) -> bool:
    return any(isinstance(cause, kinds) for cause in causes)


def _causes(error: BaseException) -> Iterator[BaseException]:
    # requests and urllib3 keep the error below as an argument or as `reason`, not as __cause__.
    cause: Optional[BaseException] = error
    while cause is not None:
        yield cause
        inner = getattr(cause, "reason", None)
        if not isinstance(inner, BaseException):
            errors = [arg for arg in cause.args if isinstance(arg, BaseException)]
            inner = errors[-1] if errors else None
        cause = inner


def timeout_in_body(error: BaseException, timeout: Timeout) -> Optional[APITimeoutError]:
    """Our error if a library reports a timeout while a body is read, else None."""
    if not _any_is(list(_causes(error)), _TIMEOUTS):
        return None
    return APITimeoutError(
        f"nothing arrived for {timeout.read} s in the middle of the response; "
        "Timeout(read=…) allows a longer wait"
    )


def cancelled(
    call: Call,
    timeout: Timeout,
    *,
    if_closed: Optional[VllmError] = None,
    last_error: Optional[VllmError] = None,
) -> VllmError:
    """The error that tells why a call was cancelled.

    Args:
        call: The cancelled call.
        timeout: The time limits of the call.
        if_closed: The error to return if somebody closed the call.
        last_error: The error of the attempt before.
    """
    if call.reason == TIMED_OUT:
        before = "" if last_error is None else f"; the attempt before failed: {last_error}"
        return APITimeoutError(f"the call exceeded its total timeout of {timeout.total} s{before}")
    return if_closed or APIConnectionError("the client was closed before the response was complete")
