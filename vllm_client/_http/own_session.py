"""The session of a client that was given none."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Tuple, cast

import requests
from attrs import field, frozen

from .adapter import URL_CACHE_SIZE, TrackingAdapter
from .direct import Route

KEPT_CONNECTIONS = 1024
"""Idle connections kept. More calls at once still work, each on a connection of its own."""


@frozen(eq=False)
class OwnSession:
    """A session of our own, with what requests reads from the environment for its server.

    requests would read proxies, CA bundles and ``.netrc`` on every call, which costs as much as
    the call.
    """

    session: requests.Session
    settings: Mapping[str, Any]
    """Proxies and certificates: keyword arguments of ``HTTPAdapter.send``."""
    routes: Dict[Tuple[str, str], Optional[Route]] = field(factory=dict, init=False)
    """By method and URL, what ``direct`` must know; filled by the first request to each."""

    @classmethod
    def new(cls, url: str) -> OwnSession:
        """A session for the server of this URL."""
        session = requests.Session()
        for scheme in ("http://", "https://"):
            adapter = TrackingAdapter(pool_connections=4, pool_maxsize=KEPT_CONNECTIONS)
            session.mount(scheme, adapter)
        return cls(session, session.merge_environment_settings(url, {}, True, None, None))

    def adapter(self, prepared: requests.PreparedRequest) -> TrackingAdapter:
        """What sends this request."""
        return cast("TrackingAdapter", self.session.get_adapter(str(prepared.url)))

    def learn_route(self, url: str, prepared: requests.PreparedRequest) -> None:
        """Note what a direct request to the same URL must know."""
        key = str(prepared.method), url
        if key in self.routes or len(self.routes) >= URL_CACHE_SIZE:
            return
        adapter, settings = self.adapter(prepared), self.settings
        proxies = settings["proxies"]
        pool = adapter.get_connection_with_tls_context(
            prepared, settings["verify"], proxies=proxies, cert=settings["cert"]
        )
        target = adapter.request_url(prepared, proxies)
        self.routes[key] = Route.of(pool, str(prepared.method), target)
