"""Where the server is, how requests to it are made, and how responses are opened."""

from __future__ import annotations

import functools
from typing import Dict, Mapping, Optional, Tuple

import requests
import requests.auth
from attrs import field, frozen

from ..timeouts import Timeout, TimeoutTypes
from .attempts import Attempts
from .headers import Authorization, Headers, checked_headers, merged_headers
from .payload import encoded
from .redaction import Secrets
from .response import OpenResponse
from .session import ClientSession

JSON = "application/json"
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
    _headers_cache: Dict[Tuple[str, bool], Headers] = field(factory=dict, init=False)

    @property
    def server_url(self) -> str:
        """The API root without its last ``/v1``."""
        return self.base_url.removesuffix("/v1")

    def open(
        self,
        method: str,
        url: str,
        json: object = None,
        *,
        accept: str = JSON,
        params: Optional[Mapping[str, object]] = None,
        options: CallOptions,
    ) -> OpenResponse:
        """Send a request and return its response, whose head has arrived.

        Args:
            method: ``"GET"``, ``"POST"``, …
            url: A full URL.
            json: The body; None for none.
            accept: The content type to ask for.
            params: The query.
            options: What the caller set for this call.

        Raises:
            APIConnectionError, APITimeoutError, APIStatusError: The last attempt failed.
        """
        timeout = self.timeout if options.timeout is UNSET else Timeout.of(options.timeout)
        # The headers may be secret and are no variable here: error trackers record variables.
        request = self._request(method, url, json, accept, params, options)
        others = functools.partial(self.session.credentials, url)
        secrets = Secrets(self.api_key, request.headers, others)
        attempts = Attempts(self.session, request, json, timeout, self.max_retries, secrets)
        return attempts.until_response(self)

    def _request(
        self,
        method: str,
        url: str,
        json: object,
        accept: str,
        params: Optional[Mapping[str, object]],
        options: CallOptions,
    ) -> requests.Request:
        headers = self._headers(accept, json is not None, options.extra_headers)
        return requests.Request(
            method,
            url,
            headers=headers,
            params=params or {},
            auth=self._auth(headers),
            data=b"" if json is None else encoded(json),
        )

    def _headers(self, accept: str, has_body: bool, extra: Optional[Headers]) -> Headers:
        key = accept, has_body
        headers = self._headers_cache.get(key)
        if headers is None:
            own: Dict[str, Optional[str]] = {"Accept": accept}
            if accept == EVENT_STREAM:
                own["Accept-Encoding"] = "identity"  # Compression would delay events.
            if has_body:
                own["Content-Type"] = JSON
            headers = self._headers_cache[key] = merged_headers(
                self.session.default_headers, own, self.headers
            )
        return merged_headers(headers, checked_headers(extra)) if extra else headers

    def _auth(self, headers: Headers) -> Optional[requests.auth.AuthBase]:
        for name in headers:
            if name.lower() == "authorization":
                return Authorization(None)
        return Authorization(f"Bearer {self.api_key}") if self.api_key else None
