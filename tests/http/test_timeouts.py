"""Every limit ends what it limits, wherever the call is."""

from __future__ import annotations

import contextlib
import socket
import threading
import weakref
from typing import Any, Iterator, List

import pytest
import requests

from vllm_client import APIConnectionError, APITimeoutError, Text, Timeout, VllmClient
from vllm_client._http import call as call_module

from ..recorded import STREAM_HEAD, WHOLE, answer, chunk, json_bytes, stream_bytes, text_in
from ..servers import Connection, WireServer, answering
from ..threads import WAIT

SHORT = 0.05
TOTAL = 0.15


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


def silent(connection: Connection) -> None:
    assert connection.receive()
    assert connection.wait_gone()


def trickling_head(connection: Connection) -> None:
    assert connection.receive()
    connection.send(b"HTTP/1.1 200 OK\r\n")
    _trickle(connection, b"x")


def trickling_body(connection: Connection) -> None:
    request = connection.receive()
    if request is None:
        return  # The limit may pass before a busy machine has sent the request.
    if request.json.get("stream"):
        connection.send(STREAM_HEAD)
        connection.send_event(chunk("Hel"))
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
        raise AssertionError("the client waits much longer than it was told to")


def _still_there(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(1))
    except socket.timeout:
        return True


@CALLS
def test_a_silence_before_the_answer_ends(call: Any, session: Any) -> None:
    """Without a head for as long as read allows, the call ends; it is a TimeoutError."""
    with (
        WireServer(silent) as server,
        VllmClient(server.base_url, timeout=Timeout(read=SHORT), session=session) as client,
    ):
        with pytest.raises(APITimeoutError, match=r"sent nothing for 0.05 s") as raised:
            call(client)
        assert isinstance(raised.value, TimeoutError)
        assert isinstance(raised.value, APIConnectionError)
        assert raised.value.is_retryable
        assert len(server.requests) == 1


def test_a_silence_in_a_stream_ends(session: Any) -> None:
    """The silence after the first event is limited by read too, and keeps what had arrived."""

    def handler(connection: Connection) -> None:
        assert connection.receive()
        connection.send(STREAM_HEAD)
        connection.send_event(chunk("Hel"))
        assert connection.wait_gone()

    with (
        WireServer(handler) as server,
        VllmClient(server.base_url, timeout=Timeout(read=SHORT), session=session) as client,
        client.completions.stream(prompt="x") as stream,
    ):
        assert next(stream) == Text("Hel")
        with pytest.raises(APITimeoutError, match=r"nothing came for 0.05 s") as raised:
            next(stream)
        assert isinstance(raised.value, TimeoutError)
        assert text_in(raised.value.partial) == "Hel"


def test_a_silence_in_an_answer_ends(session: Any) -> None:
    """A body that stops coming is a time-out as well."""

    def handler(connection: Connection) -> None:
        assert connection.receive()
        connection.send(json_bytes(answer())[:-5])
        assert connection.wait_gone()

    with (
        WireServer(handler) as server,
        VllmClient(server.base_url, timeout=SHORT, session=session) as client,
    ):
        with pytest.raises(APITimeoutError, match="middle of the answer"):
            client.completions.create(prompt="x")


@CALLS
@pytest.mark.parametrize("handler", [silent, trickling_head, trickling_body])
def test_the_total_limit_ends_a_call_wherever_it_is(call: Any, handler: Any, session: Any) -> None:
    """A server that is silent, or trickles head or body, is left when the total is over."""
    if handler is trickling_head and session is not None:
        pytest.skip("the socket of a user's session is out of reach before the head is whole")
    with (
        WireServer(handler) as server,
        VllmClient(server.base_url, timeout=Timeout(total=TOTAL), session=session) as client,
    ):
        with pytest.raises(APITimeoutError, match=r"longer than the 0.15 s") as raised:
            call(client)
        assert isinstance(raised.value, TimeoutError)
        assert len(server.requests) == 1
        if call is _stream and handler is trickling_body:
            assert text_in(raised.value.partial) == "Hel"


