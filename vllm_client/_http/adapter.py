"""urllib3 connections that keep the socket of the current call within its reach.

While a request is sent and its answer awaited, requests gives no handle on what it does: there is
no response to shut down yet. These classes tell the call of the running thread which socket it
uses, through a thread-local, and whether any of an answer had come when the connection broke.
"""

from __future__ import annotations

import functools
import http.client
import threading
from typing import Any, Dict, Optional

import requests.adapters
import urllib3
import urllib3.connection

from .call import Call, shut_socket

_SHORT = 65536
MOST_ADDRESSES = 64
"""Of how many addresses it is remembered what they mean; more are looked at each time."""


class _Current(threading.local):
    call: Optional[Call] = None


current = _Current()
"""The call that the running thread is sending."""


class AnswerBrokenError(http.client.HTTPException):
    """The connection broke after a status line: the server has taken the request."""


class WireResponse(http.client.HTTPResponse):
    """An answer that knows whether its status line had come when its head broke off.

    http.client takes the interim answers 102 and 103 for final ones; the real answer would then
    be that of the next request on the connection.
    """

    def begin(self) -> None:
        """Read the head; urllib3 calls this through ``getresponse``."""
        try:
            super().begin()
            while 101 < self.status < 200:
                setattr(self, "headers", None)  # noqa: B010 — what begin() takes for "not yet"
                super().begin()
        except (ConnectionError, http.client.HTTPException) as error:
            if isinstance(self.status, int):
                raise AnswerBrokenError(f"the head of the answer broke off: {error!r}") from error
            raise
        if current.call is not None:
            current.call.answer = self


def _tell(sock: Any) -> None:
    if current.call is not None and sock is not None:
        current.call.sock = sock
        current.call.hold(functools.partial(shut_socket, sock))


class _HTTPConnection(urllib3.connection.HTTPConnection):
    response_class = WireResponse
    _waiting: Optional[bytes] = None

    def connect(self) -> None:
        super().connect()
        _tell(self.sock)

    def request(self, *args: Any, **kwargs: Any) -> None:
        _tell(self.sock)  # One that has been used before; a new one connects later.
        self._waiting = b""
        try:
            super().request(*args, **kwargs)
        finally:
            waiting, self._waiting = self._waiting, None
        if waiting:
            self.send(waiting)

    def send(self, data: Any) -> None:
        """Send it; the head of a request together with a short body, in one packet."""
        if self._waiting is not None and len(data) < _SHORT:
            self._waiting += data
            return
        before, self._waiting = self._waiting, None
        if before:
            super().send(before)
        super().send(data)


class _HTTPSConnection(_HTTPConnection, urllib3.connection.HTTPSConnection):
    pass


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls: Any = _HTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls: Any = _HTTPSConnection


_HELD_POOLS: Any = {"http": _HTTPPool, "https": _HTTPSPool}


class HeldAdapter(requests.adapters.HTTPAdapter):
    """requests' adapter over these connections, through a proxy as well.

    For a session whose proxies and certificates are the same for every request.
    """

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pool manager and give it our pools."""
        super().init_poolmanager(*args, **kwargs)
        _use_held(self.poolmanager)
        self._pool_of: Dict[str, Any] = {}
        self._target_of: Dict[str, str] = {}

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, *args: Any, **kwargs: Any
    ) -> Any:
        """The pool for a request, looked for once an origin."""
        origin = str(request.url).split("/", 3)[2]
        pool = self._pool_of.get(origin)
        if pool is None:
            pool = super().get_connection_with_tls_context(request, *args, **kwargs)
            self._pool_of[origin] = pool
        return pool

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> str:
        """What the first line of a request names, found once an address."""
        url = str(request.url)
        target = self._target_of.get(url)
        if target is None:
            target = super().request_url(request, proxies)
            if len(self._target_of) < MOST_ADDRESSES:
                self._target_of[url] = target
        return target

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> urllib3.PoolManager:
        """Make the manager of a proxy and give it our pools, where it can use them."""
        manager: urllib3.PoolManager = super().proxy_manager_for(proxy, **kwargs)
        if isinstance(manager, urllib3.ProxyManager):  # SOCKS has connections of its own.
            _use_held(manager)
        return manager


def _use_held(manager: urllib3.PoolManager) -> None:
    manager.pool_classes_by_scheme = _HELD_POOLS
