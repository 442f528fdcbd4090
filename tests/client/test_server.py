"""``client.server``: health, waiting, metrics, and what changes the server."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import Any, List

import pytest

from vllm_client import (
    APIConnectionError,
    APITimeoutError,
    AsyncVllmClient,
    AuthenticationError,
    InvalidResponseError,
    NotFoundError,
    VllmClient,
)
from vllm_client.resources import _ready
from vllm_client.testing import FakeServer

from ..recorded import body_of, capture, json_bytes
from ..servers import FINE, Serve, break_off
from ..threads import Running

EMPTY = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
NOT_READY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"
MODELS = json_bytes({"data": []})
METRICS = body_of(capture("metrics_head")[1]).split(b"# HELP python_info")[0]
METRICS_REPLY = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=1.0.0; charset=utf-8\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(METRICS), METRICS)
)
"""The beginning of a real server's metrics."""


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask the server again at once."""
    monkeypatch.setattr(_ready, "_PAUSE", 0.001)


def test_health(serve: Serve) -> None:
    """Health is True for 200, and False for 5xx; it is asked only once."""
    served = serve(capture("health")[1], capture("engine_dead_health")[1])
    assert served.client.server.health() is True
    assert served.client.server.health(timeout=5) is False
    assert [request.path for request in served.requests] == ["/health"] * 2


def test_health_of_nothing() -> None:
    """Health is False if nothing listens."""
    with VllmClient("http://127.0.0.1:9") as client:
        assert client.server.health() is False


def test_health_of_something_else(serve: Serve) -> None:
    """Another error than 5xx means that something else answers."""
    with pytest.raises(NotFoundError):
        serve(capture("error_not_found")[1]).client.server.health()


def test_version_and_load(serve: Serve) -> None:
    """The version is text, the load a number."""
    assert serve(capture("version")[1]).client.server.version() == "0.32.0"
    served = serve(capture("load")[1])
    assert served.client.server.load() == 0
    assert served.requests[0].path == "/load"


def test_version_of_another_shape(serve: Serve) -> None:
    """A version that is no text is an InvalidResponseError."""
    with pytest.raises(InvalidResponseError, match="shape"):
        serve(json_bytes({"version": 5})).client.server.version()


def test_metrics(serve: Serve) -> None:
    """Metrics are families of prometheus_client, or the text."""
    pytest.importorskip("prometheus_client")
    client = serve(METRICS_REPLY).client
    families = client.server.metrics()
    assert families["python_gc_objects_collected"].samples[0].value == 14191.0
    text = client.server.metrics(raw=True)
    assert text.encode() == METRICS


def test_metrics_without_the_extra(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without prometheus_client the error names the extra and the way without."""
    monkeypatch.setitem(sys.modules, "prometheus_client.parser", None)
    with pytest.raises(ImportError, match=r"vllm-sync-client\[metrics\].*raw=True"):
        serve(METRICS_REPLY).client.server.metrics()


def test_metrics_of_another_format(serve: Serve) -> None:
    """A body that is not in Prometheus' format is an InvalidResponseError."""
    pytest.importorskip("prometheus_client")
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 11\r\n\r\n"
    with pytest.raises(InvalidResponseError, match="Prometheus"):
        serve(head + b"name{a=} x\n").client.server.metrics()


def test_info(serve: Serve) -> None:
    """The settings are asked for as JSON."""
    served = serve(json_bytes({"vllm_config": {"a": 1}}))
    assert served.client.server.info() == {"vllm_config": {"a": 1}}
    assert served.requests[0].path == "/server_info?config_format=json"


COMMANDS: List[Any] = [
    (lambda s: s.sleep(), "POST", "/sleep?level=1", "dev_sleep"),
    (lambda s: s.sleep(2, mode="keep"), "POST", "/sleep?level=2&mode=keep", "dev_sleep"),
    (lambda s: s.wake_up(), "POST", "/wake_up", "dev_wake_up"),
    (lambda s: s.wake_up(["weights", "kv"]), "POST", "/wake_up?tags=weights&tags=kv", None),
    (lambda s: s.pause(mode="wait"), "POST", "/pause?mode=wait", None),
    (lambda s: s.resume(), "POST", "/resume", "dev_resume"),
    (lambda s: s.reset_mm_cache(), "POST", "/reset_mm_cache", "dev_reset_mm_cache"),
]