def test_the_total_limit_counts_while_the_reader_is_slow(session: Any) -> None:
    """A reader that takes its time uses up the same limit; the connection ends meanwhile."""
    gone = threading.Event()

    def handler(connection: Connection) -> None:
        assert connection.receive()
        connection.send(STREAM_HEAD)
        connection.send_event(chunk("Hel"))
        assert connection.wait_gone()
        gone.set()

    with (
        WireServer(handler) as server,
        VllmClient(server.base_url, timeout=Timeout(total=TOTAL), session=session) as client,
        client.completions.stream(prompt="x") as stream,
    ):
        assert next(stream) == Text("Hel")
        assert gone.wait(WAIT)
        with pytest.raises(APITimeoutError, match="total") as raised:
            next(stream)
        assert text_in(raised.value.partial) == "Hel"


@CALLS
@pytest.mark.parametrize("then", [silent, trickling_head, trickling_body])
def test_the_total_limit_spans_the_attempts(call: Any, then: Any) -> None:
    """An attempt that was refused does not switch the limit off for the next, and is named."""
    seen: List[int] = []

    def handler(connection: Connection) -> None:
        seen.append(connection.number)
        if len(seen) > 1:
            then(connection)
            return
        assert connection.receive()
        headers = "retry-after: 0\r\nconnection: close\r\n"
        connection.send(json_bytes({"error": "busy"}, "503 Busy", headers))

    with (
        WireServer(handler) as server,
        VllmClient(server.base_url, timeout=Timeout(total=TOTAL)) as client,
    ):
        said = (
            r"longer than the 0\.15 s of its total limit(; the attempt before failed: 503: busy|$)"
        )
        with pytest.raises(APITimeoutError, match=said) as raised:
            call(client)
        assert seen == [1, 2]
        # Once a second answer has begun there may be nothing to say of the first.
        assert then is not silent or "busy" in str(raised.value)


def test_a_limit_of_one_call_wins(session: Any) -> None:
    """`timeout` of a call takes the place of the client's, in every form."""
    with WireServer(silent) as server, VllmClient(server.base_url, session=session) as client:
        for timeout in (SHORT, (5, SHORT), Timeout(read=SHORT), Timeout(total=SHORT)):
            with pytest.raises(APITimeoutError):
                client.completions.create(prompt="x", timeout=timeout)
            with pytest.raises(APITimeoutError):
                client.completions.stream(prompt="x", timeout=timeout)
        copy = client.with_options(timeout=SHORT)
        with pytest.raises(APITimeoutError):
            copy.completions.create(prompt="x")


def test_a_limit_that_is_kept_is_forgotten(session: Any) -> None:
    """Calls within their total leave no thread and no alarm behind."""
    with (
        WireServer(answering(stream_bytes(*WHOLE))) as server,
        VllmClient(server.base_url, timeout=Timeout(total=1000.0), session=session) as client,
    ):
        for _ in range(3):
            assert _stream(client).text == "Hello"
        with client.completions.stream(prompt="x") as stream:
            next(stream)
        assert call_module.watchdog._due == {}


def test_keep_alive_comments_count_as_life() -> None:
    """Comments reset the read limit, so that a queue may take longer than it."""
    comments = 8

    def handler(connection: Connection) -> None:
        assert connection.receive()
        connection.send(STREAM_HEAD)
        pause = threading.Event()
        for _ in range(comments):
            connection.send_chunk(b": keep-alive\n\n")
            pause.wait(0.05)
        connection.send(stream_bytes(*WHOLE).removeprefix(STREAM_HEAD))

    with (
        WireServer(handler) as server,
        VllmClient(server.base_url, timeout=Timeout(read=0.3)) as client,
    ):
        assert _stream(client).text == "Hello"


@pytest.fixture
def full() -> Iterator[str]:
    """The address of a socket whose backlog is full, so that nothing gets connected."""
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
    ("timeout", "said"),
    [
        (Timeout(connect=SHORT), "no connection to http://127.0.0.1:.* within 0.05 s"),
        (Timeout(total=SHORT), "longer than the 0.05 s"),
    ],
)
def test_a_connection_that_does_not_come_about_ends(
    full: str, timeout: Timeout, said: str, session: Any
) -> None:
    """A host that does not answer the SYN is given up after connect, or after total."""
    with VllmClient(full, timeout=timeout, max_retries=0, session=session) as client:
        with pytest.raises(APITimeoutError, match=said) as raised:
            client.completions.create(prompt="x")
        assert isinstance(raised.value, TimeoutError)


