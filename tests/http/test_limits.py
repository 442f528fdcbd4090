"""Time limits and sizes from the first packet on, proxies, and requests that cannot be sent."""

from __future__ import annotations

import contextlib
import gzip
import socket
import ssl
import threading
from pathlib import Path
from typing import Any, Dict

import pytest
import requests

from vllm_client import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    InvalidResponseError,
    Text,
    Timeout,
    VllmClient,
)

from ..recorded import (
    LAST_CHUNK,
    WHOLE,
    answer,
    beginning,
    chunk,
    chunked,
    json_bytes,
    stream_bytes,
)
from ..servers import FINE, Connection, Serve, Stall, WireServer
from ..threads import WAIT, Running
from .conftest import tls_context

BIG = "x" * (16 << 20)
"""More than the buffers of two sockets hold."""
PAUSE = 0.3


def test_connect_does_not_limit_the_sending_of_a_body(serve: Serve) -> None:
    """A server that accepts a long body more slowly than ``connect`` allows gets all of it."""

    def handler(connection: Connection) -> None:
        threading.Event().wait(PAUSE)
        request = connection.receive()
        assert request is not None
        connection.send_json(answer(str(len(request.json["prompt"]))))

    client = serve(handler=handler, timeout=(PAUSE / 5, WAIT), max_retries=0).client
    assert client.completions.create(prompt=BIG).text == str(len(BIG))


def test_a_body_that_nobody_accepts_is_a_timeout(serve: Serve) -> None:
    """The error says that the request could not be sent, and there is no retry."""
    gone = threading.Event()

    def handler(connection: Connection) -> None:
        assert gone.wait(WAIT)

    served = serve(handler=handler, timeout=(WAIT, 0.2))
    with pytest.raises(APITimeoutError, match=r"could not be sent.* for 0\.2 s") as raised:
        served.client.completions.create(prompt=BIG)
    gone.set()
    assert raised.value.attempts == 1
    assert served.connections == 1


class Unready:
    """A handler whose connections never become ready for a request.

    Attributes:
        arrived: Whether a connection was opened, and CONNECT received.
    """

    def __init__(self, *, is_proxy: bool) -> None:
        self.is_proxy = is_proxy
        self.arrived = threading.Event()

    def __call__(self, connection: Connection) -> None:
        if self.is_proxy:
            connection.receive()
        else:
            connection.sock.recv(1)  # The handshake has begun.
        self.arrived.set()
        with contextlib.suppress(OSError):
            self._trickle(connection)
        connection.wait_gone()

    def _trickle(self, connection: Connection) -> None:
        connection.sock.sendall(b"HTTP/1.1 200 OK\r\n" if self.is_proxy else b"")
        while self.is_proxy and not threading.Event().wait(0.02):
            connection.sock.sendall(b"x")


