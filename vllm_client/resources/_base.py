"""What every group of routes does: send a request, read its response or open its stream."""

from __future__ import annotations

from time import perf_counter
from typing import Any, Callable, Type, TypeVar

from .._decoding.answers import decoded_answer
from .._decoding.chunks import Decoder
from .._http.transport import EVENT_STREAM, UNSET, CallOptions, Transport
from ..params import RequestOptions
from ..streams import OnError, Stream, check_event_stream
from ..timings import Timings
from ..types._json import JsonObject

R = TypeVar("R")
S = TypeVar("S", bound=Stream[Any, Any])


class Resource:
    """Some routes of one server."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _post(
        self,
        path: str,
        body: JsonObject,
        options: RequestOptions,
        from_raw: Callable[[JsonObject], R],
        *,
        expected: int = 0,
    ) -> R:
        """The response to a request, made by ``from_raw``, with ``expected`` finished choices."""
        url = self._transport.base_url + path
        opened = self._transport.open("POST", url, body, options=_call_options(options))
        with opened.redacting():
            content = opened.read_all(self._transport.max_response_bytes)
            return decoded_answer(content, from_raw, expected)

    def _stream(
        self,
        path: str,
        body: JsonObject,
        options: RequestOptions,
        decoder: Decoder[Any, Any, Any],
        stream_class: Type[S],
        *,
        on_error: OnError,
    ) -> S:
        """The stream of a request, opened."""
        called = perf_counter()
        url = self._transport.base_url + path
        opened = self._transport.open(
            "POST", url, body, accept=EVENT_STREAM, options=_call_options(options)
        )
        check_event_stream(opened)
        timings = Timings(opened.started, called=called)
        return stream_class(opened, decoder, timings, on_error)


def _call_options(options: RequestOptions) -> CallOptions:
    # Taken out, because the caller's frame holds these options while the request is sent.
    return CallOptions(options.get("timeout", UNSET), options.pop("extra_headers", None))
