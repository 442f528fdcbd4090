"""Ending a stream or a call: by the reader, by another thread, by accident."""

from __future__ import annotations

import contextlib
import gc
import os
import queue
import signal
import ssl
import subprocess
import sys
import threading
import warnings
from functools import partial
from pathlib import Path
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

from ..recorded import STREAM_HEAD, UNCHUNKED_HEAD, WHOLE, answer, chunk, stream_bytes, text_in
from ..servers import Connection, WireServer, answering
from ..threads import WAIT, Running, SocketReads


class Stalling:
    """Sends the head and the beginning of a stream, then waits until the client has gone."""

    def __init__(self, head: bytes = STREAM_HEAD, *events: Any) -> None:
        events = events or (chunk("Hel"),)
        self.beginning = stream_bytes(*events, head=head).removesuffix(b"0\r\n\r\n")
        self.gone = threading.Event()

    def __call__(self, connection: Connection) -> None:
        assert connection.receive()
        connection.send(self.beginning)
        assert connection.wait_gone()
        self.gone.set()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 and its key, in one file."""
    folder = tmp_path_factory.mktemp("tls")
    command = [
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
        *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
        *("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")),
    ]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"no certificate can be made here: {error}")
    both = folder / "both.pem"
    both.write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    return both


def _tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture(params=["chunked", "unchunked", "tls", "own session"])
def stalled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A server whose streams stall after "Hel", and a client of it, over several kinds of wire."""
    tls = None
    if request.param == "tls":
        certificate = request.getfixturevalue("certificate")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        tls = _tls(certificate)
    session = requests.Session() if request.param == "own session" else None
    handler = Stalling(UNCHUNKED_HEAD if request.param == "unchunked" else STREAM_HEAD)
    with WireServer(handler, tls) as server:
        with VllmClient(server.base_url, session=session) as client:
            yield handler, client
        if session is not None:
            session.close()


def test_close_from_another_thread_wakes_a_blocked_read(stalled: Any) -> None:
    """The reader gets StreamConsumedError with what had arrived; the server sees the end."""
    handler, client = stalled
    stream = client.completions.stream(prompt="x")
    assert next(stream) == Text("Hel")
    reader = Running(lambda: next(stream))
    reader.wait_blocked()
    stream.close()
    error = reader.error()
    assert type(error) is StreamConsumedError
    assert text_in(error.partial) == "Hel"
    assert handler.gone.wait(WAIT)
    stream.close()
    stream.close()
    with pytest.raises(StreamConsumedError):
        next(stream)
    with pytest.raises(StreamConsumedError) as raised:
        stream.collect()
    assert text_in(raised.value.partial) == "Hel"
    assert text_in(stream.snapshot) == "Hel"


def test_break_ends_the_connection(stalled: Any) -> None:
    """Leaving the loop inside `with` closes the connection, and the clock stops."""
    handler, client = stalled
    with client.completions.stream(prompt="x") as stream:
        for event in stream:
            assert event == Text("Hel")
            break
    assert handler.gone.wait(WAIT)
    assert stream.timings.duration == stream.timings.duration
    with pytest.raises(StreamConsumedError):
        list(stream)


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
def test_an_exception_in_the_loop_ends_the_connection(stalled: Any, kind: type) -> None:
    """Whatever leaves `with` closes the connection, and goes on its way itself."""
    handler, client = stalled
    stream = client.completions.stream(prompt="x")
    with pytest.raises(kind), stream:
        _raise_after_an_event(stream, kind)
    assert handler.gone.wait(WAIT)
    with pytest.raises(StreamConsumedError):
        next(stream)


def _raise_after_an_event(stream: Any, kind: type) -> None:
    for _ in stream:
        raise kind


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs POSIX signals")
@pytest.mark.parametrize("on_error", ["raise", "event"])
def test_ctrl_c_in_a_read_never_looks_like_an_end(stalled: Any, on_error: Any) -> None:
    """Ctrl-C while a read is blocked comes out as itself; iterating afterwards is no clean end."""
    handler, client = stalled
    main = threading.main_thread()
    stream = client.completions.stream(prompt="x", on_error=on_error)
    assert next(stream) == Text("Hel")

    def interrupt() -> None:
        reads.wait()
        # A signal that comes just before the system call is seen only after it: press again.
        while not handler.gone.is_set():
            signal.pthread_kill(main.ident or 0, signal.SIGINT)
            handler.gone.wait(1)

    with SocketReads() as reads:
        other = Running(interrupt)
        with pytest.raises(KeyboardInterrupt):
            next(stream)
    other.result()
    assert handler.gone.wait(WAIT)
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
    """The last reference closes the connection, with a ResourceWarning; there are no cycles."""
    handler, client = stalled
    gc.collect()
    gc.disable()
    try:
        stream = client.completions.stream(prompt="x")
        next(stream)
        with pytest.warns(ResourceWarning, match="CompletionStream was dropped"):
            del stream
        assert handler.gone.wait(WAIT)
    finally:
        gc.enable()


