"""Rows that are sent and read without a thread of their own, and what needs one all the same."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any, List, Optional

import pytest
import urllib3

from vllm_client import (
    APITimeoutError,
    BatchStoppedError,
    InvalidResponseError,
    Timeout,
    VllmClient,
)
from vllm_client._http import own_session
from vllm_client._http.adapter import TrackedPool
from vllm_client._http.launched import Launched, Poller
from vllm_client._http.payload import Payload
from vllm_client._http.transport import CallOptions
from vllm_client.batch._rows import Job
from vllm_client.batch._workers import Probe, Workers, _Connecting
from vllm_client.batch.routes import COMPLETIONS

from ..recorded import answer
from ..servers import Connection, Serve, Served, WireServer
from ..threads import WAIT, Tally, wait_until
from .answering import Answering
from .test_engine import FewThreads


def texts(rows: Any) -> List[str]:
    return [row.text for row in rows]


class Late:
    """An outcome: the answer, once it is released."""

    def __init__(self) -> None:
        self.release = threading.Event()

    def __call__(self, connection: Connection) -> None:
        self.release.wait(WAIT)
        connection.send_json(answer("late"))


def test_silent_server(serve: Serve) -> None:
    """A row on a reused connection fails with that error if the server is silent for too long."""
    late = Late()
    client = serve(handler=Answering({"b": [late]})).client.with_options(max_retries=0)
    limits = Timeout(read=0.2)
    rows = list(client.batch.completions(["a", "b"], max_concurrency=1, timeout=limits))
    late.release.set()
    assert rows[0].ok
    assert isinstance(rows[1].error, APITimeoutError)


def test_no_limit_of_silence(serve: Serve) -> None:
    """Without a limit of silence the rows wait as long as it takes."""
    rows = serve(handler=Answering()).client.batch.completions(
        map(str, range(20)), max_concurrency=2, timeout=Timeout(read=None)
    )
    assert texts(rows) == [f"<{number}>" for number in range(20)]


def test_long_responses(serve: Serve) -> None:
    """A response that does not arrive in one piece is read to its end."""
    long = "x" * 300_000

    def send_long(connection: Connection) -> None:
        connection.send_json(answer(long))

    served = serve(handler=Answering({"b": [send_long], "c": [send_long]}))
    rows = served.client.batch.completions(["a", "b", "c", "d"], max_concurrency=2)
    assert texts(rows) == ["<a>", long, long, "<d>"]


def test_long_requests(serve: Serve) -> None:
    """A request that may not fit into the buffer of its socket is sent as a whole."""
    prompts = ["a", "b" * 100_000, "c" * 3_000_000]
    rows = serve(handler=Answering()).client.batch.completions(prompts, max_concurrency=1)
    assert texts(rows) == [f"<{prompt}>" for prompt in prompts]


def test_more_in_flight_than_connections_are_kept(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows beyond the number of kept connections are in flight too."""
    monkeypatch.setattr(own_session, "KEPT_CONNECTIONS", 2)
    together = threading.Barrier(4)

    def wait_for_others(connection: Connection) -> None:
        together.wait(WAIT)
        connection.send_json(answer("together"))

    outcomes: Any = {str(number): [wait_for_others] for number in range(4, 8)}
    client = serve(handler=Answering(outcomes)).client
    rows = client.batch.completions(map(str, range(8)), max_concurrency=4)
    assert texts(rows) == ["<0>", "<1>", "<2>", "<3>", *["together"] * 4]


def test_header_that_only_urllib3_sends(serve: Serve) -> None:
    """Where no row can be sent without a thread, no connection is opened for nothing each time."""
    served: Served = serve(handler=Answering())
    rows = served.client.batch.completions(
        map(str, range(100)), max_concurrency=1, extra_headers={"Upgrade": "x"}
    )
    assert texts(rows) == [f"<{number}>" for number in range(100)]
    assert served.connections < 50


