"""Timeouts: each one ends the call that exceeds it, at every stage of the call."""

from __future__ import annotations

import contextlib
import socket
import threading
import weakref
from typing import Any, Callable, Iterator, List

import pytest
import requests

from vllm_client import APIConnectionError, APITimeoutError, Text, Timeout, VllmClient
from vllm_client._http.call import Call
from vllm_client._http.watchdog import watchdog

from ..recorded import (
    STREAM_HEAD,
    WHOLE,
    answer,
    beginning,
    chunk,
    json_bytes,
    rest,
    stream_bytes,
    text_in,
)
from ..servers import Connection, Serve, Stall
from ..threads import WAIT

SHORT = 0.05
TOTAL = 0.4


@pytest.fixture(params=["own", "given"])
def session(request: pytest.FixtureRequest) -> Iterator[Any]:
    """No session, or one of the user's."""
    if request.param == "own":
        yield None
    else:
        with requests.Session() as given:
            yield given


def _create(client: VllmClient, **params: Any) -> Any:
    return client.completions.create(prompt="x", **params)


def _stream(client: VllmClient, **params: Any) -> Any:
    with client.completions.stream(prompt="x", **params) as stream:
        return stream.collect()


CALLS = pytest.mark.parametrize("call", [_create, _stream])


silent = Stall()


def trickling_head(connection: Connection) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\n")
    _trickle(connection, b"x")


def trickling_body(connection: Connection) -> None:
    if connection.request.json.get("stream"):
        connection.send(beginning(chunk("Hel")))
        _trickle(connection, b"e\r\n: keep-alive\n\n\r\n")
    else:
        connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
        _trickle(connection, b" ")


def _trickle(connection: Connection, data: bytes) -> None:
    connection.sock.settimeout(0.01)
    with contextlib.suppress(OSError):
        for _ in range(400):
            if not _still_there(connection.sock):
                return
            connection.sock.sendall(data)
        raise AssertionError("the client does not keep its timeout")


def _still_there(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(1))
    except socket.timeout:
        return True


@CALLS
def test_a_silence_before_the_response_times_out(serve: Serve, call: Any, session: Any) -> None:
    """A server that sends no head within `read` seconds causes an APITimeoutError."""
    served = serve(silent, timeout=Timeout(read=SHORT), session=session)
    with pytest.raises(APITimeoutError, match=r"sent nothing for 0.05 s") as raised:
        call(served.client)
    assert isinstance(raised.value, TimeoutError)
    assert isinstance(raised.value, APIConnectionError)
    assert raised.value.is_retryable
    assert len(served.requests) == 1


def test_a_silence_in_a_stream_times_out(serve: Serve, session: Any) -> None:
    """`read` limits the silence between events too; the error keeps the text so far."""
    stall = Stall(beginning(chunk("Hel")))
    client = serve(stall, timeout=Timeout(read=SHORT), session=session).client
    with client.completions.stream(prompt="x") as stream:
        assert next(stream) == Text("Hel")
        with pytest.raises(APITimeoutError, match=r"nothing arrived for 0.05 s") as raised:
            next(stream)
        assert isinstance(raised.value, TimeoutError)
        assert text_in(raised.value.partial) == "Hel"


def test_a_silence_in_a_response_times_out(serve: Serve, session: Any) -> None:
    """A response body that stops arriving causes an APITimeoutError."""
    stall = Stall(json_bytes(answer())[:-5])
    client = serve(stall, timeout=SHORT, session=session).client
    with pytest.raises(APITimeoutError, match="middle of the response"):
        client.completions.create(prompt="x")


@CALLS
@pytest.mark.parametrize("reply", [silent, trickling_head, trickling_body])
def test_the_total_timeout_ends_a_call_at_every_stage(
    serve: Serve, call: Any, reply: Any, session: Any
) -> None:
    """`total` ends a call whose server is silent, or trickles its head or its body."""
    if reply is trickling_head and session is not None:
        pytest.skip("the socket of a user's session is out of reach before the head is whole")
    served = serve(reply, timeout=Timeout(total=TOTAL), session=session)
    with pytest.raises(APITimeoutError, match=r"total timeout of 0.4 s") as raised:
        call(served.client)
    assert isinstance(raised.value, TimeoutError)
    assert len(served.requests) == 1
    if call is _stream and reply is trickling_body:
        assert text_in(raised.value.partial) == "Hel"


