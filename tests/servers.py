"""A server of exact bytes: what it sends, when, and how its connections end is up to the test."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from typing import Any, Callable, Dict, List, Optional

from .threads import WAIT


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


def answering(*parts: bytes) -> Callable[[Connection], None]:
    """A handler that answers every request of a connection with these bytes, sent in turn."""

    def handler(connection: Connection) -> None:
        while connection.receive():
            for part in parts:
                connection.send(part)

    return handler
