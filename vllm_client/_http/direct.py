"""Common responses, read to their end past requests, urllib3 and http.client.

Hot path, measured, see docs/performance.md: for a short call these three take more time than all
our code. So here a request leaves in one send on an idle connection of urllib3's pool, and the
common response to it is read in few calls: status 200, a length, no encoding, and the head in one
piece. They do everything else. New connections are theirs, so TLS, proxies and the time to
connect are too. Any other response goes to http.client together with the bytes that have arrived
and the error that came after them, so that it means the same. Tests compare the two ways.
"""

from __future__ import annotations

import functools
import http.client
import io
import re
import socket
import ssl
from typing import Any, List, Mapping, Optional, Tuple, Union

import requests
import requests.structures
import urllib3
from attrs import define, field, frozen

from .adapter import TrackedPool
from .call import Call
from .connections import TrackedConnection, WireResponse
from .headers import Authorization

ENABLED = True
"""Whether responses are read here; False leaves all of them to requests."""

READ_SIZE = 65536
BODY_SIZE = 1 << 18
"""Bytes; the most that one read of a body asks for, whatever length the server claims."""

# A string, because re compiles it on its first use and not at import. Each field is in one line,
# of visible ASCII: http.client reads some of the other heads in ways of its own.
_COMMON_HEAD = rb"HTTP/1\.1 200 [ -~]*\r\n(?:[A-Za-z0-9-]+: [!-~]+(?: +[!-~]+)*\r\n){1,100}\r\n"
_FIELD = rb"([A-Za-z0-9-]+): ([ -~]+)\r\n"
_LENGTH = b"\r\ncontent-length: "
_DIGITS = 18

# urllib3 and http.client add the first two where they are missing, and treat the others specially.
_EXPECTED_FIELDS = frozenset({"accept-encoding", "user-agent"})
_SPECIAL_FIELDS = frozenset({"content-length", "expect", "host", "transfer-encoding", "upgrade"})

# A tool may put a socket of its own below urllib3; gevent does so before this module is imported.
_SOCKETS = (socket.socket, ssl.SSLSocket)


@frozen(eq=False, repr=False)
class DirectResponse:
    """A common response, read to its end.

    Attributes:
        content: The body.
        head: Its status line and header fields.
    """

    content: bytes
    head: bytes

    @property
    def headers(self) -> Mapping[str, str]:
        """The header fields, as requests has them."""
        found = re.findall(_FIELD, self.head)
        pairs = [(name.decode("ascii"), value.decode("ascii")) for name, value in found]
        return requests.structures.CaseInsensitiveDict(urllib3.HTTPHeaderDict(pairs))

    def header(self, name: str) -> Optional[str]:
        """One header field, by its lower-case name; only if there is one are all decoded."""
        return self.headers.get(name) if name.encode("ascii") in self.head.lower() else None