WRAPPED = 2**32 / 1000 + 0.001
"""Seconds; in milliseconds, and in the 32 bits that poll() takes, it is 1."""


@pytest.mark.parametrize(
    "timeout",
    [WRAPPED, (WRAPPED, WRAPPED), Timeout(None, None, WRAPPED), 9e8, None],
    ids=["number", "pair", "total", "years", "none"],
)
def test_a_limit_longer_than_a_socket_can_wait_is_no_error(timeout: Any, session: Any) -> None:
    """Years are as good as no limit; None is none."""

    def handler(connection: Connection) -> None:
        while connection.receive():
            threading.Event().wait(0.03)  # Longer than what would be left of such a limit.
            connection.send(stream_bytes(*WHOLE))

    with (
        WireServer(handler) as server,
        VllmClient(server.base_url, timeout=timeout, session=session) as client,
    ):
        assert _stream(client).text == "Hello"


def test_limits_hold_where_no_thread_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no thread left in the system a stream is read to its end, and silence limited."""
    ready = threading.Event()

    def handler(connection: Connection) -> None:
        while connection.receive():
            ready.wait(WAIT)
            connection.send(stream_bytes(*WHOLE))

    with (
        WireServer(handler) as server,
        VllmClient(server.base_url, timeout=Timeout(total=TOTAL)) as client,
    ):
        started = threading.Thread.start

        def start(thread: threading.Thread) -> None:
            if thread.name == "vllm-client-watchdog":
                raise RuntimeError("can't start new thread")
            started(thread)

        monkeypatch.setattr(threading.Thread, "start", start)
        ready.set()
        assert _stream(client, timeout=Timeout(total=60.0)).text == "Hello"
        ready.clear()
        with pytest.raises(APITimeoutError, match=r"longer than the 0.15 s"):
            _stream(client)
        ready.set()


def test_a_limit_that_ends_earlier_is_not_kept_waiting() -> None:
    """A short total that is set after a long one ends in time."""
    with WireServer(silent) as server, VllmClient(server.base_url) as client:
        with (
            WireServer(answering(STREAM_HEAD)) as other,
            VllmClient(other.base_url, timeout=Timeout(total=1000.0)) as patient,
            patient.completions.stream(prompt="x"),
        ):
            with pytest.raises(APITimeoutError, match=r"0.05 s"):
                client.completions.create(prompt="x", timeout=Timeout(total=SHORT))


@pytest.mark.parametrize(
    "value", [0, -1, True, "5", float("nan"), float("inf"), 1e9, (1, 2, 3), (1,), (0, 1)]
)
def test_a_limit_that_is_none_is_refused(value: Any) -> None:
    """What is no number of seconds above 0 is a ValueError, before anything is sent."""
    with pytest.raises(ValueError, match="must be"):
        VllmClient("localhost:1", timeout=value)
    with pytest.raises(ValueError, match="must be"):
        Timeout.of(value)
    if not isinstance(value, tuple):
        with pytest.raises(ValueError, match="total"):
            Timeout(total=value)


def test_a_timeout_is_made_from_what_requests_takes() -> None:
    """A number, a pair, None and a Timeout mean what they mean in requests."""
    assert Timeout.of(3) == Timeout(3, 3)
    assert Timeout.of((1, None)) == Timeout(1, None)
    assert Timeout.of(None) == Timeout(None, None)
    assert Timeout.of(Timeout(total=2)) == Timeout(5.0, 600.0, 2)


def test_a_call_that_was_stopped_before_it_had_a_socket_loses_it_at_once() -> None:
    """close() during the connect, when there is nothing to shut down yet, is not forgotten."""
    shut: List[str] = []
    call = call_module.Call()
    call.stop()
    call.hold(lambda: shut.append("here"))
    assert shut == ["here"]


def test_the_watchdog_lets_go_of_calls_that_are_gone() -> None:
    """A call that nobody holds is not kept by its limit, and its time passes unnoticed."""
    call = call_module.Call(0.01)
    gone = weakref.ref(call)
    del call
    assert gone() is None
    watching = call_module.watchdog._thread
    if watching is not None:
        watching.join(WAIT)
    assert call_module.watchdog._due == {}
