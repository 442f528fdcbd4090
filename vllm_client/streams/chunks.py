"""The streams of completions, chat, tokens and recordings.

They are complete when every choice that was asked for has finished and ``[DONE]`` came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterator, TypeVar

from .._decoding.answers import aborted_error
from .._decoding.chunks import Decoder
from .._decoding.sse import EventSource
from .._error_bodies import decoded_or_text, frame_error, message_in
from .._http.response import OpenResponse
from ..events import CompletionStreamEvent, Done, GenerationStreamEvent, StreamEvent
from ..exceptions import StreamInterruptedError
from ..timings import Timings
from ..types.completion import Completion
from .base import Stream

if TYPE_CHECKING:
    from ..types.chat import ChatCompletion  # noqa: F401 — named in a string
    from ..types.generation import Generation  # noqa: F401
    from ..types.transcription import Transcription  # noqa: F401

__all__ = ["ChatCompletionStream", "CompletionStream", "GenerationStream", "TranscriptionStream"]

E = TypeVar("E")
R = TypeVar("R")


def _chunk_events(
    source: EventSource, opened: OpenResponse, decoder: Decoder[E, R, Any], timings: Timings
) -> Iterator[Any]:
    # Hot path, measured, see docs/performance.md: local names, and match() before decode().
    match, stamp = decoder.match, timings.stamps.append
    for message in source:
        data = message.data
        if not data or (message.event != "message" and _is_ping(message.event, data)):
            continue
        event = match(data)
        if event is not None:
            stamp(source.arrived)
            yield event
            continue
        if data == "[DONE]":
            timings.end(decoder.usage, source.arrived)
            break
        events = decoder.decode(data)
        if decoder.chunk_had_choices:
            stamp(source.arrived)
        yield from events
    else:
        if not _ends_with_done(source, decoder):
            raise StreamInterruptedError(
                "the stream ended without [DONE]: the response is incomplete"
            )
    yield from _ending(opened, decoder)


def _ends_with_done(source: EventSource, decoder: Decoder[E, R, Any]) -> bool:
    """Whether the body ends with a ``[DONE]`` that lacks its blank line.

    Raises:
        ServerStreamError: It ends with a JSON error that has no ``data:`` before it.
    """
    end = source.unparsed_end()
    data = end[5:].strip() if end.startswith("data:") else end
    if data.startswith("{"):
        body = decoded_or_text(data)
        if isinstance(body, dict) and "choices" not in body and message_in(body):
            raise frame_error(body)
    return data == "[DONE]" and data != end and not decoder.unfinished()


def _ending(opened: OpenResponse, decoder: Decoder[E, R, Any]) -> Iterator[Any]:
    """The events after ``[DONE]``, if the response is complete."""
    missing = decoder.unfinished()
    if missing:
        raise StreamInterruptedError(
            f"received [DONE], but choice {', '.join(map(str, missing))} has no finish reason: "
            "the response is incomplete"
        )
    opened.drain()
    if decoder.usage is not None:
        yield decoder.usage
    if decoder.aborted:
        raise aborted_error(None)
    decoder.complete = True
    yield Done()


def _is_ping(name: str, data: str) -> bool:
    # vLLM sends no `event:` field. Gateways in front of it use it for errors and pings.
    if name == "error":
        raise frame_error(decoded_or_text(data))
    return name == "ping"


class CompletionStream(Stream[CompletionStreamEvent, Completion]):
    """The stream of ``client.completions.stream``: an iterator of ``CompletionStreamEvent``."""

    _text_event = "text"
    _body = staticmethod(_chunk_events)


class ChatCompletionStream(Stream[StreamEvent, "ChatCompletion"]):
    """The stream of ``client.chat.completions.stream``: an iterator of ``StreamEvent``."""

    _text_event = "content"
    _body = staticmethod(_chunk_events)


class GenerationStream(Stream[GenerationStreamEvent, "Generation"]):
    """The stream of ``client.generate.stream``: an iterator of ``GenerationStreamEvent``."""

    _text_event = "tokens"
    _body = staticmethod(_chunk_events)


class TranscriptionStream(Stream[CompletionStreamEvent, "Transcription"]):
    """The stream of ``client.audio``: an iterator of ``CompletionStreamEvent``."""

    _text_event = "text"
    _body = staticmethod(_chunk_events)
