"""What a program and its log are told of retries, of a wrong address and of the time they took."""

from __future__ import annotations

import logging
from typing import Any, List

import pytest

from vllm_client import (
    APIConnectionError,
    APITimeoutError,
    InternalServerError,
    NotFoundError,
    Timeout,
    VllmClient,
    VllmError,
)
from vllm_client._http import attempts

from ..recorded import WHOLE, answer, json_bytes, stream_bytes
from ..servers import Connection, WireServer, replying

BUSY = json_bytes({"error": "busy"}, "503 Service Unavailable")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "FIRST_PAUSE", 0.001)


def records(caplog: pytest.LogCaptureFixture) -> List[Any]:
    return [record for record in caplog.records if record.name == "vllm_client"]


def test_a_retry_is_logged_with_its_circumstances(caplog: pytest.LogCaptureFixture) -> None:
    """Each record carries its number, the limit, the pause, the method and the URL."""
    caplog.set_level(logging.INFO, logger="vllm_client")
    with WireServer(replying(BUSY, BUSY, json_bytes(answer()))) as server:
        with VllmClient(server.base_url, max_retries=3) as client:
            client.completions.create(prompt="x")
    first, second = records(caplog)
    assert (first.retry, first.max_retries) == (1, 3)
    assert (second.retry, second.max_retries) == (2, 3)
    assert first.levelno == logging.INFO
    assert (first.method, first.url) == ("POST", f"{server.base_url}/completions")
    assert 0 < first.pause < 0.01


def test_a_call_that_succeeds_at_once_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Without a retry there is no record."""
    caplog.set_level(logging.DEBUG, logger="vllm_client")
    with WireServer(replying(json_bytes(answer()))) as server:
        with VllmClient(server.base_url) as client:
            client.completions.create(prompt="x")
    assert records(caplog) == []


@pytest.mark.parametrize(("max_retries", "attempted"), [(0, 1), (2, 3)])
def test_a_status_error_names_method_url_and_attempts(max_retries: int, attempted: int) -> None:
    """The text tells where the request went and how often; the attributes hold the same."""
    with WireServer(replying(BUSY)) as server:
        with VllmClient(server.base_url, max_retries=max_retries) as client:
            with pytest.raises(InternalServerError) as raised:
                client.completions.create(prompt="x")
    error = raised.value
    url = f"{server.base_url}/completions"
    assert (error.method, error.url, error.attempts) == ("POST", url, attempted)
    assert error.message == "busy"
    after = ", after 3 attempts" if attempted > 1 else ""
    assert str(error) == f"503: busy (POST {url}{after})"


def test_a_wrong_address_is_named() -> None:
    """A 404 of a server that is not vLLM shows the URL that was called."""
    with WireServer(replying(json_bytes({"detail": "Not Found"}, "404 Not Found"))) as server:
        with VllmClient(f"{server.url}/openai") as client:
            with pytest.raises(NotFoundError) as raised:
                client.chat.completions.create(messages=[{"role": "user", "content": "x"}])
            assert f"POST {server.url}/openai/chat/completions" in str(raised.value)
            with pytest.raises(NotFoundError) as raised:
                client.request("GET", "/health")
            assert f"GET {server.url}/openai/health" in str(raised.value)


def test_a_refused_connection_names_url_and_attempts() -> None:
    """The last error of a server that is not there tells after how many attempts it came."""
    with WireServer(replying(b"")) as server:
        pass
    with VllmClient(server.base_url, max_retries=1) as client:
        with pytest.raises(APIConnectionError) as raised:
            client.completions.create(prompt="x")
    assert str(raised.value).endswith(f"(POST {server.base_url}/completions, after 2 attempts)")


def test_the_proxy_that_was_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client keeps the proxy of its first call, and its errors name that one."""
    with WireServer(replying(b"")) as absent:
        pass
    monkeypatch.setenv("http_proxy", absent.url)
    with VllmClient("http://model.example/v1", max_retries=0) as client:
        for _ in range(2):
            with pytest.raises(APIConnectionError, match=f"the proxy {absent.url}"):
                client.completions.create(prompt="x")
            monkeypatch.delenv("http_proxy", raising=False)


def test_a_total_timeout_names_url_and_attempts() -> None:
    """A call that ran out of time in its second attempt says so."""

    def handler(connection: Connection) -> None:
        connection.receive()
        connection.send(BUSY)
        connection.wait_gone()

    with WireServer(handler) as server:
        with VllmClient(server.base_url, timeout=Timeout(total=0.2)) as client:
            with pytest.raises(APITimeoutError, match="503: busy") as raised:
                client.completions.create(prompt="x")
    assert raised.value.url == f"{server.base_url}/completions"
    assert raised.value.attempts == 1


def test_an_error_of_no_call_names_no_url() -> None:
    """An error that a program makes itself shows its message alone."""
    assert str(VllmError("no")) == "no"
    assert VllmError("no").url is None


@pytest.mark.parametrize("failures", [0, 1])
def test_the_clock_starts_with_the_attempt_that_was_answered(
    failures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failed attempts and their pauses count only in the figures with retries."""
    monkeypatch.setattr(attempts, "FIRST_PAUSE", 0.2)
    replies = [*[BUSY] * failures, stream_bytes(*WHOLE)]
    with WireServer(replying(*replies)) as server, VllmClient(server.base_url) as client:
        with client.completions.stream(prompt="x") as stream:
            assert stream.collect_text() == "Hello"
        timings = stream.timings
    assert timings.ttft is not None
    assert timings.ttft_with_retries is not None
    paused = timings.ttft_with_retries - timings.ttft
    assert (paused >= 0.1) is bool(failures)
    assert timings.duration_with_retries - timings.duration == pytest.approx(paused)
    assert timings.called + paused == pytest.approx(timings.started)


@pytest.mark.parametrize("route", ["completions", "chat"])
@pytest.mark.parametrize("method", ["create", "stream"])
def test_a_positional_argument_is_explained(route: str, method: str) -> None:
    """``create("Hello")`` is told the keyword to use, and nothing is sent."""
    with WireServer(replying(json_bytes(answer()))) as server:
        with VllmClient(server.base_url) as client:
            resource = client.completions if route == "completions" else client.chat.completions
            example = "prompt=" if route == "completions" else "messages="
            with pytest.raises(TypeError, match=rf"{method}\(\) takes keyword .*{example}"):
                getattr(resource, method)("Hello")
    assert server.requests == []
