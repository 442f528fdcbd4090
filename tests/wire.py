"""A server of exact bytes: what it sends, when, and how its connections end is up to the test."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

CAPTURES = Path(__file__).parent / "data" / "captures"
WAIT = 10.0
"""Seconds after which a test that waits has failed."""


class Request:
    """A request as it arrived."""

    def __init__(self, head: bytes, body: bytes) -> None:
        self.head = head
        self.body = body
        line, *headers = head.decode("latin-1").split("\r\n")
        self.method, self.path, _ = line.split(" ", 2)
        pairs = (header.split(":", 1) for header in headers if header)
        self.headers: Dict[str, str] = {name.lower(): value.strip() for name, value in pairs}

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """The server's side of one connection."""

    def __init__(self, sock: socket.socket, number: int, server: WireServer) -> None:
        self.sock = sock
        self.number = number
        self.server = server
        self._buffer = b""

    def start_tls(self, context: ssl.SSLContext) -> None:
        self.sock = context.wrap_socket(self.sock, server_side=True)
        self.server.track(self.sock)

    def receive(self) -> Optional[Request]:
        """The next request, None once the client has gone."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._more():
                return None
        head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
        request = Request(head, b"")
        length = int(request.headers.get("content-length", "0"))
        while len(self._buffer) < length:
            if not self._more():
                return None
        request.body, self._buffer = self._buffer[:length], self._buffer[length:]
        self.server.requests.append(request)
        return request

    def _more(self) -> bool:
        data = b""
        with contextlib.suppress(OSError):
            data = self.sock.recv(65536)
        self._buffer += data
        return bool(data)

    def send(self, data: bytes) -> None:
        """Send all of it; a client that has gone is no error."""
        with contextlib.suppress(OSError):
            self.sock.sendall(data)

    def send_json(self, body: Any, status: str = "200 OK", headers: str = "") -> None:
        data = json.dumps(body).encode()
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}"
        self.send(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)

    def send_chunk(self, data: bytes) -> None:
        self.send(b"%x\r\n%s\r\n" % (len(data), data))

    def send_event(self, data: Any) -> None:
        text = data if isinstance(data, str) else json.dumps(data)
        self.send_chunk(f"data: {text}\n\n".encode())

    def end_chunks(self) -> None:
        self.send(b"0\r\n\r\n")

    def wait_gone(self) -> bool:
        """Wait until the client closes; True, to be asserted."""
        while self._more():
            pass
        return True

    def reset(self) -> None:
        """Close with a TCP reset instead of an orderly end."""
        with contextlib.suppress(OSError):  # The server may be closing already.
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()


class WireServer:
    """Calls ``handler(connection)`` in a thread for each connection, then closes it."""

    def __init__(
        self, handler: Callable[[Connection], Any], tls: Optional[ssl.SSLContext] = None
    ) -> None:
        self._tls = tls
        self.requests: List[Request] = []
        self.connections = 0
        self._handler = handler
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = int(self._listener.getsockname()[1])
        self._threads: List[threading.Thread] = []
        self._socks: List[socket.socket] = []
        self._closing = threading.Event()
        self.failures: List[BaseException] = []

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def track(self, sock: socket.socket) -> None:
        """Have this socket shut down at the end."""
        self._socks.append(sock)

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            self._socks.append(sock)
            connection = Connection(sock, self.connections, self)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: Connection) -> None:
        try:
            if self._tls is not None:
                connection.start_tls(self._tls)
            self._handler(connection)
        except BaseException as error:  # Shown by __exit__, in the thread of the test.
            self.failures.append(error)
        finally:
            connection.sock.close()

    def __enter__(self) -> WireServer:
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        for sock in [self._listener, *self._socks]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in [self._acceptor, *self._threads]:
            thread.join(WAIT)
            assert not thread.is_alive(), "a connection of the test server hangs"
        if self.failures:
            raise self.failures[0]


serving = WireServer
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
UNCHUNKED_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


def chunk(text: str = "", *, index: int = 0, finish: Optional[str] = None, **more: Any) -> Any:
    """A chunk as /v1/completions sends it."""
    choice = {
        "index": index,
        "text": text,
        "logprobs": None,
        "finish_reason": finish,
        "stop_reason": None,
        "prompt_token_ids": None,
        "token_ids": None,
    }
    return {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1,
        "model": "m",
        "choices": [{**choice, **more}],
    }


def answering(*parts: bytes) -> Callable[[Connection], None]:
    """A handler that answers every request of a connection with these bytes, sent in turn."""

    def handler(connection: Connection) -> None:
        while connection.receive():
            for part in parts:
                connection.send(part)

    return handler


def capture(name: str) -> tuple[Any, bytes]:
    """A captured exchange: the request's description and the bytes that came back."""
    request = json.loads((CAPTURES / f"{name}.request.json").read_text())
    return request, (CAPTURES / f"{name}.response.http").read_bytes()


