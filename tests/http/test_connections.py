"""Connections: reused when that is safe, never shared by two calls."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, List

import pytest
import requests
import requests.adapters
import urllib3

from vllm_client import (
    APIConnectionError,
    APIStatusError,
    NotFoundError,
    VllmClient,
)
from vllm_client._http import framing
from vllm_client._http import session as session_module
from vllm_client._http.call import shut_socket

from ..recorded import WHOLE, answer, beginning, chunk, json_bytes, rest, single_bytes, stream_bytes
from ..servers import (
    FINE,
    Connection,
    Serve,
    Stall,
    WireServer,
    either,
    in_pieces,
    send_reply,
)
from ..threads import WAIT, Running


def _collect(client: VllmClient) -> str:
    with client.completions.stream(prompt="x") as stream:
        return stream.collect().text


def test_a_connection_with_excess_bytes_is_closed(
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bytes behind the end of a stream are not used as the response to the next request."""
    monkeypatch.setattr(framing, "ENABLED", True)  # http.client drops such bytes unseen.
    behind = json_bytes(answer("never asked for"))
    overlong = Stall(stream_bytes(*WHOLE) + behind)
    served = serve(either(overlong, json_bytes(answer("fine"))), timeout=WAIT)
    assert _collect(served.client) == "Hello"
    assert served.client.completions.create(prompt="x").text == "fine"
    assert served.connections == 2


def test_cached_addresses_are_bounded(serve: Serve) -> None:
    """A client that requests ever new paths caches a bounded number of them."""
    served = serve(json_bytes({}))
    for number in range(200):
        served.client.request("GET", f"/v1/responses/{number}")
    session = served.client._transport.session
    kept = session._own.session.get_adapter(served.server.url)._target_cache
    assert len(session._url_cache) == len(kept) == 64
    assert served.requests[-1].path == "/v1/responses/199"