@pytest.mark.parametrize(("call", "method", "path", "name"), COMMANDS, ids=[c[2] for c in COMMANDS])
def test_commands(serve: Serve, call: Any, method: str, path: str, name: Any) -> None:
    """A command sends its query, and takes a JSON or an empty body for success."""
    served = serve(EMPTY if name is None else capture(name)[1])
    assert call(served.client.server) is None
    assert (served.requests[0].method, served.requests[0].path) == (method, path)
    assert served.requests[0].body == b""


def test_states(serve: Serve) -> None:
    """is_sleeping and is_paused tell what the server says."""
    assert serve(capture("dev_is_sleeping")[1]).client.server.is_sleeping() is False
    assert serve(json_bytes({"is_paused": True})).client.server.is_paused() is True


def test_reset_prefix_cache(serve: Serve) -> None:
    """It tells whether the cache was emptied; the empty body of old servers is a yes."""
    replies = [
        (capture("dev_reset_prefix_cache")[1], True),
        (json_bytes({"success": False}), False),
        (EMPTY, True),
    ]
    for reply, emptied in replies:
        assert serve(reply).client.server.reset_prefix_cache() is emptied


def test_abort(serve: Serve) -> None:
    """Ids are sent as JSON; without any nothing is, because that would abort all."""
    served = serve(EMPTY)
    served.client.server.abort(["cmpl-a-0"])
    assert served.requests[0].json == {"request_ids": ["cmpl-a-0"]}
    for ids in ([], "cmpl-a-0"):
        with pytest.raises(ValueError, match="list of ids"):
            served.client.server.abort(ids)
    assert len(served.requests) == 1


def test_developer_routes_that_are_off(serve: Serve) -> None:
    """The error says which variable turns the routes on."""
    served = serve(capture("b_dev_routes_absent")[1])
    with pytest.raises(NotFoundError, match="VLLM_SERVER_DEV_MODE=1"):
        served.client.server.reset_prefix_cache()


def test_wait_until_ready(serve: Serve) -> None:
    """It waits while the server is loading, and tells each reason once."""
    told: List[str] = []
    served = serve(NOT_READY, NOT_READY, break_off(), break_off(), EMPTY, MODELS)
    served.client.server.wait_until_ready(20, progress=told.append)
    assert "503, its engine is not ready" in told[0]
    assert "nothing listens there yet" in told[1]
    assert len(told) == 2
    assert served.requests[-1].path == "/v1/models"


def test_wait_in_vain() -> None:
    """The error of a server that is not ready in time says what it waited for."""
    with (
        VllmClient("http://127.0.0.1:9") as client,
        pytest.raises(APITimeoutError, match=r"not ready in 0\.01 s: nothing listens"),
    ):
        client.server.wait_until_ready(0.01)