def test_the_total_timeout_includes_a_slow_reader(serve: Serve, session: Any) -> None:
    """`total` includes the time between reads, and closes the connection meanwhile."""
    stall = Stall(beginning(chunk("Hel")))
    client = serve(stall, timeout=Timeout(total=TOTAL), session=session).client
    with client.completions.stream(prompt="x") as stream:
        assert next(stream) == Text("Hel")
        assert stall.gone.wait()
        with pytest.raises(APITimeoutError, match="total") as raised:
            next(stream)
        assert text_in(raised.value.partial) == "Hel"


@CALLS
@pytest.mark.parametrize("then", [silent, trickling_head, trickling_body])
def test_the_total_timeout_spans_all_attempts(serve: Serve, call: Any, then: Any) -> None:
    """`total` covers all attempts; the error names the failure of the attempt before."""
    headers = "retry-after: 0\r\nconnection: close\r\n"
    busy = json_bytes({"error": "busy"}, "503 Busy", headers)
    served = serve(busy, then, timeout=Timeout(total=TOTAL))
    message = r"total timeout of 0\.4 s(; the attempt before failed: 503: busy|$| \(POST )"
    with pytest.raises(APITimeoutError, match=message) as raised:
        call(served.client)
    assert served.connections == 2
    # The error need not name the first attempt once the second response has begun.
    assert then is not silent or "busy" in str(raised.value)


def test_the_timeout_of_a_call_wins(serve: Serve, session: Any) -> None:
    """The `timeout` of a call replaces the client's, in every form."""
    client = serve(silent, session=session).client
    for timeout in (SHORT, (5, SHORT), Timeout(read=SHORT), Timeout(total=SHORT)):
        with pytest.raises(APITimeoutError):
            client.completions.create(prompt="x", timeout=timeout)
        with pytest.raises(APITimeoutError):
            client.completions.stream(prompt="x", timeout=timeout)
    copy = client.with_options(timeout=SHORT)
    with pytest.raises(APITimeoutError):
        copy.completions.create(prompt="x")


def test_the_watchdog_forgets_calls_that_ended_in_time(serve: Serve, session: Any) -> None:
    """A call that ends within its total timeout leaves nothing in the watchdog."""
    client = serve(stream_bytes(*WHOLE), timeout=Timeout(total=1000.0), session=session).client
    for _ in range(3):
        assert _stream(client).text == "Hello"
    with client.completions.stream(prompt="x") as stream:
        next(stream)
    assert watchdog._due == {}


def test_comments_restart_the_read_timeout(serve: Serve) -> None:
    """A comment restarts the read timeout, so a request may wait longer in the queue."""
    comments = 8

    def queueing(connection: Connection) -> None:
        connection.send(STREAM_HEAD)
        pause = threading.Event()
        for _ in range(comments):
            connection.send_chunk(b": keep-alive\n\n")
            pause.wait(0.05)
        connection.send(rest(*WHOLE))

    client = serve(queueing, timeout=Timeout(read=0.3)).client
    assert _stream(client).text == "Hello"


