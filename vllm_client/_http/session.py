"""The connections of a client, and the calls that are under way on them."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from datetime import timedelta
from time import perf_counter
from typing import Any, Dict, Mapping, Optional, Tuple

import requests
import requests.auth
import requests.utils
from requests.hooks import default_hooks
from requests.structures import CaseInsensitiveDict

from ..exceptions import APIConnectionError
from .adapter import MOST_ADDRESSES, HeldAdapter, current
from .call import Call, adopted

KEPT_CONNECTIONS = 1024
"""Idle connections kept; more calls than that at once still work, each on its own connection."""


class _OwnSession(requests.Session):
    """A session for one server, used for its settings and its adapters alone."""

    def __init__(self) -> None:
        super().__init__()
        for scheme in ("http://", "https://"):
            self.mount(scheme, HeldAdapter(pool_connections=4, pool_maxsize=KEPT_CONNECTIONS))


class Pool:
    """The session of a client and of its ``with_options`` copies."""

    def __init__(self, session: Optional[requests.Session] = None) -> None:
        self._given = session
        self._own: Optional[requests.Session] = None
        self._environment: Dict[str, Any] = {}
        self._addresses: Dict[Tuple[str, str], str] = {}
        self._inherited = False
        self.closed = False
        self._lock = threading.Lock()
        self._calls: weakref.WeakKeyDictionary[Call, object] = weakref.WeakKeyDictionary()
        _pools.add(self)

    def open_call(self, owner: object, total: Optional[float]) -> Call:
        """A new call, which closing its owner or the pool will stop.

        Raises:
            APIConnectionError: The pool is closed.
        """
        call = adopted(Call(total))
        with self._lock:
            if self.closed:
                call.finish()
                raise APIConnectionError("the client is closed: make a new one")
            self._calls[call] = owner
        return call

    def send(
        self,
        call: Call,
        request: requests.Request,
        timeout: Any,
    ) -> requests.Response:
        """One attempt, up to the head of the answer.

        Raises:
            requests.RequestException: And whatever else requests lets through.
        """
        current.call = call
        try:
            given = self._given_session()
            if given is not None:
                return self._send_given(given, request, timeout)
            return self._send_own(self._session(str(request.url)), request, timeout)
        finally:
            current.call = None

    def _send_own(
        self, session: requests.Session, request: requests.Request, timeout: Any
    ) -> requests.Response:
        # Straight to the adapter: what Session.send adds is cookies, hooks and redirects, of which
        # there are none here, and takes a third of the time of a short call.
        prepared = self._prepared(session, request)
        began = perf_counter()
        response = session.get_adapter(str(prepared.url)).send(
            prepared, timeout=timeout, **self._environment["settings"]
        )
        response.elapsed = timedelta(seconds=perf_counter() - began)
        return response

    def _prepared(
        self, session: requests.Session, request: requests.Request
    ) -> requests.PreparedRequest:
        # Taking an address apart and putting it together again costs more than all of this.
        prepared = requests.PreparedRequest()
        address = str(request.method), str(request.url)
        if request.params or address not in self._addresses:
            prepared.prepare(*address, params=request.params)
            if not request.params and len(self._addresses) < MOST_ADDRESSES:
                self._addresses[address] = str(prepared.url)
        prepared.method, prepared.url = address[0], prepared.url or self._addresses[address]
        headers = merged(session.headers, request.headers)
        prepared.headers = CaseInsensitiveDict(
            {name: value for name, value in headers.items() if value is not None}
        )
        prepared.hooks = default_hooks()
        prepared.body = request.data or None
        if prepared.body or prepared.method not in {"GET", "HEAD"}:
            prepared.headers["Content-Length"] = str(len(request.data))
        auth = request.auth or self._environment["auth"]
        auth(prepared)
        return prepared

    @staticmethod
    def _send_given(
        session: requests.Session, request: requests.Request, timeout: Any
    ) -> requests.Response:
        # Through request(), the method that users override and mocks replace.
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
        )

    def _session(self, url: str) -> requests.Session:
        with self._lock:
            if self._own is None:
                self._own = _OwnSession()
                # requests asks for proxies, CA bundles and .netrc on every call, which costs as
                # much as the call.
                self._environment = {
                    "settings": self._own.merge_environment_settings(url, {}, True, None, None),
                    "auth": _netrc(url),
                }
            return self._own

    def close(self, owner: Optional[object] = None) -> None:
        """Stop the calls of one owner; without one, of all, and close what the pool opened."""
        with self._lock:
            self.closed = self.closed or owner is None
            calls = [call for call, whose in self._calls.items() if owner is None or whose is owner]
        for call in calls:
            call.stop()
        if self.closed and self._own is not None:
            self._own.close()

    def after_fork(self) -> None:
        """Leave the parent's connections to the parent; called in the child."""
        self._lock = threading.Lock()
        self._calls = weakref.WeakKeyDictionary()
        self._own = None
        self._inherited = True

    def _given_session(self) -> Optional[requests.Session]:
        if self._given is not None and self._inherited:
            self._inherited = False
            for adapter in self._given.adapters.values():
                with contextlib.suppress(NotImplementedError):  # A mock.
                    adapter.close()  # Closes its idle connections; it opens new ones as needed.
        return self._given


def merged(*headers: Mapping[str, Any]) -> Dict[str, Any]:
    """All of these headers; a later one replaces one of the same name, whatever its case."""
    named = {name.lower(): (name, value) for each in headers for name, value in each.items()}
    return dict(named.values())


def bearer(key: str) -> requests.auth.AuthBase:
    """Authorization by key. An auth object, because .netrc overrides a mere header."""
    return _Header(f"Bearer {key}")


def untouched() -> requests.auth.AuthBase:
    """No change: it keeps .netrc away from headers that the caller has set."""
    return _Header(None)


class _Header(requests.auth.AuthBase):
    def __init__(self, value: Optional[str]) -> None:
        self._value = value

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._value is not None:
            r.headers["Authorization"] = self._value
        return r


def _netrc(url: str) -> requests.auth.AuthBase:
    found = requests.utils.get_netrc_auth(url)
    return requests.auth.HTTPBasicAuth(*found) if found else untouched()


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


def _after_fork() -> None:
    for pool in list(_pools):
        pool.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
