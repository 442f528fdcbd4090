"""requests' adapter over connections that tell the current call which socket they use.

While requests sends a request and waits for its response, it offers no handle to cancel it: there
is no response to close yet. The classes here therefore find the call of the running thread in
``call.current`` and write its ``sock`` and ``wire_response``. They also tell a connection that
broke before the status line from one that broke after it: only the first may be retried.
"""

from __future__ import annotations

import http.client
import socket
from typing import Any, Dict, Optional, Type

import requests
import requests.adapters
import urllib3
import urllib3.connection

from .call import current

_ONE_PACKET = 65536
"""Bytes. A shorter request body leaves together with its head."""
URL_CACHE_SIZE = 64
"""Size of the caches of URLs. Further URLs are parsed on every request."""


class HeadBrokenError(http.client.HTTPException):
    """The connection broke after a status line: the server has accepted the request."""


class WireResponse(http.client.HTTPResponse):
    """A response that skips interim responses and knows whether its status line arrived.

    http.client takes the interim responses 102 and 103 for final ones. The final response would
    then be read as the one of the next request on the connection.
    """

    def begin(self) -> None:
        """Read the head; urllib3 calls this through ``getresponse``."""
        try:
            super().begin()
            while 101 < self.status < 200:
                setattr(self, "headers", None)  # noqa: B010 — begin() reads a head only if unset
                super().begin()
        except (ConnectionError, http.client.HTTPException) as error:
            if isinstance(self.status, int):
                raise HeadBrokenError(f"the head of the response broke off: {error!r}") from error
            raise
        if current.call is not None:
            current.call.wire_response = self


def _attach_to_call(sock: Optional[socket.socket]) -> None:
    if current.call is not None and sock is not None:
        current.call.attach_socket(sock)


class _HTTPConnection(urllib3.connection.HTTPConnection):
    response_class = WireResponse
    _unsent: Optional[bytes] = None  # The head of a request that waits for its body.

    def connect(self) -> None:
        super().connect()
        _attach_to_call(self.sock)

    def request(self, *args: Any, **kwargs: Any) -> None:
        _attach_to_call(self.sock)  # A reused connection; a new one connects later.
        self._unsent = b""
        try:
            super().request(*args, **kwargs)
        finally:
            unsent, self._unsent = self._unsent, None
        if unsent:
            self.send(unsent)

    def send(self, data: Any) -> None:
        """Send; the head of a request waits for a short body, so that one packet holds both."""
        if self._unsent is not None and len(data) < _ONE_PACKET:
            self._unsent += data
            return
        unsent, self._unsent = self._unsent, None
        if unsent:
            super().send(unsent)
        super().send(data)


class _HTTPSConnection(_HTTPConnection, urllib3.connection.HTTPSConnection):
    pass


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls: Any = _HTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls: Any = _HTTPSConnection


_TRACKING_POOLS: Dict[str, Type[urllib3.HTTPConnectionPool]] = {
    "http": _HTTPPool,
    "https": _HTTPSPool,
}


class TrackingAdapter(requests.adapters.HTTPAdapter):
    """requests' adapter over tracking connections, through an HTTP proxy as well.

    It expects the same proxies and certificates with every request.
    """

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pool manager and have it use tracking connections."""
        super().init_poolmanager(*args, **kwargs)
        _track(self.poolmanager)
        self._pool_cache: Dict[str, Any] = {}
        self._target_cache: Dict[str, str] = {}

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, *args: Any, **kwargs: Any
    ) -> Any:
        """The connection pool of the request's origin, cached."""
        origin = str(request.url).split("/", 3)[2]
        pool = self._pool_cache.get(origin)
        if pool is None:
            pool = super().get_connection_with_tls_context(request, *args, **kwargs)
            self._pool_cache[origin] = pool
        return pool

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> str:
        """The request target of a URL, cached."""
        url = str(request.url)
        target = self._target_cache.get(url)
        if target is None:
            target = super().request_url(request, proxies)
            if len(self._target_cache) < URL_CACHE_SIZE:
                self._target_cache[url] = target
        return target

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> urllib3.PoolManager:
        """Make the manager of a proxy and have it use tracking connections where it can."""
        manager: urllib3.PoolManager = super().proxy_manager_for(proxy, **kwargs)
        if isinstance(manager, urllib3.ProxyManager):  # SOCKS brings connections of its own.
            _track(manager)
        return manager


def _track(manager: urllib3.PoolManager) -> None:
    manager.pool_classes_by_scheme = _TRACKING_POOLS
