"""One transport for each server and process, which all mappers of the process share.

An engine unpickles a mapper for each of its tasks. The copies find the connections of the earlier
ones here.
"""

from __future__ import annotations

import atexit
import os
import threading
from typing import Dict, Optional, Tuple

from attrs import field, frozen

from .._http.settings import new_transport
from .._http.transport import Transport
from ..timeouts import Timeout


@frozen
class ServerSettings:
    """What makes a transport, in a form that can be pickled and compared.

    Attributes:
        base_url: The root of the API.
        api_key: Empty if there is none: the environment of another process does not count.
        headers: Names and values.
        timeout: The time limits of a request.
        max_retries: How often a row is tried again.
        max_response_bytes: The largest body of a response.
    """

    base_url: str
    api_key: str = field(repr=False)
    headers: Tuple[Tuple[str, Optional[str]], ...] = field(repr=False)
    timeout: Timeout
    max_retries: int
    max_response_bytes: int

    @classmethod
    def of(cls, transport: Transport) -> ServerSettings:
        """The settings of a transport."""
        return cls(
            transport.base_url,
            transport.api_key or "",
            tuple(sorted(transport.headers.items())),
            transport.timeout,
            transport.max_retries,
            transport.max_response_bytes,
        )

    def transport(self) -> Transport:
        """A new transport."""
        return new_transport(
            self.base_url,
            self.api_key,
            self.timeout,
            self.max_retries,
            dict(self.headers),
            None,
            self.max_response_bytes,
        )


class SharedTransports:
    """The transports of this process, by their settings. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._transports: Dict[ServerSettings, Transport] = {}

    def get(self, settings: ServerSettings) -> Transport:
        """The transport with these settings; the first call makes it."""
        with self._lock:
            transport = self._transports.get(settings)
            if transport is None:
                transport = self._transports[settings] = settings.transport()
            return transport

    def close(self, settings: ServerSettings) -> None:
        """Cancel what this transport does, and close its connections; the next call makes another.

        Nothing happens if there is none.
        """
        with self._lock:
            transport = self._transports.pop(settings, None)
        if transport is not None:
            transport.session.close()

    def close_all(self) -> None:
        """Close each transport."""
        for settings in list(self._transports):
            self.close(settings)

    def after_fork(self) -> None:
        """Leave the parent's transports to the parent; called in the child."""
        self._lock = threading.Lock()  # Another thread of the parent may have held it.
        self._transports.clear()


shared = SharedTransports()
atexit.register(shared.close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=shared.after_fork)