def test_a_dropped_stream_closes_although_warnings_are_errors(
    stalled: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the warning is an error, the connection is closed nevertheless."""
    handler, client = stalled
    seen: List[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda ignored: seen.append(ignored.exc_type))
    stream = client.completions.stream(prompt="x")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        del stream
    assert handler.gone.wait(WAIT)
    assert seen == [ResourceWarning]


def test_closing_the_client_ends_its_streams(stalled: Any) -> None:
    """client.close() wakes a read that is blocked and refuses whatever comes later."""
    handler, client = stalled
    stream = client.completions.stream(prompt="x")
    assert next(stream) == Text("Hel")
    reader = Running(lambda: next(stream))
    reader.wait_blocked()
    client.close()
    error = reader.error()
    assert type(error) is StreamConsumedError
    assert text_in(error.partial) == "Hel"
    assert handler.gone.wait(WAIT)
    with pytest.raises(APIConnectionError, match="closed"):
        client.completions.create(prompt="x")
    client.close()


def test_closing_the_client_ends_a_call_that_waits_for_its_answer() -> None:
    """Before there is any answer, create() and stream() are woken by client.close() too."""
    waiting = threading.Barrier(3)

    def silent(connection: Connection) -> None:
        assert connection.receive()
        waiting.wait(WAIT)
        assert connection.wait_gone()

    with WireServer(silent) as server, VllmClient(server.base_url) as client:
        calls = [
            Running(lambda: client.completions.create(prompt="x")),
            Running(lambda: client.completions.stream(prompt="x")),
        ]
        waiting.wait(WAIT)
        for call in calls:
            call.wait_blocked()
        client.close()
        for call in calls:
            assert type(call.error()) is APIConnectionError
            assert "closed" in str(call.error())
        assert len(server.requests) == 2


def test_closing_the_client_ends_an_answer_half_read() -> None:
    """A body that is not streamed ends with client.close() as well."""

    def half(connection: Connection) -> None:
        assert connection.receive()
        connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{")
        assert connection.wait_gone()

    with WireServer(half) as server, VllmClient(server.base_url) as client:
        call = Running(lambda: client.completions.create(prompt="x"))
        call.wait_blocked()
        while not server.requests:
            call.wait_blocked()
        client.close()
        assert type(call.error()) is APIConnectionError


def test_closing_a_copy_ends_the_streams_of_the_copy_only() -> None:
    """Copies with equal settings are told apart; the connections stay with the first client."""
    with WireServer(Stalling()) as server, VllmClient(server.base_url) as client:
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


def test_a_stream_read_to_its_end_stays_whole_after_close() -> None:
    """close() after the end changes nothing about the answer, and warns of nothing."""
    with (
        WireServer(answering(stream_bytes(*WHOLE))) as server,
        VllmClient(server.base_url) as client,
    ):
        with client.completions.stream(prompt="x") as stream:
            assert list(stream)[-1] == Done()
            assert list(stream) == []
        assert stream.collect().text == "Hello"
        with pytest.raises(StreamConsumedError):
            next(stream)
        del stream
        gc.collect()


def test_a_peer_that_trickles_after_done_does_not_hold_up_the_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The end of the body is waited for only so long, then the connection is given up."""
    monkeypatch.setattr(response_module, "DRAIN_SECONDS", 0.05)
    given = threading.Event()

    def trickling(connection: Connection) -> None:
        while connection.receive():
            connection.send(stream_bytes(*WHOLE).removesuffix(b"0\r\n\r\n"))
            while not given.wait(0.005):
                connection.send_chunk(b":\n")
            assert connection.wait_gone()

    with WireServer(trickling) as server, VllmClient(server.base_url) as client:
        with client.completions.stream(prompt="x") as stream:
            assert stream.collect().text == "Hello"
            given.set()
        with client.completions.stream(prompt="x") as stream:
            assert stream.collect().text == "Hello"
        assert server.connections == 2


def test_a_peer_that_floods_after_done_does_not_hold_up_the_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of what follows [DONE] no more is read than a few kilobytes."""
    monkeypatch.setattr(response_module, "DRAIN_SECONDS", 60.0)
    stopped = threading.Event()

    def flooding(connection: Connection) -> None:
        assert connection.receive()
        connection.send(stream_bytes(*WHOLE).removesuffix(b"0\r\n\r\n"))
        while not stopped.is_set():
            connection.send_chunk(b":" * 1024)

    with WireServer(flooding) as server, VllmClient(server.base_url) as client:
        with client.completions.stream(prompt="x") as stream:
            assert stream.collect().text == "Hello"
        stopped.set()


def test_closing_while_the_end_is_awaited_is_no_whole_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stream is whole when Done was given, not before; its text is there all the same."""
    monkeypatch.setattr(response_module, "DRAIN_SECONDS", 60.0)
    beginning = stream_bytes(*WHOLE).removesuffix(b"0\r\n\r\n")

    def handler(connection: Connection) -> None:
        assert connection.receive()
        connection.send(beginning)
        assert connection.wait_gone()

    with WireServer(handler) as server, VllmClient(server.base_url) as client:
        stream = client.completions.stream(prompt="x")
        reader = Running(stream.collect)
        while stream.timings.ended is None:
            reader.wait_blocked()
        reader.wait_blocked()
        stream.close()
        error = reader.error()
        assert type(error) is StreamConsumedError
        assert error.partial.text == "Hello"


def test_many_closings_at_once_hurt_nobody_else() -> None:
    """Streams closed late and from other threads never touch the connection's next user."""
    done: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def close_late() -> None:
        for stream in iter(done.get, None):
            stream.close()

    with (
        WireServer(_answering_both) as server,
        VllmClient(server.base_url, max_retries=0) as client,
    ):
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


def _answering_both(connection: Connection) -> None:
    while True:
        request = connection.receive()
        if request is None:
            return
        if request.json.get("stream"):
            connection.send(stream_bytes(*WHOLE))
        else:
            connection.send_json(answer("fine"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", ["own", "given"])
def test_a_fork_leaves_the_stream_of_the_parent_alone(kind: str) -> None:
    """A child has its own connections; what it inherits and drops does the parent no harm."""
    child_done = threading.Event()

    def handler(connection: Connection) -> None:
        while True:
            request = connection.receive()
            if request is None:
                return
            if request.json.get("stream"):
                connection.send(STREAM_HEAD)
                connection.send_event(chunk("Hel"))
                assert child_done.wait(WAIT)
                connection.send(stream_bytes(*WHOLE[1:]).removeprefix(STREAM_HEAD))
            else:
                connection.send_json(answer(f"by connection {connection.number}"))

    session = requests.Session() if kind == "given" else None
    with WireServer(handler) as server:
        with VllmClient(server.base_url, session=session) as client:
            assert client.completions.create(prompt="x").text == "by connection 1"
            stream = client.completions.stream(prompt="x")  # Takes connection 1 again.
            assert next(stream) == Text("Hel")
            pid = os.fork()
            if pid == 0:
                os._exit(_in_the_child(client, [stream]))
            _, status = os.waitpid(pid, 0)
            child_done.set()
            assert os.WEXITSTATUS(status) == 0
            assert stream.collect().text == "Hello"
            assert client.completions.create(prompt="x").text == "by connection 1"
        if session is not None:
            session.close()


def _in_the_child(client: VllmClient, streams: List[Any]) -> int:
    try:
        warnings.simplefilter("ignore")
        stream = streams.pop()
        stream.close()
        if client.completions.create(prompt="x").text != "by connection 2":
            return 2
        del stream
        gc.collect()
        client.close()
    except BaseException:
        return 3
    return 0


def test_a_stream_closed_as_its_connection_is_given_back_hurts_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the moment a connection is in the pool, closing its last stream leaves it alone."""
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
    with (
        WireServer(_answering_both) as server,
        VllmClient(server.base_url, max_retries=0) as client,
    ):
        stream = client.completions.stream(prompt="x")
        streams.append(stream)
        with contextlib.suppress(StreamConsumedError):
            stream.collect()
        assert given_back == [stream]
        assert client.completions.create(prompt="x").text == "fine"
        assert server.connections == 1