@pytest.fixture(params=["handshake", "proxy"])
def unready(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A handler that answers no handshake, or trickles as a proxy, and the address to call."""
    handler = Unready(is_proxy=request.param == "proxy")
    with WireServer(handler) as server:
        address = f"https://127.0.0.1:{server.port}"
        if handler.is_proxy:
            monkeypatch.setenv("https_proxy", server.url)
            address = "https://model.example"
        yield handler, address


def test_connect_spans_handshake_and_proxy(unready: Any) -> None:
    """A handshake without an answer, or a proxy that trickles one, ends with ``connect``."""
    _, address = unready
    with VllmClient(address, timeout=(0.2, None), max_retries=0) as client:
        call = Running(lambda: client.completions.create(prompt="x"))
        with pytest.raises(APITimeoutError, match=r"no connection to .* within 0\.2 s"):
            call.result()


def test_total_spans_handshake_and_proxy(unready: Any) -> None:
    """The total limit ends a call that has no connection yet."""
    _, address = unready
    timeout = Timeout(connect=None, read=None, total=0.2)
    with VllmClient(address, timeout=timeout, max_retries=0) as client:
        call = Running(lambda: client.completions.create(prompt="x"))
        with pytest.raises(APITimeoutError, match="total timeout"):
            call.result()


def test_close_ends_handshake_and_proxy(unready: Any) -> None:
    """Closing the client ends a call that has no connection yet."""
    handler, address = unready
    client = VllmClient(address, timeout=None, max_retries=0)
    call = Running(lambda: client.completions.create(prompt="x"))
    assert handler.arrived.wait(WAIT)
    client.close()
    assert isinstance(call.error(), APIConnectionError)


def test_close_ends_a_call_that_waits_for_a_proxy(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing the client ends a call whose proxy has not answered yet."""
    silent = Stall()
    monkeypatch.setenv("http_proxy", serve(silent).server.url)
    with VllmClient("http://model.example", timeout=None, max_retries=0) as client:
        call = Running(lambda: client.completions.create(prompt="x"))
        assert silent.reached.wait()
        client.close()
        assert isinstance(call.error(), APIConnectionError)
    assert silent.gone.wait()


def test_a_tls_connection_is_still_tracked(certificate: Path, serve: Serve) -> None:
    """After the handshake a call over TLS is answered, and can be closed while it reads."""
    session_reads = threading.Event()

    def handler(connection: Connection) -> None:
        connection.receive()
        connection.send(beginning(chunk("Hel")))
        session_reads.set()
        connection.wait_gone()

    served = serve(handler=handler, tls=tls_context(certificate))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        stream = served.client.completions.stream(prompt="x")
    assert next(stream) == Text("Hel")
    reader = Running(lambda: next(stream))
    reader.wait_blocked()
    stream.close()
    assert reader.error()


def test_the_second_address_of_a_name_is_tried(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the first address refuses the connection, the next one serves the call."""
    served = serve(FINE, max_retries=0)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dead = closed.getsockname()[1]
    real = socket.getaddrinfo

    def two(host: str, port: int, *args: Any) -> Any:
        return [*real("127.0.0.1", dead, *args), *real("127.0.0.1", port, *args)]

    monkeypatch.setattr(socket, "getaddrinfo", two)
    assert served.client.completions.create(prompt="x").text == "fine"


def test_a_name_without_an_address_is_a_connection_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that finds nothing is no crash."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [])
    with VllmClient("http://model.example", max_retries=0) as client:
        with pytest.raises(APIConnectionError, match="nothing answers"):
            client.completions.create(prompt="x")


@pytest.mark.parametrize(
    "ping",
    [
        *(b": keep-alive\n\n", b": keep-alive\n", b": keep-alive\r\n", b":\r"),
        *(b"\n", b"\r\n", b"event: ping\ndata: now\n\n"),
    ],
)
def test_a_keep_alive_counts_until_the_first_event(serve: Serve, ping: bytes) -> None:
    """Comments, blank lines and pings keep a queued request alive, not a stream that has begun."""

    def reply(connection: Connection) -> None:
        connection.send(beginning())
        pause = threading.Event()
        for _ in range(24):
            pause.wait(0.05)
            connection.send_chunk(ping)
        connection.send_event(chunk("Hel"))
        with contextlib.suppress(OSError):
            while not pause.wait(0.05):
                connection.sock.sendall(chunked(ping))

    client = serve(reply, timeout=Timeout(WAIT, 1.0, total=3 * WAIT)).client
    with client.completions.stream(prompt="x") as stream:
        assert next(stream) == Text("Hel")
        with pytest.raises(APITimeoutError, match="only keep-alive comments") as raised:
            next(stream)
    assert raised.value.partial.text == "Hel"


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.completions.create(prompt="x"),
        lambda client: client.request("GET", "/v1/models"),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_a_response_beyond_the_limit_is_refused(serve: Serve, call: Any, compressed: bool) -> None:
    """A body is counted after decompression; what is left of it is not read."""
    body = json_bytes({"zeros": "0" * (4 << 20)}).partition(b"\r\n\r\n")[2]
    headers = ""
    if compressed:
        body, headers = gzip.compress(body), "content-encoding: gzip\r\n"
    served = serve(json_bytes(body, headers=headers), max_response_bytes=1 << 20)
    with pytest.raises(InvalidResponseError, match="larger than 1048576 bytes"):
        call(served.client)
    fine = served.client.with_options(max_response_bytes=8 << 20)
    assert len(fine.request("GET", "/v1/models").content) > 4 << 20
    assert served.connections == (1 if compressed else 2)


def test_a_chunked_response_beyond_the_limit_is_refused(serve: Serve) -> None:
    """The limit holds for bodies in chunks too, and the connection is not used again."""
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    reply = head + chunked(b" " * 600) + chunked(b"{}".ljust(600)) + LAST_CHUNK
    served = serve(reply, max_response_bytes=1000)
    with pytest.raises(InvalidResponseError, match="larger than 1000 bytes"):
        served.client.request("GET", "/v1/models")
    fine = served.client.with_options(max_response_bytes=1200)
    assert fine.request("GET", "/v1/models").json() == {}
    assert fine.request("GET", "/v1/models").json() == {}
    assert served.connections == 2


def test_a_refused_response_closes_its_connection(serve: Serve) -> None:
    """The server learns at once that nobody reads the rest of a body that is too large."""
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n"
    stall = Stall(head + b"0" * (3 << 20))
    client = serve(stall, max_response_bytes=1 << 20).client
    with pytest.raises(InvalidResponseError, match="larger than 1048576 bytes"):
        client.request("GET", "/v1/models")
    assert stall.gone.wait()


def test_a_call_that_timed_out_is_not_a_closed_one(serve: Serve) -> None:
    """If the client is closed after the total limit, the reader is told of the limit."""
    stall = Stall(beginning(chunk("Hel")))
    client = serve(stall, timeout=Timeout(total=0.2)).client
    stream = client.completions.stream(prompt="x")
    assert stall.gone.wait()
    client.close()
    with pytest.raises(APITimeoutError, match=r"total timeout of 0\.2 s"):
        stream.collect()


@pytest.mark.parametrize("value", [0, -1, True, "5", None])
def test_a_limit_of_bytes_is_a_positive_number(value: Any) -> None:
    """Anything else is refused when the client is made."""
    with pytest.raises(ValueError, match="max_response_bytes must be an int, 1 or greater"):
        VllmClient(max_response_bytes=value)


def test_a_compressed_stream_is_read(serve: Serve) -> None:
    """A server that compresses although it was asked not to is understood."""
    events = stream_bytes(*WHOLE, head=b"")
    data = gzip.compress(events)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\n"
    served = serve(head + b"content-length: %d\r\n\r\n" % len(data) + data)
    assert served.client.completions.stream(prompt="x").collect_text() == "Hello"
    assert served.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("status", [102, 103])
def test_an_interim_response_does_not_shift_the_answers(serve: Serve, status: int) -> None:
    """With a user's session too, no request gets the response of another one."""

    def handler(connection: Connection) -> None:
        while True:
            request = connection.receive()
            if request is None:
                return
            interim = b"HTTP/1.1 %d Wait\r\n\r\n" % status if "A" in request.json["prompt"] else b""
            connection.send(interim + json_bytes(answer(request.json["prompt"])))

    with requests.Session() as session:
        client = serve(handler=handler, session=session).client
        with pytest.raises(APIStatusError):
            client.completions.create(prompt="A")
        assert client.completions.create(prompt="B").text == "B"
    own = serve(handler=handler).client
    assert [own.completions.create(prompt=p).text for p in ("A", "B")] == ["A", "B"]


@pytest.mark.parametrize("line", ["403 Forbidden", "407 Proxy Authentication Required"])
def test_a_proxy_that_refuses_is_named(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    """The error shows the proxy without its password and what it answered; no retry helps."""

    def handler(connection: Connection) -> None:
        if connection.receive():
            connection.send(f"HTTP/1.1 {line}\r\ncontent-length: 0\r\n\r\n".encode())

    with WireServer(handler) as server:
        monkeypatch.setenv("https_proxy", server.url.replace("//", "//me:passw0rd@"))
        with VllmClient("https://model.example") as client:
            with pytest.raises(APIConnectionError, match=f"the proxy {server.url} ") as raised:
                client.completions.create(prompt="x")
    assert line[:3] in str(raised.value)
    assert "passw0rd" not in str(raised.value)
    assert raised.value.attempts == 1
    assert not raised.value.is_retryable


CANNOT: Dict[str, Any] = {
    "proxy scheme": ({"http_proxy": "foo://127.0.0.1:9"}, "the proxy foo://127.0.0.1:9"),
    "CA file": ({"REQUESTS_CA_BUNDLE": "/nowhere/ca.pem"}, "/nowhere/ca.pem"),
}


@pytest.mark.parametrize("what", CANNOT)
def test_settings_that_cannot_be_used_are_named(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """The error names the setting instead of the server, and is not retryable."""
    environment, named = CANNOT[what]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    scheme = "http" if what == "proxy scheme" else "https"
    with VllmClient(f"{scheme}://model.example") as client:
        with pytest.raises(APIConnectionError) as raised:
            client.completions.create(prompt="x")
    assert named in str(raised.value)
    assert "closed the connection" not in str(raised.value)
    assert raised.value.attempts == 1


def test_a_method_that_cannot_be_is_not_a_closed_connection(serve: Serve) -> None:
    """The error says that the request cannot be sent."""
    served = serve(FINE)
    with pytest.raises(APIConnectionError, match="cannot be sent") as raised:
        served.client.request("GET\n", "/v1/models")
    assert not raised.value.is_retryable


def test_a_protocol_that_is_not_http(serve: Serve) -> None:
    """A server of another protocol is called one, and not a closed connection."""
    served = serve(b"HTTP/7.1 200 OK\r\n\r\n", max_retries=0)
    with pytest.raises(APIConnectionError, match="not HTTP"):
        served.client.completions.create(prompt="x")


@pytest.mark.parametrize("quote", ['"', "'"])
def test_quotes_around_an_address_are_removed(quote: str) -> None:
    """Environment files keep the quotes around a value."""
    assert VllmClient(f"{quote}http://h:8000{quote}").base_url == "http://h:8000/v1"


@pytest.mark.parametrize(
    "address",
    ["http://${HOST}:8000", "http://{host}:8000", "http://a,http://b", "http://a|b", "<http://h>"],
)
def test_an_address_that_was_not_filled_in_is_refused(address: str) -> None:
    """A variable without a value, or a list of addresses, is refused at once."""
    with pytest.raises(ValueError, match="not the address of a server"):
        VllmClient(address)


def test_a_certificate_without_trust_ends_a_wait(certificate: Path, serve: Serve) -> None:
    """A certificate that is not trusted is an error of health() and of wait_until_ready()."""

    def handler(connection: Connection) -> None:
        with pytest.raises(ssl.SSLError):
            connection.start_tls(tls_context(certificate))

    client = VllmClient(serve(handler=handler).base_url.replace("http:", "https:"))
    for call in (client.server.health, client.server.wait_until_ready):
        with pytest.raises(APIConnectionError, match="no TLS connection"):
            call()
