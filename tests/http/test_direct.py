"""Common responses are read past requests; everybody else sees no difference."""

from __future__ import annotations

import errno
import functools
import gzip
import logging
import queue
import socket
import threading
from types import SimpleNamespace
from typing import Any, Iterator, List, Tuple

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_client import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    BadRequestError,
    InternalServerError,
    InvalidResponseError,
    Timeout,
    VllmClient,
    VllmError,
)
from vllm_client._http import direct, observed
from vllm_client._http.adapter import TrackedPool
from vllm_client._http.connections import TrackedConnection
from vllm_client._http.direct import DirectResponse, Route
from vllm_client._http.payload import Payload
from vllm_client._http.response import WholeResponse
from vllm_client._http.transport import CallOptions

from ..recorded import cut, json_bytes
from ..servers import (
    Connection,
    Reply,
    Serve,
    Served,
    Stall,
    WireServer,
    break_off,
    in_pieces,
    reset,
)
from ..threads import WAIT, Running
from .conftest import tls_context

OK = json_bytes({"first": True})
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
BODY = b'{"a":"b"}'
COMMON = HEAD + b"content-length: 9\r\n\r\n" + BODY


@pytest.fixture(autouse=True)
def enabled(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests compare both ways, so ``--plain`` does not switch one of them off here."""
    monkeypatch.setattr(direct, "ENABLED", True)


def fetch(client: VllmClient, content: Any = None, **options: Any) -> WholeResponse:
    """The response to a POST of some JSON."""
    transport = client._transport
    payload = Payload.of_json({"prompt": "x"} if content is None else content)
    return transport.fetch(
        "POST", transport.url("/some/route"), payload, options=CallOptions(**options)
    )


def is_direct(whole: WholeResponse) -> bool:
    return isinstance(whole.response, DirectResponse)


def warm(serve: Serve, *replies: Reply, **settings: Any) -> Served:
    """A server with these replies, and a client that has an idle connection to it."""
    served = serve(OK, *replies, **settings)
    assert not is_direct(fetch(served.client))
    return served


@pytest.fixture(params=[True, False], ids=["direct", "plain"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the direct way is enabled; the tests that use it hold for both ways."""
    enabled = bool(request.param)
    monkeypatch.setattr(direct, "ENABLED", enabled)
    return enabled


# What is read here.


def test_a_common_response_is_read_here(serve: Serve) -> None:
    """The second request to a URL takes the direct way, on the connection of the first."""
    served = warm(serve, COMMON)
    whole = fetch(served.client)
    assert is_direct(whole)
    assert whole.content == BODY
    assert whole.headers == {"Content-Type": "application/json", "content-length": "9"}
    assert served.connections == 1


def test_one_line_switches_it_off(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``ENABLED = False``, requests reads every response."""
    served = warm(serve, COMMON)
    monkeypatch.setattr(direct, "ENABLED", False)
    assert not is_direct(fetch(served.client))


SETTINGS: List[Any] = [
    {},
    {"api_key": "secret-key"},
    {"headers": {"Authorization": "Basic abc", "X-Name": "caf\xe9"}},
    {"headers": {"Accept": None, "connection": None}},
]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
@pytest.mark.parametrize("content", [b"", b"{}", b"x" * 200_000], ids=["none", "short", "long"])
def test_both_ways_send_the_same_bytes(
    serve: Serve, settings: Any, method: str, content: bytes
) -> None:
    """Head and body of a request do not depend on the way that it takes."""
    served = serve(COMMON, **settings)
    transport = served.client._transport
    options = CallOptions(extra_headers={"x-one": "1", "Accept-Language": None})
    wholes = [
        transport.fetch(method, transport.url("a b"), Payload(content, "t"), options=options)
        for _ in range(3)
    ]
    assert [is_direct(whole) for whole in wholes] == [False, True, True]
    first, *others = [(request.head, request.body) for request in served.requests]
    assert others == [first, first]
    assert first[1] == content


def test_the_host_of_an_ipv6_address() -> None:
    """The header ``Host`` has an IPv6 address in brackets, and no default port."""
    route = Route.of(TrackedPool("::1", 80), "GET", "/")
    assert route is not None
    assert route.first_lines == "GET / HTTP/1.1\r\nHost: [::1]\r\n"
    route = Route.of(TrackedPool("::1", 8000), "GET", "/")
    assert route is not None
    assert route.first_lines == "GET / HTTP/1.1\r\nHost: [::1]:8000\r\n"


def test_a_long_body_is_read_in_pieces(serve: Serve) -> None:
    """A body of many reads is whole, whatever its bytes."""
    body = bytes(range(256)) * 8192
    served = warm(serve, HEAD + b"content-length: %d\r\n\r\n" % len(body) + body)
    whole = fetch(served.client)
    assert is_direct(whole)
    assert whole.content == body
    assert is_direct(fetch(served.client))
    assert served.connections == 1


def test_head_and_body_in_two_pieces(serve: Serve) -> None:
    """Uvicorn sends the head alone; the body that follows is read here too."""
    head, body = COMMON[: -len(BODY)], COMMON[-len(BODY) :]
    sent: queue.Queue[Connection] = queue.Queue()

    def reply(connection: Connection) -> None:
        connection.send(head)
        sent.put(connection)

    served = warm(serve, reply)
    running = Running(lambda: fetch(served.client))
    connection = sent.get(timeout=WAIT)
    running.wait_blocked()
    connection.send(body)
    whole = running.result()
    assert whole.content == BODY
    assert whole.headers["content-length"] == "9"


@pytest.mark.parametrize("status", [200, 201])
def test_an_error_under_status_200_is_raised(serve: Serve, status: int, way: bool) -> None:
    """An error body is an error on both ways, with the header of its request."""
    error = json_bytes({"error": {"message": "dead", "code": 500}}, f"{status} OK")
    error = error.replace(b"\r\n\r\n", b"\r\nx-request-id: r7\r\n\r\n", 1)
    served = warm(serve, error, max_retries=0)
    with pytest.raises(InternalServerError, match="dead") as raised:
        fetch(served.client)
    assert raised.value.request_id == "r7"


def test_headers_that_are_repeated_are_joined(serve: Serve, way: bool) -> None:
    """A header that the server sends twice has both values."""
    served = warm(serve, COMMON.replace(b"\r\n", b"\r\nvary: a\r\nVary: b\r\n", 1))
    whole = fetch(served.client)
    assert is_direct(whole) is way
    assert whole.headers["VARY"] == "a, b"


# What goes to http.client.

LENGTH = b"content-length: 9\r\n"
UNCOMMON = {
    "another success": b"HTTP/1.1 201 Created\r\n" + LENGTH + b"\r\n" + BODY,
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "chunked": HEAD + b"transfer-encoding: chunked\r\n\r\n9\r\n" + BODY + b"\r\n0\r\n\r\n",
    "both framings": HEAD
    + LENGTH
    + b"Transfer-Encoding: chunked\r\n\r\n9\r\n"
    + BODY
    + b"\r\n0\r\n\r\n",
    "gzip": HEAD
    + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(gzip.compress(BODY))
    + gzip.compress(BODY),
    "interim": b"HTTP/1.1 102 Processing\r\n\r\n" + COMMON,
    "continue": b"HTTP/1.1 100 Continue\r\n\r\n" + COMMON,
    "old HTTP": COMMON.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "closing": HEAD + LENGTH + b"Connection: close\r\n\r\n" + BODY,
    "two connections": HEAD + LENGTH + b"connection: keep-alive\r\nconnection: x\r\n\r\n" + BODY,
    "no length": HEAD + b"connection: close\r\n\r\n" + BODY,
    "folded": HEAD + LENGTH + b"x-a: b\r\n  c\r\n\r\n" + BODY,
    "latin": HEAD + LENGTH + b"x-a: \xe9\r\n\r\n" + BODY,
    "spaces": HEAD + LENGTH + b"x-a:   b  \r\n\r\n" + BODY,
    "no name": HEAD + LENGTH + b": b\r\n\r\n" + BODY,
    "line feeds": COMMON.replace(b"\r\n", b"\n"),
    "lengths": HEAD + LENGTH + LENGTH + b"\r\n" + BODY,
    "signed length": HEAD + b"content-length: +9\r\n\r\n" + BODY,
    "no phrase": COMMON.replace(b"200 OK", b"200"),
}


@pytest.mark.parametrize("name", UNCOMMON)
def test_other_responses_are_read_by_http_client(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Any response that is none of the common ones is what requests makes of it."""
    served = warm(serve, UNCOMMON[name], COMMON)
    whole = fetch(served.client)
    assert not is_direct(whole)
    assert whole.content == (b"" if name == "no content" else BODY)
    fetch(served.client)
    ends = any(word in UNCOMMON[name] for word in (b"close", b"HTTP/1.0"))
    assert served.connections == (2 if ends else 1)
    plain = warm(serve, UNCOMMON[name])
    monkeypatch.setattr(direct, "ENABLED", False)
    assert fetch(plain.client).headers == whole.headers


def test_a_head_of_too_many_fields(serve: Serve, way: bool) -> None:
    """http.client refuses a head of more than 100 fields, and so does this way."""
    served = warm(serve, HEAD + b"x: y\r\n" * 100 + LENGTH + b"\r\n" + BODY)
    with pytest.raises(APIConnectionError, match="more than 100"):
        fetch(served.client)


@pytest.mark.parametrize("split", range(1, len(COMMON) - len(BODY)))
def test_a_head_in_two_pieces(serve: Serve, split: int) -> None:
    """A head that arrives in two pieces is read to its end by http.client."""
    arrived: queue.Queue[Connection] = queue.Queue()

    def reply(connection: Connection) -> None:
        connection.send(COMMON[:split])
        arrived.put(connection)

    served = warm(serve, reply, COMMON)
    running = Running(lambda: fetch(served.client))
    connection = arrived.get(timeout=WAIT)
    running.wait_blocked()
    connection.send(COMMON[split:])
    assert running.result().content == BODY
    assert is_direct(fetch(served.client))
    assert served.connections == 1


# Errors, limits, retries.


def test_refusals_are_raised(serve: Serve, way: bool) -> None:
    """A status of 400 is its error on both ways, and the connection is used again."""
    served = warm(serve, json_bytes({"error": {"message": "no"}}, "400 No"), COMMON)
    with pytest.raises(BadRequestError, match="no"):
        fetch(served.client)
    assert fetch(served.client).content == BODY
    assert served.connections == 1


def test_a_refusal_before_the_body_is_read(serve: Serve, way: bool) -> None:
    """A server that refuses a long body and closes before it has read it is heard."""

    def handler(connection: Connection) -> None:
        connection.receive()
        connection.send(OK)
        connection.sock.recv(1)
        connection.send_json({"error": {"message": "too large"}}, "413 Too Large")
        connection.sock.shutdown(socket.SHUT_WR)
        assert connection.wait_gone()

    served = serve(handler=handler, max_retries=0)
    fetch(served.client)
    with pytest.raises(APIStatusError, match="too large"):
        fetch(served.client, "x" * 5_000_000)


def test_a_request_that_is_not_accepted_is_a_timeout(serve: Serve, way: bool) -> None:
    """A server that stops reading a long body ends the call after ``read``."""
    done = threading.Event()

    def handler(connection: Connection) -> None:
        connection.receive()
        connection.send(OK)
        assert done.wait(WAIT)

    served = serve(handler=handler, max_retries=1)
    fetch(served.client)
    with pytest.raises(APITimeoutError, match="could not be sent"):
        fetch(served.client, "x" * 50_000_000, timeout=(5, 0.1))
    done.set()
    assert served.connections == 1


def test_busy_servers_are_asked_again(serve: Serve, way: bool) -> None:
    """A 503 is retried after the time that it names."""
    busy = json_bytes({"error": {"message": "busy"}}, "503 Busy")
    busy = busy.replace(b"\r\n", b"\r\nretry-after: 0\r\n", 1)
    served = warm(serve, busy, COMMON, max_retries=1)
    assert fetch(served.client).content == BODY
    assert len(served.requests) == 3


@pytest.mark.parametrize("end", [break_off(), reset()], ids=["close", "reset"])
def test_a_dead_connection_is_replaced(serve: Serve, end: Reply, way: bool) -> None:
    """An idle connection on which no answer comes is replaced, and counts as no attempt."""
    served = warm(serve, end, COMMON, max_retries=0)
    assert fetch(served.client).content == BODY
    assert served.connections == 2


@pytest.mark.parametrize(
    ("length", "end"),
    [
        (len(b"HTTP/1.1 200 OK\r\n"), Connection.reset),
        (30, Connection.reset),
        (len(COMMON) - len(BODY), Connection.close),
        (len(COMMON) - len(BODY), Connection.reset),
        (len(COMMON) - 1, Connection.close),
        (len(COMMON) - 1, Connection.reset),
    ],
)
def test_a_broken_response_is_an_error(serve: Serve, length: int, end: Any, way: bool) -> None:
    """A response that breaks off after its status line is an error, and is not asked for again."""
    arrived: queue.Queue[Connection] = queue.Queue()

    def reply(connection: Connection) -> None:
        connection.send(COMMON[:length])
        arrived.put(connection)
        assert received.wait(WAIT)
        end(connection)

    received = threading.Event()
    served = warm(serve, reply, COMMON, max_retries=1)
    running = Running(lambda: fetch(served.client))
    arrived.get(timeout=WAIT)
    running.wait_blocked()
    received.set()
    assert type(running.error()) is APIConnectionError
    assert len(served.requests) == 2


@pytest.mark.parametrize("length", [0, 5, 30, len(COMMON) - 5])
def test_silence_is_a_timeout(serve: Serve, length: int, way: bool) -> None:
    """Silence before, in and after the head ends with ``read``."""
    served = warm(serve, Stall(COMMON[:length]), max_retries=1)
    with pytest.raises(APITimeoutError, match=r"for 0\.05 s"):
        fetch(served.client, timeout=(5, 0.05))
    assert len(served.requests) == 2


@pytest.mark.parametrize("length", [0, len(COMMON) - 5])
def test_the_total_limit_holds(serve: Serve, length: int, way: bool) -> None:
    """``total`` ends a call that waits for a response or for the rest of one."""
    served = warm(serve, Stall(COMMON[:length]))
    with pytest.raises(APITimeoutError, match=r"total timeout of 0\.05 s"):
        fetch(served.client, timeout=Timeout(read=None, total=0.05))


@pytest.mark.parametrize("length", [0, 5, len(COMMON) - 5])
def test_close_ends_a_call(serve: Serve, length: int, way: bool) -> None:
    """``client.close()`` ends a call that waits for a response or for the rest of one."""
    stall = Stall(COMMON[:length])
    served = warm(serve, stall)
    running = Running(lambda: fetch(served.client))
    assert stall.reached.wait()
    running.wait_blocked()
    served.client.close()
    with pytest.raises(APIConnectionError, match="the client was closed"):
        running.result()
    assert stall.gone.wait()


def test_a_body_that_is_too_large_is_not_read(serve: Serve, way: bool) -> None:
    """A length above the limit is an error, and the client still works."""
    long = HEAD + b"content-length: 100\r\n\r\n" + b" " * 100
    served = warm(serve, long, COMMON, max_retries=0, max_response_bytes=50)
    with pytest.raises(InvalidResponseError, match="larger than 50 bytes"):
        fetch(served.client)
    assert fetch(served.client).content == BODY


# The connection afterwards.


def idle_connections(client: VllmClient) -> List[Any]:
    """The open connections in the pools of a client."""
    own = client._transport.session._own
    assert own is not None
    pools: Any = {route.pool for route in own.routes.values() if route is not None}
    idle = [connection for pool in pools for connection in pool.pool.queue]
    return [each for each in idle if each is not None and each.sock is not None]


def kept(client: VllmClient) -> int:
    """How many open connections the pools of a client hold."""
    return len(idle_connections(client))


def test_bytes_after_a_body_close_the_connection(serve: Serve) -> None:
    """What follows the body is no part of the next response."""
    served = warm(serve, COMMON + COMMON.replace(BODY, b'{"c":"d"}'), COMMON)
    whole = fetch(served.client)
    assert is_direct(whole)
    assert whole.content == BODY
    assert kept(served.client) == 0
    assert fetch(served.client).content == BODY
    assert served.connections == 2


def test_the_same_over_tls(serve: Serve, certificate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over TLS a response is read here too, and bytes that were only decrypted are noticed."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    long = b"x" * 9000
    head = HEAD + b"content-length: %d\r\n\r\n" % len(long)
    # Two records of TLS: the second holds the rest of the body, and more.
    overrun = in_pieces([head, long + b"HTTP/1.1 200"])
    served = warm(serve, COMMON, overrun, tls=tls_context(certificate))
    whole = fetch(served.client)
    assert is_direct(whole)
    assert whole.content == BODY
    assert kept(served.client) == 1
    assert fetch(served.client).content == long
    assert kept(served.client) == 0


# Who watches.


def wrapped(function: Any) -> Any:
    """A function around another one, as tools make it."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (requests.Session, "send"),
        *((owner, name) for owner, name, _ in observed._BYPASSED),
    ],
    ids=str,
)
def test_a_patched_part_is_called(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    """While a part of a library is replaced, calls go through it; afterwards they do not."""
    served = warm(serve, COMMON)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, wrapped(getattr(owner, name)))
        assert not is_direct(fetch(served.client))
    assert is_direct(fetch(served.client))


def test_the_debug_log_of_urllib3_is_complete(serve: Serve, caplog: Any) -> None:
    """While urllib3 logs each request, it makes each request."""
    served = warm(serve, COMMON)
    caplog.set_level(logging.DEBUG, "urllib3")
    fetch(served.client)
    assert '"POST /some/route HTTP/1.1" 200' in caplog.text


def test_the_debug_level_of_http_client_is_obeyed(serve: Serve, capsys: Any) -> None:
    """A connection that prints what it sends is used through http.client."""
    served = warm(serve, COMMON)
    idle_connections(served.client)[0].set_debuglevel(1)
    fetch(served.client)
    assert "send: b'POST /some/route" in capsys.readouterr().out


def test_a_socket_of_another_kind_is_left_to_urllib3(serve: Serve) -> None:
    """A socket that is not Python's own, as pyOpenSSL brings one, is used through http.client."""

    class Other(socket.socket):
        pass

    served = warm(serve, COMMON)
    (connection,) = idle_connections(served.client)
    connection.sock = Other(fileno=connection.sock.detach())
    assert not is_direct(fetch(served.client))
    assert served.connections == 1


# Requests that are left to urllib3.


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "other.example"},
        {"User-Agent": None},
        {"accept-encoding": None},
        {"Expect": "100-continue"},
    ],
    ids=str,
)
def test_special_headers_are_left_to_urllib3(serve: Serve, headers: Any) -> None:
    """Header fields that urllib3 or http.client treat specially are sent as they send them."""
    served = serve(COMMON)
    for _ in range(2):
        assert not is_direct(fetch(served.client, extra_headers=headers))
    first, second = served.requests
    assert first.head == second.head


