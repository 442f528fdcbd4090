"""``VllmClient``: the client of one server."""

from __future__ import annotations

import functools
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Dict, Literal, Mapping, Optional, Type, Union, overload

import requests
from attrs import evolve

from ._habits import CLIENT_HABITS, client_habits
from ._http.headers import Headers, checked_headers, merged_headers
from ._http.payload import Data, Payload
from ._http.settings import (
    DEFAULT_MAX_RESPONSE_BYTES,
    DEFAULT_TIMEOUT,
    checked_positive,
    checked_retries,
    new_transport,
)
from ._http.transport import EVENT_STREAM, UNSET, CallOptions, Transport
from .timeouts import Timeout, TimeoutTypes

if TYPE_CHECKING:
    from .batch import Batch
    from .evaluate import Evaluate
    from .streams import ServerSentEventStream

__all__ = ["VllmClient"]

_UNSET: Any = object()
"""Stands for an argument that was not given."""


@client_habits(**CLIENT_HABITS)
class VllmClient:
    """A client of one vLLM server. Threads may share it; it can be pickled and survives ``fork``.

    Args:
        base_url: Address of the API, ``http`` or ``https``. A bare origin such as
            ``localhost:8000`` is completed with ``http://`` and ``/v1``; an address with a path is
            used unchanged. The default is ``VLLM_BASE_URL``, else ``http://localhost:8000/v1``.
        api_key: Key of a server with ``--api-key``; the default is ``VLLM_API_KEY``, else none. It
            takes precedence over ``.netrc``. An ``Authorization`` header, set here or per call,
            takes precedence over it.
        timeout: Seconds, a pair ``(connect, read)``, a :class:`Timeout`, or None for no limit.
        max_retries: How often a request is retried, 0 or more: after a connection that failed
            before the response, and after 408, 429, 500, 502, 503 and 504. A response that has
            begun is never retried.
        headers: Sent with every request.
        max_response_bytes: The largest body of a response that is not streamed, after
            decompression; 1 GiB by default. It bounds the memory that a faulty server can take.
        session: Your own ``requests.Session``, for proxies, certificates or mocks. The client uses
            it unchanged and does not close it.

    Raises:
        TypeError, ValueError: An argument is invalid.
    """

    def __init__(
        self,
        base_url: Optional[str] = None,
        *,
        api_key: Optional[str] = None,
        timeout: TimeoutTypes = DEFAULT_TIMEOUT,
        max_retries: int = 2,
        headers: Optional[Headers] = None,
        session: Optional[requests.Session] = None,
        max_response_bytes: int = DEFAULT_MAX_RESPONSE_BYTES,
    ) -> None:
        self._session = session
        self._owns_connections = True
        self._use(
            new_transport(
                base_url, api_key, timeout, max_retries, headers, session, max_response_bytes
            )
        )

    def _use(self, transport: Transport) -> None:
        # Imported here so that importing VllmClient alone stays fast. Creating a client loads
        # them, so a child forked later inherits them.
        from .resources.audio import Audio  # noqa: PLC0415
        from .resources.chat import Chat  # noqa: PLC0415
        from .resources.completions import Completions  # noqa: PLC0415
        from .resources.embeddings import Embeddings  # noqa: PLC0415
        from .resources.generate import Generate  # noqa: PLC0415
        from .resources.lora import Lora  # noqa: PLC0415
        from .resources.models import Models  # noqa: PLC0415
        from .resources.pooling import Classify, Pooling  # noqa: PLC0415
        from .resources.responses import Responses  # noqa: PLC0415
        from .resources.scoring import Rerank, Score  # noqa: PLC0415
        from .resources.server import Server  # noqa: PLC0415
        from .resources.tokenizer import Tokenizer  # noqa: PLC0415

        self._transport = transport
        self._evaluate: Optional[Evaluate] = None
        self.completions = Completions(transport)
        self.chat = Chat(transport)
        self.models = Models(transport)
        self.embeddings = Embeddings(transport)
        self.pooling = Pooling(transport)
        self.classify = Classify(transport)
        self.score = Score(transport)
        self.rerank = Rerank(transport)
        self.responses = Responses(transport)
        self.tokenizer = Tokenizer(transport)
        self.lora = Lora(transport)
        self.server = Server(transport)
        self.generate = Generate(transport)
        self.audio = Audio(transport)

    @property
    def batch(self) -> Batch:
        """Many prompts at once, from one loop or from a file to a file."""
        from .batch import Batch  # noqa: PLC0415 — few programs use it

        return Batch(self._transport)

    @property
    def evaluate(self) -> Evaluate:
        """Scores of given texts: log-likelihoods, choices and perplexity."""
        if self._evaluate is None:  # Kept, because it remembers what the server told.
            from .evaluate import Evaluate  # noqa: PLC0415 — few programs use it

            self._evaluate = Evaluate(self._transport)
        return self._evaluate

    @property
    def base_url(self) -> str:
        """The root of the API, without a slash at the end."""
        return self._transport.base_url

    @property
    def server_url(self) -> str:
        """The same without the last ``/v1``, as for ``/health`` and ``/tokenize``."""
        return self._transport.server_url

    @property
    def timeout(self) -> Timeout:
        """The time limits of a call that sets none of its own."""
        return self._transport.timeout

    @property
    def max_retries(self) -> int:
        """How often a request is retried at most."""
        return self._transport.max_retries

    def with_options(
        self,
        *,
        timeout: TimeoutTypes = _UNSET,
        max_retries: int = _UNSET,
        headers: Optional[Headers] = _UNSET,
        max_response_bytes: int = _UNSET,
    ) -> VllmClient:
        """A copy with other settings that shares the connections.

        The connections stay open until the original client is closed. Closing the copy ends only
        the streams and calls of the copy. ``headers`` are added to those of this client. Arguments
        and errors are those of the class.
        """
        changes: Dict[str, Any] = {}
        if timeout is not _UNSET:
            changes["timeout"] = Timeout.of(timeout)
        if max_retries is not _UNSET:
            changes["max_retries"] = checked_retries(max_retries)
        if headers is not _UNSET:
            changes["headers"] = merged_headers(self._transport.headers, checked_headers(headers))
        if max_response_bytes is not _UNSET:
            changes["max_response_bytes"] = checked_positive(
                "max_response_bytes", max_response_bytes
            )
        return self._sharing(evolve(self._transport, **changes))

    def _sharing(self, transport: Transport) -> VllmClient:
        copy = object.__new__(type(self))
        copy._session = self._session
        copy._owns_connections = False
        copy._use(transport)
        return copy

    @overload
    def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = ...,
        data: Optional[Data] = ...,
        files: Optional[Mapping[str, Any]] = ...,
        params: Optional[Mapping[str, Any]] = ...,
        stream: Literal[False] = ...,
        extra_headers: Optional[Headers] = ...,
        timeout: TimeoutTypes = ...,
    ) -> requests.Response: ...

    @overload
    def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = ...,
        data: Optional[Data] = ...,
        files: Optional[Mapping[str, Any]] = ...,
        params: Optional[Mapping[str, Any]] = ...,
        stream: Literal[True],
        extra_headers: Optional[Headers] = ...,
        timeout: TimeoutTypes = ...,
    ) -> ServerSentEventStream: ...

    def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        data: Optional[Data] = None,
        files: Optional[Mapping[str, Any]] = None,
        params: Optional[Mapping[str, Any]] = None,
        stream: bool = False,
        extra_headers: Optional[Headers] = None,
        timeout: TimeoutTypes = UNSET,
    ) -> Union[requests.Response, ServerSentEventStream]:
        """Call a route that has no method here, with the same time limits, retries and errors.

        Args:
            method: ``"GET"``, ``"POST"``, …
            path: A route of the server as vLLM writes it (``"/v1/models"``, ``"/health"``).
                Without a slash at the beginning it is relative to ``base_url`` (``"models"``).
            json: The body of the request as JSON; None for none.
            data: A body of bytes or text, or a dict of the fields of a form.
            files: The files of a multipart form, by field: bytes, an open file, or a tuple
                ``(name, content[, content type])``. ``data`` has the other fields of the form.
            params: The query.
            stream: Read server-sent events while they arrive. Ask for a stream in the body too.
            extra_headers: Headers for this call.
            timeout: The time limits of this call.

        Returns:
            The response, whose body has been read; with ``stream`` an iterator of
            ``ServerSentEvent``, to be used in ``with``.

        Raises:
            TypeError, ValueError: The body cannot be sent.
            APIStatusError: The status is not a success.
            APIConnectionError: No complete response arrived.
            InvalidStreamError: With ``stream``, the response is a document.
        """
        options = CallOptions(timeout, extra_headers)
        del extra_headers  # May be secret: whoever logs this frame sees none.
        payload = Payload.of(json, data, files)
        return self._requested(method.upper(), path, payload, params, options, stream)

    def _requested(
        self,
        method: str,
        path: str,
        payload: Payload,
        params: Optional[Mapping[str, Any]],
        options: CallOptions,
        stream: bool,
    ) -> Union[requests.Response, ServerSentEventStream]:
        called = perf_counter()
        accept = EVENT_STREAM if stream else "*/*"
        opened = self._transport.open(
            method,
            self._url(path),
            payload,
            accept=accept,
            params=params,
            stream=stream,
            options=options,
        )
        if stream:
            from .streams.server_sent import server_sent_events  # noqa: PLC0415 — as in _use

            return server_sent_events(opened, called)
        with opened.redacting():
            opened.read_all(self._transport.max_response_bytes)
        return opened.response

    def _url(self, path: str) -> str:
        if "://" in path.partition("?")[0]:
            raise ValueError(f"path must be a route of {self.server_url}, not an address: {path!r}")
        return self._transport.url(path)

    def close(self) -> None:
        """Cancel the open streams and calls, and close the connections. May be called again."""
        self._transport.session.close(None if self._owns_connections else self._transport)

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
        # The copy, perhaps in another process, opens connections of its own.
        return functools.partial(
            type(self),
            self.base_url,
            api_key=self._transport.api_key or "",
            timeout=self.timeout,
            max_retries=self.max_retries,
            headers=dict(self._transport.headers),
            session=self._session,
            max_response_bytes=self._transport.max_response_bytes,
        ), ()
