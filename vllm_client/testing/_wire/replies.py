"""Sends responses on a connection: head, framing, and the faults of a script."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from time import monotonic
from typing import Callable, Protocol

from ..script import Script
from .json_types import JsonObject
from .refusals import ENGINE_DIED, error_body, reason_phrase

__all__ = [
    "DONE",
    "SERVER_NAME",
    "ClientGoneError",
    "EventStream",
    "GenerationStats",
    "Interruption",
    "Reply",
    "ReplySender",
    "ScriptedCutError",
    "json_reply",
    "named_sse_event",
    "sse_event",
    "to_json",
]

SERVER_NAME = "fake-vllm (a stand-in, not vLLM)"
DONE = b"data: [DONE]\n\n"

_STEP = 0.02
"""Seconds between two looks at whether a response was aborted or held."""
_NO_HEADERS: Mapping[str, str] = {}


class ClientGoneError(Exception):
    """The client closed its connection, or the server is closing it."""


class ScriptedCutError(Exception):
    """A script cuts the response: the server must close the connection and send nothing more."""


@dataclass(frozen=True)
class GenerationStats:
    """What was generated for a response. ``GET /metrics`` counts it."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish_reasons: Sequence[str] = ()


@dataclass(frozen=True)
class Reply:
    """A response that is not streamed."""

    status: int = 200
    body: bytes = b""
    content_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    stats: GenerationStats | None = None


@dataclass(frozen=True)
class EventStream:
    """A streamed response.

    Attributes:
        events: The SSE events of the generated tokens, as the bytes to send.
        tail: The SSE events after the last token: usage and ``[DONE]``.
        status: The HTTP status.
        headers: Additional headers.
        stats: What was generated.
    """

    events: Sequence[bytes]
    tail: Sequence[bytes] = (DONE,)
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    stats: GenerationStats | None = None


