"""A stream of server-sent events as they are, for routes that have no method here."""

from __future__ import annotations

import json
from typing import Iterator, List, Optional

from attrs import frozen

from .._decoding.sse import EventSource
from .._http.response import OpenResponse
from ..exceptions import InvalidStreamError
from ..timings import Timings
from ..types.shared import JSONValue, Usage
from .base import Stream, check_event_stream

__all__ = ["ServerSentEvent", "ServerSentEventStream"]


@frozen
class ServerSentEvent:
    """One event of a stream, as the server sent it.

    Attributes:
        event: Its name; ``"message"`` if the server gave none.
        data: Its data, mostly JSON; ``"[DONE]"`` at the end of vLLM's own streams.
    """

    event: str
    data: str

    def json(self) -> JSONValue:
        """The decoded data.

        Raises:
            InvalidStreamError: The data is not JSON.
        """
        try:
            value: JSONValue = json.loads(self.data)
        except (ValueError, RecursionError) as error:
            raise InvalidStreamError(
                f"the data of an event is not JSON ({error}): {self.data[:300]!r}"
            ) from error
        return value


class ServerSentEventStream(Stream[ServerSentEvent, List[ServerSentEvent]]):
    """The stream of ``client.request(…, stream=True)``: an iterator of :class:`ServerSentEvent`.

    It knows only HTTP: a body that breaks off is a ``StreamInterruptedError``. Whether a route
    said all it had to say, and whether an event is an error, only its reader knows: look for the
    last event of the route (``[DONE]``, ``message_stop``, …). ``snapshot`` and the ``partial`` of
    an error are the list of events so far; ``collect()`` returns the whole list.
    """

    def collect_text(self) -> str:
        """Read to the end; returns the data of all events, one event a line."""
        return "\n".join(event.data for event in self.collect())

    def _text_of(self, event: ServerSentEvent, index: int) -> str:  # noqa: ARG002 — it has no choices
        return event.data

    @staticmethod
    def _body(
        source: EventSource, opened: OpenResponse, decoder: EventList, timings: Timings
    ) -> Iterator[ServerSentEvent]:
        for message in source:
            if message.data:
                timings.stamps.append(source.arrived)
                event = ServerSentEvent(message.event or "message", message.data)
                decoder.events.append(event)
                yield event
        opened.check_length()
        decoder.complete = True


class EventList:
    """The events that have arrived."""

    def __init__(self) -> None:
        self.usage: Optional[Usage] = None
        self.aborted = False
        self.complete = False
        self.events: List[ServerSentEvent] = []

    def snapshot(self) -> List[ServerSentEvent]:
        """The events so far."""
        return list(self.events)


def server_sent_events(opened: OpenResponse, called: float) -> ServerSentEventStream:
    """The stream of a response that has just been opened.

    Args:
        opened: The response.
        called: When the program asked for it, by ``perf_counter``.

    Raises:
        InvalidStreamError: It is a document.
    """
    check_event_stream(opened)
    timings = Timings(opened.started, called=called)
    return ServerSentEventStream(opened, EventList(), timings, "raise")
