"""A server of exact bytes: the test decides what it sends, when, and how a connection ends."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from typing import Any, Callable, Dict, List, Optional, Sequence, Union

from vllm_client import VllmClient

from .recorded import WHOLE, answer, json_bytes, stream_bytes
from .threads import WAIT, Tally


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
        self.request = Request(b"NONE / HTTP/1.1", b"")
        """The last request that arrived."""
        self._buffer = b""

    def start_tls(self, context: ssl.SSLContext) -> None:
        self.sock = context.wrap_socket(self.sock, server_side=True)
        self.server.track(self.sock)

    def receive(self) -> Optional[Request]:
        """Return the next request, or None once the client has closed."""
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
        self.request = request
        return request

    def _more(self) -> bool:
        data = b""
        with contextlib.suppress(OSError):
            data = self.sock.recv(65536)
        self._buffer += data
        return bool(data)

    def send(self, data: bytes) -> None:
        """Send all of the data; a client that has closed is no error."""
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
        """Wait until the client closes, and return True."""
        while self._more():
            pass
        return True

    def close(self) -> None:
        """Close the connection in an orderly way."""
        self.sock.close()

    def reset(self) -> None:
        """Close the connection with a TCP reset."""
        with contextlib.suppress(OSError):  # The server may be closing already.
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()


class WireServer:
    """Calls ``handler(connection)`` in a thread for each connection, then closes the connection."""

    def __init__(
        self,
        handler: Callable[[Connection], Any],
        tls: Optional[ssl.SSLContext] = None,
        *,
        port: int = 0,
    ) -> None:
        self._tls = tls
        self.requests: List[Request] = []
        self.connections = 0
        self._handler = handler
        self._listener = socket.create_server(("127.0.0.1", port), backlog=256)
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
        """Shut this socket down when the server ends."""
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
            assert not thread.is_alive(), "a handler of the test server does not end"
        if self.failures:
            raise self.failures[0]


class Served:
    """A running server and a client of it, as the fixture ``serve`` returns them."""

    def __init__(self, server: WireServer, client: VllmClient) -> None:
        self.server = server
        self.client = client

    @property
    def base_url(self) -> str:
        return self.server.base_url

    @property
    def requests(self) -> List[Request]:
        """The requests that arrived, in order."""
        return self.server.requests

    @property
    def connections(self) -> int:
        """The number of connections that were opened."""
        return self.server.connections


Handler = Callable[[Connection], Any]
"""Serves one connection from beginning to end."""

Reply = Union[bytes, Callable[[Connection], Any]]
"""Bytes to send, or a function that answers ``connection.request``."""

Serve = Callable[..., Served]
"""The type of the fixture ``serve``."""


def send_reply(connection: Connection, reply: Reply) -> None:
    """Send the bytes or call the function; close after a response that announces it."""
    if callable(reply):
        reply(connection)
        return
    connection.send(reply)
    if b"connection: close" in reply.partition(b"\r\n\r\n")[0].lower():
        connection.close()


def replying(*replies: Reply) -> Handler:
    """A handler that answers successive requests with these replies, and repeats the last."""
    waiting = list(replies)
    lock = threading.Lock()

    def handler(connection: Connection) -> None:
        while connection.receive():
            with lock:
                reply = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            send_reply(connection, reply)

    return handler


def in_pieces(pieces: Sequence[bytes]) -> Reply:
    """A reply that sends each piece on its own."""

    def reply(connection: Connection) -> None:
        for piece in pieces:
            connection.send(piece)

    return reply


def either(streamed: Reply, whole: Reply) -> Reply:
    """A reply that answers requests for a stream with one reply, and others with the other."""

    def reply(connection: Connection) -> None:
        request = connection.request
        wants_stream = b'"stream":true' in request.body
        send_reply(connection, streamed if wants_stream else whole)

    return reply


def numbered(connection: Connection) -> None:
    """A reply whose text is the number of its connection."""
    connection.send_json(answer(str(connection.number)), headers="x-request-id: r1\r\n")


FINE = either(stream_bytes(*WHOLE), json_bytes(answer("fine")))
"""Streams the text "Hello", and answers other requests with the text "fine"."""


def break_off(data: bytes = b"") -> Reply:
    """A reply that sends the data and closes the connection."""

    def reply(connection: Connection) -> None:
        connection.send(data)
        connection.close()

    return reply


def reset(data: bytes = b"") -> Reply:
    """A reply that sends the data and resets the connection."""

    def reply(connection: Connection) -> None:
        connection.send(data)
        connection.reset()

    return reply


class Stall:
    """A reply that sends the data and then nothing more, until the client closes.

    Attributes:
        reached: Counts the responses that are stalled.
        gone: Counts the clients that closed.
    """

    def __init__(self, data: bytes = b"") -> None:
        self.data = data
        self.reached = Tally()
        self.gone = Tally()

    def __call__(self, connection: Connection) -> None:
        connection.send(self.data)
        self.reached.add()
        assert connection.wait_gone()
        self.gone.add()


class Replay:
    """A handler that answers every request with ``pieces``, which the test may change."""

    def __init__(self) -> None:
        self.pieces: Sequence[bytes] = []

    def __call__(self, connection: Connection) -> None:
        while connection.receive():
            for piece in self.pieces:
                connection.send(piece)
            if b"connection: close" in b"".join(self.pieces):
                return
