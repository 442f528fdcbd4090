"""Requests → answers: addresses, headers, limits and attempts."""

from __future__ import annotations

import functools
import logging
import random
import re
from typing import Any, Dict, Mapping, Optional, Tuple, Union
from urllib.parse import urlsplit

import requests
import requests.auth
import urllib3
from attrs import frozen

from .._error_bodies import status_error
from ..exceptions import RETRYABLE_STATUSES, APIStatusError, VllmError
from ..timeouts import Timeout
from .call import Call
from .failures import WIRE_ERRORS, Fault, explained, stopped
from .payload import encoded
from .redaction import hide
from .response import Exchange
from .session import Pool, bearer, merged, untouched

logger = logging.getLogger("vllm_client")

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 8.0
LONGEST_RETRY_AFTER = 60.0
LARGEST_ERROR_BODY = 1 << 20
SHORTEST_SECRET = 5
"""Characters; keys no longer than that are words, such as the common ``EMPTY``."""

# Compiled by re when first used, not when this is imported.
_HEADER_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_HEADER_VALUE = r"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?"


@frozen(eq=False, repr=False)
class Transport:
    """Where the server is, how it is talked to, and over which connections."""

    base_url: str
    api_key: Optional[str]
    headers: Mapping[str, Optional[str]]
    timeout: Timeout
    max_retries: int
    pool: Pool

    @property
    def server_url(self) -> str:
        """The API root without its last ``/v1``."""
        return self.base_url.removesuffix("/v1")

    @property
    def origin(self) -> str:
        """Scheme, host and port, for messages."""
        parts = urlsplit(self.base_url)
        return f"{parts.scheme}://{parts.netloc}"

    def open(
        self,
        method: str,
        url: str,
        body: Any = None,
        *,
        accept: str = "application/json",
        params: Any = None,
        options: Mapping[str, Any],
    ) -> Exchange:
        """Send a request; an answer whose head has come, with the status of a success.

        ``options`` are those of ``RequestOptions``.

        Raises:
            APIConnectionError, APITimeoutError, APIStatusError: The last attempt failed.
        """
        timeout = Timeout.of(options.get("timeout", self.timeout))
        headers = self._headers(accept, body, options.get("extra_headers"))
        request = requests.Request(
            method,
            url,
            headers=headers,
            params=params or {},
            data=b"" if body is None else encoded(body),
            auth=self._auth(headers),
        )
        secrets = self._secrets(headers)
        call = self.pool.open_call(self, timeout.total)
        try:
            return _Attempts(self, call, request, timeout, body, secrets).until_answered()
        except BaseException as error:
            call.finish()
            hide(error, secrets)
            raise

    def fetch(self, method: str, url: str, body: Any = None, **settings: Any) -> Exchange:
        """Send a request and read the whole answer. Arguments and errors of :meth:`open`."""
        exchange = self.open(method, url, body, **settings)
        exchange.content()
        return exchange

    def _headers(
        self, accept: str, body: Any, extra: Optional[Mapping[str, Optional[str]]]
    ) -> Dict[str, Any]:
        own: Dict[str, Any] = {"Accept": accept}
        if accept == EVENT_STREAM:
            own["Accept-Encoding"] = "identity"  # Compression would hold events back.
        if body is not None:
            own["Content-Type"] = "application/json"
        return merged(own, self.headers, checked_headers(extra or {}))

    def _auth(self, headers: Mapping[str, Any]) -> Optional[requests.auth.AuthBase]:
        if any(name.lower() == "authorization" for name in headers):
            return untouched()
        return bearer(self.api_key) if self.api_key else None

    def _secrets(self, headers: Mapping[str, Any]) -> Tuple[str, ...]:
        """What a server may repeat and no error may show."""
        sent = (value for name, value in headers.items() if name.lower() == "authorization")
        keys = [self.api_key, *(str(value).split(" ", 1)[-1] for value in sent)]
        return tuple(key for key in keys if key and len(key) > SHORTEST_SECRET)


EVENT_STREAM = "text/event-stream"


def checked_headers(headers: Mapping[str, Optional[str]]) -> Mapping[str, Optional[str]]:
    """The headers themselves.

    Raises:
        ValueError, TypeError: One of them cannot be sent.
    """
    for name, value in headers.items():
        if not isinstance(name, str) or not (value is None or isinstance(value, str)):
            raise TypeError(f"header {name!r} has to be text, or None to leave it out")
        if not re.fullmatch(_HEADER_NAME, name):
            raise ValueError(f"{name!r} cannot be the name of a header")
        if value is not None and not re.fullmatch(_HEADER_VALUE, value):
            raise ValueError(f"the value of header {name!r} has characters no header can carry")
    return headers


@functools.cache
def _policy(max_retries: int) -> urllib3.Retry:
    return urllib3.Retry(max_retries, status_forcelist=RETRYABLE_STATUSES, allowed_methods=None)


class _Attempts:
    def __init__(
        self,
        transport: Transport,
        call: Call,
        request: requests.Request,
        timeout: Timeout,
        body: Any,
        secrets: Tuple[str, ...],
    ) -> None:
        self.transport = transport
        self.call = call
        self.request = request
        self.timeout = timeout
        self.body = body
        self.secrets = secrets
        self.left = _policy(transport.max_retries)
        self.failed: Optional[VllmError] = None

    def until_answered(self) -> Exchange:
        while True:
            outcome = self._one()
            if isinstance(outcome, Exchange):
                return outcome
            if not outcome.again or not self.left.total:
                raise outcome.error
            self.failed = outcome.error
            self.left = self.left.increment(str(self.request.method), str(self.request.url))
            pause = self._pause(outcome)
            if pause >= (self.call.remaining or pause + 1):
                raise outcome.error
            logger.info("again in %.2f s: %s", pause, outcome.error)
            self.call.pause(pause)

    def _one(self) -> Union[Exchange, Fault]:
        limits = self.call.clamped(self.timeout.connect), self.call.clamped(self.timeout.read)
        try:
            if self.call.reason is None:
                response = self.transport.pool.send(self.call, self.request, limits)
                exchange = Exchange(response, self.call, self.timeout, self.secrets)
                fine = 200 <= response.status_code < 300
                return exchange if fine else self._refusal(exchange)
        except WIRE_ERRORS as error:
            if self.call.reason is None:
                return explained(error, self.transport.origin, self.timeout)
        raise stopped(self.call, self.timeout, failed=self.failed)

    def _refusal(self, exchange: Exchange) -> Fault:
        response = exchange.response
        text = exchange.beginning(LARGEST_ERROR_BODY)
        exchange.discard()
        error: APIStatusError = status_error(
            response.status_code,
            text,
            response.headers,
            reason=response.reason or "",
            sent=self.body,
        )
        again = self.left.is_retry(str(self.request.method), response.status_code)
        return Fault(error, again, response.headers.get("retry-after"))

    def _pause(self, fault: Fault) -> float:
        if fault.retry_after is not None:
            try:
                asked = self.left.parse_retry_after(fault.retry_after)
                return min(asked, LONGEST_RETRY_AFTER)
            except (urllib3.exceptions.HTTPError, ValueError, OverflowError):
                pass  # A malformed one says nothing.
        done = len(self.left.history)
        if fault.stale and done == 1:
            return 0.0
        return min(FIRST_PAUSE * 2.0 ** (done - 1), LONGEST_PAUSE) * random.uniform(0.5, 1)
