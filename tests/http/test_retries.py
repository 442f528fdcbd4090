"""Which failures are tried again, how often, when, and with what."""

from __future__ import annotations

import contextlib
import email.utils
import ssl
import sys
import time
from pathlib import Path
from typing import Any, Callable, List

import pytest
import requests

import vllm_client
from vllm_client import APIConnectionError, APITimeoutError, Timeout, VllmClient
from vllm_client._http import attempts

from ..recorded import WHOLE, answer, chunk, json_bytes, stream_bytes
from ..servers import Connection, WireServer
from ..threads import Running
from .test_closing import certificate  # noqa: F401 — a fixture

Step = Callable[[Connection], Any]


class Script:
    """Each request gets the next step; once there are no more, an answer."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)

    def __call__(self, connection: Connection) -> None:
        while True:
            request = connection.receive()
            if request is None:
                return
            if self.steps:
                if self.steps.pop(0)(connection) == "close":
                    return
            elif request.json.get("stream"):
                connection.send(stream_bytes(*WHOLE))
            else:
                connection.send_json(answer("fine"))


def status(line: str, headers: str = "retry-after: 0\r\n") -> Step:
    return lambda connection: connection.send(json_bytes({"error": "no"}, line, headers))


def close(connection: Connection) -> str:
    return "close"


def reset(connection: Connection) -> str:
    connection.reset()
    return "close"


def half_a_status_line(connection: Connection) -> str:
    connection.send(b"HTTP/1.1 2")
    return "close"


def a_status_line(connection: Connection) -> str:
    connection.send(b"HTTP/1.1 200 OK\r\n")
    connection.reset()
    return "close"


def half_a_body(connection: Connection) -> str:
    connection.send(json_bytes(answer())[:-1])
    return "close"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "FIRST_PAUSE", 0.001)


@pytest.fixture(params=["create", "stream"])
def call(request: pytest.FixtureRequest) -> Callable[..., str]:
    """A completion, whole or streamed: its text."""

    def create(client: VllmClient, **params: Any) -> str:
        return client.completions.create(prompt="x", **params).text

    def stream(client: VllmClient, **params: Any) -> str:
        with client.completions.stream(prompt="x", **params) as events:
            return events.collect_text()

    return create if request.param == "create" else stream


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_a_status_that_may_pass_is_tried_again(code: int, call: Any) -> None:
    """These statuses are tried again, on the same connection, until one is a success."""
    script = Script(status(f"{code} No"), status(f"{code} No"))
    with WireServer(script) as server, VllmClient(server.base_url) as client:
        assert call(client) in {"fine", "Hello"}
        assert len(server.requests) == 3
        assert server.connections == 1
        assert len({request.body for request in server.requests}) == 1
        assert len({request.head for request in server.requests}) == 1


@pytest.mark.parametrize("code", [300, 307, 400, 401, 403, 404, 405, 409, 413, 422, 501, 505])
def test_a_status_that_stays_wrong_is_not_tried_again(code: int, call: Any) -> None:
    """Everything else is raised at once, whatever Retry-After says."""
    with WireServer(Script(status(f"{code} No"))) as server, VllmClient(server.base_url) as client:
        with pytest.raises(vllm_client.APIStatusError) as raised:
            call(client)
        assert raised.value.status_code == code
        assert len(server.requests) == 1


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_max_retries_counts_the_further_attempts(retries: int, call: Any) -> None:
    """0 is one attempt; the error is that of the last."""
    steps = [status(f"503 No {number}") for number in range(9)]
    with (
        WireServer(Script(*steps)) as server,
        VllmClient(server.base_url, max_retries=retries) as client,
    ):
        with pytest.raises(vllm_client.ServiceUnavailableError):
            call(client)
        assert len(server.requests) == retries + 1


@pytest.mark.parametrize("step", [close, reset, half_a_status_line])
def test_a_connection_that_ends_before_an_answer_is_tried_again(step: Step, call: Any) -> None:
    """Nothing that could be an answer came: a fresh connection, the same bytes."""
    with WireServer(Script(step, step)) as server, VllmClient(server.base_url) as client:
        assert call(client) in {"fine", "Hello"}
        assert (server.connections, len(server.requests)) == (3, 3)
        assert len({request.body for request in server.requests}) == 1


@pytest.mark.parametrize("step", [close, reset, half_a_status_line])
def test_a_connection_that_keeps_ending_is_an_error(step: Step, call: Any) -> None:
    """After the last attempt the error says what happened."""
    with WireServer(Script(*[step] * 9)) as server, VllmClient(server.base_url) as client:
        with pytest.raises(APIConnectionError, match="before it answered") as raised:
            call(client)
        assert raised.value.is_retryable
        assert len(server.requests) == 3


@pytest.mark.parametrize("step", [a_status_line, half_a_body])
def test_an_answer_that_has_begun_is_not_tried_again(step: Step) -> None:
    """After a status line the server has taken the request: once is enough."""
    with WireServer(Script(step)) as server, VllmClient(server.base_url) as client:
        with pytest.raises(APIConnectionError):
            client.completions.create(prompt="x")
        assert len(server.requests) == 1


def test_a_silent_server_is_not_asked_again(call: Any) -> None:
    """After a read time-out the server may still be at work: no second request."""
    with (
        WireServer(Script(Connection.wait_gone)) as server,
        VllmClient(server.base_url, timeout=Timeout(read=0.05)) as client,
    ):
        with pytest.raises(APITimeoutError, match=r"sent nothing for 0.05 s"):
            call(client)
        assert len(server.requests) == 1


def test_a_stream_that_breaks_is_not_tried_again() -> None:
    """What has been given to the reader cannot be taken back."""

    def half(connection: Connection) -> str:
        connection.send(stream_bytes(*WHOLE[:1]))
        return "close"

    with WireServer(Script(half)) as server, VllmClient(server.base_url) as client:
        with pytest.raises(vllm_client.StreamInterruptedError):
            client.completions.stream(prompt="x").collect()
        assert len(server.requests) == 1


def test_nobody_listening_is_tried_again_and_said() -> None:
    """A refused connection names the address and asks the obvious."""
    with WireServer(Script()) as server:
        base_url = server.base_url
    with VllmClient(base_url) as client:
        with pytest.raises(APIConnectionError, match="is `vllm serve` running there") as raised:
            client.completions.create(prompt="x")
    assert isinstance(raised.value.__cause__, requests.ConnectionError)
    assert raised.value.__cause__.request is None


def test_a_connection_that_went_stale_is_tried_again_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A keep-alive connection that the server drops costs no pause."""
    monkeypatch.setattr(attempts, "FIRST_PAUSE", 1000.0)
    with (
        WireServer(Script(status("200 OK"), close)) as server,
        VllmClient(server.base_url, timeout=Timeout(total=60.0)) as client,
    ):
        client.request("POST", "completions", json={})
        assert client.completions.create(prompt="x").text == "fine"
        assert (server.connections, len(server.requests)) == (2, 3)


