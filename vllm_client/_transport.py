"""Requests → answers: addresses, headers, limits and attempts."""

from __future__ import annotations

import logging
import random
import re
from typing import Any, Dict, Mapping, Optional, Union
from urllib.parse import urlsplit

import requests
import requests.auth
import urllib3
from attrs import frozen
from requests.structures import CaseInsensitiveDict

from ._body import encoded
from ._call import Call
from ._errors import status_error
from ._exchange import Exchange
from ._faults import WIRE_ERRORS, Fault, explained, stopped
from ._pool import Pool, bearer, untouched
from .exceptions import RETRYABLE_STATUSES, APIStatusError
from .timeouts import Timeout

logger = logging.getLogger("vllm_client")

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 8.0
LONGEST_RETRY_AFTER = 60.0
LARGEST_ERROR_BODY = 1 << 20

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


@frozen
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
        call = self.pool.open_call(self, timeout.total)
        try:
            return _Attempts(self, call, request, timeout, body).until_answered()
        except BaseException:
            call.finish()
            raise

    def fetch(self, method: str, url: str, body: Any = None, **settings: Any) -> requests.Response:
        """Send a request and read the whole answer. Arguments and errors of :meth:`open`."""
        exchange = self.open(method, url, body, **settings)
        exchange.content()
        return exchange.response

    def _headers(
        self, accept: str, body: Any, extra: Optional[Mapping[str, Optional[str]]]
    ) -> Dict[str, Any]:
        headers: CaseInsensitiveDict[Optional[str]] = CaseInsensitiveDict({"Accept": accept})
        if accept == EVENT_STREAM:
            headers["Accept-Encoding"] = "identity"  # Compression would hold events back.
        if body is not None:
            headers["Content-Type"] = "application/json"
        headers.update(self.headers)
        headers.update(checked_headers(extra or {}))
        return dict(headers)

    def _auth(self, headers: Mapping[str, Any]) -> Optional[requests.auth.AuthBase]:
        if any(name.lower() == "authorization" for name in headers):
            return untouched()
        return bearer(self.api_key) if self.api_key else None

    def masked(self, text: str) -> str:
        """A text of the server without the key, should it repeat it."""
        if self.api_key and len(self.api_key) > 5:  # Shorter ones are words: "EMPTY" is common.
            return text.replace(self.api_key, "***")
        return text


EVENT_STREAM = "text/event-stream"


def checked_headers(headers: Mapping[str, Optional[str]]) -> Mapping[str, Optional[str]]:
    """The headers themselves.

    Raises:
        ValueError, TypeError: One of them cannot be sent.
    """
    for name, value in headers.items():
        if not isinstance(name, str) or not (value is None or isinstance(value, str)):
            raise TypeError(f"header {name!r} has to be text, or None to leave it out")
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be the name of a header")
        if value is not None and not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"the value of header {name!r} has characters no header can carry")
    return headers


class _Attempts:
    def __init__(
        self,
        transport: Transport,
        call: Call,
        request: requests.Request,
        timeout: Timeout,
        body: Any,
    ) -> None:
        self.transport = transport
        self.call = call
        self.request = request
        self.timeout = timeout
        self.body = body
        self.left = urllib3.Retry(
            transport.max_retries, status_forcelist=RETRYABLE_STATUSES, allowed_methods=None
        )

    def until_answered(self) -> Exchange:
        while True:
            outcome = self._one()
            if isinstance(outcome, Exchange):
                return outcome
            if not outcome.again or not self.left.total:
                raise outcome.error
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
                exchange = Exchange(response, self.call, self.timeout)
                fine = 200 <= response.status_code < 300
                return exchange if fine else self._refusal(exchange)
        except WIRE_ERRORS as error:
            if self.call.reason is None:
                return explained(error, self.transport.origin, self.timeout)
        raise stopped(self.call, self.timeout)

    def _refusal(self, exchange: Exchange) -> Fault:
        response = exchange.response
        text = self.transport.masked(exchange.beginning(LARGEST_ERROR_BODY))
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
