"""``VllmClient``: one server, and everything that can be asked of it."""

from __future__ import annotations

import functools
import os
import re
from types import TracebackType
from typing import Any, Dict, Mapping, Optional, Type
from urllib.parse import SplitResult, urlsplit, urlunsplit

import requests
from attrs import evolve

from ._http.session import Pool, merged
from ._http.transport import Transport, checked_headers
from ._version import __version__
from .timeouts import Timeout, TimeoutTypes

DEFAULT_BASE_URL = "http://localhost:8000/v1"
DEFAULT_TIMEOUT = Timeout()
_UNSET: Any = object()


class VllmClient:
    """A client of one vLLM server. Threads may share it; it pickles and survives ``fork``.

    Args:
        base_url: Address of the API, ``http`` or ``https``. A bare origin such as
            ``localhost:8000`` gains ``http://`` and ``/v1``; what has a path is kept. Else
            ``VLLM_BASE_URL``, else ``http://localhost:8000/v1``.
        api_key: Key of a server with ``--api-key``; else ``VLLM_API_KEY``, else none. It wins
            over ``.netrc``, and an ``Authorization`` header given here or with a call over it.
        timeout: Seconds, a pair ``(connect, read)``, a :class:`Timeout`, or None for no limit.
        max_retries: Further attempts, 0 or more, after a connection that failed before an answer
            and after 408, 429, 500, 502, 503 and 504; never once an answer has begun.
        headers: Sent with every request.
        session: Your own ``requests.Session``, for proxies, certificates or mocks. It is used as
            it is and left open.

    Raises:
        TypeError, ValueError: An argument that cannot be meant.
    """

    def __init__(
        self,
        base_url: Optional[str] = None,
        *,
        api_key: Optional[str] = None,
        timeout: TimeoutTypes = DEFAULT_TIMEOUT,
        max_retries: int = 2,
        headers: Optional[Mapping[str, Optional[str]]] = None,
        session: Optional[requests.Session] = None,
    ) -> None:
        self._session = session
        self._owns_pool = True
        self._set_transport(
            Transport(
                _address(_default_address() if base_url in (None, "") else base_url),
                _key(os.environ.get("VLLM_API_KEY") if api_key is None else api_key),
                _own_headers(headers, session),
                Timeout.of(timeout),
                _retries(max_retries),
                Pool(session),
            )
        )

    def _set_transport(self, transport: Transport) -> None:
        # Imported with the first client: who only names the class, or catches errors, does not
        # wait for them, and a process that forks later has them.
        from .resources.chat import Chat  # noqa: PLC0415
        from .resources.completions import Completions  # noqa: PLC0415

        self._transport = transport
        self.completions = Completions(transport)
        self.chat = Chat(transport)

    @property
    def base_url(self) -> str:
        """The root of the API, without a slash at its end."""
        return self._transport.base_url

    @property
    def server_url(self) -> str:
        """The same without the last ``/v1``: where ``/health``, ``/tokenize`` and the like are."""
        return self._transport.server_url

    @property
    def timeout(self) -> Timeout:
        """The limits of a call that brings none of its own."""
        return self._transport.timeout

    @property
    def max_retries(self) -> int:
        """How many attempts may follow the first."""
        return self._transport.max_retries

    def with_options(
        self,
        *,
        timeout: TimeoutTypes = _UNSET,
        max_retries: int = _UNSET,
        headers: Optional[Mapping[str, Optional[str]]] = _UNSET,
    ) -> VllmClient:
        """A copy with other settings on the same connections.

        The connections live until the first client is closed; closing a copy ends only the
        streams of the copy. ``headers`` are added to those of this client. Arguments and errors
        are those of the class.
        """
        changes: Dict[str, Any] = {}
        if timeout is not _UNSET:
            changes["timeout"] = Timeout.of(timeout)
        if max_retries is not _UNSET:
            changes["max_retries"] = _retries(max_retries)
        if headers is not _UNSET:
            changes["headers"] = _merged(self._transport.headers, headers)
        copy = object.__new__(type(self))
        copy._session = self._session
        copy._owns_pool = False
        copy._set_transport(evolve(self._transport, **changes))
        return copy

    def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Optional[Mapping[str, Any]] = None,
        extra_headers: Optional[Mapping[str, Optional[str]]] = None,
        timeout: TimeoutTypes = _UNSET,
    ) -> requests.Response:
        """Reach a route that has no method here, with the same limits, retries and errors.

        Args:
            method: ``"GET"``, ``"POST"``, …
            path: A route of the server as vLLM writes it (``"/v1/models"``, ``"/health"``);
                without a slash at its beginning, relative to ``base_url`` (``"models"``).
            json: The body, if there is one.
            params: The query.
            extra_headers: For this call.
            timeout: For this call.

        Returns:
            The answer, its body read.

        Raises:
            APIStatusError: Its status is not a success.
            APIConnectionError: No whole answer came.
        """
        options: Dict[str, Any] = {} if timeout is _UNSET else {"timeout": timeout}
        if extra_headers is not None:
            options["extra_headers"] = extra_headers
        return self._transport.fetch(
            method.upper(), self._url(path), json, accept="*/*", params=params, options=options
        ).response

    def _url(self, path: str) -> str:
        if "://" in path.partition("?")[0]:
            raise ValueError(f"path is a route of {self.server_url}, not an address: {path!r}")
        return self.server_url + path if path.startswith("/") else f"{self.base_url}/{path}"

    def close(self) -> None:
        """End the streams and calls that are open, and close the connections. May be repeated."""
        self._transport.pool.close(None if self._owns_pool else self._transport)

    def __enter__(self) -> VllmClient:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r})"

    def __reduce__(self) -> Any:
        # The copy, in another process perhaps, opens its own connections.
        return functools.partial(
            type(self),
            self.base_url,
            api_key=self._transport.api_key or "",
            timeout=self.timeout,
            max_retries=self.max_retries,
            headers=dict(self._transport.headers),
            session=self._session,
        ), ()


