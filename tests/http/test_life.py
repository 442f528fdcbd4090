"""A client's life: its first call, its last, signals, forks and connections that die between."""

from __future__ import annotations

import gc
import os
import queue
import random
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import requests

from vllm_client import (
    APIConnectionError,
    StreamConsumedError,
    Text,
    Timeout,
    VllmClient,
    VllmError,
)
from vllm_client._http import session as session_module
from vllm_client._http.reentrant_queue import ReentrantQueue
from vllm_client._http.watchdog import watchdog

from ..recorded import STREAM_HEAD, UNCHUNKED_HEAD, answer, beginning, chunk, json_bytes
from ..servers import FINE, Connection, Serve, Stall, reset
from ..threads import WAIT, BlockedCalls, Running

needs_signals = pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs signals")


def test_a_first_call_that_is_interrupted_leaves_a_whole_client(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error while proxies and certificates are read does not break the next call."""
    client = serve(FINE).client
    merge = requests.Session.merge_environment_settings

    def interrupted(*args: Any) -> Any:
        monkeypatch.setattr(requests.Session, "merge_environment_settings", merge)
        raise KeyboardInterrupt

    monkeypatch.setattr(requests.Session, "merge_environment_settings", interrupted)
    with pytest.raises(KeyboardInterrupt):
        client.completions.create(prompt="x")
    assert client.completions.create(prompt="x").text == "fine"


@pytest.mark.parametrize("api_key", [None, "sk-0123456789"])
def test_a_netrc_that_cannot_be_read_is_ignored(
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    api_key: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With a key the file is not read; without one it is ignored with a warning."""
    file = tmp_path / "netrc"
    file.write_bytes("machine 127.0.0.1 login a password ü\n".encode("latin-1"))
    monkeypatch.setenv("NETRC", str(file))
    served = serve(FINE, api_key=api_key)
    for _ in range(2):
        assert served.client.completions.create(prompt="x").text == "fine"
    warnings = [record for record in caplog.records if record.name == "vllm_client"]
    assert len(warnings) == (0 if api_key else 1)
    sent = served.requests[0].headers.get("authorization")
    assert sent == (f"Bearer {api_key}" if api_key else None)


def test_a_netrc_authorizes_without_a_key(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Login and password of the file are sent, as requests would send them."""
    file = tmp_path / "netrc"
    file.write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(file))
    served = serve(FINE)
    served.client.completions.create(prompt="x")
    assert served.requests[0].headers["authorization"] == "Basic YTpi"


@pytest.mark.parametrize("leave", ["close", "with"])
def test_close_closes_idle_connections(serve: Serve, leave: str) -> None:
    """The server sees the end of an idle connection although the client still exists."""
    gone = threading.Event()

    def handler(connection: Connection) -> None:
        while connection.receive():
            connection.send(json_bytes(answer()))
        gone.set()

    client = serve(handler=handler).client
    client.completions.create(prompt="x")
    if leave == "close":
        client.close()
    else:
        with client:
            pass
    assert gone.wait(WAIT)


def test_close_closes_the_connection_of_a_kept_response(serve: Serve) -> None:
    """A program that still holds a response does not keep its idle connection open."""
    gone = threading.Event()

    def handler(connection: Connection) -> None:
        while connection.receive():
            connection.send(json_bytes(answer()))
        gone.set()

    client = serve(handler=handler).client
    response = client.request("GET", "/health")
    client.close()
    assert gone.wait(WAIT)
    assert response.ok


def test_close_leaves_a_users_session_open(serve: Serve) -> None:
    """Idle connections of a session that was passed in serve further requests."""
    session = requests.Session()
    served = serve(FINE, session=session)
    served.client.completions.create(prompt="x")
    served.client.close()
    assert session.post(f"{served.base_url}/completions", data="{}").ok
    assert served.connections == 1
    session.close()


@pytest.mark.parametrize("max_retries", [0, 2])
def test_a_dead_idle_connection_is_replaced_at_once(
    serve: Serve, max_retries: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A reused connection that is reset before a byte of the response is no attempt."""
    caplog.set_level("INFO", logger="vllm_client")

    def handler(connection: Connection) -> None:
        connection.receive()
        connection.send(json_bytes(answer(str(connection.number))))
        connection.receive()
        connection.reset()

    served = serve(handler=handler, max_retries=max_retries)
    texts = [served.client.completions.create(prompt="x").text for _ in range(4)]
    assert texts == ["1", "2", "3", "4"]
    assert caplog.records == []


def test_a_new_connection_that_dies_is_a_failed_attempt(serve: Serve) -> None:
    """Only a reused connection is replaced; with max_retries=0 a new one is the last."""
    served = serve(reset(), max_retries=0)
    with pytest.raises(APIConnectionError):
        served.client.completions.create(prompt="x")
    assert served.connections == 1


def test_a_replaced_connection_is_replaced_once(serve: Serve) -> None:
    """A server that resets the new connection too has failed the call."""

    def handler(connection: Connection) -> None:
        if connection.number == 1:
            connection.receive()
            connection.send(json_bytes(answer()))
        connection.receive()
        connection.reset()

    served = serve(handler=handler, max_retries=0)
    served.client.completions.create(prompt="x")
    with pytest.raises(APIConnectionError):
        served.client.completions.create(prompt="x")
    assert served.connections == 2


@needs_signals
@pytest.mark.parametrize("closed", ["client", "stream"])
def test_a_signal_handler_may_close_at_any_moment(serve: Serve, closed: str) -> None:
    """Thousands of signals at random moments of short calls: every handler returns."""
    served = serve(FINE)
    handled = 0
    open_now: Any = None
    seed = random.Random(5)

    def handler(*_: Any) -> None:
        nonlocal handled
        if open_now is not None:
            open_now.close()
            handled += 1

    before = signal.signal(signal.SIGALRM, handler)
    try:
        for _ in range(1500):
            client = VllmClient(served.base_url, max_retries=0)
            try:
                open_now = client
                signal.setitimer(signal.ITIMER_REAL, seed.uniform(0.0001, 0.004))
                with client.completions.stream(prompt="x") as stream:
                    open_now = stream if closed == "stream" else client
                    for _ in stream:
                        pass
            except (APIConnectionError, StreamConsumedError):
                pass
            finally:
                open_now = None
                signal.setitimer(signal.ITIMER_REAL, 0)
                client.close()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert handled > 100


@needs_signals
@pytest.mark.parametrize(
    "sent",
    [
        b"",
        STREAM_HEAD,
        UNCHUNKED_HEAD,
        b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{",
        b"HTTP/1.1 400 Bad Request\r\ncontent-length: 99\r\n\r\n{",
    ],
    ids=["nothing", "chunked", "unchunked", "half a body", "half an error"],
)
def test_a_handler_may_close_a_client_that_waits(serve: Serve, sent: bytes) -> None:
    """A SIGTERM handler that closes the client ends the call that the signal interrupted."""
    stall = Stall(sent)
    client = serve(stall).client
    is_stream = b"event-stream" in sent
    main = threading.main_thread()
    before = signal.signal(signal.SIGTERM, lambda *_: client.close())

    def interrupt() -> None:
        assert stall.reached.wait()
        reads.wait_for_read()
        while not stall.gone.wait(1, 0.2):
            signal.pthread_kill(main.ident or 0, signal.SIGTERM)

    try:
        with BlockedCalls() as reads:
            other = Running(interrupt)
            with pytest.raises(VllmError):
                _ask(client, stream=is_stream)
        other.result()
    finally:
        signal.signal(signal.SIGTERM, before)


def _ask(client: VllmClient, *, stream: bool) -> None:
    if stream:
        client.completions.stream(prompt="x").collect()
    else:
        client.completions.create(prompt="x")


def test_a_pool_that_a_handler_has_emptied_is_empty() -> None:
    """If a handler took the last connection after it was seen, the pool makes a new one."""
    connections = ReentrantQueue()
    connections.put("the last one")
    assert connections.get(block=False) == "the last one"
    with pytest.raises(queue.Empty):
        connections._get()


def test_two_threads_cannot_read_one_stream(serve: Serve) -> None:
    """The second reader gets an error that says so, and the first reads on."""
    proceed = threading.Event()

    def reply(connection: Connection) -> None:
        connection.send(beginning(chunk("Hel")))
        proceed.wait(WAIT)
        connection.send_event(chunk("lo"))

    stream = serve(reply).client.completions.stream(prompt="x")
    assert next(stream) == Text("Hel")
    first = Running(lambda: next(stream))
    first.wait_blocked()
    with pytest.raises(StreamConsumedError, match="another thread reads this stream"):
        next(stream)
    proceed.set()
    assert first.result() == Text("lo")
    stream.close()


def test_a_stream_in_a_reference_cycle_is_closed(serve: Serve, recwarn: Any) -> None:
    """The collector closes it without an error, and its alarm is forgotten."""
    stall = Stall(beginning(chunk("Hel")))
    client = serve(stall, timeout=Timeout(total=1000.0)).client
    stream: Any = client.completions.stream(prompt="x")
    assert next(stream) == Text("Hel")
    cycle: Any = [stream]
    cycle.append(cycle)
    stream.me = cycle
    del stream, cycle
    gc.collect()
    assert stall.gone.wait(1)
    assert watchdog._due == {}
    assert {warning.category for warning in recwarn} == {ResourceWarning}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_locks_and_limits_of_the_parent_do_not_reach_the_child(serve: Serve) -> None:
    """A child forked while another thread holds locks and has alarms works, and closes."""
    client = serve(FINE, timeout=Timeout(total=1000.0)).client
    held, forked = threading.Event(), threading.Event()

    def hold() -> None:
        with client._transport.session._lock, watchdog._changed, stream._opened.call._lock:
            held.set()
            forked.wait(WAIT)

    with client.completions.stream(prompt="x") as stream:
        next(stream)
        holder = Running(hold)
        assert held.wait(WAIT)
        child = os.fork()
        if child == 0:
            os._exit(0 if _works_in_the_child(client) else 1)
        forked.set()
        assert os.waitpid(child, 0)[1] == 0
        holder.result()
        assert stream.collect_text() == "Hello"


def _works_in_the_child(client: VllmClient) -> bool:
    signal.alarm(int(WAIT))  # A child that waits for a lock of its parent ends here.
    rung = threading.Event()
    try:
        empty = watchdog._due == {}
        watchdog.call_later(0.01, rung.set)
        works = client.completions.create(prompt="x").text == "fine"
        client.close()
        return empty and rung.wait(WAIT) and works
    except BaseException:
        return False


def test_the_environment_of_a_session_is_complete_when_it_is_published(serve: Serve) -> None:
    """Nobody sees a session without its settings."""
    client = serve(FINE).client
    client.completions.create(prompt="x")
    own = client._transport.session._own
    assert isinstance(own, session_module.OwnSession)
    assert {"proxies", "verify"} <= set(own.settings)
