"""One request, sent until a response has a success status: attempts, pauses and limits."""

from __future__ import annotations

import logging
import random
from time import perf_counter
from typing import Callable, Optional, Tuple, TypeVar, Union
from urllib.parse import urlsplit

import requests
import urllib3
from attrs import define

from .._error_bodies import error_in_success, may_be_error, status_error
from .._tracebacks import shorten_interrupt
from ..exceptions import RETRYABLE_STATUSES, VllmError
from ..timeouts import Timeout
from .call import Call, current
from .direct import DirectResponse, Exchange
from .failures import WIRE_ERRORS, FailedAttempt, cancelled, failed_attempt, without_login
from .redaction import Secrets
from .response import OpenResponse, WholeResponse
from .session import ClientSession, Limits

logger = logging.getLogger("vllm_client")

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 8.0
LONGEST_RETRY_AFTER = 60.0
"""Seconds."""
LARGEST_ERROR_BODY = 1 << 20
"""Bytes; a longer error body is cut."""

R = TypeVar("R")
_Attempt = Callable[[Call, Limits], Union[R, FailedAttempt, None]]


@define(eq=False, repr=False)
class Attempts:
    """The attempts of one call.

    Attributes:
        request: What is sent.
        json: Its body before it was encoded; ambiguous error messages depend on it.
        largest_body: The largest body that an attempt reads, in bytes; None leaves the body of a
            success unread, as for a stream.
        failed: How many attempts have failed.
        begun: A request that was sent already: the first attempt waits for its response.
        replaced: Whether an idle connection was dead and another one took its place.
        last_error: The error of the last one.
    """

    session: ClientSession
    request: requests.Request
    json: object
    timeout: Timeout
    max_retries: int
    secrets: Secrets
    largest_body: Optional[int] = None
    begun: Optional[Exchange] = None
    begun_at: float = 0.0
    failed: int = 0
    replaced: bool = False
    last_error: Optional[VllmError] = None

    def until_response(self, owner: object) -> OpenResponse:
        """Open a call and send the request; retry while that may help.

        Args:
            owner: Whose call it is, for ``ClientSession.close``.

        Raises:
            APIConnectionError, APITimeoutError, APIStatusError: The last attempt failed. The
                error tells how many attempts there were.
        """
        call = self.session.open_call(owner, self.timeout.total)
        return self._repeat(call, self._try_to_open)

    def until_content(self, owner: object) -> WholeResponse:
        """The same, for a response that is read to its end: a common one faster."""
        call = self.session.open_call(owner, self.timeout.total)
        return self._repeat(call, self._try_to_fetch)

    def begin(self, owner: object) -> Optional[Call]:
        """Send the request on an idle connection, without waiting for anything.

        Returns:
            The call, whose exchange is :attr:`begun`; None if another way must be taken.
        """
        # The call belongs to no scope: it is one of many that its thread makes at once.
        scope, current.scope = current.scope, None
        try:
            call = self.session.open_call(owner, self.timeout.total)
        finally:
            current.scope = scope
        self.begun_at = perf_counter()
        try:
            self.begun = self.session.begin(call, self.request)
        except WIRE_ERRORS:
            self.begun = None
        if self.begun is None:
            call.close()
            return None
        return call

    def content_now(self, call: Call) -> Optional[WholeResponse]:
        """The response to what :meth:`begin` sent, if it is there, whole, and no error.

        Else :meth:`finish` must follow.
        """
        assert self.begun is not None
        response = self.begun.receive_now(self.largest_body or 0)
        if response is None or call.is_over() or may_be_error(response.content):
            return None
        self.begun.release(call)
        call.close()
        return WholeResponse(response, self.secrets, self.begun_at, perf_counter())

    def finish(self, call: Call) -> WholeResponse:
        """As :meth:`until_content`; the first attempt is what :meth:`begin` sent."""
        return self._repeat(call, self._try_to_fetch)

    def _repeat(self, call: Call, attempt: _Attempt[R]) -> R:
        try:
            while call.reason is None:
                connect = call.cap_to_deadline(self.timeout.connect)
                read = call.cap_to_deadline(self.timeout.read)
                result = attempt(call, (connect, read))
                if isinstance(result, FailedAttempt):
                    self._pause_or_raise(result, call)
                elif result is not None:
                    return result
            raise cancelled(call, self.timeout, last_error=self.last_error)
        except BaseException as error:
            call.close()
            if isinstance(error, VllmError):
                self._locate(error)
            elif isinstance(error, KeyboardInterrupt):
                shorten_interrupt(error)
            raise

    def _try_to_open(self, call: Call, limits: Limits) -> Union[OpenResponse, FailedAttempt, None]:
        started = perf_counter()
        try:
            response = self.session.send(call, self.request, limits)
        except WIRE_ERRORS as error:
            return self._failure_of(error, call)
        opened = OpenResponse(response, call, self.timeout, self.secrets, started)
        return self._failure_in(opened) or opened

    def _try_to_fetch(
        self, call: Call, limits: Limits
    ) -> Union[WholeResponse, FailedAttempt, None]:
        begun, self.begun = self.begun, None
        started = self.begun_at if begun is not None else perf_counter()
        largest = self.largest_body or 0
        try:
            if begun is None:
                response = self.session.fetch(call, self.request, limits, largest)
            else:
                response = self.session.finish(call, self.request, limits, largest, begun)
        except WIRE_ERRORS as error:
            return self._failure_of(error, call)
        if not isinstance(response, DirectResponse):
            opened = OpenResponse(response, call, self.timeout, self.secrets, started)
            failed = self._failure_in(opened)
        elif call.is_over():
            return None
        else:
            failed = self._error_in(response)
        if failed is None:
            call.close()
        return failed or WholeResponse(response, self.secrets, started, perf_counter())

    def _failure_of(self, error: BaseException, call: Call) -> Optional[FailedAttempt]:
        """What an error before a response means; None if another attempt follows at once.

        An idle connection that the server has closed meanwhile is replaced, once and at once. That
        is no failed attempt.
        """
        if call.is_over():
            return None
        proxy = self.session.proxy_for(str(self.request.url))
        failed = failed_attempt(error, self._origin(), self.timeout, proxy)
        self.secrets.hide_causes(failed.error)
        if failed.was_reused and call.reused and not self.replaced:
            self.replaced = True
            return None
        return failed

    def _failure_in(self, opened: OpenResponse) -> Optional[FailedAttempt]:
        if not 200 <= opened.response.status_code < 300:
            return self._refused(opened)
        if self.largest_body is None:
            return None
        with opened.redacting():
            opened.read_all(self.largest_body, last=False)
        return self._error_in(opened.response)

    def _error_in(
        self, response: Union[requests.Response, DirectResponse]
    ) -> Optional[FailedAttempt]:
        if not may_be_error(response.content):  # Asked first: the headers are not decoded yet.
            return None
        error = error_in_success(response.content, response.headers, sent=self.json)
        return None if error is None else FailedAttempt(error, error.is_retryable)

    def _refused(self, opened: OpenResponse) -> FailedAttempt:
        response = opened.response
        if response.status_code < 200:
            # An interim response, which a user's session takes for the final one. The final one
            # follows on this connection and belongs to no other request.
            opened.break_off()
            text = ""
        else:
            text = self.secrets.redacted(opened.read_text(LARGEST_ERROR_BODY))
            opened.release_or_close()
        error = status_error(
            response.status_code,
            text,
            response.headers,
            reason=response.reason or "",
            sent=self.json,
            route=self._method_and_url(),
            proxy=self._answering_proxy(),
        )
        error.retry_after = _retry_after(response.headers.get("retry-after"))
        may_retry = response.status_code in RETRYABLE_STATUSES
        return FailedAttempt(error, may_retry)

    def _answering_proxy(self) -> Optional[str]:
        """The proxy that may have sent a response itself: through TLS only the server can."""
        url = str(self.request.url)
        proxy = self.session.proxy_for(url) if url.startswith("http:") else None
        return without_login(proxy) if proxy else None

    def _pause_or_raise(self, failed: FailedAttempt, call: Call) -> None:
        """Pause before the next attempt, or raise the error if a retry is no use."""
        self.failed += 1
        error = self.last_error = failed.error
        self.secrets.redact(error)  # Before it is logged.
        pause = self._pause(failed)
        remaining = call.remaining
        no_time = remaining is not None and pause >= remaining
        if not failed.may_retry or self.failed > self.max_retries or no_time:
            raise error
        self._log_retry(pause, error)
        call.pause(pause)

    def _pause(self, failed: FailedAttempt) -> float:
        """Seconds before the next attempt: what the server asks for, else jittered back-off."""
        asked: Optional[float] = getattr(failed.error, "retry_after", None)
        if asked is not None:
            return min(asked, LONGEST_RETRY_AFTER)
        if failed.was_reused and self.failed == 1:
            return 0.0
        return min(FIRST_PAUSE * 2.0 ** (self.failed - 1), LONGEST_PAUSE) * random.uniform(0.5, 1)

    def _log_retry(self, pause: float, error: VllmError) -> None:
        method, url = self._method_and_url()
        logger.info(
            "retry %d of %d in %.2f s: %s %s: %s",
            self.failed,
            self.max_retries,
            pause,
            method,
            url,
            error,
            extra={
                "retry": self.failed,
                "max_retries": self.max_retries,
                "pause": pause,
                "method": method,
                "url": url,
            },
        )

    def _locate(self, error: VllmError) -> None:
        error.method, error.url = self._method_and_url()
        error.attempts = self.failed

    def _origin(self) -> str:
        parts = urlsplit(str(self.request.url))
        return f"{parts.scheme}://{parts.netloc}"

    def _method_and_url(self) -> Tuple[str, str]:
        return str(self.request.method), str(self.request.url)


def _retry_after(header: Optional[str]) -> Optional[float]:
    if header is None:
        return None
    try:
        return urllib3.Retry().parse_retry_after(header)
    except (urllib3.exceptions.HTTPError, ValueError, OverflowError):
        return None  # A malformed header leaves the pause to the back-off.