@pytest.fixture
def full() -> Iterator[str]:
    """The address of a socket with a full backlog, to which no connection is made."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        waiting: List[socket.socket] = []
        for _ in range(64):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
            waiting.append(client)
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        for client in waiting:
            client.close()


@pytest.mark.parametrize(
    ("timeout", "message"),
    [
        (Timeout(connect=SHORT), "no connection to http://127.0.0.1:.* within 0.05 s"),
        (Timeout(total=SHORT), "total timeout of 0.05 s"),
    ],
)
def test_a_connection_that_is_not_accepted_times_out(
    full: str, timeout: Timeout, message: str, session: Any
) -> None:
    """A host that does not accept the connection causes an APITimeoutError."""
    with VllmClient(full, timeout=timeout, max_retries=0, session=session) as client:
        with pytest.raises(APITimeoutError, match=message) as raised:
            client.completions.create(prompt="x")
        assert isinstance(raised.value, TimeoutError)


WRAPPED = 2**32 / 1000 + 0.001
"""Seconds; as milliseconds in the 32 bits of poll(), this wraps around to 1."""


@pytest.mark.parametrize(
    "timeout",
    [WRAPPED, (WRAPPED, WRAPPED), Timeout(None, None, WRAPPED), 9e8, None],
    ids=["number", "pair", "total", "years", "none"],
)
def test_timeouts_longer_than_a_socket_can_wait(serve: Serve, timeout: Any, session: Any) -> None:
    """Timeouts of years are accepted, and None is no timeout."""

    def late(connection: Connection) -> None:
        threading.Event().wait(0.03)  # Longer than what a wrapped limit would leave.
        connection.send(stream_bytes(*WHOLE))

    client = serve(late, timeout=timeout, session=session).client
    assert _stream(client).text == "Hello"


def test_timeouts_hold_without_the_watchdog_thread(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the watchdog thread cannot start, streams are read and timeouts still hold."""
    ready = threading.Event()

    def waiting(connection: Connection) -> None:
        ready.wait(WAIT)
        connection.send(stream_bytes(*WHOLE))

    client = serve(waiting, timeout=Timeout(total=TOTAL)).client
    started = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name == "vllm-client-watchdog":
            raise RuntimeError("can't start new thread")
        started(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    ready.set()
    assert _stream(client, timeout=Timeout(total=60.0)).text == "Hello"
    ready.clear()
    with pytest.raises(APITimeoutError, match=r"total timeout of 0.4 s"):
        _stream(client)
    ready.set()


def test_a_shorter_timeout_set_later_ends_first(serve: Serve) -> None:
    """A short total timeout that is set after a long one ends in time."""
    client = serve(silent).client
    patient = serve(STREAM_HEAD, timeout=Timeout(total=1000.0)).client
    with patient.completions.stream(prompt="x"):
        with pytest.raises(APITimeoutError, match=r"0.05 s"):
            client.completions.create(prompt="x", timeout=Timeout(total=SHORT))


@pytest.mark.parametrize(
    "value", [0, -1, True, "5", float("nan"), float("inf"), 1e9, (1, 2, 3), (1,), (0, 1)]
)
def test_an_invalid_timeout_is_refused(value: Any) -> None:
    """A timeout that is not a number of seconds above 0 is a ValueError."""
    with pytest.raises(ValueError, match="must be"):
        VllmClient("localhost:1", timeout=value)
    with pytest.raises(ValueError, match="must be"):
        Timeout.of(value)
    if not isinstance(value, tuple):
        with pytest.raises(ValueError, match="total"):
            Timeout(total=value)


def test_timeouts_in_every_form() -> None:
    """A number, a pair, None and a Timeout mean what they mean in requests."""
    assert Timeout.of(3) == Timeout(3, 3)
    assert Timeout.of((1, None)) == Timeout(1, None)
    assert Timeout.of(None) == Timeout(None, None)
    assert Timeout.of(Timeout(total=2)) == Timeout(5.0, 600.0, 2)


def test_a_call_closed_while_it_connects() -> None:
    """A call that is closed while it connects shuts its socket as soon as it has one."""
    shut: List[str] = []
    call = Call()
    call.cancel()
    call.attach(lambda: shut.append("here"))
    assert shut == ["here"]


def test_the_watchdog_does_not_keep_calls_alive() -> None:
    """The watchdog does not keep a call alive, and ignores calls that are gone."""
    call = Call(0.01)
    gone = weakref.ref(call)
    del call
    assert gone() is None
    watching = watchdog._thread
    if watching is not None:
        watching.join(WAIT)
    assert watchdog._due == {}


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [
        (lambda: VllmClient(timeout=0), "timeout", "0"),
        (lambda: Timeout.of("5"), "timeout", "'5'"),  # type: ignore[arg-type]
        (lambda: Timeout.of((0, 5)), "connect", "0"),
        (lambda: Timeout.of((5, -1)), "read", "-1"),
        (lambda: Timeout(connect="5"), "connect", "'5'"),  # type: ignore[arg-type]
        (lambda: Timeout(total=0), "total", "0"),
    ],
)
def test_bad_timeout_is_named(make: Callable[[], object], name: str, value: str) -> None:
    """The message names the argument that the caller wrote, and its value."""
    with pytest.raises(ValueError, match="seconds above 0") as caught:
        make()
    assert str(caught.value) == (
        f"{name} must be a number of seconds above 0, or None for no limit, not {value}"
    )
