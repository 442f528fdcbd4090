"""The stream of ``client.responses``."""

from __future__ import annotations

from typing import Any, Iterator, List

from .._decoding.answers import aborted_error
from .._decoding.responses import ResponseDecoder
from .._decoding.sse import DONE, PINGS, EventSource, word_in
from .._http.response import OpenResponse
from ..exceptions import StreamInterruptedError
from ..response_events import ResponseStreamEvent
from ..timings import Timings
from ..types.response import Response
from .base import Stream

__all__ = ["ResponseStream"]


class ResponseStream(Stream[ResponseStreamEvent, Response]):
    """The stream of ``client.responses.stream``: an iterator of ``ResponseStreamEvent``.

    It ends without an error only if the response is complete: the server sent
    ``response.completed`` or ``response.incomplete``, and neither ``response.failed`` nor an
    error. ``collect()`` returns the :class:`~vllm_client.Response` of that event. Everything else
    is as for :class:`~vllm_client.streams.Stream`. ``timings.chunks`` counts the pieces of
    output: of text, reasoning and arguments.
    """

    def _text_of(self, event: Any, index: int) -> str:
        # There are no choices: all messages are the text of choice 0.
        is_text = event.type == "response.output_text.delta" and index == 0
        text: str = event.text if is_text else ""
        return text

    @staticmethod
    def _body(
        source: EventSource, opened: OpenResponse, decoder: ResponseDecoder, timings: Timings
    ) -> Iterator[ResponseStreamEvent]:
        for message in source:
            if message.event == "ping" or word_in(message.data) in {DONE, *PINGS}:
                continue
            events = decoder.decode(message.event, message.data)
            if decoder.ended:
                timings.end(decoder.usage, source.arrived)
                break
            if decoder.had_output:
                timings.stamps.append(source.arrived)
            yield from events
        else:
            events = _last_events(source, decoder)
        yield from _ending(opened, decoder, events)


def _last_events(source: EventSource, decoder: ResponseDecoder) -> List[ResponseStreamEvent]:
    """The last event of a body that lacks the blank line after it.

    Raises:
        StreamInterruptedError: It is not the end of a response.
        ServerStreamError: It is an error, perhaps without ``data:`` before it.
    """
    last_line = source.unparsed_end().rpartition("\n")[2]
    events = decoder.decode_end(last_line.removeprefix("data:"))
    if decoder.ended:
        return events
    raise StreamInterruptedError(
        "the stream ended without response.completed: the response is incomplete"
    )


def _ending(
    opened: OpenResponse, decoder: ResponseDecoder, events: List[ResponseStreamEvent]
) -> Iterator[ResponseStreamEvent]:
    opened.drain()
    if decoder.aborted:
        raise aborted_error(None)
    decoder.complete = True
    yield from events
