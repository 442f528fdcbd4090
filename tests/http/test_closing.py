"""Ending a stream or a call: by the reader, by another thread, by accident."""

from __future__ import annotations

import contextlib
import gc
import os
import queue
import signal
import sys
import threading
import warnings
from functools import partial
from typing import Any, Iterator, List

import pytest
import requests
import urllib3

from vllm_client import (
    APIConnectionError,
    Done,
    StreamConsumedError,
    Text,
    VllmClient,
)
from vllm_client._http import response as response_module

from ..recorded import (
    STREAM_HEAD,
    UNCHUNKED_HEAD,
    WHOLE,
    beginning,
    chunk,
    rest,
    stream_bytes,
    text_in,
)
from ..servers import FINE, Connection, Serve, Stall, WireServer, either, numbered, replying
from ..threads import WAIT, BlockedCalls, Running
from .conftest import tls_context


@pytest.fixture(params=["chunked", "unchunked", "tls", "proxy", "own session"])
def stalled(
    request: pytest.FixtureRequest, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """A stall after "Hel" and a client of its server, over several kinds of connection."""
    tls = None
    if request.param == "tls":
        certificate = request.getfixturevalue("certificate")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        tls = tls_context(certificate)
    session = requests.Session() if request.param == "own session" else None
    head = UNCHUNKED_HEAD if request.param == "unchunked" else STREAM_HEAD
    stall = Stall(beginning(chunk("Hel"), head=head))
    served = serve(stall, tls=tls, session=session)
    if request.param == "proxy":  # The client asks the server for its own address.
        monkeypatch.setenv("http_proxy", served.server.url)
    yield stall, served.client
    if request.param == "proxy":
        assert served.requests[0].path == f"{served.base_url}/completions"
    if session is not None:
        session.close()


def test_close_from_another_thread_wakes_a_blocked_read(stalled: Any) -> None:
    """close() wakes a blocked read, which raises StreamConsumedError with the text so far."""
    stall, client = stalled
    stream = client.completions.stream(prompt="x")
    assert next(stream) == Text("Hel")
    reader = Running(lambda: next(stream))
    reader.wait_blocked()
    stream.close()
    error = reader.error()
    assert type(error) is StreamConsumedError
    assert text_in(error.partial) == "Hel"
    assert stall.gone.wait()
    stream.close()
    stream.close()
    with pytest.raises(StreamConsumedError):
        next(stream)
    with pytest.raises(StreamConsumedError) as raised:
        stream.collect()
    assert text_in(raised.value.partial) == "Hel"
    assert text_in(stream.snapshot) == "Hel"


def test_break_ends_the_connection(stalled: Any) -> None:
    """Leaving the loop and the `with` block closes the connection and stops the clock."""
    stall, client = stalled
    with client.completions.stream(prompt="x") as stream:
        for event in stream:
            assert event == Text("Hel")
            break
    assert stall.gone.wait()
    assert stream.timings.duration == stream.timings.duration
    with pytest.raises(StreamConsumedError):
        list(stream)


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
def test_an_exception_in_the_loop_ends_the_connection(stalled: Any, kind: type) -> None:
    """An exception that leaves the `with` block closes the connection and propagates."""
    stall, client = stalled
    stream = client.completions.stream(prompt="x")
    with pytest.raises(kind), stream:
        _raise_after_an_event(stream, kind)
    assert stall.gone.wait()
    with pytest.raises(StreamConsumedError):
        next(stream)


def _raise_after_an_event(stream: Any, kind: type) -> None:
    for _ in stream:
        raise kind


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs POSIX signals")
@pytest.mark.parametrize("on_error", ["raise", "event"])
def test_ctrl_c_in_a_blocked_read(stalled: Any, on_error: Any) -> None:
    """Ctrl-C in a blocked read raises KeyboardInterrupt, and reading on is an error."""
    stall, client = stalled
    main = threading.main_thread()
    stream = client.completions.stream(prompt="x", on_error=on_error)
    assert next(stream) == Text("Hel")

    def interrupt() -> None:
        blocked.wait_for_read()
        # Python notices a signal that arrives just before the system call only after it: repeat.
        while not stall.gone.count:
            signal.pthread_kill(main.ident or 0, signal.SIGINT)
            stall.gone.wait(seconds=1)

    with BlockedCalls() as blocked:
        other = Running(interrupt)
        with pytest.raises(KeyboardInterrupt):
            next(stream)
    other.result()
    assert stall.gone.wait()
    if on_error == "raise":
        with pytest.raises(StreamConsumedError) as raised:
            next(stream)
        error = raised.value
    else:
        event = next(stream)
        assert event.type == "error"
        error = event.error
        assert list(stream) == []
    assert text_in(error.partial) == "Hel"
    with pytest.raises(StreamConsumedError):
        stream.collect()


def test_a_dropped_stream_closes_without_the_garbage_collector(stalled: Any) -> None:
    """Dropping the last reference closes the connection, with a ResourceWarning."""
    stall, client = stalled
    gc.collect()
    gc.disable()
    try:
        stream = client.completions.stream(prompt="x")
        next(stream)
        with pytest.warns(ResourceWarning, match="CompletionStream was dropped"):
            del stream
        assert stall.gone.wait()
    finally:
        gc.enable()


def test_a_dropped_stream_closes_although_warnings_are_errors(
    stalled: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is closed even if the ResourceWarning is an error."""
    stall, client = stalled
    seen: List[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda ignored: seen.append(ignored.exc_type))
    stream = client.completions.stream(prompt="x")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        del stream
    assert stall.gone.wait()
    assert seen == [ResourceWarning]


def test_closing_the_client_ends_its_streams(stalled: Any) -> None:
    """client.close() wakes a blocked read, and later calls are refused."""
    stall, client = stalled
    stream = client.completions.stream(prompt="x")
    assert next(stream) == Text("Hel")
    reader = Running(lambda: next(stream))
    reader.wait_blocked()
    client.close()
    error = reader.error()
    assert type(error) is StreamConsumedError
    assert text_in(error.partial) == "Hel"
    assert stall.gone.wait()
    with pytest.raises(APIConnectionError, match="closed"):
        client.completions.create(prompt="x")
    client.close()


def test_closing_the_client_ends_waiting_calls(serve: Serve) -> None:
    """client.close() wakes create() and stream() while they wait for the response."""
    silent = Stall()
    served = serve(silent)
    calls = [
        Running(lambda: served.client.completions.create(prompt="x")),
        Running(lambda: served.client.completions.stream(prompt="x")),
    ]
    assert silent.reached.wait(2)
    for call in calls:
        call.wait_blocked()
    served.client.close()
    for call in calls:
        assert type(call.error()) is APIConnectionError
        assert "closed" in str(call.error())
    assert len(served.requests) == 2


def test_closing_the_client_ends_a_half_read_response(serve: Serve) -> None:
    """client.close() wakes create() in the middle of a response."""
    half = Stall(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{")
    served = serve(half)
    call = Running(lambda: served.client.completions.create(prompt="x"))
    assert half.reached.wait()
    call.wait_blocked()
    served.client.close()
    assert type(call.error()) is APIConnectionError


def test_closing_a_copy_ends_the_streams_of_the_copy_only(serve: Serve) -> None:
    """Closing a copy ends its own streams, not those of the client or of an equal copy."""
    client = serve(Stall(beginning(chunk("Hel")))).client
    one, two = client.with_options(), client.with_options()
    streams = [one_of.completions.stream(prompt="x") for one_of in (client, one, two)]
    for stream in streams:
        next(stream)
    readers = [Running(stream.__next__) for stream in streams]
    for reader in readers:
        reader.wait_blocked()
    one.close()
    assert type(readers[1].error()) is StreamConsumedError
    readers[0].wait_blocked()
    readers[2].wait_blocked()
    client.close()
    assert type(readers[0].error()) is StreamConsumedError
    assert type(readers[2].error()) is StreamConsumedError


def test_a_complete_stream_stays_complete_after_close(serve: Serve) -> None:
    """close() after the end changes nothing about the stream and warns of nothing."""
    client = serve(stream_bytes(*WHOLE)).client
    with client.completions.stream(prompt="x") as stream:
        assert list(stream)[-1] == Done()
        assert list(stream) == []
    assert stream.collect().text == "Hello"
    with pytest.raises(StreamConsumedError):
        next(stream)
    del stream
    gc.collect()


def test_a_trickle_after_done_is_not_awaited(
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If the end of the body does not arrive in time, the connection is closed."""
    monkeypatch.setattr(response_module, "DRAIN_SECONDS", 0.05)
    given = threading.Event()

    def trickling(connection: Connection) -> None:
        connection.send(beginning(*WHOLE))
        while not given.wait(0.005):
            connection.send_chunk(b":\n")
        assert connection.wait_gone()

    served = serve(trickling, timeout=WAIT)
    with served.client.completions.stream(prompt="x") as stream:
        assert stream.collect().text == "Hello"
        given.set()
    with served.client.completions.stream(prompt="x") as stream:
        assert stream.collect().text == "Hello"
    assert served.connections == 2


@pytest.mark.parametrize("coding", [b"", b"content-encoding: identity\r\n"])
def test_an_end_that_never_arrives_is_not_awaited(serve: Serve, coding: bytes) -> None:
    """A server that stalls after [DONE] does not hold up a complete response."""
    head = STREAM_HEAD.replace(b"transfer-encoding", coding + b"transfer-encoding")
    stall = Stall(beginning(*WHOLE, head=head))
    stream = serve(stall).client.completions.stream(prompt="x")
    assert Running(stream.collect).result().text == "Hello"
    assert stall.gone.wait()


def test_a_flood_after_done_is_not_read(
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After [DONE] only a few kilobytes are read."""
    monkeypatch.setattr(response_module, "DRAIN_SECONDS", 60.0)
    stopped = threading.Event()

    def flooding(connection: Connection) -> None:
        connection.send(beginning(*WHOLE))
        while not stopped.is_set():
            connection.send_chunk(b":" * 1024)

    client = serve(flooding).client
    with client.completions.stream(prompt="x") as stream:
        assert stream.collect().text == "Hello"
    stopped.set()


def test_closing_before_done_is_yielded_raises(
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stream closed after [DONE] and before Done raises, with the whole text."""
    monkeypatch.setattr(response_module, "DRAIN_SECONDS", 60.0)
    client = serve(Stall(beginning(*WHOLE))).client
    stream = client.completions.stream(prompt="x")
    reader = Running(stream.collect)
    while stream.timings.ended is None:
        reader.wait_blocked()
    reader.wait_blocked()
    stream.close()
    error = reader.error()
    assert type(error) is StreamConsumedError
    assert error.partial.text == "Hello"


def test_concurrent_closing_does_not_affect_other_calls(serve: Serve) -> None:
    """Streams closed late and by other threads never affect the connection's next user."""
    done: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def close_late() -> None:
        for stream in iter(done.get, None):
            stream.close()

    client = serve(FINE, max_retries=0).client
    closers = [Running(close_late) for _ in range(3)]
    finished = threading.Event()
    others = [Running(partial(_ask_until, finished, client))]
    for _ in range(1500):
        stream = client.completions.stream(prompt="x")
        assert [next(stream).type for _ in range(3)][2] == "finish_reason"
        done.put(stream)  # Closed by others while the end is read, or later.
        with contextlib.suppress(StreamConsumedError):
            stream.collect()
        assert client.completions.create(prompt="x").text == "fine"
    finished.set()
    for _ in closers:
        done.put(None)
    for thread in [*closers, *others]:
        thread.result()


def _ask_until(finished: threading.Event, client: VllmClient) -> None:
    while not finished.is_set():
        assert client.completions.create(prompt="x").text == "fine"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", ["own", "given"])
def test_a_fork_does_not_affect_the_parents_stream(kind: str) -> None:
    """A forked child that closes what it inherits does not affect its parent's stream."""
    child_done = threading.Event()

    def halting(connection: Connection) -> None:
        connection.send(beginning(*WHOLE[:1]))
        assert child_done.wait(WAIT)
        connection.send(rest(*WHOLE[1:]))

    session = requests.Session() if kind == "given" else None
    with WireServer(replying(either(halting, numbered))) as server:
        with VllmClient(server.base_url, session=session) as client:
            assert client.completions.create(prompt="x").text == "1"
            stream = client.completions.stream(prompt="x")  # Reuses connection 1.
            assert next(stream) == Text("Hel")
            pid = os.fork()
            if pid == 0:
                os._exit(_in_the_child(client, [stream]))
            _, status = os.waitpid(pid, 0)
            child_done.set()
            assert os.WEXITSTATUS(status) == 0
            assert stream.collect().text == "Hello"
            assert client.completions.create(prompt="x").text == "1"
        if session is not None:
            session.close()


def _in_the_child(client: VllmClient, streams: List[Any]) -> int:
    try:
        warnings.simplefilter("ignore")
        stream = streams.pop()
        stream.close()
        if client.completions.create(prompt="x").text != "2":
            return 2
        del stream
        gc.collect()
        client.close()
    except BaseException:
        return 3
    return 0


def test_closing_a_stream_whose_connection_is_released(
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once a connection is back in the pool, closing its last stream leaves it open."""
    given_back: List[Any] = []
    put = urllib3.HTTPConnectionPool._put_conn

    def put_and_close(pool: Any, connection: Any) -> None:
        put(pool, connection)
        for stream in streams:
            Running(stream.close).result()
            given_back.append(stream)
        streams.clear()

    streams: List[Any] = []
    monkeypatch.setattr(urllib3.HTTPConnectionPool, "_put_conn", put_and_close)
    served = serve(FINE, max_retries=0)
    stream = served.client.completions.stream(prompt="x")
    streams.append(stream)
    with contextlib.suppress(StreamConsumedError):
        stream.collect()
    assert given_back == [stream]
    assert served.client.completions.create(prompt="x").text == "fine"
    assert served.connections == 1