def to_json(value: object) -> bytes:
    """Return JSON as vLLM writes it: UTF-8, without spaces."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # JSON allows a lone surrogate as "\ud800", but UTF-8 cannot encode it: send "?" instead.
    return text.encode("utf-8", "replace")


def json_reply(
    value: object,
    status: int = 200,
    *,
    headers: Mapping[str, str] = _NO_HEADERS,
    stats: GenerationStats | None = None,
) -> Reply:
    """Return a response with a JSON body."""
    return Reply(status, to_json(value), "application/json", headers, stats)


def sse_event(data: object) -> bytes:
    """Return one SSE event with JSON data."""
    return b"data: " + to_json(data) + b"\n\n"


def named_sse_event(data: JsonObject) -> bytes:
    """Return one SSE event with JSON data, named as the ``type`` of the data."""
    return f"event: {data['type']}\n".encode() + sse_event(data)


def sse_error_event(message: str, status: int) -> bytes:
    """Return the SSE event of an error. vLLM writes its JSON with spaces and ASCII escapes."""
    return f"data: {json.dumps(error_body(message, status))}\n\n".encode()


class Interruption(Protocol):
    """What pauses or ends a generation from outside."""

    is_held: bool
    is_aborted: bool

    def aborted_parts(self, stream: EventStream, sent: int) -> list[bytes]:
        """The SSE events that end a stream that is aborted after ``sent`` events."""
        raise NotImplementedError

    def aborted_reply(self, reply: Reply) -> bytes:
        """The body of a response that is aborted."""
        raise NotImplementedError


class ReplySender:
    """Sends the responses of one connection.

    Args:
        connection: The socket.
        closing: An event that the server sets when it closes.
    """

    def __init__(self, connection: socket.socket, closing: threading.Event) -> None:
        self._connection = connection
        self._closing = closing

    def send_reply(
        self,
        reply: Reply,
        script: Script,
        on_generated: Callable[[], None] = lambda: None,
        *,
        close: bool = False,
        head: bool = False,
        interruption: Interruption | None = None,
    ) -> None:
        """Send a response that is not streamed, or only its head.

        Args:
            reply: The response.
            script: The faults to apply.
            on_generated: Called before the first byte is sent, so that a client that has read
                the response finds it in the counts.
            close: Whether the head announces that the connection will be closed.
            head: Whether to omit the body.
            interruption: What may abort or hold the generation.

        Raises:
            ClientGoneError: The client closed the connection before the response was sent.
            ScriptedCutError: The script cuts the response.
        """
        self._generate(None if script.stall_after is not None else script.delay, interruption)
        on_generated()
        body = reply.body
        if interruption is not None and interruption.is_aborted:
            body = interruption.aborted_reply(reply)
        content_length = len(body)
        start = _response_head(
            reply.status, reply.headers, reply.content_type, content_length, close
        )
        if script.cut_after is not None:
            self._send(start + body[: content_length // 2])
            raise ScriptedCutError
        self._send(start if head else start + body)

    def send_stream(
        self,
        stream: EventStream,
        script: Script,
        on_generated: Callable[[], None] = lambda: None,
        *,
        close: bool = False,
        interruption: Interruption | None = None,
    ) -> None:
        """Send a streamed response, each SSE event as one HTTP chunk.

        Args:
            stream: The response.
            script: The faults to apply.
            on_generated: Called before the last generated event is sent, unless the script stalls
                the stream.
            close: Whether the head announces that the connection will be closed.
            interruption: What may abort or hold the generation.

        Raises:
            ClientGoneError: The client closed the connection before the last generated event.
            ScriptedCutError: The script cuts the stream.
        """
        self._pause(0)
        self._send(_response_head(stream.status, stream.headers, None, None, close))
        # The empty last part is sent as the HTTP chunk of length 0 that ends the body.
        for number, part in enumerate([*stream.events, *stream.tail, b""]):
            if self._apply_fault(number, script, interruption):
                return
            if number < len(stream.events):
                self._generate(script.delay, interruption)
                if interruption is not None and interruption.is_aborted:
                    on_generated()
                    for ending in (*interruption.aborted_parts(stream, number), b""):
                        self._send_chunk(ending)
                    return
                if number == len(stream.events) - 1 and script.stall_after is None:
                    on_generated()
                self._send_chunk(part)
            else:
                # All tokens are sent: a client that leaves now has not aborted the request.
                with suppress(ClientGoneError):
                    self._send_chunk(part)

    def _apply_fault(
        self, sent_events: int, script: Script, interruption: Interruption | None
    ) -> bool:
        """Apply the fault that the script sets after ``sent_events`` events, if there is one.

        Returns:
            Whether the response has ended.
        """
        if script.stall_after == sent_events:
            self._generate(None, interruption)
        if script.cut_after == sent_events and not script.clean:
            raise ScriptedCutError
        if script.error_after == sent_events:
            self._send_chunk(sse_error_event(script.error or ENGINE_DIED, script.status or 500))
            self._send_chunk(DONE)
        ended = sent_events in (script.cut_after, script.error_after)
        if ended:
            self._send_chunk(b"")
        return ended

    def _send_chunk(self, data: bytes) -> None:
        self._send(b"%x\r\n%b\r\n" % (len(data), data))

    def _send(self, data: bytes) -> None:
        try:
            self._connection.sendall(data)
        except OSError as error:
            raise ClientGoneError from error

    def _generate(self, seconds: float | None, interruption: Interruption | None) -> None:
        """Wait as :meth:`_pause` does; longer while the generation is held, until it is aborted."""
        if interruption is None:
            self._pause(seconds)
            return
        self._pause(0)
        until = None if seconds is None else monotonic() + seconds
        while not interruption.is_aborted:
            left = _STEP if until is None else until - monotonic()
            if left <= 0 and not interruption.is_held:
                return
            self._pause(_STEP if interruption.is_held else min(left, _STEP))

    def _pause(self, seconds: float | None) -> None:
        """Wait for ``seconds`` (None: without a limit), or until the connection ends.

        A client that shuts down only its sending side has gone too, as in vLLM. The wait peeks at
        the connection and reads nothing: bytes that arrive early belong to the next request.

        Raises:
            ClientGoneError: The client closed the connection, or the server is closing.
        """
        self._connection.settimeout(seconds)
        try:
            gone = self._connection.recv(1, socket.MSG_PEEK) == b""
            gone = gone or self._closing.wait(seconds)
        except (BlockingIOError, socket.timeout):
            gone = False
        except OSError:
            gone = True
        finally:
            self._connection.settimeout(None)
        if gone:
            raise ClientGoneError


def _response_head(
    status: int,
    headers: Mapping[str, str],
    content_type: str | None,
    content_length: int | None,
    close: bool,
) -> bytes:
    """Return the status line and the headers, in vLLM's order.

    Without ``content_length`` it is the head of an event stream.
    """
    lines = [f"HTTP/1.1 {status} {reason_phrase(status)}", f"date: {formatdate(usegmt=True)}"]
    lines.append(f"server: {SERVER_NAME}")
    scripted_names = {name.lower() for name in headers}
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if content_length is None:
        content_type = "text/event-stream; charset=utf-8"
    else:
        lines.append(f"content-length: {content_length}")
    if content_type and "content-type" not in scripted_names:
        lines.append(f"content-type: {content_type}")
    # In vLLM the middleware that checks the API key runs outside the one that adds "vary".
    lines += ["vary: Origin"] if status != 401 else []
    lines += ["connection: close"] if close else []
    lines += ["transfer-encoding: chunked"] if content_length is None else []
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")
