"""requests' adapter and urllib3's pools, over the connections of ``connections.py``."""

from __future__ import annotations

import queue
from typing import Any, Dict, Optional, Type

import requests
import requests.adapters
import urllib3

from .connections import TrackedConnection, TrackedTLSConnection
from .reentrant_queue import ReentrantQueue

URL_CACHE_SIZE = 64
"""Size of the caches of URLs. Further URLs are parsed on every request."""


class TrackedPool(urllib3.HTTPConnectionPool):
    """A pool of tracked connections."""

    QueueCls: Any = ReentrantQueue
    ConnectionCls: Any = TrackedConnection

    def take_idle(self) -> Optional[TrackedConnection]:
        """Take a connection that is open, on which nothing has arrived; None if there is none."""
        pool = self.pool
        if pool is None:  # Closed.
            return None
        try:
            connection: Optional[TrackedConnection] = pool.get(block=False)
        except queue.Empty:
            return None
        if connection is not None and connection.is_connected:
            return connection
        self.put_back(connection)  # urllib3 opens another one in its place.
        return None

    def add_idle(self, limit: Optional[float]) -> bool:
        """Open another connection and keep it, if there is room for it.

        ``limit``: seconds that this may take. Returns whether it was opened.

        Raises:
            OSError, urllib3.exceptions.HTTPError: It cannot be opened.
        """
        if not self._take_free_place():
            return False
        connection: Any = self._new_conn()
        try:
            connection.timeout = limit
            connection.connect()
        except BaseException:
            self.put_back(None)
            raise
        self.put_back(connection)
        return True

    def _take_free_place(self) -> bool:
        # The pool is a stack of connections, and of None for each place that is free.
        pool, idle = self.pool, []
        try:
            while pool is not None:  # Else it is closed.
                place = pool.get(block=False)
                if place is None:
                    return True
                idle.append(place)
        except queue.Empty:
            pass
        finally:
            for connection in reversed(idle):
                self.put_back(connection)
        return False

    def put_back(self, connection: Optional[TrackedConnection]) -> None:
        """Put a connection back; None if it was closed, for the place that it had."""
        place: Any = connection  # The stubs of urllib3 know no class of ours.
        self._put_conn(place)


class TrackedTLSPool(TrackedPool, urllib3.HTTPSConnectionPool):
    """The same over TLS."""

    ConnectionCls: Any = TrackedTLSConnection


TRACKED_POOLS: Dict[str, Type[urllib3.HTTPConnectionPool]] = {
    "http": TrackedPool,
    "https": TrackedTLSPool,
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

    def close(self) -> None:
        """Close the idle connections at once; those in use close when they are released."""
        super().close()
        for pool in list(self._pool_cache.values()):
            pool.close()
        self._pool_cache.clear()

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> urllib3.PoolManager:
        """Make the manager of a proxy and have it use tracking connections where it can."""
        manager: urllib3.PoolManager = super().proxy_manager_for(proxy, **kwargs)
        if isinstance(manager, urllib3.ProxyManager):  # SOCKS brings connections of its own.
            _track(manager)
        return manager


def _track(manager: urllib3.PoolManager) -> None:
    manager.pool_classes_by_scheme = TRACKED_POOLS
