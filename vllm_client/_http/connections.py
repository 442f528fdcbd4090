"""urllib3's connections, changed so that a call can be cancelled any time.

While requests sends a request and waits for its response, it offers no handle to cancel it: there
is no response to close yet. So the connections find the call of the running thread in
``call.current``, tell it which socket they use, and hold it to its time limits: ``connect`` spans
all addresses, the TLS handshake and the answer of a proxy; while a request is sent, ``read`` is
the longest wait for the peer to accept more.
"""

from __future__ import annotations

import errno
import functools
import http.client
import socket
import sys
from time import monotonic
from typing import TYPE_CHECKING, Any, Optional

from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.connection import allowed_gai_family

from .call import current, shut_socket
from .watchdog import watchdog

if TYPE_CHECKING:
    from urllib3.connection import HTTPConnection, HTTPSConnection
else:
    # vcrpy replaces these names in urllib3.connection. Ours derive from the real classes even if a
    # cassette is in use while this module is imported.
    from urllib3.connectionpool import HTTPConnection, HTTPSConnection

_PEER_HAS_CLOSED = {errno.EPIPE, errno.ECONNRESET, errno.EPROTOTYPE}
"""What sending raises then; the last one on macOS."""
_KEEPALIVE = [
    (level, getattr(socket, name), value)
    for level, name, value in (
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 60),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 15),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", 4),
    )
    if hasattr(socket, name)  # Not every system lets a program choose the pace.
]
"""The system asks a silent peer after a minute whether it is there, and gives it up after two. A
call without a read limit would wait for ever for a machine that has gone."""
_ONE_PACKET = 65536
"""Bytes. A shorter request body leaves together with its head; a longer one in such pieces."""


class HeadBrokenError(http.client.HTTPException):
    """The connection broke after a status line: the server has accepted the request."""


class SendTimeoutError(socket.timeout):
    """The peer did not accept more of the request within the time limit."""


class WireResponse(http.client.HTTPResponse):
    """A response that skips interim responses and knows whether its status line arrived.

    http.client takes the interim responses 102 and 103 for final ones. The final response would
    then be read as the one of the next request on the connection.
    """

    def begin(self) -> None:
        """Read the head; urllib3 calls this through ``getresponse``."""
        try:
            super().begin()
            while 101 < self.status < 200:
                setattr(self, "headers", None)  # noqa: B010 — begin() reads a head only if unset
                super().begin()
            self._notice_chunks()
        except (ConnectionError, http.client.HTTPException) as error:
            if isinstance(self.status, int):
                raise HeadBrokenError(f"the head of the response broke off: {error!r}") from error
            raise
        if current.call is not None:
            current.call.wire_response = self

    def _notice_chunks(self) -> None:
        # http.client misses the header if there is white space behind its value.
        coding = self.headers.get("transfer-encoding", "")
        if not self.chunked and coding.strip().lower() == "chunked":
            self.chunked, self.chunk_left = True, None
            self.length = None
            self.will_close = getattr(self, "_check_close")()  # noqa: B009 — not in the stubs


def _attach_to_call(sock: Optional[socket.socket]) -> None:
    if current.call is not None and sock is not None:
        current.call.attach_socket(sock)