@pytest.mark.parametrize("size", [10, 200_000])
def test_head_and_short_body_are_sent_together(serve: Serve, size: int) -> None:
    """A small request is sent in one piece; a large body follows its head."""
    received: List[bytes] = []

    def handler(connection: Connection) -> None:
        while True:
            received.append(connection.sock.recv(1 << 20))
            head, _, body = b"".join(received).partition(b"\r\n\r\n")
            if f"content-length: {len(body)}".encode() in head.lower():
                return connection.send_json(answer("fine"))

    client = serve(handler=handler).client
    assert client.completions.create(prompt="x" * size).text == "fine"
    head, _, body = received[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/completions HTTP/1.1\r\n")
    assert len(b"".join(received)) > size
    if size == 10:
        assert body == b'{"prompt":"xxxxxxxxxx"}'


def test_a_complete_stream_releases_its_connection(serve: Serve) -> None:
    """Streams read to their end share one connection with each other and with other calls."""
    served = serve(FINE)
    for _ in range(3):
        assert _collect(served.client) == "Hello"
        assert served.client.completions.create(prompt="x").text == "fine"
        with served.client.completions.stream(prompt="x") as stream:
            for _ in stream:
                pass
    assert served.connections == 1
    assert len(served.requests) == 9


def test_the_end_of_the_body_may_arrive_late(serve: Serve) -> None:
    """The connection is reused although the end of the body arrives in packets of its own."""
    whole = stream_bytes(*WHOLE)
    served = serve(in_pieces([whole[:-5], *single_bytes(whole[-5:])]))
    for _ in range(5):
        assert _collect(served.client) == "Hello"
    assert served.connections == 1


def test_the_end_of_the_body_is_awaited(serve: Serve) -> None:
    """The connection is reused although the body ends after the client has read [DONE]."""
    read = threading.Event()

    def reply(connection: Connection) -> None:
        connection.send(beginning(*WHOLE))
        read.wait(WAIT)
        connection.end_chunks()

    served = serve(reply)
    for _ in range(2):
        stream = served.client.completions.stream(prompt="x")
        reader = Running(stream.collect)
        while stream.timings.ended is None:
            threading.Event().wait(0.001)
        read.set()
        assert reader.result().text == "Hello"
        read.clear()
    assert served.connections == 1


def test_a_stream_left_early_closes_its_connection(serve: Serve) -> None:
    """The unread rest of one response never reaches the next call."""

    def numbered(connection: Connection) -> None:
        connection.send(beginning(chunk(f"of connection {connection.number}")))
        connection.send(rest(*WHOLE[2:]))

    served = serve(numbered)
    for number in range(1, 4):
        with served.client.completions.stream(prompt="x") as stream:
            assert next(stream).text == f"of connection {number}"
    assert served.connections == 3


def test_an_error_releases_its_connection(serve: Serve) -> None:
    """The connection of an error response is reused."""
    served = serve(json_bytes({"detail": "no"}, "404 Not Found"))
    for _ in range(3):
        with pytest.raises(NotFoundError):
            served.client.completions.create(prompt="x")
    assert served.connections == 1


@pytest.mark.parametrize("retries", [0, 2])
def test_a_connection_dropped_while_idle_is_not_reused(serve: Serve, retries: int) -> None:
    """A connection that the server closed between two calls costs no retry."""
    closed = threading.Event()

    def answer_once(connection: Connection) -> None:
        connection.send_json(answer(f"by {connection.number}"))
        connection.sock.shutdown(socket.SHUT_RDWR)
        connection.close()
        closed.set()

    served = serve(answer_once, max_retries=retries)
    for number in (1, 2, 3):
        assert served.client.completions.create(prompt="x").text == f"by {number}"
        assert closed.wait(WAIT)
        closed.clear()
    assert len(served.requests) == 3


def test_a_response_on_an_idle_connection_is_not_used(serve: Serve) -> None:
    """A response on an idle connection, such as a proxy's 408, is not used for the next request."""
    sent = threading.Event()

    def answer_twice(connection: Connection) -> None:
        connection.send_json(answer(f"by {connection.number}"))
        connection.send_json({"error": "too slow"}, "408 Request Timeout")
        connection.close()
        sent.set()

    client = serve(answer_twice, max_retries=0).client
    for number in (1, 2):
        assert client.completions.create(prompt="x").text == f"by {number}"
        assert sent.wait(WAIT)
        sent.clear()


def test_64_threads_get_their_own_answers(serve: Serve) -> None:
    """Calls and streams of 64 threads on one client each get their own text."""

    def echo(connection: Connection) -> None:
        prompt = connection.request.json["prompt"]
        letters = [chunk(letter) for letter in prompt]
        streamed = stream_bytes(*letters, chunk("", finish="stop"), "[DONE]")
        send_reply(connection, either(streamed, json_bytes(answer(prompt))))

    served = serve(echo)
    together = threading.Barrier(64)

    def ask(number: int) -> None:
        together.wait(WAIT)
        for turn in range(5):
            prompt = f"{number}/{turn}"
            assert served.client.completions.create(prompt=prompt).text == prompt
            with served.client.completions.stream(prompt=prompt) as stream:
                assert stream.collect().text == prompt

    with ThreadPoolExecutor(64) as threads:
        for asked in [threads.submit(ask, number) for number in range(64)]:
            asked.result(WAIT * 3)
    assert len(served.requests) == 640
    assert served.connections <= 64


def test_cookies_are_not_kept(serve: Serve) -> None:
    """A cookie set in one response is not sent with the next request."""
    response = json_bytes(answer(), headers="set-cookie: a=b; path=/\r\n")
    served = serve(response)
    for _ in range(2):
        served.client.completions.create(prompt="x")
    assert ["cookie" in request.headers for request in served.requests] == [False, False]


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_errors(serve: Serve, code: int) -> None:
    """Redirects are errors: following one could turn a POST into a GET or leak the key."""
    other = serve(FINE)
    target = f"{other.server.url}/elsewhere"
    client = serve(json_bytes(b"", f"{code} Moved", f"location: {target}\r\n")).client
    for call in (client.completions.create, client.completions.stream):
        with pytest.raises(APIStatusError, match=target) as raised:
            call(prompt="x")
        assert raised.value.status_code == code
    assert other.requests == []


class Proxy:
    """A handler that acts as an HTTP proxy, also for CONNECT, for one request per connection."""

    def __init__(self) -> None:
        self.asked: List[str] = []

    def __call__(self, connection: Connection) -> None:
        request = connection.receive()
        assert request is not None
        self.asked.append(f"{request.method} {request.path}")
        if request.method == "CONNECT":
            host, _, port = request.path.partition(":")
            connection.send(b"HTTP/1.1 200 Connected\r\n\r\n")
            self._tunnel(connection, (host, int(port)))
        else:
            connection.send_json(answer("by proxy"))

    @staticmethod
    def _tunnel(connection: Connection, address: Any) -> None:
        with socket.create_connection(address) as there:
            connection.server.track(there)

            def back() -> None:
                for data in iter(lambda: there.recv(65536), b""):
                    connection.send(data)

            other = threading.Thread(target=back)
            other.start()
            try:
                for data in iter(lambda: connection.sock.recv(65536), b""):
                    there.sendall(data)
            except OSError:
                pass
            there.shutdown(socket.SHUT_RDWR)
            other.join(WAIT)


def test_the_proxy_of_the_environment_is_used(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests go through the proxy in http_proxy, except to the hosts in no_proxy."""
    proxy = Proxy()
    monkeypatch.setenv("http_proxy", serve(handler=proxy).server.url)
    with VllmClient("http://model.example/v1") as client:
        assert client.completions.create(prompt="x").text == "by proxy"
    assert proxy.asked == ["POST http://model.example/v1/completions"]
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert serve(FINE).client.completions.create(prompt="x").text == "fine"
    assert len(proxy.asked) == 1


def test_an_absent_proxy_is_a_connection_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that refuses the connection is an APIConnectionError."""
    with WireServer(Proxy()) as server:
        url = server.url
    monkeypatch.setenv("http_proxy", url)
    with VllmClient("http://model.example/v1", max_retries=0) as client:
        with pytest.raises(APIConnectionError, match=r"the proxy http://127\.0\.0\.1"):
            client.completions.create(prompt="x")


def test_a_socks_proxy_without_pysocks_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A SOCKS proxy without PySocks, which we do not install, is an APIConnectionError."""
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:9")
    with VllmClient("http://model.example/v1", max_retries=0) as client:
        with pytest.raises(APIConnectionError):
            client.completions.create(prompt="x")


def test_a_key_wins_over_netrc(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """.netrc is used only if neither the client nor the call sets any authorization."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    basic = "Basic bWU6c2VjcmV0"
    cases: List[Any] = [
        ({"api_key": "k"}, {}, "Bearer k"),
        ({"headers": {"Authorization": "Token t"}}, {}, "Token t"),
        ({}, {"extra_headers": {"authorization": "Token u"}}, "Token u"),
        ({"api_key": "k"}, {"extra_headers": {"Authorization": "Token u"}}, "Token u"),
        ({"api_key": "k"}, {"extra_headers": {"Authorization": None}}, None),
        ({}, {}, basic),
    ]
    for settings, options, expected in cases:
        served = serve(FINE, **settings)
        served.client.completions.stream(prompt="x", **options).collect()
        (request,) = served.requests
        assert request.headers.get("authorization") == expected


def test_shutting_a_closed_socket_is_no_error() -> None:
    """shut_socket() ignores a closed socket and finds the socket inside a TLS wrapper."""
    here, there = socket.socketpair()

    class Wrapped:
        socket = here

    shut_socket(Wrapped())
    assert there.recv(1) == b""
    here.close()
    there.close()
    shut_socket(here)


def test_a_response_outlives_its_stream(serve: Serve) -> None:
    """Closing the response again, after its stream has gone, is harmless."""
    served = serve(stream_bytes(*WHOLE))
    with served.client.completions.stream(prompt="x") as stream:
        stream.collect()
    response = stream.response
    del stream
    response.close()
    assert _collect(served.client) == "Hello"
    assert served.connections == 1


def test_a_socks_manager_keeps_its_own_connections(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection classes of PySocks are not replaced by ours."""
    manager = urllib3.PoolManager()
    monkeypatch.setattr(requests.adapters, "SOCKSProxyManager", lambda *_, **__: manager)
    classes = dict(manager.pool_classes_by_scheme)
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:9")
    assert serve(FINE).client.completions.create(prompt="x").text == "fine"
    assert manager.pool_classes_by_scheme == classes


@pytest.mark.parametrize("given", [False, True])
def test_a_child_does_not_use_inherited_connections(serve: Serve, given: bool) -> None:
    """After a fork the child does not use the idle connections of its parent."""
    session = requests.Session() if given else None
    served = serve(FINE, session=session)
    parents = served.client._transport.session
    served.client.completions.create(prompt="x")
    own = parents._own
    session_module._after_fork()
    served.client.completions.create(prompt="x")
    served.client.completions.create(prompt="x")
    assert served.connections == 2
    for inherited in (own and own.session, session):
        if inherited is not None:
            inherited.close()


@pytest.mark.parametrize(
    ("headers", "error", "message"),
    [
        ({"a b": "c"}, ValueError, "name of a header"),
        ({"a": "b\r\nc: d"}, ValueError, "value of header 'a'"),
        ({"a": "\u2028"}, ValueError, "value of header 'a'"),
        ({"a": 5}, TypeError, "must be text"),
        ({5: "a"}, TypeError, "must be text"),
    ],
)
def test_an_invalid_header_is_refused(
    serve: Serve, headers: Any, error: type, message: str
) -> None:
    """A header that is invalid raises before anything is sent."""
    served = serve(FINE)
    with pytest.raises(error, match=message):
        VllmClient(served.base_url, headers=headers)
    with pytest.raises(error, match=message):
        served.client.completions.create(prompt="x", extra_headers=headers)
    assert served.connections == 0


def test_server_url_is_the_address_without_its_version(serve: Serve) -> None:
    """A path with a slash is relative to server_url, any other to base_url."""
    served = serve(json_bytes(answer()))
    served.client.request("get", "/health", params={"a": "b c"})
    served.client.request("get", "models")
    lines = [(request.method, request.path) for request in served.requests]
    assert lines == [("GET", "/health?a=b+c"), ("GET", "/v1/models")]
    assert [request.body for request in served.requests] == [b"", b""]
    assert "content-type" not in served.requests[0].headers
