"""``vllm-client doctor``: what it finds, in which order, and what it advises."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest

from vllm_client import APIConnectionError
from vllm_client.cli import main
from vllm_client.cli._checks import _TOKENS, _server_advice, _tls_advice
from vllm_client.testing import FakeServer

from ..http.conftest import tls_context
from ..recorded import USAGE, chunk, event_bytes, json_bytes
from ..servers import Connection, Serve, WireServer
from .test_complete import Screen

Found = Dict[str, Any]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """An embedded server with a short pause before each event."""
    with FakeServer("tiny", delay=0.002) as fake:
        yield fake


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Callable[..., Dict[str, Found]]:
    """Run the command; what each check found, by its name."""

    def examine(base_url: str, *options: str, status: int = 0) -> Dict[str, Found]:
        assert main(["doctor", "--base-url", base_url, "--json", *options]) == status
        found = map(json.loads, capsys.readouterr().out.splitlines())
        return {each["check"]: each for each in found}

    return examine


def last(found: Dict[str, Found]) -> Found:
    return list(found.values())[-1]


def test_all_well(server: FakeServer, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that works has a line for each check, with colours on a terminal only."""
    assert main(["doctor", "--base-url", server.base_url]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0].split()[-1] for line in lines] == [
        *("address", "proxy", "connection", "TLS", "key", "health", "version", "model"),
        *("completion", "streaming", "idle"),
    ]
    assert f"streaming: {_TOKENS} chunks came one by one" in lines[-2]
    screen = Screen()
    monkeypatch.setattr("sys.stdout", screen)
    assert main(["doctor", "--base-url", server.base_url]) == 0
    assert "\x1b[32mok     \x1b[0m address" in screen.getvalue()


def test_advice_is_printed(capsys: Any) -> None:
    """Under a check that failed stands what to do; the status is 1."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    assert main(["doctor", "--base-url", f"http://127.0.0.1:{port}"]) == 1
    out = capsys.readouterr().out
    assert "failed  connection: no connection:" in out
    assert "        -> is `vllm serve` running there" in out


def test_no_address(doctor: Any) -> None:
    """A name without an address is found first; nothing else is tried."""
    found = doctor("http://nowhere.invalid", status=1)
    assert list(found) == ["address"]
    assert "spelling" in last(found)["advice"]


def test_proxy(server: FakeServer, doctor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment is named without its password; one that is gone is the cause."""
    monkeypatch.setenv("HTTP_PROXY", "http://me:secret@127.0.0.1:9")
    found = last(doctor(server.base_url, status=1))
    assert found["check"] == "proxy"
    assert "http://127.0.0.1:9 cannot be reached" in found["words"]
    assert "secret" not in str(found)


