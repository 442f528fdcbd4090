"""Whether somebody watches or replaces the parts of requests and urllib3 that we bypass.

Tools that record, mock or trace calls replace parts of them, perhaps before this module is
imported. So ask where a part comes from, not whether it has changed since.
"""

from __future__ import annotations

import http.client
import logging
from types import FunctionType, ModuleType
from typing import Any, Tuple

import requests
import requests.adapters
import requests.sessions
import urllib3
import urllib3.connection

_BYPASSED: Tuple[Tuple[type, str, ModuleType], ...] = (
    (requests.Session, "get_adapter", requests.sessions),
    (requests.adapters.HTTPAdapter, "send", requests.adapters),
    (urllib3.HTTPConnectionPool, "urlopen", urllib3.connectionpool),
    (urllib3.HTTPConnectionPool, "_make_request", urllib3.connectionpool),
    (urllib3.connection.HTTPConnection, "request", urllib3.connection),
    (urllib3.connection.HTTPConnection, "putrequest", urllib3.connection),
    (urllib3.connection.HTTPConnection, "putheader", urllib3.connection),
    (urllib3.connection.HTTPConnection, "endheaders", http.client),
    (urllib3.connection.HTTPConnection, "send", http.client),
    (urllib3.connection.HTTPConnection, "getresponse", urllib3.connection),
    (http.client.HTTPConnection, "request", http.client),
    (http.client.HTTPConnection, "putrequest", http.client),
    (http.client.HTTPConnection, "putheader", http.client),
    (http.client.HTTPConnection, "getresponse", http.client),
)
_urllib3_log = logging.getLogger("urllib3.connectionpool")


def send_is_replaced() -> bool:
    """Whether a tool such as requests-mock or OpenTelemetry has replaced ``Session.send``."""
    send: Any = requests.Session.send
    # A wrapper copies the name of what it wraps, but has the globals of its own module.
    return type(send) is not FunctionType or send.__globals__ is not vars(requests.sessions)


def connections_are_replaced() -> bool:
    """Whether a tool such as vcrpy has replaced urllib3's connections, which ours bypass."""
    pools = urllib3.HTTPConnectionPool, urllib3.HTTPSConnectionPool
    return any(pool.ConnectionCls.__module__ != "urllib3.connection" for pool in pools)


def is_observed() -> bool:
    """Whether somebody watches what ``direct`` bypasses: by a patch, or in urllib3's debug log."""
    for owner, name, home in _BYPASSED:
        part: Any = getattr(owner, name)
        if type(part) is not FunctionType or part.__globals__ is not vars(home):
            return True
    return _urllib3_log.isEnabledFor(logging.DEBUG)