def test_a_query_is_left_to_requests(serve: Serve) -> None:
    """A URL with a query is prepared by requests each time."""
    served = serve(COMMON)
    transport = served.client._transport
    for number in range(2):
        whole = transport.fetch(
            "GET", transport.url("x"), params={"a": number}, options=CallOptions()
        )
        assert not is_direct(whole)
    assert [request.path for request in served.requests] == ["/v1/x?a=0", "/v1/x?a=1"]


def test_head_requests_are_left_to_requests(serve: Serve) -> None:
    """The length in the response to HEAD is that of no body."""
    served = serve(HEAD + b"content-length: 9\r\n\r\n")
    transport = served.client._transport
    for _ in range(2):
        whole = transport.fetch("HEAD", transport.url("x"), options=CallOptions())
        assert not is_direct(whole)
        assert whole.content == b""


def test_a_login_of_netrc_is_left_to_requests(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """A login of ``.netrc`` is sent with every request."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    served = warm(serve, COMMON)
    assert not is_direct(fetch(served.client))
    assert len({request.headers["authorization"] for request in served.requests}) == 1


def test_a_user_session_is_used(serve: Serve) -> None:
    """A session of the user's makes all requests."""
    with requests.Session() as session:
        served = warm(serve, COMMON, session=session)
        assert not is_direct(fetch(served.client))


def test_more_urls_than_are_remembered(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of URLs that are remembered is bounded; others still work."""
    monkeypatch.setattr("vllm_client._http.own_session.URL_CACHE_SIZE", 2)
    served = serve(COMMON)
    transport = served.client._transport
    for _ in range(2):
        wholes = [
            transport.fetch("GET", transport.url(name), options=CallOptions()) for name in "abc"
        ]
    assert [is_direct(whole) for whole in wholes] == [True, True, False]


def test_plain_http_through_a_proxy_is_left_to_urllib3(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy for plain HTTP gets the full URL and its login with every request."""
    proxy = serve(COMMON)
    url = proxy.server.url.replace("//", "//me:secret@")
    monkeypatch.setenv("http_proxy", url)
    with VllmClient("http://model.example/v1") as client:
        for _ in range(2):
            assert not is_direct(fetch(client))
    first, second = proxy.requests
    assert first.head == second.head
    assert first.path == "http://model.example/some/route"
    assert first.headers["proxy-authorization"].startswith("Basic ")


def test_a_tunnel_of_a_proxy_is_used(
    serve: Serve, certificate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside a TLS tunnel through a proxy a response is read here, and the proxy sees nothing."""
    context = tls_context(certificate)

    def tunnel(connection: Connection) -> None:
        assert connection.receive()
        connection.send(b"HTTP/1.1 200 Connected\r\n\r\n")
        connection.start_tls(context)
        while connection.receive():
            connection.send(COMMON)

    proxy = serve(handler=tunnel)
    monkeypatch.setenv("https_proxy", proxy.server.url)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with VllmClient("https://127.0.0.1:9/v1") as client:
        assert [is_direct(fetch(client)) for _ in range(3)] == [False, True, True]
    connect, *others = proxy.requests
    assert connect.path == "127.0.0.1:9"
    assert len({request.head for request in others}) == 1
    assert proxy.connections == 1


def test_a_pool_that_is_closed_or_empty_has_no_connection() -> None:
    """A pool returns no idle connection if it has none, or is closed."""
    pool = TrackedPool("127.0.0.1", 9, maxsize=1)
    assert pool.take_idle() is None
    pool.pool.get()  # type: ignore[union-attr]
    assert pool.take_idle() is None
    pool.close()
    assert pool.take_idle() is None


# Both ways read the same, whatever arrives.


class Script:
    """A handler that answers with these pieces, and may then close."""

    def __init__(self) -> None:
        self.pieces: List[bytes] = []
        self.closes = False

    def __call__(self, connection: Connection) -> None:
        while connection.receive():
            for piece in self.pieces:
                connection.send(piece)
            if self.closes:
                return


@pytest.fixture(scope="module")
def scripted() -> Iterator[Tuple[Script, VllmClient]]:
    script = Script()
    with WireServer(script) as server:
        limits: Any = {"max_retries": 0, "timeout": WAIT, "max_response_bytes": 150}
        with VllmClient(server.base_url, **limits) as client:
            yield script, client


def outcome(script: Script, client: VllmClient, pieces: List[bytes], enabled: bool) -> Any:
    """What one way makes of a response, and how many connections it keeps."""
    script.pieces, script.closes = [OK], False
    fetch(client)
    script.pieces, script.closes = pieces, True
    direct.ENABLED = enabled
    try:
        whole = fetch(client)
    except VllmError as error:
        return type(error), kept(client)
    finally:
        direct.ENABLED = True
    return whole.content, dict(whole.headers), kept(client)


FIELDS = st.sampled_from(
    [
        b"content-length: 9",
        b"Content-Length: 9",
        b"content-length:9",
        b"content-length: 009",
        b"content-length: 200",
        b"content-length: -9",
        b"content-length: 9, 9",
        b"content-length: x",
        b"Transfer-Encoding: chunked",
        b"transfer-encoding: identity",
        b"content-encoding: gzip",
        b"content-encoding: identity",
        b"connection: close",
        b"connection: keep-alive",
        b"Connection: Keep-Alive",
        b"x-a: b",
        b"x-a: c d",
        b"x-a:",
        b"x-a : b",
        b" folded",
        b"x-a: \x00",
        b"x-a: \xc3\xa9",
        b"x-a: b\rc",
        b"no colon",
        b"set-cookie: a=b; Path=/",
    ]
)
LINES = st.sampled_from(
    [
        *[b"HTTP/1.1 200 OK"] * 4,
        b"HTTP/1.1 200",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1 200 \xe9",
        b"HTTP/1.0 200 OK",
        b"HTTP/1.1 204 No Content",
        b"HTTP/1.1 304 Not Modified",
        b"HTTP/1.1 503 Busy",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK",
        b"HTTP/2 200",
        b"junk",
    ]
)
ENDS = st.sampled_from([*[b"\r\n"] * 6, b"\n", b"\r"])
BODIES = st.sampled_from([BODY, b"9\r\n" + BODY + b"\r\n0\r\n\r\n", b"", BODY[:4], b" " * 200])


@settings(max_examples=300)
@given(LINES, st.lists(FIELDS, max_size=5), ENDS, BODIES, st.lists(st.integers(0, 300), max_size=3))
def test_both_ways_agree(
    scripted: Tuple[Script, VllmClient],
    line: bytes,
    fields: List[bytes],
    end: bytes,
    body: bytes,
    places: List[int],
) -> None:
    """Whatever the head, the body and the pieces, content, headers and errors are the same.

    So is whether the connection is kept; only if bytes follow the body, http.client may lose them
    and keep it. The server closes after each response.
    """
    data = end.join([line, *fields, b"", b""]) + body
    pieces = cut(data, places)
    *plain, kept_by_plain = outcome(*scripted, pieces, False)
    *ours, kept_by_ours = outcome(*scripted, pieces, True)
    assert ours == plain
    overrun = isinstance(ours[0], bytes) and len(ours[0]) < len(body)
    assert kept_by_ours == kept_by_plain or (overrun and kept_by_ours == 0)


@given(st.integers(0, len(COMMON)), st.lists(st.integers(0, 300), max_size=3))
def test_both_ways_agree_on_common_responses(
    scripted: Tuple[Script, VllmClient], length: int, places: List[int]
) -> None:
    """The same for a common response that ends anywhere."""
    pieces = cut(COMMON[:length], places)
    plain = outcome(*scripted, pieces, False)
    assert outcome(*scripted, pieces, True) == plain


@pytest.mark.parametrize(
    ("error", "is_raised"),
    [
        (BrokenPipeError(errno.EPIPE, "x"), False),
        (ConnectionResetError(errno.ECONNRESET, "x"), False),
        (OSError(errno.EPROTOTYPE, "x"), False),
        (OSError(errno.ENETDOWN, "x"), True),
    ],
)
def test_a_server_may_answer_before_it_has_read_all(error: OSError, is_raised: bool) -> None:
    """A connection that the server closed while we sent may still hold its answer."""

    def sendall(_: bytes) -> None:
        raise error

    connection = TrackedConnection("127.0.0.1")
    connection.sock = SimpleNamespace(sendall=sendall)  # type: ignore[assignment]
    try:
        connection.send_past(b"request")
    except OSError as raised:
        assert (raised, is_raised) == (error, True)  # noqa: PT017 — which of them is the question
    else:
        assert not is_raised


def test_a_call_that_is_closed_at_its_very_end(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that is closed after the last byte and before its return is a closed call."""
    served = warm(serve, COMMON)
    has_more = direct._has_more

    def close_first(sock: socket.socket) -> bool:
        served.client.close()
        return has_more(sock)

    monkeypatch.setattr(direct, "_has_more", close_first)
    with pytest.raises(APIConnectionError, match="the client was closed"):
        fetch(served.client)