def test_server_that_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that has gone is noticed when the next connection is opened."""
    with WireServer(Answering()) as wire:
        client = VllmClient(wire.base_url)
        rows = client.batch.completions(["a", "b"], max_concurrency=1, patience=0)
        assert next(rows).ok
    with pytest.raises(BatchStoppedError, match="has been away"):
        next(rows)
    client.close()


def test_read_while_the_program_is_away(serve: Serve) -> None:
    """A response that arrives while the program does something else is read meanwhile."""
    late = Late()
    client = serve(handler=Answering({"c": [late]})).client
    rows = client.batch.completions(["a", "b", "c"], max_concurrency=2)
    assert next(rows).ok
    assert next(rows).ok
    late.release.set()
    deadline = time.monotonic() + WAIT
    while not rows._engine.has_more_ready:
        assert time.monotonic() < deadline
    assert next(rows).text == "late"


def test_long_response_while_the_program_is_away(serve: Serve) -> None:
    """A long one too."""
    release, long = threading.Event(), "x" * 300_000

    def send_long(connection: Connection) -> None:
        release.wait(WAIT)
        connection.send_json(answer(long))

    client = serve(handler=Answering({"c": [send_long]})).client
    rows = client.batch.completions(["a", "b", "c"], max_concurrency=2)
    assert next(rows).ok
    assert next(rows).ok
    release.set()
    deadline = time.monotonic() + WAIT
    while not rows._engine.has_more_ready:
        assert time.monotonic() < deadline
    assert next(rows).text == long


def test_run_that_ends_with_requests_in_flight(serve: Serve) -> None:
    """Leaving a run closes the connections of the requests that wait."""
    gone = threading.Event()

    def wait_gone(connection: Connection) -> None:
        if connection.wait_gone():
            gone.set()

    server = Answering({"c": [wait_gone]})
    with serve(handler=server).client.batch.completions(list("abc"), max_concurrency=2) as rows:
        assert next(rows).ok
        assert next(rows).ok
        assert server.wait_asked(3)
    assert gone.wait(WAIT)


def launch(client: VllmClient, prompt: str) -> Optional[Launched]:
    """Send a request without waiting."""
    transport = client._transport
    payload = Payload.of_json({"prompt": prompt})
    url = transport.url("completions")
    return transport.launch("POST", url, payload, options=CallOptions(), subject=None)


def test_read_before_it_arrived(serve: Serve) -> None:
    """Reading too early gives nothing, and spoils nothing."""
    server = Answering()
    client = serve(handler=server).client
    client.completions.create(prompt="a")
    server.hold.clear()
    launched = launch(client, "b")
    assert launched is not None
    assert launched.content_now() is None
    server.hold.set()
    assert b"<b>" in launched.finish().content


def test_request_that_fits_no_buffer(serve: Serve) -> None:
    """What cannot be sent at once is not sent, and its connection is closed."""
    done = threading.Event()

    def read_one_request(connection: Connection) -> None:
        connection.receive()
        connection.send_json(answer("fine"))
        done.wait(WAIT)

    client = serve(handler=read_one_request).client
    client.completions.create(prompt="a")
    assert launch(client, "b" * 30_000_000) is None
    assert client.completions.create(prompt="c").text == "fine"
    done.set()


def test_few_threads_and_long_responses(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """If there are few threads, responses that need one wait for it."""
    FewThreads(monkeypatch, 1)
    long = "x" * 300_000

    def send_long(connection: Connection) -> None:
        connection.send_json(answer(long))

    outcomes: Any = {str(number): [send_long] for number in range(1, 20)}
    rows = serve(handler=Answering(outcomes)).client.batch.completions(map(str, range(20)))
    assert texts(rows) == ["<0>", *[long] * 19]


def test_waking_a_closed_poller() -> None:
    """A thread that hands something back late does no harm."""
    poller = Poller()
    poller.wake()
    assert poller.wait(0) == []
    poller.close()
    poller.wake()


def test_response_that_is_none(serve: Serve) -> None:
    """A body on a reused connection that is no completion fails its row alone."""

    def send_else(connection: Connection) -> None:
        connection.send_json({"choices": 1})

    client = serve(handler=Answering({"b": [send_else] * 9})).client.with_options(max_retries=0)
    rows = list(client.batch.completions(["a", "b", "c"], max_concurrency=1))
    assert [row.ok for row in rows] == [True, False, True]
    assert isinstance(rows[1].error, InvalidResponseError)


def test_closed_pool() -> None:
    """A pool that was closed opens no connection."""
    pool = TrackedPool("127.0.0.1", 9)
    pool.close()
    assert not pool.add_idle(1.0)


def test_connection_that_fails_leaves_its_place() -> None:
    """A connection that cannot be opened does not take the place of another one."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    pool = TrackedPool("127.0.0.1", port, maxsize=1)
    for _ in range(2):
        with pytest.raises(urllib3.exceptions.NewConnectionError):
            pool.add_idle(1.0)
    pool.close()


def test_what_threads_hand_back_while_the_program_is_away(serve: Serve) -> None:
    """It is kept for the program; a row that found no connection is sent; a wake-up is not lost."""
    transport = serve(handler=Answering()).client._transport
    workers = Workers(transport, CallOptions())
    try:
        probe = Probe()
        workers.hand_out(probe)
        assert wait_until(lambda: workers._handed_back.qsize() == 1)
        content = b'{"prompt": "a"}'
        job = Job(0, "0", route=COMPLETIONS, body={"prompt": "a"}, content=content)
        workers._connecting = 1
        workers._handed_back.put(_Connecting(job, 1))
        workers.wake()
        workers._take_in()
        assert workers.take_back(WAIT) is probe
        assert probe.is_up
        taken = [workers.take_back(WAIT), workers.take_back(WAIT)]
    finally:
        workers.close()
    assert taken == [None, job]
    assert job.response.text == "<a>"


def test_sent_while_the_program_is_away(serve: Serve) -> None:
    """Rows that have room are sent although the program does not come back for the next row."""
    late = [Late() for _ in range(9)]
    held = Tally()

    def hold(which: Late) -> Any:
        def outcome(connection: Connection) -> None:
            held.add()
            which(connection)

        return outcome

    outcomes = {str(number + 1): [hold(each)] for number, each in enumerate(late)}
    client = serve(handler=Answering(outcomes)).client
    with client.batch.completions(map(str, range(10)), max_concurrency=10) as rows:
        assert next(rows).text == "<0>"
        assert held.wait(9)
        for each in late:
            each.release.set()
        assert [row.text for row in rows] == ["late"] * 9


def test_full_pool() -> None:
    """A pool that has an idle connection in every place opens no further one, and keeps them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pool = TrackedPool("127.0.0.1", listener.getsockname()[1], maxsize=1)
        assert pool.add_idle(WAIT)
        assert not pool.add_idle(WAIT)
        connection = pool.take_idle()
        assert connection is not None
        connection.close()
        pool.close()