def test_a_tls_handshake_that_breaks_off_is_tried_again(
    certificate: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An end of the connection is the same with TLS; a bad certificate is not tried again."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    seen: List[int] = []

    def handler(connection: Connection) -> None:
        seen.append(connection.number)
        if len(seen) == 1:
            connection.sock.recv(10000)  # The greeting, unread bytes would make it a reset.
            return
        connection.start_tls(context)
        Script()(connection)

    with WireServer(handler) as server:
        url = server.base_url.replace("http:", "https:")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        with VllmClient(url) as client:
            assert client.completions.create(prompt="x").text == "fine"
            assert seen == [1, 2]


def test_a_certificate_nobody_knows_is_not_tried_again(
    certificate: Path,  # noqa: F811
) -> None:
    """It says where a CA bundle goes, and is not retryable."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    seen: List[int] = []

    def handler(connection: Connection) -> None:
        seen.append(connection.number)
        with pytest.raises(ssl.SSLError):
            context.wrap_socket(connection.sock, server_side=True)

    with WireServer(handler) as server:
        with VllmClient(server.base_url.replace("http:", "https:")) as client:
            with pytest.raises(APIConnectionError, match="REQUESTS_CA_BUNDLE") as raised:
                client.completions.create(prompt="x")
    assert not raised.value.is_retryable
    assert seen == [1]


@pytest.fixture
def pauses(caplog: pytest.LogCaptureFixture) -> Any:
    """The pauses that were taken, as they are logged."""
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
    value: str, pause: Any, pauses: Any
) -> None:
    """Seconds or a date set the pause; nonsense leaves it to the back-off."""
    script = Script(status("503 No", f"retry-after: {value}\r\n"))
    with WireServer(script) as server, VllmClient(server.base_url) as client:
        assert client.completions.create(prompt="x").text == "fine"
        assert len(server.requests) == 2
    (taken,) = pauses()
    assert taken == 0.0 if pause is not None else 0.0 <= taken < 0.01


@pytest.mark.parametrize(
    "value", ["3600", "99999999999999999999", email.utils.formatdate(time.time() + 9999)]
)
def test_retry_after_is_capped(value: str, pauses: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is sent to sleep for an hour."""
    monkeypatch.setattr(attempts, "LONGEST_RETRY_AFTER", 0.04)
    script = Script(status("429 No", f"retry-after: {value}\r\n"))
    with WireServer(script) as server, VllmClient(server.base_url) as client:
        assert client.completions.create(prompt="x").text == "fine"
    assert pauses() == [0.04]


def test_the_pauses_double_up_to_a_longest(pauses: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pause is between half and the whole of twice the last, up to the longest."""
    monkeypatch.setattr(attempts, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(attempts, "LONGEST_PAUSE", 0.05)
    steps = [status("503 No", "")] * 4
    with WireServer(Script(*steps)) as server, VllmClient(server.base_url, max_retries=4) as client:
        client.completions.create(prompt="x")
    for taken, most in zip(pauses(), [0.02, 0.04, 0.05, 0.05]):
        assert most / 2 - 0.006 < taken < most + 0.006  # Logged with two digits.


def test_closing_the_client_ends_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """A back-off is not deaf: close() ends it, and the call with it."""
    monkeypatch.setattr(attempts, "FIRST_PAUSE", 1000.0)
    monkeypatch.setattr(attempts, "LONGEST_PAUSE", 1000.0)
    with WireServer(Script(status("503 No", ""))) as server:
        client = VllmClient(server.base_url)
        call = Running(lambda: client.completions.create(prompt="x"))
        _wait_paused(call)
        client.close()
        assert "closed" in str(call.error())
        assert len(server.requests) == 1


def _wait_paused(call: Running) -> None:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        frame = sys._current_frames().get(call.ident or 0)
        while frame is not None:
            if frame.f_code.co_name == "pause" and frame.f_lineno:
                return
            frame = frame.f_back
        time.sleep(0.001)
    raise AssertionError("the call does not pause")


def test_a_pause_that_ends_after_the_total_limit_is_not_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where another attempt would come too late, the error is raised at once."""
    monkeypatch.setattr(attempts, "FIRST_PAUSE", 1000.0)
    monkeypatch.setattr(attempts, "LONGEST_PAUSE", 1000.0)
    with (
        WireServer(Script(status("503 No", ""))) as server,
        VllmClient(server.base_url, timeout=Timeout(total=60.0)) as client,
    ):
        with pytest.raises(vllm_client.ServiceUnavailableError):
            client.completions.create(prompt="x")
        assert len(server.requests) == 1


def test_retries_hold_on_a_session_of_the_user(call: Any) -> None:
    """A user's own session is tried again on as well, for statuses and for connections."""
    script = Script(status("503 No"), close)
    with (
        requests.Session() as session,
        WireServer(script) as server,
        VllmClient(server.base_url, session=session) as client,
    ):
        assert call(client) in {"fine", "Hello"}
        assert len(server.requests) == 3


def test_an_error_body_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an error body that never ends a part is kept, and its connection is not used again."""
    monkeypatch.setattr(attempts, "LARGEST_ERROR_BODY", 20000)

    def endless(connection: Connection) -> str:
        connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with contextlib.suppress(OSError):
            while True:
                connection.sock.sendall(b"x" * 65536)
        return "close"

    with WireServer(Script(endless)) as server, VllmClient(server.base_url) as client:
        with pytest.raises(vllm_client.BadRequestError) as raised:
            client.completions.create(prompt="x")
        assert 20000 <= len(raised.value.body) < 40000
        assert client.completions.create(prompt="x").text == "fine"
        assert server.connections == 2


def test_the_key_is_not_in_the_error() -> None:
    """A server that repeats the key is not quoted with it."""
    body = {"error": {"message": "no such key: sk-secret-1"}}

    def repeats(connection: Connection) -> None:
        connection.send_json(body, "401 Unauthorized")

    with (
        WireServer(Script(repeats)) as server,
        VllmClient(server.base_url, api_key="sk-secret-1") as client,
    ):
        with pytest.raises(vllm_client.AuthenticationError) as raised:
            client.completions.create(prompt="x")
    assert "sk-secret-1" not in f"{raised.value} {raised.value.body}"


def test_interim_answers_are_passed_over(call: Any) -> None:
    """100, 102 and 103 before the real answer are not taken for it."""

    def early(connection: Connection) -> None:
        connection.send(b"HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n")
        connection.send(b"HTTP/1.1 100 Continue\r\n\r\n" + b"HTTP/1.1 102 Processing\r\n\r\n")
        connection.send_json(chunk("late", finish="stop"))

    with WireServer(Script(early)) as server, VllmClient(server.base_url) as client:
        response = client.request("POST", "completions", json={})
        assert response.json()["choices"][0]["text"] == "late"
        assert call(client) in {"fine", "Hello"}
        assert server.connections == 1
