"""How a request would reach a server, step by step, for ``vllm-client doctor``."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from typing import List, Optional, Tuple
from urllib.parse import urlsplit

from requests.adapters import DEFAULT_CA_BUNDLE_PATH
from requests.utils import get_environ_proxies, select_proxy

__all__ = ["addresses", "check_connection", "check_tls", "is_local", "proxy_of"]


def _endpoint(url: str) -> Tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def addresses(url: str) -> List[str]:
    """The IP addresses of the host.

    Raises:
        OSError: The name has none.
    """
    host, port = _endpoint(url)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def is_local(url: str) -> bool:
    """Whether the host is this machine."""
    try:
        return all(each.startswith(("127.", "::1")) for each in addresses(url))
    except OSError:
        return False


def proxy_of(url: str) -> Optional[str]:
    """The proxy that the environment sets for this address, without user name and password."""
    proxy = select_proxy(url, get_environ_proxies(url))
    if not proxy:
        return None
    scheme, _, rest = proxy.rpartition("://")
    return f"{scheme or 'http'}://{rest.rpartition('@')[2]}"


def check_connection(url: str, timeout: float) -> None:
    """Open a connection and close it again.

    Raises:
        TimeoutError: Nobody answered in ``timeout`` seconds.
        OSError: It cannot be opened.
    """
    try:
        socket.create_connection(_endpoint(url), timeout).close()
    except socket.timeout as error:  # Until Python 3.9 it is no TimeoutError.
        raise TimeoutError(str(error)) from error


def check_tls(url: str, timeout: float) -> str:
    """Make a TLS handshake, with the certificates that a request would trust.

    Returns:
        The version of the protocol, such as ``"TLSv1.3"``.

    Raises:
        OSError: The handshake failed; the message is OpenSSL's.
    """
    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    trusted = bundle or DEFAULT_CA_BUNDLE_PATH
    context = ssl.create_default_context(
        cafile=None if os.path.isdir(trusted) else trusted,
        capath=trusted if os.path.isdir(trusted) else None,
    )
    host, _ = _endpoint(url)
    plain = socket.create_connection(_endpoint(url), timeout)
    with contextlib.closing(plain), context.wrap_socket(plain, server_hostname=host) as wrapped:
        return str(wrapped.version())
