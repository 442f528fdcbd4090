"""Retries: which failures, how often, after which pause, with which request."""

from __future__ import annotations

import contextlib
import email.utils
import ssl
import time
from pathlib import Path
from typing import Any, Callable

import pytest
import requests

import vllm_client
from vllm_client import APIConnectionError, APITimeoutError, Timeout, VllmClient
from vllm_client._http import attempts

from ..recorded import WHOLE, answer, beginning, chunk, json_bytes
from ..servers import (
    FINE,
    Connection,
    Reply,
    Serve,
    Stall,
    WireServer,
    break_off,
    in_pieces,
    replying,
    reset,
)
from ..threads import WAIT, Running
from .conftest import tls_context

BREAKS = pytest.mark.parametrize(
    "breaks", [break_off(), reset(), break_off(b"HTTP/1.1 2")], ids=["close", "reset", "half line"]
)


def status(line: str, headers: str = "retry-after: 0\r\n") -> bytes:
    """An error response with this status line."""
    return json_bytes({"error": "no"}, line, headers)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses between attempts."""
    monkeypatch.setattr(attempts, "FIRST_PAUSE", 0.001)


@pytest.fixture(params=["create", "stream"])
def call(request: pytest.FixtureRequest) -> Callable[..., str]:
    """A function that makes a call, streamed or not, and returns its text."""

    def create(client: VllmClient, **params: Any) -> str:
        return client.completions.create(prompt="x", **params).text

    def stream(client: VllmClient, **params: Any) -> str:
        with client.completions.stream(prompt="x", **params) as events:
            return events.collect_text()

    return create if request.param == "create" else stream


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_a_temporary_status_is_retried(serve: Serve, code: int, call: Any) -> None:
    """These statuses are retried on the same connection, with the same bytes."""
    served = serve(status(f"{code} No"), status(f"{code} No"), FINE)
    assert call(served.client) in {"fine", "Hello"}
    assert len(served.requests) == 3
    assert served.connections == 1
    assert len({request.body for request in served.requests}) == 1
    assert len({request.head for request in served.requests}) == 1


@pytest.mark.parametrize("code", [300, 307, 400, 401, 403, 404, 405, 409, 413, 422, 501, 505])
def test_a_permanent_status_is_not_retried(serve: Serve, code: int, call: Any) -> None:
    """Every other status is raised at once, even with Retry-After."""
    served = serve(status(f"{code} No"), FINE)
    with pytest.raises(vllm_client.APIStatusError) as raised:
        call(served.client)
    assert raised.value.status_code == code
    assert len(served.requests) == 1


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_max_retries_counts_further_attempts(serve: Serve, retries: int, call: Any) -> None:
    """max_retries=0 means one attempt; the error is that of the last attempt."""
    steps = [status(f"503 No {number}") for number in range(9)]
    served = serve(*steps, FINE, max_retries=retries)
    with pytest.raises(vllm_client.ServiceUnavailableError):
        call(served.client)
    assert len(served.requests) == retries + 1


@BREAKS
def test_a_connection_that_ends_early_is_retried(serve: Serve, breaks: Reply, call: Any) -> None:
    """If the connection ends before a status line, the same bytes are sent on a new one."""
    served = serve(breaks, breaks, FINE)
    assert call(served.client) in {"fine", "Hello"}
    assert (served.connections, len(served.requests)) == (3, 3)
    assert len({request.body for request in served.requests}) == 1


@BREAKS
def test_a_connection_that_keeps_ending_is_an_error(serve: Serve, breaks: Reply, call: Any) -> None:
    """If each attempt fails, the error describes the failure."""
    served = serve(*[breaks] * 9, FINE)
    with pytest.raises(APIConnectionError, match="before it answered") as raised:
        call(served.client)
    assert raised.value.is_retryable
    assert len(served.requests) == 3


@pytest.mark.parametrize(
    "breaks",
    [reset(b"HTTP/1.1 200 OK\r\n"), break_off(json_bytes(answer())[:-1])],
    ids=["status line", "half a body"],
)
def test_a_response_that_has_begun_is_not_retried(serve: Serve, breaks: Reply) -> None:
    """After a status line the request is not retried: the server has accepted it."""
    served = serve(breaks, FINE)
    with pytest.raises(APIConnectionError):
        served.client.completions.create(prompt="x")
    assert len(served.requests) == 1


def test_a_read_timeout_is_not_retried(serve: Serve, call: Any) -> None:
    """A read timeout is not retried: the server may still work on the request."""
    served = serve(Stall(), FINE, timeout=Timeout(read=0.05))
    with pytest.raises(APITimeoutError, match=r"sent nothing for 0.05 s"):
        call(served.client)
    assert len(served.requests) == 1


def test_a_stream_that_breaks_off_is_not_retried(serve: Serve) -> None:
    """A stream that breaks off is not retried: the caller has already seen events of it."""
    served = serve(break_off(beginning(*WHOLE[:1])), FINE)
    with pytest.raises(vllm_client.StreamInterruptedError):
        served.client.completions.stream(prompt="x").collect()
    assert len(served.requests) == 1


def test_a_refused_connection_is_explained() -> None:
    """A refused connection raises an error that asks whether `vllm serve` is running."""
    with WireServer(replying(FINE)) as server:
        base_url = server.base_url
    with VllmClient(base_url) as client:
        with pytest.raises(APIConnectionError, match="is `vllm serve` running there") as raised:
            client.completions.create(prompt="x")
    assert isinstance(raised.value.__cause__, requests.ConnectionError)
    assert raised.value.__cause__.request is None


def test_a_dropped_connection_is_retried_at_once(
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first retry after a dropped connection, reused or new, needs no pause."""
    monkeypatch.setattr(attempts, "FIRST_PAUSE", 1000.0)
    monkeypatch.setattr(attempts, "LONGEST_PAUSE", 1000.0)
    limits = Timeout(total=WAIT)
    served = serve(status("200 OK"), break_off(), FINE, timeout=limits, max_retries=1)
    served.client.request("POST", "completions", json={})
    assert served.client.completions.create(prompt="x").text == "fine"
    assert (served.connections, len(served.requests)) == (2, 3)
    served = serve(break_off(), FINE, timeout=limits, max_retries=1)
    assert served.client.completions.create(prompt="x").text == "fine"
    assert (served.connections, len(served.requests)) == (2, 2)


