"""The streams of completions, chat, tokens and recordings.

They are complete when every choice that was asked for has finished and ``[DONE]`` came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterator, TypeVar

from .._decoding.answers import aborted_error
from .._decoding.chunks import Decoder, shortened
from .._decoding.sse import DONE, PINGS, EventSource, word_in
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
        if (message.event != "message" and _is_ping(message.event, data)) or not data:
            continue
        event = match(data)
        if event is not None:
            stamp(source.arrived)
            yield event
            continue
        word = word_in(data)
        if word == DONE:
            timings.end(decoder.usage, source.arrived)
            break
        if word in PINGS:
            continue
        events = decoder.decode(data)
        if decoder.chunk_had_choices:
            stamp(source.arrived)
        yield from events
    else:
        if not _ends_with_done(source, decoder):
            raise StreamInterruptedError(
                "the stream ended without [DONE]: the response is incomplete"
                + _unknown_frame(decoder)
            )
    yield from _ending(opened, decoder)


def _ends_with_done(source: EventSource, decoder: Decoder[E, R, Any]) -> bool:
    """Whether the body ends with a ``[DONE]`` that lacks its blank line.

    Raises:
        ServerStreamError: It ends with a JSON error that has no ``data:`` before it.
    """
    lines = source.unparsed_end().splitlines()
    data = [line[5:] for line in lines if line.startswith("data:")]
    text = "\n".join(data or lines).strip()
    if text.startswith("{"):
        body = decoded_or_text(text)
        if isinstance(body, dict) and "choices" not in body and message_in(body):
            raise frame_error(body)
    return bool(data) and word_in(text) == DONE and not decoder.unfinished()


def _unknown_frame(decoder: Decoder[E, R, Any]) -> str:
    """What may tell why a stream is incomplete, for the message of the error."""
    frame = decoder.unknown_frame
    return f"; the server also sent {shortened(frame)}" if frame else ""


def _ending(opened: OpenResponse, decoder: Decoder[E, R, Any]) -> Iterator[Any]:
    """The events after ``[DONE]``, if the response is complete."""
    missing = decoder.unfinished()
    if missing:
        raise StreamInterruptedError(
            f"received [DONE], but choice {', '.join(map(str, missing))} has no finish reason: "
            "the response is incomplete" + _unknown_frame(decoder)
        )
    opened.drain()
    yield from decoder.last_events()
    if decoder.usage is not None:
        yield decoder.usage
    if decoder.aborted:
        raise aborted_error(None)
    decoder.complete = True
    yield Done()


def _is_ping(name: str, data: str) -> bool:
    # vLLM sends no `event:` field. Gateways in front of it use it for errors and pings.
    if name.lower() == "error":
        raise frame_error(decoded_or_text(data))
    return name.lower() in PINGS


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
