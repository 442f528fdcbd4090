"""What every group of routes does."""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping, TypeVar

from .._decoding.chunks import Decoder, decoded_answer
from .._http.redaction import hide
from .._http.transport import EVENT_STREAM, Transport
from ..exceptions import VllmError
from ..streams import OnError, Stream, check_event_stream
from ..timings import Timings

R = TypeVar("R")
S = TypeVar("S", bound=Stream[Any, Any])


class Resource:
    """Some routes of one server."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _post(
        self, path: str, body: Any, options: Mapping[str, Any], read: Callable[[Dict[str, Any]], R]
    ) -> R:
        exchange = self._transport.fetch(
            "POST", self._transport.base_url + path, body, options=options
        )
        try:
            return decoded_answer(exchange.response.content, read)
        except VllmError as error:
            hide(error, exchange.secrets)
            raise

    def _stream(
        self,
        path: str,
        body: Any,
        options: Mapping[str, Any],
        decoder: Decoder[Any, Any],
        kind: Callable[[Any, Any, Timings, OnError], S],
        *,
        on_error: OnError,
    ) -> S:
        timings = Timings()
        exchange = self._transport.open(
            "POST", self._transport.base_url + path, body, accept=EVENT_STREAM, options=options
        )
        check_event_stream(exchange)
        return kind(exchange, decoder, timings, on_error)