def test_wait_prints(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    """progress=True prints to stderr what it waits for."""
    serve(NOT_READY, EMPTY, MODELS).client.server.wait_until_ready(progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("waiting for http://127.0.0.1:")


def test_wait_for_a_server_that_does_not_answer(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that accepts connections and says nothing is waited for."""
    monkeypatch.setattr(_ready, "_ASKED", 0.02)
    told: List[str] = []
    served = serve(lambda connection: connection.wait_gone(), EMPTY, MODELS)
    served.client.server.wait_until_ready(20, progress=told.append)
    assert "does not answer yet" in told[0]


def test_wait_with_a_wrong_key(serve: Serve) -> None:
    """A refusal that will not pass ends the waiting."""
    served = serve(EMPTY, capture("auth_models_missing")[1])
    with pytest.raises(AuthenticationError):
        served.client.server.wait_until_ready(20)


@pytest.mark.parametrize("has_waitid", [True, False])
def test_wait_for_a_process_that_ended(monkeypatch: pytest.MonkeyPatch, has_waitid: bool) -> None:
    """When the process of the server has ended, the waiting ends at once."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    if has_waitid:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # A zombie of ours.
    else:
        process.wait()
        monkeypatch.delattr(os, "waitid")
    with (
        VllmClient("http://127.0.0.1:9") as client,
        pytest.raises(APIConnectionError, match=f"process {process.pid} has ended"),
    ):
        client.server.wait_until_ready(20, pid=process.pid)
    process.wait()


def test_wait_for_a_process_that_runs(serve: Serve) -> None:
    """While the process of the server runs, the waiting goes on; also if it is no child."""
    served = serve(NOT_READY, EMPTY, MODELS)
    served.client.server.wait_until_ready(20, pid=os.getpid())
    assert len(served.requests) == 3


def test_process_of_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may not be signalled is one that runs."""

    def refuse(pid: int, signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert _ready._is_alive(1)


def test_closing_ends_the_waiting(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """close() in another thread ends the waiting at once, in a pause as well as in a call."""
    monkeypatch.setattr(_ready, "_PAUSE", 60.0)
    served = serve(NOT_READY)
    waiting = Running(lambda: served.client.server.wait_until_ready(None))
    waiting._blocked.wait_for_pause()
    served.client.close()
    assert isinstance(waiting.error(), APIConnectionError)
    with pytest.raises(APIConnectionError, match="closed"):
        served.client.server.wait_until_ready(None)


def test_closed_while_asking(serve: Serve) -> None:
    """close() while the server is asked ends the waiting with that error."""
    asked: List[Any] = []

    def silent(connection: Any) -> None:
        asked.append(1)
        served.client.close()
        connection.wait_gone()

    served = serve(silent)
    with pytest.raises(APIConnectionError, match="closed"):
        served.client.server.wait_until_ready(None)
    assert asked == [1]


def test_async_wait(serve: Serve) -> None:
    """The asynchronous twin waits in a thread."""
    served = serve(NOT_READY, EMPTY, MODELS, FINE)

    async def main() -> None:
        async with AsyncVllmClient(served.base_url) as client:
            await client.server.wait_until_ready(20)

    asyncio.run(main())
    assert len(served.requests) == 3


def test_embedded_server_sleeps_and_pauses() -> None:
    """While the embedded server sleeps or is paused, requests for text wait."""
    with FakeServer("tiny") as server, VllmClient(server.base_url) as client:
        for stop, go, state in (
            (client.server.sleep, client.server.wake_up, client.server.is_sleeping),
            (client.server.pause, client.server.resume, client.server.is_paused),
        ):
            stop()
            assert state()
            count = len(server.requests)
            waiting = Running(lambda: client.completions.create(prompt="x", max_tokens=2))
            server.wait_for(count + 1)
            assert waiting.is_alive()
            go()
            assert not state()
            assert waiting.result().text
        with pytest.raises(Exception, match="Invalid pause mode"):
            client.server.pause(mode="later")  # type: ignore[arg-type]
        client.server.abort(["cmpl-x-0"])
        client.server.reset_mm_cache()
        assert client.server.reset_prefix_cache()
        assert "vllm_config" in client.server.info()


def test_embedded_server_closes_while_paused() -> None:
    """Closing the embedded server ends requests that wait for it to resume."""
    with FakeServer("tiny") as server, VllmClient(server.base_url, max_retries=0) as client:
        client.server.pause()
        waiting = Running(lambda: client.completions.create(prompt="x"))
        server.wait_for(2)
    assert waiting.error() is not None


def test_closing_in_the_progress_ends_the_waiting(serve: Serve) -> None:
    """A client that is closed meanwhile does not go on waiting."""
    served = serve(NOT_READY)
    with pytest.raises(APIConnectionError, match="closed while it waited"):
        served.client.server.wait_until_ready(None, progress=lambda _: served.client.close())