class TrackedConnection(HTTPConnection):
    """A connection whose socket the current call knows."""

    response_class = WireResponse
    _unsent: Optional[bytes] = None  # The head of a request that waits for its body.
    _deadline: Optional[float] = None  # By monotonic(), while it connects.

    def connect(self) -> None:
        """Open the connection within its time limit."""
        limit = self.timeout
        self._deadline = monotonic() + limit if isinstance(limit, (int, float)) else None
        super().connect()
        _attach_to_call(self.sock)

    def _new_conn(self) -> socket.socket:
        # As urllib3 has it, but the call knows each socket before it connects.
        try:
            sock = self._connected_socket()
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except socket.timeout as error:
            text = f"Connection to {self.host} timed out. (connect timeout={self.timeout})"
            raise ConnectTimeoutError(self, text) from error
        except OSError as error:
            text = f"Failed to establish a new connection: {error}"
            raise NewConnectionError(self, text) from error
        sys.audit("http.client.connect", self, self.host, self.port)
        return sock

    def _connected_socket(self) -> socket.socket:
        failure: Optional[OSError] = None
        host = self._dns_host.strip("[]")
        found = socket.getaddrinfo(host, self.port, allowed_gai_family(), socket.SOCK_STREAM)
        for family, kind, protocol, _, address in found:
            sock = socket.socket(family, kind, protocol)
            try:
                for option in (*(self.socket_options or ()), *_KEEPALIVE):
                    sock.setsockopt(*option)
                self._limit(sock)
                if self.source_address:
                    sock.bind(self.source_address)
                self._attach_connecting(sock)
                sock.connect(address)
            except OSError as error:
                failure = error
                sock.close()
                if current.call is not None and current.call.is_over():
                    break
            except BaseException:  # A signal handler has raised.
                sock.close()
                raise
            else:
                self._limit(sock)
                return sock
        raise failure or OSError(f"no address of {host}")

    def _attach_connecting(self, sock: socket.socket) -> None:
        _attach_to_call(sock)

    def _limit(self, sock: socket.socket) -> None:
        """Give the socket what is left of the time to connect."""
        if self._deadline is not None:
            left = self._deadline - monotonic()
            if left <= 0:
                raise socket.timeout("timed out")
            sock.settimeout(left)

    def _tunnel(self) -> None:
        # A timeout of the socket restarts with each byte, so a proxy that trickles its answer
        # needs a timer. Shutting the socket down looks like the end of the answer, so ask after it.
        alarm: Optional[object] = None
        if self._deadline is not None and self.sock is not None:
            left = max(self._deadline - monotonic(), 0)
            alarm = watchdog.call_later(left, functools.partial(shut_socket, self.sock))
        try:
            super()._tunnel()
        finally:
            if alarm is not None:
                watchdog.forget(alarm)
            self._check_time()

    def _check_time(self) -> None:
        if current.call is not None and current.call.is_over():
            raise NewConnectionError(self, "the call was cancelled while it connected")
        if self._deadline is not None and monotonic() >= self._deadline:
            raise ConnectTimeoutError(self, "the proxy did not answer in time")

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Send a request."""
        call = current.call
        if call is not None:
            call.reused = self.sock is not None
        _attach_to_call(self.sock)  # A reused connection; a new one connects later.
        self._unsent = b""
        try:
            super().request(*args, **kwargs)
        finally:
            args, kwargs = (), {}  # They hold the key; whoever logs our frames must not see it.
            unsent, self._unsent = self._unsent, None
        if unsent:
            self.send(unsent)

    def send(self, data: Any) -> None:
        """Send; the head of a request waits for a short body, so that one packet holds both."""
        if self._unsent is not None and len(data) < _ONE_PACKET:
            self._unsent += data
            return
        unsent, self._unsent = self._unsent, None
        try:
            if self.sock is None:
                self.connect()
            if current.call is not None and self.sock is not None:
                self.sock.settimeout(current.call.read_limit)
            for part in (unsent, data):
                self._send_in_pieces(part)
        except socket.timeout as error:
            raise SendTimeoutError("the peer accepts no more of the request") from error
        finally:
            data = unsent = part = None  # See request().

    def send_past(self, request: bytes) -> None:
        """Send a whole request that http.client does not know of.

        A server may answer and close before it has read everything. As in urllib3, that is no
        error: the answer is there to be read.
        """
        try:
            self.send(request)
        except OSError as error:
            if error.errno not in _PEER_HAS_CLOSED:
                raise
        finally:
            request = b""  # See request().

    def response_to(self, method: str, target: str, response_class: Any) -> Any:
        """Wait for the head of urllib3's response to a request that :meth:`send_past` has sent.

        Args:
            method: The method of the request.
            target: Its URL as it was sent.
            response_class: Makes http.client's response to it.
        """
        self.timeout = None if self.sock is None else self.sock.gettimeout()
        self._unsent = b""  # http.client expects a response only to a request of its own.
        super().request(method, target, preload_content=False, decode_content=False)
        self._unsent = None
        vars(self)["response_class"] = response_class
        try:
            return self.getresponse()
        finally:
            del vars(self)["response_class"]

    def _send_in_pieces(self, data: Any) -> None:
        # A timeout of the socket spans a whole sendall(), so send pieces: each may take as long
        # as the longest silence.
        if not isinstance(data, bytes) or len(data) <= _ONE_PACKET:
            if data:
                super().send(data)
            return
        view = memoryview(data)
        for start in range(0, len(data), _ONE_PACKET):
            super().send(view[start : start + _ONE_PACKET])


class TrackedTLSConnection(TrackedConnection, HTTPSConnection):
    """The same over TLS."""

    _connecting: Optional[socket.socket] = None

    def connect(self) -> None:
        """Open the connection within its time limit."""
        try:
            super().connect()
        except socket.timeout as error:
            raise ConnectTimeoutError(self, "the TLS handshake did not end in time") from error
        finally:
            self._close_connecting()

    def _attach_connecting(self, sock: socket.socket) -> None:
        # The TLS object takes the file descriptor away from this socket. A second descriptor of
        # the same connection can still shut it down during the handshake.
        self._close_connecting()
        self._connecting = sock.dup()
        _attach_to_call(self._connecting)

    def _close_connecting(self) -> None:
        if self._connecting is not None:
            self._connecting.close()
            self._connecting = None