def body_of(response: bytes) -> bytes:
    """The body in the bytes of a captured response, without chunked framing."""
    head, _, rest = response.partition(b"\r\n\r\n")
    while head.startswith(b"HTTP/1.1 100"):
        head, _, rest = rest.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" not in head.lower():
        return rest
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return body


def dechunked(body: bytes) -> bytes:
    """What has arrived of a body of which only a part of the chunked framing has."""
    data = b""
    while b"\r\n" in body:
        size, _, body = body.partition(b"\r\n")
        data, body = data + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return data


def stream_bytes(*events: Any, head: bytes = STREAM_HEAD) -> bytes:
    """A whole response with these events, chunked if its head says so."""
    texts = [event if isinstance(event, str) else json.dumps(event) for event in events]
    data = [f"data: {text}\n\n".encode() for text in texts]
    if b"chunked" not in head:
        return head + b"".join(data)
    return head + b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in data) + b"0\r\n\r\n"


def json_bytes(body: Any, status: str = "200 OK", headers: str = "") -> bytes:
    """A whole response with a JSON body."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}"
    return f"{head}content-length: {len(data)}\r\n\r\n".encode() + data


def answer(text: str = "ok", finish: str = "stop") -> Any:
    """An answer as /v1/completions gives it when nothing is streamed."""
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    return {**chunk(text, finish=finish), "usage": usage}


USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
WHOLE = (
    chunk("Hel"),
    chunk("lo"),
    chunk("", finish="stop"),
    {"id": "cmpl-1", "choices": [], "usage": USAGE},
    "[DONE]",
)
"""The events of a stream that is whole; its text is "Hello"."""


def text_in(partial: Any, index: int = 0) -> str:
    """The text of one choice of what had arrived, if there is that choice."""
    return "".join(choice.text for choice in partial.choices if choice.index == index)


class Running(threading.Thread):
    """Work in another thread; its result or error comes out of ``result()``."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._outcome: Any = None
        self._error: Optional[BaseException] = None
        self.start()

    def run(self) -> None:
        try:
            self._outcome = self._work()
        except BaseException as error:  # Raised by result(), in the thread of the test.
            self._error = error

    def result(self) -> Any:
        self.join(WAIT)
        assert not self.is_alive(), "the other thread hangs"
        if self._error is not None:
            raise self._error
        return self._outcome

    def error(self) -> BaseException:
        self.join(WAIT)
        assert not self.is_alive(), "the other thread hangs"
        assert self._error is not None, f"there was no error but {self._outcome!r}"
        return self._error

    def wait_blocked(self) -> None:
        """Wait until the thread is in a read of its socket; nothing but its stack tells."""
        until = time.monotonic() + WAIT
        while not _reads_socket(sys._current_frames().get(self.ident or 0)):
            assert time.monotonic() < until, "the other thread does not read"
            time.sleep(0.001)


def _reads_socket(frame: Any) -> bool:
    while frame is not None:
        place = Path(frame.f_code.co_filename).name, frame.f_code.co_name
        if place in {
            ("socket.py", "readinto"),
            ("_framing.py", "_receive"),
            ("_framing.py", "read1"),
        }:
            return True
        frame = frame.f_back
    return False
