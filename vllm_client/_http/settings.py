"""The settings of a client: defaults, checks, and the transport that they make."""

from __future__ import annotations

import os
import re
from typing import Any, Dict, Optional
from urllib.parse import SplitResult, urlsplit, urlunsplit

import requests

from .._version import __version__
from ..timeouts import Timeout, TimeoutTypes
from .headers import Headers, checked_headers, merged_headers
from .session import ClientSession
from .transport import Transport

DEFAULT_BASE_URL = "http://localhost:8000/v1"
DEFAULT_TIMEOUT = Timeout()
DEFAULT_MAX_RESPONSE_BYTES = 1 << 30


def new_transport(
    base_url: Optional[str],
    api_key: Optional[str],
    timeout: TimeoutTypes,
    max_retries: int,
    headers: Optional[Headers],
    session: Optional[requests.Session],
    max_response_bytes: int,
) -> Transport:
    """A transport with these settings; the arguments are those of ``VllmClient``.

    Raises:
        TypeError, ValueError: An argument is invalid.
    """
    return Transport(
        _address(_default_address() if base_url in (None, "") else base_url),
        _key(os.environ.get("VLLM_API_KEY") if api_key is None else api_key),
        _own_headers(headers, session),
        Timeout.of(timeout),
        checked_retries(max_retries),
        ClientSession(session),
        checked_positive("max_response_bytes", max_response_bytes),
    )


def _default_address() -> str:
    return os.environ.get("VLLM_BASE_URL") or DEFAULT_BASE_URL


def _address(base_url: Any) -> str:
    if not isinstance(base_url, str):
        raise TypeError(f"base_url must be text, such as {DEFAULT_BASE_URL!r}, not {base_url!r}")
    url = base_url.strip()
    if url[:1] in {'"', "'"} and url[-1:] == url[:1]:
        url = url[1:-1].strip()  # Environment files keep the quotes around a value.
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", url):
        url = f"http://{url}"
    if re.search("//[^/?#]*@|[?#].", url):  # Checked first: the other message quotes the address.
        raise ValueError(
            "base_url contains a user name, a query or a fragment: pass credentials as api_key=… "
            "or headers=…, and remove the rest"
        )
    parts = _parts(url)
    if parts is None:
        raise ValueError(
            f"base_url {base_url!r} is not the address of a server, such as {DEFAULT_BASE_URL}"
        )
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/") or "/v1", "", ""))


def _parts(url: str) -> Optional[SplitResult]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    host = parts.hostname or ""
    # "http:/localhost" and "http//localhost" parse as an address of the host "http".
    # An IPv6 address stands in brackets. Other characters come from quotes, brackets of a text
    # around the address, and variables that were not replaced.
    is_host = "[" in parts.netloc or re.fullmatch(r"([\w-]{1,63}\.)*[\w-]{1,63}\.?", host)
    is_server = host not in {"http", "https"} and is_host and port != 0
    # The variable of a port may be empty: "http://localhost:".
    fine = parts.scheme in {"http", "https"} and is_server and not parts.netloc.endswith(":")
    # A variable that was not replaced, a list of addresses, or what no address contains.
    return parts if fine and not re.search(r"""[\s\x00-\x1f\x7f\\${}<>,;|"'`]""", url) else None


def _key(api_key: Optional[str]) -> Optional[str]:
    if api_key is None:
        return None
    if not isinstance(api_key, str):
        raise TypeError(f"api_key must be text, not {type(api_key).__name__}")
    key = api_key.strip()
    if not re.fullmatch(r"[\x20-\x7e]*", key):
        raise ValueError("api_key contains characters that no Authorization header can carry")
    return key or None


def _own_headers(headers: Optional[Headers], session: Optional[requests.Session]) -> Headers:
    own: Dict[str, Optional[str]] = {}
    if session is None:  # The user's own session brings a User-Agent of its own.
        own["User-Agent"] = f"vllm-sync-client/{__version__}"
    return merged_headers(own, checked_headers(headers))


def checked_positive(name: str, value: int) -> int:
    """The value itself.

    Raises:
        ValueError: It is no int, or less than 1; the message has the name.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be an int, 1 or greater, not {value!r}")
    return value


def checked_retries(value: int) -> int:
    """The value of ``max_retries`` itself.

    Raises:
        ValueError: It is no int, or less than 0.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"max_retries must be an int, 0 or greater, not {value!r}")
    return value
