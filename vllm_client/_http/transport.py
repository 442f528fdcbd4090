"""Where the server is, how requests to it are made, and how responses are opened."""

from __future__ import annotations

import functools
from typing import Any, Dict, Mapping, Optional, Tuple

import requests
import requests.auth
from attrs import evolve, field, frozen

from ..timeouts import Timeout, TimeoutTypes
from .attempts import Attempts
from .failures import WIRE_ERRORS
from .headers import Authorization, Headers, checked_headers, merged_headers
from .launched import CAN_POLL, Launched
from .payload import JSON, Payload
from .redaction import Secrets
from .response import OpenResponse, WholeResponse
from .session import ClientSession

EVENT_STREAM = "text/event-stream"
UNSET = Timeout()
"""Stands for a ``timeout`` that was not given; compared by identity."""


@frozen
class CallOptions:
    """What one call may change of its client's settings.

    Args:
        timeout: Time limits of the call.
        extra_headers: Headers added to those of the client; None as a value removes a header.
    """

    timeout: TimeoutTypes = UNSET
    extra_headers: Optional[Headers] = field(default=None, repr=False)


@frozen(eq=False, repr=False)
class Transport:
    """One server, and the settings of one client."""

    base_url: str
    api_key: Optional[str]
    headers: Headers
    timeout: Timeout
    max_retries: int
    session: ClientSession
    max_response_bytes: int
    _headers_cache: Dict[Tuple[str, Optional[str]], Headers] = field(factory=dict, init=False)

    @property
    def server_url(self) -> str:
        """The API root without its last ``/v1``."""
        return self.base_url.removesuffix("/v1")

    def without_retries(self) -> Transport:
        """The same server, asked only once; closing it ends its own calls and no others."""
        return evolve(self, max_retries=0)

    def url(self, path: str) -> str:
        """The URL of a route.

        Args:
            path: As vLLM writes it (``"/health"``), or relative to the API root, without a slash
                at the beginning (``"models"``).
        """
        return self.server_url + path if path.startswith("/") else f"{self.base_url}/{path}"

    def open(
        self,
        method: str,
        url: str,
        payload: Payload = Payload(),  # noqa: B008 — frozen
        *,
        accept: str = JSON,
        params: Optional[Mapping[str, object]] = None,
        stream: bool = False,
        options: CallOptions,
    ) -> OpenResponse:
        """Send a request and return its response.

        Args:
            method: ``"GET"``, ``"POST"``, …
            url: A full URL.
            payload: The body.
            accept: The content type to ask for.
            params: The query.
            stream: Whether to return as soon as the head has arrived; else the body is read, and
                an error in it counts as a failed attempt.
            options: What the caller set for this call.

        Raises:
            APIConnectionError, APITimeoutError, APIStatusError: The last attempt failed.
            InvalidResponseError: The body is larger than ``max_response_bytes``.
        """
        attempts = self._attempts(method, url, payload, accept, params, options)
        attempts.largest_body = None if stream else self.max_response_bytes
        return attempts.until_response(self)

    def fetch(
        self,
        method: str,
        url: str,
        payload: Payload = Payload(),  # noqa: B008 — frozen
        *,
        accept: str = JSON,
        params: Optional[Mapping[str, object]] = None,
        options: CallOptions,
    ) -> WholeResponse:
        """Send a request and return its response, read to its end, without a ``requests`` object.

        Arguments and errors as those of :meth:`open`.
        """
        attempts = self._attempts(method, url, payload, accept, params, options)
        attempts.largest_body = self.max_response_bytes
        return attempts.until_content(self)

    def launch(
        self, method: str, url: str, payload: Payload, *, options: CallOptions, subject: Any
    ) -> Optional[Launched]:
        """Send a request without waiting for anything; None if there is no idle connection for it.

        Arguments as those of :meth:`open`, and ``subject``: what the caller knows it by.
        """
        attempts = self._attempts(method, url, payload, JSON, None, options)
        attempts.largest_body = self.max_response_bytes
        call = attempts.begin(self)
        return None if call is None else Launched(subject, attempts, call)

    def can_launch(self, method: str, url: str) -> bool:
        """Whether :meth:`launch` would do for such a request if there were an idle connection."""
        return CAN_POLL and self.session.can_begin(method, url)

    def connect(self, method: str, url: str, options: CallOptions) -> bool:
        """Open another connection for :meth:`launch`. Returns whether it was opened."""
        timeout = self.timeout if options.timeout is UNSET else Timeout.of(options.timeout)
        call = self.session.open_call(self, timeout.total)
        try:
            limit = call.cap_to_deadline(timeout.connect)
            return self.session.connect(call, method, url, limit)
        except WIRE_ERRORS:
            return False
        finally:
            call.close()

    def _attempts(
        self,
        method: str,
        url: str,
        payload: Payload,
        accept: str,
        params: Optional[Mapping[str, object]],
        options: CallOptions,
    ) -> Attempts:
        timeout = self.timeout if options.timeout is UNSET else Timeout.of(options.timeout)
        # The headers may be secret and are no variable here: error trackers record variables.
        request = self._request(method, url, payload, accept, params, options)
        others = functools.partial(self.session.credentials, url)
        secrets = Secrets(self.api_key, request.headers, others)
        return Attempts(self.session, request, payload.json, timeout, self.max_retries, secrets)

    def _request(
        self,
        method: str,
        url: str,
        payload: Payload,
        accept: str,
        params: Optional[Mapping[str, object]],
        options: CallOptions,
    ) -> requests.Request:
        headers = self._headers(accept, payload.content_type, options.extra_headers)
        return requests.Request(
            method,
            url,
            headers=headers,
            params=params or {},
            auth=self._auth(headers),
            data=payload.content,
        )

    def _headers(
        self, accept: str, content_type: Optional[str], extra: Optional[Headers]
    ) -> Headers:
        # The content type of a multipart form differs with each request: not worth remembering.
        cached = content_type if content_type in {None, JSON} else None
        headers = self._headers_cache.get((accept, cached))
        if headers is None:
            own: Dict[str, Optional[str]] = {"Accept": accept}
            if accept == EVENT_STREAM:
                own["Accept-Encoding"] = "identity"  # Compression would delay events.
            if cached is not None:
                own["Content-Type"] = cached
            headers = self._headers_cache[accept, cached] = merged_headers(
                self.session.default_headers, own, self.headers
            )
        if content_type != cached:
            headers = merged_headers({"Content-Type": content_type}, headers)
        return merged_headers(headers, checked_headers(extra)) if extra else headers

    def _auth(self, headers: Headers) -> Optional[requests.auth.AuthBase]:
        for name in headers:
            if name.lower() == "authorization":
                return Authorization(None)
        return Authorization(f"Bearer {self.api_key}") if self.api_key else None