def _default_address() -> str:
    return os.environ.get("VLLM_BASE_URL") or DEFAULT_BASE_URL


def _address(base_url: Any) -> str:
    if not isinstance(base_url, str):
        raise TypeError(
            f"base_url has to be text, such as {DEFAULT_BASE_URL!r}; it is {base_url!r}"
        )
    url = base_url.strip()
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", url):
        url = f"http://{url}"
    if re.search("//[^/?#]*@|[?#].", url):  # First, so that no message quotes a password.
        raise ValueError(
            "base_url has a user name, a query or a fragment: put credentials into api_key=… or "
            "headers=…, and leave the rest out"
        )
    parts = _parts(url)
    if parts is None:
        raise ValueError(
            f"base_url {base_url!r} is not the address of a server; one is like {DEFAULT_BASE_URL}"
        )
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/") or "/v1", "", ""))


def _parts(url: str) -> Optional[SplitResult]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    host = parts.hostname or ""
    # A host called http is what is left of "http:/localhost" or "http//localhost".
    is_host = host not in {"http", "https"} and re.fullmatch(r"([^.]{1,63}\.)*[^.]{1,63}\.?", host)
    fine = parts.scheme in {"http", "https"} and is_host and port != 0
    return parts if fine and not re.search(r"[\s\x00-\x1f\\]", url) else None


def _key(api_key: Optional[str]) -> Optional[str]:
    if api_key is None:
        return None
    if not isinstance(api_key, str):
        raise TypeError("api_key has to be text")
    key = api_key.strip()
    if not re.fullmatch(r"[\x20-\x7e]*", key):
        raise ValueError("api_key has characters that no Authorization header can carry")
    return key or None


def _own_headers(
    headers: Optional[Mapping[str, Optional[str]]], session: Optional[requests.Session]
) -> Dict[str, Optional[str]]:
    # A session of the user's says for itself who it is.
    named: Dict[str, Optional[str]] = {}
    if session is None:
        named["User-Agent"] = f"vllm-sync-client/{__version__}"
    return _merged(named, headers)


def _merged(
    below: Mapping[str, Optional[str]], above: Optional[Mapping[str, Optional[str]]]
) -> Dict[str, Optional[str]]:
    if not isinstance(above or {}, Mapping):
        raise TypeError(f"headers have to be a dict; they are {type(above).__name__}")
    return merged(below, checked_headers(above or {}))


def _retries(value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"max_retries has to be a number of attempts, 0 or more; it is {value!r}")
    return value