def test_reachable_proxy(server: FakeServer, doctor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests to this machine through a proxy are a warning; a name may be the proxy's to find."""
    with FakeServer("tiny") as proxy:  # It answers requests for whole addresses too, with 404.
        monkeypatch.setenv("HTTP_PROXY", proxy.url.removeprefix("http://"))
        found = doctor(server.base_url, status=1)
        assert found["proxy"]["state"] == "warning"
        assert "NO_PROXY" in found["proxy"]["advice"]
        assert found["connection"]["state"] == "skipped"
        assert last(found)["check"] == "key"
        found = doctor("http://nowhere.invalid", status=1)
        assert "left to the proxy" in found["address"]["words"]
        assert found["proxy"]["words"].startswith("requests go through http://127.0.0.1:")
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        assert doctor("https://nowhere.invalid", status=1)["TLS"]["state"] == "skipped"


def test_firewall(doctor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that nobody answers is told from one that is refused."""
    monkeypatch.setattr("vllm_client.cli._checks._PATIENCE", 0.05)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        waiting = []
        for _ in range(8):  # The queue of the listener is full after a few.
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
            waiting.append(sock)
        found = last(doctor(f"http://127.0.0.1:{full.getsockname()[1]}", status=1))
        for sock in waiting:
            sock.close()
    assert found["words"] == "no connection within 0.05 s"
    assert "firewall" in found["advice"]


def test_http_where_https_is_expected(server: FakeServer, doctor: Any) -> None:
    """A server without TLS behind an https address is told so."""
    found = last(doctor(server.base_url.replace("http:", "https:"), status=1))
    assert found["check"] == "TLS"
    assert "write http://" in found["advice"]


def test_tls(
    doctor: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, certificate: Path
) -> None:
    """A certificate of an unknown authority is found; REQUESTS_CA_BUNDLE makes it known."""

    def handler(connection: Connection) -> None:
        with suppress(OSError):  # A client that does not trust it breaks the handshake off.
            connection.start_tls(tls_context(certificate))
            while connection.receive():
                connection.send_json({"detail": "no"}, "503 Service Unavailable")

    with WireServer(handler) as server:
        url = server.base_url.replace("http:", "https:")
        found = last(doctor(url, status=1))
        assert found["check"] == "TLS"
        assert "REQUESTS_CA_BUNDLE" in found["advice"]
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        assert doctor(url, status=1)["TLS"]["state"] == "ok"
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path))
        assert doctor(url, status=1)["TLS"]["state"] == "failed"


def test_advice_on_a_certificate_behind_a_proxy() -> None:
    """A certificate that only the request meets has the same advice."""
    error = APIConnectionError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed")
    assert "REQUESTS_CA_BUNDLE" in _server_advice(error)


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("[SSL: WRONG_VERSION_NUMBER]", "write http://"),
        ("certificate has expired", "new one"),
        ("Hostname mismatch, certificate is not valid for 'x'", "use that name"),
        ("self-signed certificate", "REQUESTS_CA_BUNDLE"),
    ],
)
def test_advice_on_tls(message: str, advice: str) -> None:
    """Each kind of OpenSSL's messages has its advice."""
    assert advice in _tls_advice(message)


def test_key(doctor: Any) -> None:
    """A missing key and a wrong one are told apart; the right one passes."""
    with FakeServer(api_key="sk-right") as server:
        missing = last(doctor(server.base_url, status=1))
        wrong = last(doctor(server.base_url, "--api-key", "sk-wrong", status=1))
        right = doctor(server.base_url, "--api-key", "sk-right")
    assert missing["words"] == "the server wants a key, and none is set (401)"
    assert wrong["words"] == "the key is refused (401)"
    assert "--api-key KEY" in wrong["advice"]
    assert right["key"]["words"] == "accepted"


def test_wrong_path(server: FakeServer, doctor: Any) -> None:
    """An address whose path is not that of the API is found by its list of models."""
    found = last(doctor(f"{server.url}/v2", status=1))
    assert (found["check"], found["state"]) == ("key", "failed")
    assert "/v1" in found["advice"]


@pytest.mark.parametrize(
    ("status", "advice"), [(503, "the server starts"), (500, "see the log of the server")]
)
def test_server_errors(server: FakeServer, doctor: Any, status: int, advice: str) -> None:
    """An error of the server has the advice of its status."""
    server.enqueue(path="/v1/models", status=status)
    assert advice in last(doctor(server.base_url, status=1))["advice"]


def test_tls_where_http_is_expected(serve: Serve, doctor: Any) -> None:
    """A port that closes without an answer may speak TLS."""
    served = serve(handler=lambda connection: connection.receive())
    assert "write https://" in last(doctor(served.base_url, status=1))["advice"]


def test_health(server: FakeServer, doctor: Any) -> None:
    """A dead engine ends the search; a gateway without /health is a warning."""
    server.enqueue(path="/health", status=404)
    assert doctor(server.base_url)["health"]["state"] == "warning"
    server.enqueue(path="/health", status=503)
    assert last(doctor(server.base_url, status=1))["check"] == "health"


def test_version(server: FakeServer, doctor: Any) -> None:
    """A server without a version is a warning."""
    server.enqueue(path="/version", status=404)
    assert doctor(server.base_url)["version"]["state"] == "warning"


def test_models(doctor: Any) -> None:
    """The default model is named; a wrong name has the nearest one as advice."""
    with FakeServer(models=["tiny", "large"]) as server:
        assert doctor(server.base_url)["model"]["words"] == "tiny (of tiny, large)"
        assert doctor(server.base_url, "--model", "large")["model"]["words"] == "large"
        assert last(doctor(server.base_url, "--model", "largo", status=1))["advice"] == (
            "--model large"
        )
        assert server.requests[-1].path == "/version"
        server.always(path="/v1/models", json={"data": []})
        assert last(doctor(server.base_url, status=1))["words"] == "the server has no model"


@pytest.mark.parametrize(("status", "advice"), [(404, "pooling"), (502, "the server starts")])
def test_completion(server: FakeServer, doctor: Any, status: int, advice: str) -> None:
    """A completion that fails ends the search."""
    server.enqueue(path="/v1/completions", status=status)
    found = last(doctor(server.base_url, status=1))
    assert found["check"] == "completion"
    assert advice in found["advice"]


def test_stream_that_breaks_off(server: FakeServer, doctor: Any) -> None:
    """A stream that is cut is the failure, not a short answer."""
    server.enqueue(path="/v1/completions")
    server.enqueue(path="/v1/completions", cut_after=3)
    assert last(doctor(server.base_url, status=1))["check"] == "streaming"


class Gateway:
    """Answers as a server behind a gateway; ``stream`` is the body of a stream."""

    def __init__(self, stream: Callable[[Connection], None]) -> None:
        self.stream = stream

    def __call__(self, connection: Connection) -> None:
        answers = {
            "/v1/models": json_bytes({"data": [{"id": "m", "max_model_len": 100}]}),
            "/version": json_bytes({"version": "1"}),
        }
        while True:
            request = connection.receive()
            if request is None:
                return
            if b'"stream":true' in request.body:
                self.stream(connection)
                return
            body = {**chunk("x", finish="length"), "usage": USAGE}
            connection.send(answers.get(request.path) or json_bytes(body))


def held_back(count: int) -> Callable[[Connection], None]:
    """A stream of which everything comes at once, through nginx."""

    def send(connection: Connection) -> None:
        events: List[Any] = [chunk("x") for _ in range(count)]
        events += [chunk("", finish="length"), "[DONE]"]
        body = b"".join(map(event_bytes, events))
        head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nserver: nginx\r\n"
        head += "via: 1.1 squid\r\ncf-ray: 1\r\nconnection: close\r\n\r\n"
        threading.Event().wait(0.05)  # It waits for the last token: that is what is simulated.
        connection.send(head.encode() + body)

    return send


def test_buffered_stream(serve: Serve, doctor: Any) -> None:
    """A stream that a gateway holds back is a warning that names the gateway."""
    found = doctor(serve(handler=Gateway(held_back(31))).base_url)["streaming"]
    assert found["state"] == "warning"
    assert "32 chunks came in 1 pieces, through 1.1 squid, nginx, Cloudflare" in found["words"]
    assert "proxy_buffering" in found["advice"]


def test_short_stream(serve: Serve, doctor: Any) -> None:
    """A stream of a few chunks tells nothing about buffers."""
    found = doctor(serve(handler=Gateway(held_back(1))).base_url)["streaming"]
    assert found["state"] == "skipped"
    assert "2 chunks are too few to tell" in found["words"]


def test_idle(server: FakeServer, doctor: Any) -> None:
    """--idle waits for a late response, as long as the context allows."""
    found = doctor(server.base_url, "--idle", "0.001")["idle"]
    assert (found["state"], found["words"][-17:]) == ("ok", "of silence passed")
    found = doctor(server.base_url, "--idle", "100")["idle"]
    assert found["state"] == "skipped"
    assert "the context is too short" in found["words"]


def test_idle_is_cut(server: FakeServer, doctor: Any) -> None:
    """A response that is cut after a silence is a failure that names the time-out to raise."""
    server.enqueue(path="/v1/completions", times=2)
    server.enqueue(path="/v1/completions", status=504)
    found = last(doctor(server.base_url, "--idle", "1", status=1))
    assert found["check"] == "idle"
    assert "proxy_read_timeout" in found["advice"]
