"""The connections of a client, and the calls in progress on them."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import weakref
from datetime import timedelta
from time import perf_counter
from typing import Any, Dict, Mapping, Optional, Set, Tuple, Union

import requests
import requests.auth
import requests.utils
import urllib3
from requests.hooks import default_hooks
from requests.structures import CaseInsensitiveDict

from ..exceptions import APIConnectionError
from . import direct
from .adapter import URL_CACHE_SIZE
from .call import Call, current
from .direct import DirectResponse, Exchange, Route
from .observed import connections_are_replaced, is_observed, send_is_replaced
from .own_session import OwnSession
from .redaction import header_texts, login_texts, url_login_texts

logger = logging.getLogger("vllm_client")

Limits = Tuple[Optional[float], Optional[float]]
"""Seconds to connect, and seconds between two arrivals; None for no limit."""


def _netrc_login(url: str) -> Optional[Tuple[str, str]]:
    try:
        return requests.utils.get_netrc_auth(url)
    except (ValueError, OSError) as error:
        logger.warning("the .netrc file is ignored, because it cannot be read: %s", error)
        return None


class ClientSession:
    """The session of a client and of its ``with_options`` copies, and their open calls.

    Args:
        session: The user's own session, which stays open. Without one, the first request makes
            one.
    """

    def __init__(self, session: Optional[requests.Session] = None) -> None:
        self._user_session = session
        self._own: Optional[OwnSession] = None
        self._netrc: Optional[Tuple[Optional[Tuple[str, str]]]] = None
        self._url_cache: Dict[Tuple[str, str], str] = {}
        self._forked = False
        self._closed = False
        self._lock = threading.RLock()
        self._calls: weakref.WeakKeyDictionary[Call, object] = weakref.WeakKeyDictionary()
        _sessions.add(self)

    @property
    def default_headers(self) -> Mapping[str, str]:
        """The headers that a request without any carries; the user's session adds its own."""
        return {} if self._user_session is not None else requests.utils.default_headers()

    @property
    def notices_lost_peers(self) -> bool:
        """Whether a call without a read limit ends if the server's machine has gone.

        The connections of our own session ask after it. Those of a user's session may not.
        """
        return self._user_session is None

    @property
    def is_closed(self) -> bool:
        """Whether the client was closed."""
        return self._closed

    def open_call(self, owner: object, total: Optional[float]) -> Call:
        """A new call, which :meth:`close` cancels.

        Args:
            owner: Whose call it is, for :meth:`close`.
            total: Seconds that the call may take; None for no limit.

        Raises:
            APIConnectionError: The client is closed.
        """
        call = Call(total)
        with self._lock:
            if self._closed:
                call.close()
                raise APIConnectionError("the client is closed: make a new one")
            self._calls[call] = owner
        return call

    def send(self, call: Call, request: requests.Request, timeout: Limits) -> requests.Response:
        """Send one attempt and wait for the head of its response.

        Raises:
            requests.RequestException: Or any other error that requests lets through.
        """
        current.call = call
        call.read_limit = timeout[1]
        try:
            if self._user_session is not None:
                return self._send_by_user_session(self._user_session, request, timeout)
            if connections_are_replaced():
                return self._send_by_user_session(requests.Session(), request, timeout)
            return self._send_by_own_session(request, timeout)
        finally:
            current.call = None

    def fetch(
        self, call: Call, request: requests.Request, timeout: Limits, limit: int
    ) -> Union[DirectResponse, requests.Response]:
        """Send one attempt and wait for its response, read to its end if it is a common one.

        Args:
            call: The call.
            request: The request.
            timeout: The limits of this attempt.
            limit: The largest body to read, in bytes.

        Returns:
            A ``DirectResponse``, or a response whose body has not been read.

        Raises:
            requests.RequestException: As :meth:`send`, and what the standard library raises if
                the connection breaks before the end of the head.
        """
        if self._may_bypass():
            current.call = call
            call.read_limit = timeout[1]
            try:
                response = self._send_directly(call, request, limit)
            finally:
                current.call = None
            if response is not None:
                return response
        return self.send(call, request, timeout)

    def begin(self, call: Call, request: requests.Request) -> Optional[Exchange]:
        """Send one attempt without waiting for anything; None if nothing was sent.

        Only for routes of :meth:`can_begin`.

        Raises:
            OSError: The connection broke, or accepts no more.
        """
        route = self._route_of(request)
        current.call = call
        call.read_limit = 0.0
        try:
            return route.begin(call, request) if route else None
        finally:
            current.call = None

    def can_begin(self, method: str, url: str) -> bool:
        """Whether :meth:`begin` takes this route once there is an idle connection.

        It must have no TLS, which waits where a socket does not.
        """
        route = self._own and self._own.routes.get((method, url))
        return bool(route and route.pool.scheme == "http" and self._may_bypass())

    def connect(self, call: Call, method: str, url: str, limit: Optional[float]) -> bool:
        """Open another connection for :meth:`begin`. Returns whether it was opened.

        Args:
            call: The call that is cancelled if this is to end.
            method: The method of the request.
            url: Its URL.
            limit: Seconds that this may take.

        Raises:
            OSError, urllib3.exceptions.HTTPError: It cannot be opened.
        """
        route = self._own and self._own.routes.get((method, url))
        current.call = call
        try:
            return bool(route and route.pool.add_idle(limit))
        finally:
            current.call = None

    def finish(
        self, call: Call, request: requests.Request, timeout: Limits, limit: int, begun: Exchange
    ) -> Union[DirectResponse, requests.Response]:
        """Wait for the response to what :meth:`begin` sent; all else as for :meth:`fetch`."""
        current.call = call
        call.read_limit = timeout[1]
        begun.connection.sock.settimeout(timeout[1])
        try:
            return self._built(request, begun.finish(call, limit))
        finally:
            current.call = None

    def _may_bypass(self) -> bool:
        return (
            direct.ENABLED
            and self._user_session is None
            and not (send_is_replaced() or connections_are_replaced() or is_observed())
        )

    def _send_directly(
        self, call: Call, request: requests.Request, limit: int
    ) -> Union[DirectResponse, requests.Response, None]:
        route = self._route_of(request)
        response = route.exchange(call, request, limit) if route else None
        return None if response is None else self._built(request, response)

    def _route_of(self, request: requests.Request) -> Optional[Route]:
        own, url = self._own, str(request.url)
        if own is None or (request.auth is None and self._netrc_auth(url)):
            return None
        return own.routes.get((str(request.method), url))

    def _built(
        self, request: requests.Request, response: Union[DirectResponse, urllib3.BaseHTTPResponse]
    ) -> Union[DirectResponse, requests.Response]:
        if isinstance(response, DirectResponse):
            return response
        own = self._own or self._make_own(str(request.url))
        prepared = self._prepare(request)
        return own.adapter(prepared).build_response(prepared, response)

    def _send_by_own_session(self, request: requests.Request, timeout: Limits) -> requests.Response:
        own = self._own or self._make_own(str(request.url))
        prepared = self._prepare(request)
        # The stubs of requests know no pair of which only the second is a number.
        limits: Any = timeout
        if send_is_replaced():  # And must see the call.
            return own.session.send(prepared, timeout=limits, allow_redirects=False, **own.settings)
        # Hot path, measured, see docs/performance.md: Session.send would add cookies, hooks and
        # redirects, which we do not use, and takes a third of a short call's time.
        began = perf_counter()
        response = own.adapter(prepared).send(prepared, timeout=limits, **own.settings)
        response.elapsed = timedelta(seconds=perf_counter() - began)
        if not request.params:
            own.learn_route(str(request.url), prepared)
        return response

    def _make_own(self, url: str) -> OwnSession:
        with self._lock:
            if self._own is None:
                self._own = OwnSession.new(url)  # Assigned only when it is complete.
            return self._own

    def _prepare(self, request: requests.Request) -> requests.PreparedRequest:
        prepared = requests.PreparedRequest()
        self._prepare_url(prepared, request)
        prepared.headers = CaseInsensitiveDict(
            {name: value for name, value in request.headers.items() if value is not None}
        )
        prepared.hooks = default_hooks()
        prepared.body = request.data or None
        if prepared.body or prepared.method not in {"GET", "HEAD"}:
            prepared.headers["Content-Length"] = str(len(request.data))
        authorize = request.auth or self._netrc_auth(str(request.url))
        if authorize is not None:
            authorize(prepared)
        return prepared

    def _netrc_auth(self, url: str) -> Optional[requests.auth.AuthBase]:
        if self._netrc is None:
            self._netrc = (_netrc_login(url),)
        login = self._netrc[0]
        return requests.auth.HTTPBasicAuth(*login) if login else None

    def _prepare_url(self, prepared: requests.PreparedRequest, request: requests.Request) -> None:
        # Prepared URLs are cached: parsing and rebuilding one costs more than the rest of
        # _prepare.
        method, url = str(request.method), str(request.url)
        cached = None if request.params else self._url_cache.get((method, url))
        if cached is None:
            prepared.prepare(method, url, params=request.params)
            if not request.params and len(self._url_cache) < URL_CACHE_SIZE:
                self._url_cache[method, url] = str(prepared.url)
        prepared.method, prepared.url = method, cached or prepared.url

    def _send_by_user_session(
        self, session: requests.Session, request: requests.Request, timeout: Limits
    ) -> requests.Response:
        if self._forked:
            self._forked = False
            for adapter in session.adapters.values():
                with contextlib.suppress(NotImplementedError):  # A mock.
                    adapter.close()  # Closes idle connections only; further requests open new ones.
        # Without `verify`, requests lets REQUESTS_CA_BUNDLE override what the user set.
        verify = getattr(session, "verify", True)
        given: Dict[str, Any] = {} if verify is True else {"verify": verify}
        # request() is the method that users override and that mocks replace.
        return session.request(
            str(request.method),
            str(request.url),
            params=request.params,
            data=request.data,
            headers=request.headers,
            auth=request.auth,
            timeout=timeout,
            allow_redirects=False,
            stream=True,
            **given,
        )

    def credentials(self, url: str) -> Set[str]:
        """What errors must hide besides the key: logins of .netrc, a proxy, a user's session."""
        session: Any = self._user_session
        of_proxy = url_login_texts(self.proxy_for(url) or "")
        if session is None:
            login = self._netrc[0] if self._netrc else None
            return of_proxy | (login_texts(*login) if login else set())
        auth = getattr(session, "auth", None)
        if not auth and getattr(session, "trust_env", False):
            auth = _netrc_login(url)  # requests reads it.
        if not isinstance(auth, tuple) or len(auth) != 2:
            auth = getattr(auth, "username", None), getattr(auth, "password", None)
        headers = getattr(session, "headers", None) or {}
        return of_proxy | login_texts(*auth) | header_texts(headers)

    def proxy_for(self, url: str) -> Optional[str]:
        """The URL of the proxy that requests to this URL go through, for messages."""
        with contextlib.suppress(Exception):  # A mock may have no settings.
            return requests.utils.select_proxy(url, self._settings_for(url)["proxies"])
        return None

    def _settings_for(self, url: str) -> Mapping[str, Any]:
        own = self._own
        if own is not None and self._user_session is None:
            return own.settings
        session = self._user_session or requests.Session()
        settings: Mapping[str, Any] = session.merge_environment_settings(url, {}, True, None, None)
        return settings

    def close(self, owner: Optional[object] = None) -> None:
        """Cancel the calls of an owner. Without one, cancel all calls and close the connections.

        The user's own session stays open.
        """
        with self._lock:
            self._closed = self._closed or owner is None
            calls = [call for call, other in self._calls.items() if owner is None or other is owner]
        for call in calls:
            call.cancel()
        if self._closed and self._own is not None:
            self._own.session.close()

    def __reduce__(self) -> Tuple[Any, ...]:
        # For a resource, or a method of one, that is sent to another process.
        return ClientSession, (self._user_session,)

    def after_fork(self) -> None:
        """Leave the parent's connections to the parent; called in the child."""
        self._lock = threading.RLock()
        self._calls = weakref.WeakKeyDictionary()
        self._own = None
        self._forked = True


_sessions: weakref.WeakSet[ClientSession] = weakref.WeakSet()


def _after_fork() -> None:
    for session in list(_sessions):
        session.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
