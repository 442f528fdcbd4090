"""requests' adapter over connections that tell the current call which socket they use.

While requests sends a request and waits for its response, it offers no handle to cancel it: there
is no response to close yet. So ``connections`` tell the call its socket themselves.
"""

from __future__ import annotations

from typing import Any, Dict

import requests
import requests.adapters
import urllib3

from .connections import TRACKED_POOLS

URL_CACHE_SIZE = 64
"""Size of the caches of URLs. Further URLs are parsed on every request."""


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
