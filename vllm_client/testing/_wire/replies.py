"""Answers as bytes on a connection, with the head, the framing and the faults that they have."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, Callable

from ..script import Script
from .refusals import ENGINE_DIED, error_body, phrase

__all__ = [
    "DONE",
    "STAND_IN",
    "ClientGoneError",
    "DroppedError",
    "EventStream",
    "Reply",
    "Wire",
    "Work",
    "event",
    "json_reply",
]

STAND_IN = "fake-vllm (a stand-in, not vLLM)"
DONE = b"data: [DONE]\n\n"


class ClientGoneError(Exception):
    """The client closed its connection, or the server is closing it."""


class DroppedError(Exception):
    """The connection is to be closed as it is, since a script says so."""


@dataclass(frozen=True)
class Work:
    """What was generated for a reply, for the counts in /metrics."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish_reasons: Sequence[str] = ()


@dataclass(frozen=True)
class Reply:
    """A whole answer."""

    status: int = 200
    body: bytes = b""
    content_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    work: Work | None = None


@dataclass(frozen=True)
class EventStream:
    """A streamed answer: its events, framing and all.

    `tail` is what follows once everything is generated: usage and `[DONE]`.
    """

    events: Sequence[bytes]
    tail: Sequence[bytes] = (DONE,)
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    work: Work | None = None


def dumps(value: Any) -> bytes:
    """Return JSON as vLLM writes it: UTF-8, without spaces."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # Half a surrogate pair is legal in JSON's \uXXXX, but is no character.
    return text.encode("utf-8", "replace")


def json_reply(value: Any, status: int = 200, **more: Any) -> Reply:
    """Return a whole JSON answer."""
    return Reply(status, dumps(value), "application/json", **more)


def event(data: Any) -> bytes:
    """Return one SSE event with JSON data."""
    return b"data: " + dumps(data) + b"\n\n"


def error_event(message: str, status: int) -> bytes:
    """Return the event of an error; its JSON has spaces and escapes, other than all the rest."""
    return f"data: {json.dumps(error_body(message, status))}\n\n".encode()


class Wire:
    """One connection, from the side of the server.

    Args:
        connection: the socket.
        closing: set when the server closes.
    """

    def __init__(self, connection: socket.socket, closing: threading.Event) -> None:
        self._connection = connection
        self._closing = closing

    def send_reply(
        self,
        reply: Reply,
        script: Script,
        generated: Callable[[], None] = lambda: None,
        *,
        close: bool = False,
        head: bool = False,
    ) -> None:
        """Send a whole answer, or only its head.

        Args:
            reply: the answer.
            script: its faults.
            generated: called before the first byte, so that who has read the answer finds it
                counted.
            close: whether the connection is closed after it.
            head: whether to leave out the body.

        Raises:
            ClientGoneError: the client did not wait for it.
            DroppedError: the script cuts the answer.
        """
        self._wait(None if script.stall_after is not None else script.delay)
        generated()
        start = self._head(reply.status, reply.headers, reply.content_type, len(reply.body), close)
        if script.cut_after is not None:
            self._send(start + reply.body[: len(reply.body) // 2])
            raise DroppedError
        self._send(start if head else start + reply.body)

    def send_stream(
        self,
        stream: EventStream,
        script: Script,
        generated: Callable[[], None] = lambda: None,
        *,
        close: bool = False,
    ) -> None:
        """Send a streamed answer, one HTTP chunk an event.

        Args:
            stream: the answer.
            script: its faults.
            generated: called before the last event, unless the stream is to stall.
            close: whether the connection is closed after it.

        Raises:
            ClientGoneError: the client left before the last event.
            DroppedError: the script cuts the stream.
        """
        self._wait(0)
        self._send(self._head(stream.status, stream.headers, None, None, close))
        for number, chunk in enumerate([*stream.events, *stream.tail, b""]):
            if self._fault(number, script):
                return
            if number < len(stream.events):
                self._wait(script.delay)
                if number == len(stream.events) - 1 and script.stall_after is None:
                    generated()
                self._send_chunk(chunk)
            else:
                # All is generated by now, so who leaves here has aborted nothing.
                with suppress(ClientGoneError):
                    self._send_chunk(chunk)

    def _fault(self, number: int, script: Script) -> bool:
        """Do what the script wants after so many events; return whether the stream is over."""
        if script.stall_after == number:
            self._wait(None)
        if script.cut_after == number and not script.clean:
            raise DroppedError
        if script.error_after == number:
            self._send_chunk(error_event(script.error or ENGINE_DIED, script.status or 500))
            self._send_chunk(DONE)
        over = number in (script.cut_after, script.error_after)
        if over:
            self._send_chunk(b"")
        return over

    def _head(
        self,
        status: int,
        headers: Mapping[str, str],
        content_type: str | None,
        length: int | None,
        close: bool,
    ) -> bytes:
        lines = [f"HTTP/1.1 {status} {phrase(status)}", f"date: {formatdate(usegmt=True)}"]
        lines.append(f"server: {STAND_IN}")
        given = {name.lower() for name in headers}
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if length is None:
            content_type = "text/event-stream; charset=utf-8"
        else:
            lines.append(f"content-length: {length}")
        if content_type and "content-type" not in given:
            lines.append(f"content-type: {content_type}")
        # The layer that looks at keys lies before the one that adds this.
        lines += ["vary: Origin"] if status != 401 else []
        lines += ["connection: close"] if close else []
        lines += ["transfer-encoding: chunked"] if length is None else []
        return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")

    def _send_chunk(self, data: bytes) -> None:
        self._send(b"%x\r\n%b\r\n" % (len(data), data))

    def _send(self, data: bytes) -> None:
        try:
            self._connection.sendall(data)
        except OSError as error:
            raise ClientGoneError from error

    def _wait(self, seconds: float | None) -> None:
        """Wait so long (None: for ever), unless the connection ends before.

        A client that half-closes counts as gone, as with vLLM. Nothing is read: what a client
        sends ahead of time stays for its next request.
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