@frozen(eq=False, repr=False)
class Route:
    """One method and URL.

    Attributes:
        pool: The connections to its server.
        method: ``"GET"``, ``"POST"``, …
        target: The URL as it is sent.
        first_lines: The beginning of each request: the request line and the header ``Host``.
    """

    pool: TrackedPool
    method: str
    target: str
    first_lines: str

    @classmethod
    def of(cls, pool: object, method: str, target: str) -> Optional[Route]:
        """The route, or None if its requests must be left to urllib3."""
        # A SOCKS proxy brings another pool. Plain HTTP through a proxy sends more header fields.
        if not isinstance(pool, TrackedPool) or (pool.proxy is not None and pool.scheme == "http"):
            return None
        if method == "HEAD":  # The length in its response is that of no body.
            return None
        return cls(pool, method, target, _first_lines(pool, method, target))

    def exchange(
        self, call: Call, request: requests.Request, limit: int
    ) -> Union[DirectResponse, urllib3.BaseHTTPResponse, None]:
        """Send a request, and read its response to the end if it is a common one.

        Args:
            call: The call, which must be ``current.call``.
            request: The request; its URL is this route's.
            limit: The largest body to read, in bytes.

        Returns:
            The response. If it is none of the common ones, urllib3's, whose body has not been
            read. None if nothing was sent: there is no idle connection, or the request has header
            fields that urllib3 must look at.

        Raises:
            OSError, http.client.HTTPException: The connection broke before the end of the head.
        """
        exchange = self.begin(call, request)
        return None if exchange is None else exchange.finish(call, limit)

    def begin(self, call: Call, request: requests.Request) -> Optional[Exchange]:
        """Send a request; arguments and errors as for :meth:`exchange`."""
        if not _is_common(request):
            return None
        connection = self.pool.take_idle()
        if connection is None:
            return None
        if type(connection.sock) not in _SOCKETS or connection.debuglevel:
            self.pool.put_back(connection)
            return None
        exchange = Exchange(self, connection)
        try:
            call.reused = True
            call.attach_socket(connection.sock)
            # No variable holds the request: whoever logs our frames must not see the key.
            connection.send_past(self._to_bytes(request))
        except BaseException:
            exchange.abandon()
            raise
        return exchange

    def _to_bytes(self, request: requests.Request) -> bytes:
        fields = dict(request.headers)
        if request.data or self.method != "GET":
            fields["Content-Length"] = str(len(request.data))
        if isinstance(request.auth, Authorization) and request.auth.value is not None:
            fields["Authorization"] = request.auth.value
        lines = [f"{name}: {value}\r\n" for name, value in fields.items() if value is not None]
        head = f"{self.first_lines}{''.join(lines)}\r\n"
        body: bytes = request.data
        return head.encode("latin-1") + body


@define(eq=False, repr=False)
class Exchange:
    """A request that was sent on an idle connection, and what has arrived of its response.

    Attributes:
        route: Its route.
        connection: The connection.
        received: What has arrived.
        error: What the socket raised after that.
    """

    route: Route
    connection: TrackedConnection
    received: List[bytes] = field(factory=list)
    error: Optional[Exception] = None

    def finish(self, call: Call, limit: int) -> Union[DirectResponse, urllib3.BaseHTTPResponse]:
        """Wait for the response; arguments, result and errors as for :meth:`Route.exchange`."""
        try:
            response = self._receive(limit)
        except BaseException:
            self.abandon()
            raise
        if isinstance(response, DirectResponse):
            self.release(call)
        return response

    def receive_now(self, limit: int) -> Optional[DirectResponse]:
        """The response, if it is a common one that has arrived in one piece; never waits.

        Then :meth:`release` must follow, else :meth:`finish`. The socket must not block.
        """
        try:
            self.received.append(self.connection.sock.recv(READ_SIZE))
        except BlockingIOError:
            return None
        except OSError as error:
            self.error = error
            return None
        first = self.received[0]
        end = first.find(b"\r\n\r\n") + 4
        length = _common_length(first[:end])
        if length is None or length > limit or len(first) != end + length:
            return None
        return DirectResponse(first[end:], first[:end])

    def release(self, call: Call) -> None:
        """The response has been read: the connection may be used again."""
        call.detach()
        self.route.pool.put_back(self.connection)

    def abandon(self) -> None:
        """Close the connection."""
        self.connection.close()
        self.route.pool.put_back(None)

    def _receive(self, limit: int) -> Union[DirectResponse, urllib3.BaseHTTPResponse]:
        sock = self.connection.sock
        end, length = 0, None
        if self.error is None:
            try:
                end, length = _receive_common(sock, self.received, limit)
            except (OSError, ValueError) as caught:
                self.error = caught
        received = self.received[0] if len(self.received) == 1 else b"".join(self.received)
        if length is None:
            return self._continued(received)
        if len(received) > end + length or _has_more(sock):
            self.connection.close()  # More than the body has arrived, and belongs to no request.
        return DirectResponse(received[end : end + length], received[:end])

    def _continued(self, received: bytes) -> urllib3.BaseHTTPResponse:
        """The response as urllib3 reads it, of which some bytes have arrived, and then an error."""
        response: urllib3.BaseHTTPResponse = self.connection.response_to(
            self.route.method,
            self.route.target,
            functools.partial(_ContinuedResponse, received=received, error=self.error),
        )
        # As HTTPConnectionPool does it, so that the connection returns to the pool.
        setattr(response, "_connection", self.connection)  # noqa: B010 — missing in the stubs
        setattr(response, "_pool", self.route.pool)  # noqa: B010
        return response