def test_a_broken_tls_handshake_is_retried(
    serve: Serve, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that ends during the TLS handshake is retried."""
    context = tls_context(certificate)

    def handler(connection: Connection) -> None:
        if connection.number == 1:
            connection.sock.recv(10000)  # Closing with unread bytes would be a reset.
            return
        connection.start_tls(context)
        replying(FINE)(connection)

    served = serve(handler=handler)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with VllmClient(served.base_url.replace("http:", "https:")) as client:
        assert client.completions.create(prompt="x").text == "fine"
    assert served.connections == 2


def test_an_untrusted_certificate_is_not_retried(
    serve: Serve,
    certificate: Path,
) -> None:
    """An untrusted certificate is not retried; the error names the setting for a CA bundle."""
    context = tls_context(certificate)

    def handler(connection: Connection) -> None:
        with pytest.raises(ssl.SSLError):
            context.wrap_socket(connection.sock, server_side=True)

    served = serve(handler=handler)
    with VllmClient(served.base_url.replace("http:", "https:")) as client:
        with pytest.raises(APIConnectionError, match="REQUESTS_CA_BUNDLE") as raised:
            client.completions.create(prompt="x")
    assert not raised.value.is_retryable
    assert served.connections == 1


@pytest.fixture
def pauses(caplog: pytest.LogCaptureFixture) -> Any:
    """A function that returns the pauses taken so far, read from the log."""
    caplog.set_level("INFO", logger="vllm_client")
    return lambda: [record.pause for record in caplog.records if record.name == "vllm_client"]


@pytest.mark.parametrize(
    ("value", "pause"),
    [
        ("0", 0.0),
        ("0.1", None),  # The format has no fractions.
        ("soon", None),
        ("-1", None),
        ("", None),
        ("Mon, 99 Foo 2026", None),
        ("Fri, 31 Dec 99999999 23:59:59 GMT", None),
        ("9" * 5000, None),
        (email.utils.formatdate(time.time() - 60, usegmt=True), 0.0),
        ("Mon, 01 Jan 1990 00:00:00 GMT", 0.0),
    ],
)
def test_retry_after_is_honoured_and_a_malformed_one_ignored(
    serve: Serve, value: str, pause: Any, pauses: Any
) -> None:
    """Retry-After in seconds or as a date sets the pause; a malformed one is ignored."""
    served = serve(status("503 No", f"retry-after: {value}\r\n"), FINE)
    assert served.client.completions.create(prompt="x").text == "fine"
    assert len(served.requests) == 2
    (taken,) = pauses()
    assert taken == 0.0 if pause is not None else 0.0 <= taken < 0.01


@pytest.mark.parametrize(
    "value", ["3600", "99999999999999999999", email.utils.formatdate(time.time() + 9999)]
)
def test_retry_after_is_capped(
    serve: Serve, value: str, pauses: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long Retry-After is cut to LONGEST_RETRY_AFTER."""
    monkeypatch.setattr(attempts, "LONGEST_RETRY_AFTER", 0.04)
    client = serve(status("429 No", f"retry-after: {value}\r\n"), FINE).client
    assert client.completions.create(prompt="x").text == "fine"
    assert pauses() == [0.04]


def test_the_pauses_double_up_to_a_longest(
    serve: Serve, pauses: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pauses double up to LONGEST_PAUSE, with jitter between half and all of it."""
    monkeypatch.setattr(attempts, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(attempts, "LONGEST_PAUSE", 0.05)
    steps = [status("503 No", "")] * 4
    client = serve(*steps, FINE, max_retries=4).client
    client.completions.create(prompt="x")
    for taken, most in zip(pauses(), [0.02, 0.04, 0.05, 0.05]):
        assert most / 2 - 0.006 < taken < most + 0.006  # Logged with two digits.


def test_closing_the_client_ends_a_pause(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """client.close() during a pause ends the pause and the call."""
    monkeypatch.setattr(attempts, "FIRST_PAUSE", 1000.0)
    monkeypatch.setattr(attempts, "LONGEST_PAUSE", 1000.0)
    served = serve(status("503 No", ""), FINE)
    call = Running(lambda: served.client.completions.create(prompt="x"))
    call.wait_paused()
    served.client.close()
    assert "closed" in str(call.error())
    assert len(served.requests) == 1


def test_a_pause_beyond_the_total_timeout_is_skipped(
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If the pause would outlast the total timeout, the error is raised at once."""
    monkeypatch.setattr(attempts, "FIRST_PAUSE", 1000.0)
    monkeypatch.setattr(attempts, "LONGEST_PAUSE", 1000.0)
    served = serve(status("503 No", ""), FINE, timeout=Timeout(total=60.0))
    with pytest.raises(vllm_client.ServiceUnavailableError):
        served.client.completions.create(prompt="x")
    assert len(served.requests) == 1


def test_retries_on_a_session_of_the_user(serve: Serve, call: Any) -> None:
    """Statuses and connection failures are retried on the user's own session too."""
    with requests.Session() as session:
        served = serve(status("503 No"), break_off(), FINE, session=session)
        assert call(served.client) in {"fine", "Hello"}
        assert len(served.requests) == 3


def test_an_endless_error_body_is_cut(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endless error body is cut, and its connection is not reused."""
    monkeypatch.setattr(attempts, "LARGEST_ERROR_BODY", 20000)

    def endless(connection: Connection) -> None:
        connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with contextlib.suppress(OSError):
            while True:
                connection.sock.sendall(b"x" * 65536)

    served = serve(endless, FINE)
    with pytest.raises(vllm_client.BadRequestError) as raised:
        served.client.completions.create(prompt="x")
    assert 20000 <= len(raised.value.body) < 40000
    assert served.client.completions.create(prompt="x").text == "fine"
    assert served.connections == 2


def test_the_key_is_not_in_the_error(serve: Serve) -> None:
    """A key that the server repeats is removed from the error."""
    refusal = json_bytes({"error": {"message": "no such key: sk-secret-1"}}, "401 Unauthorized")
    client = serve(refusal, FINE, api_key="sk-secret-1").client
    with pytest.raises(vllm_client.AuthenticationError) as raised:
        client.completions.create(prompt="x")
    assert "sk-secret-1" not in f"{raised.value} {raised.value.body}"


def test_interim_responses_are_skipped(serve: Serve, call: Any) -> None:
    """Interim responses (100, 102 and 103) are skipped."""
    interim = [
        b"HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + b"HTTP/1.1 102 Processing\r\n\r\n",
    ]
    served = serve(in_pieces([*interim, json_bytes(chunk("late", finish="stop"))]), FINE)
    response = served.client.request("POST", "completions", json={})
    assert response.json()["choices"][0]["text"] == "late"
    assert call(served.client) in {"fine", "Hello"}
    assert served.connections == 1
