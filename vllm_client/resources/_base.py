"""What every group of routes does: send a request, read its response or open its stream."""

from __future__ import annotations

from time import perf_counter
from typing import Any, Callable, Mapping, Optional, Tuple, Type, TypeVar

from .._decoding.answers import decoded_answer
from .._http.payload import JSON, Payload
from .._http.response import OpenResponse, WholeResponse
from .._http.transport import EVENT_STREAM, UNSET, CallOptions, Transport
from ..params import RequestOptions
from ..streams import OnError, Stream
from ..streams.base import StreamDecoder, check_event_stream
from ..timings import Timings
from ..types._answer import timed
from ..types._json import JsonObject
from ..types._parsed import parse_choices

R = TypeVar("R")
S = TypeVar("S", bound=Stream[Any, Any])

Query = Mapping[str, object]
"""The query of a URL. A list is a name that is repeated; None is left out."""


class Resource:
    """Some routes of one server.

    Paths are relative to the API root (``"completions"``), or begin with a slash
    (``"/tokenize"``) as those of routes beside ``/v1`` do.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _get(
        self,
        path: str,
        options: RequestOptions,
        from_raw: Callable[[JsonObject], R],
        *,
        params: Optional[Query] = None,
    ) -> R:
        """The response to a GET request, made by ``from_raw`` from its decoded JSON."""
        return self._answer("GET", path, Payload(), options, from_raw, params=params)

    def _post(
        self,
        path: str,
        body: JsonObject,
        options: RequestOptions,
        from_raw: Callable[[JsonObject], R],
        *,
        expected: int = 0,
        answer_type: Optional[type] = None,
        params: Optional[Query] = None,
    ) -> R:
        """The response to a request, made by ``from_raw``, with ``expected`` finished choices.

        With ``answer_type``, their texts are read as instances of that class.
        """
        return self._answer(
            "POST",
            path,
            Payload.of_json(body),
            options,
            from_raw,
            expected=expected,
            answer_type=answer_type,
            params=params,
        )

    def _answer(
        self,
        method: str,
        path: str,
        payload: Payload,
        options: RequestOptions,
        from_raw: Callable[[JsonObject], R],
        *,
        expected: int = 0,
        answer_type: Optional[type] = None,
        params: Optional[Query] = None,
    ) -> R:
        called = perf_counter()
        whole = self._fetch(method, path, payload, options, params=params)
        with whole.redacting():
            answer = decoded_answer(whole.content, from_raw, expected)
            timed(answer, whole.started, whole.ended, called)
            if answer_type is not None:
                parse_choices(answer, answer_type)
            return answer

    def _post_form(
        self,
        path: str,
        payload: Payload,
        options: RequestOptions,
        read: Callable[[bytes, str], R],
    ) -> R:
        """The response to a form, made by ``read`` from its body and its content type."""
        called = perf_counter()
        whole = self._fetch("POST", path, payload, options, accept="*/*")
        with whole.redacting():
            answer = read(whole.content, whole.headers.get("content-type", ""))
            timed(answer, whole.started, whole.ended, called)
            return answer

    def _content(
        self,
        method: str,
        path: str,
        payload: Payload,
        options: RequestOptions,
        *,
        accept: str = JSON,
        params: Optional[Query] = None,
    ) -> Tuple[bytes, Mapping[str, str]]:
        """The body and the headers of a response that may be other than JSON."""
        whole = self._fetch(method, path, payload, options, accept=accept, params=params)
        return whole.content, whole.headers

    def _stream(
        self,
        path: str,
        payload: Payload,
        options: RequestOptions,
        decoder: StreamDecoder[Any],
        stream_class: Type[S],
        *,
        on_error: OnError,
        answer_type: Optional[type] = None,
    ) -> S:
        """The stream of a request, opened."""
        called = perf_counter()
        opened = self._open("POST", path, payload, options, accept=EVENT_STREAM, stream=True)
        check_event_stream(opened)
        timings = Timings(opened.started, called=called)
        return stream_class(opened, decoder, timings, on_error, answer_type)

    def _fetch(
        self,
        method: str,
        path: str,
        payload: Payload,
        options: RequestOptions,
        *,
        accept: str = JSON,
        params: Optional[Query] = None,
    ) -> WholeResponse:
        return self._transport.fetch(
            method,
            self._transport.url(path),
            payload,
            accept=accept,
            params=params,
            options=_call_options(options),
        )

    def _open(
        self,
        method: str,
        path: str,
        payload: Payload,
        options: RequestOptions,
        *,
        accept: str = JSON,
        params: Optional[Query] = None,
        stream: bool = False,
    ) -> OpenResponse:
        return self._transport.open(
            method,
            self._transport.url(path),
            payload,
            accept=accept,
            params=params,
            stream=stream,
            options=_call_options(options),
        )


def _call_options(options: RequestOptions) -> CallOptions:
    # Taken out, because the caller's frame holds these options while the request is sent.
    return CallOptions(options.get("timeout", UNSET), options.pop("extra_headers", None))