def _is_common(request: requests.Request) -> bool:
    names = {name.lower() for name, value in request.headers.items() if value is not None}
    return (
        not request.params
        and names >= _EXPECTED_FIELDS
        and _SPECIAL_FIELDS.isdisjoint(names)
        and (request.auth is None or isinstance(request.auth, Authorization))
    )


def _receive_common(
    sock: socket.socket, pieces: List[bytes], limit: int
) -> Tuple[int, Optional[int]]:
    """Receive a response.

    Args:
        sock: Where it arrives.
        pieces: The first piece if it has arrived; gets the others, also if there is an error.
        limit: The largest body to read, in bytes.

    Returns:
        Where the head ends, and the length of the body. Without a length, the response is none of
        the common ones or ends too early, and its rest has not been read.

    Raises:
        OSError: The connection broke.
    """
    if not pieces:
        pieces.append(sock.recv(READ_SIZE))
    first = pieces[0]
    end = first.find(b"\r\n\r\n") + 4
    length = _common_length(first[:end])
    if length is None or length > limit:
        return end, None
    missing = end + length - len(first)
    while missing > 0:
        piece = sock.recv(min(missing, BODY_SIZE))
        if not piece:
            return end, None
        pieces.append(piece)
        missing -= len(piece)
    return end, length


def _has_more(sock: socket.socket) -> bool:
    """Whether the TLS of a socket has decrypted more than was read, which no poll shows."""
    return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0


def _common_length(head: bytes) -> Optional[int]:
    """The length of the body that follows a common head; None for any other head."""
    if re.fullmatch(_COMMON_HEAD, head) is None:
        return None
    lowered = head.lower()
    if b"\r\ntransfer-encoding:" in lowered or b"\r\ncontent-encoding:" in lowered:
        return None
    if lowered.count(b"\r\nconnection:") != lowered.count(b"\r\nconnection: keep-alive\r\n"):
        return None
    if lowered.count(_LENGTH) != 1:
        return None
    start = lowered.find(_LENGTH) + len(_LENGTH)
    digits = lowered[start : lowered.find(b"\r\n", start)]
    return int(digits) if digits.isdigit() and len(digits) <= _DIGITS else None


class _HeadRecorder(http.client.HTTPConnection):
    """Keeps the head of a request instead of sending it."""

    head = b""

    def send(self, data: Any) -> None:
        self.head = data


def _first_lines(pool: TrackedPool, method: str, target: str) -> str:
    recorder = _HeadRecorder(pool.host, pool.port)
    recorder.default_port = pool.ConnectionCls.default_port
    recorder.putrequest(method, target, skip_accept_encoding=True)
    recorder.endheaders()
    return recorder.head[:-2].decode("ascii")


class _ContinuedResponse(WireResponse):
    """A response of which some bytes have arrived already.

    Args:
        sock: Where the rest arrives.
        received: The bytes.
        error: What the socket raised after them.
        settings: As for ``http.client.HTTPResponse``.
    """

    def __init__(
        self,
        sock: socket.socket,
        *settings: Any,
        received: bytes,
        error: Optional[Exception],
        **more: Any,
    ) -> None:
        super().__init__(sock, *settings, **more)
        self.fp = io.BufferedReader(_Continued(received, error, self.fp), READ_SIZE)


class _Continued(io.RawIOBase):
    """The bytes that have arrived, then the error, then whatever a file reads."""

    def __init__(
        self, received: bytes, error: Optional[Exception], file: io.BufferedIOBase
    ) -> None:
        super().__init__()
        self._received = memoryview(received)
        self._error = error
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = min(len(buffer), len(self._received))
        if size:
            buffer[:size] = self._received[:size]
            self._received = self._received[size:]
            return size
        error, self._error = self._error, None
        if error is not None:
            raise error
        return self._file.readinto1(buffer)

    def close(self) -> None:
        super().close()
        self._file.close()
