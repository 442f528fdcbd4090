"""The commands about the server and its tokenizer: what they print, and as JSON."""

from __future__ import annotations

import io
import json
import socket
import sys
import time
from typing import Any, Iterator, List

import pytest

from vllm_client.cli import INTERRUPTED, main
from vllm_client.testing import FakeServer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """An embedded server whose address is in VLLM_BASE_URL."""
    with FakeServer("tiny") as fake:
        monkeypatch.setenv("VLLM_BASE_URL", fake.base_url)
        yield fake


def lines(capsys: pytest.CaptureFixture[str]) -> List[str]:
    return capsys.readouterr().out.splitlines()


def objects(capsys: pytest.CaptureFixture[str]) -> List[Any]:
    return [json.loads(line) for line in lines(capsys)]


def test_models(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Each model and adapter has a line; as JSON it is the server's card."""
    server.enqueue(path="/v1/models", json={"data": [{"id": "ada", "parent": "tiny"}]})
    assert main(["models"]) == 0
    assert lines(capsys) == ["ada\tadapter of tiny"]
    assert main(["models"]) == 0
    assert lines(capsys) == ["tiny\t4096 tokens"]
    assert main(["models", "--json"]) == 0
    assert objects(capsys)[0]["id"] == "tiny"


def test_health(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit status says whether the server is there."""
    assert main(["health"]) == 0
    assert lines(capsys)[0].startswith("healthy\thttp://")
    server.enqueue(path="/health", status=503)
    assert main(["health", "--json"]) == 1
    assert objects(capsys) == [{"healthy": False}]
    server.enqueue(path="/health", status=503)
    assert main(["health"]) == 1
    assert lines(capsys)[0].startswith("not healthy")


def test_health_waits(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    """--wait waits until the server is ready, and says on stderr what for."""
    server.enqueue(path="/health", status=503)
    assert main(["health", "--wait", "20"]) == 0
    assert "engine is not ready" in capsys.readouterr().err


def test_version(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    """The version is printed, also as JSON."""
    assert main(["version"]) == 0
    assert lines(capsys) == ["0.32.0+fake"]
    assert main(["version", "--json"]) == 0
    assert objects(capsys) == [{"version": "0.32.0+fake"}]
    assert [request.path for request in server.requests] == ["/version"] * 2


def test_metrics(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    """VLLM's own metrics are printed with their values; others on demand."""
    assert main(["metrics"]) == 0
    found = lines(capsys)
    assert any("\tvllm:num_requests_running" in line for line in found)
    assert main(["metrics", "vllm:num_requests_running", "--json"]) == 0
    (values,) = objects(capsys)
    assert all(name.startswith("vllm:num_requests_running") for name in values)
    assert len(server.requests) == 2


def test_metrics_watch(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """--watch prints them again and again, until Ctrl-C."""
    pauses: List[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    assert main(["metrics", "--watch", "3", "--json"]) == INTERRUPTED
    assert pauses == [3.0, 3.0]
    assert len(objects(capsys)) == len(server.requests) == 2


def test_tokenize(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tokens and text turn into each other, from arguments and from standard input."""
    assert main(["tokenize", "Hello world", "--model", "tiny"]) == 0
    tokens = lines(capsys)[0].split("\t")
    assert main(["detokenize", *tokens]) == 0
    assert lines(capsys) == ["Hello world"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("Hello world"))
    assert main(["tokenize", "--json"]) == 0
    (found,) = objects(capsys)
    assert [str(token) for token in found["tokens"]] == tokens
    assert found["count"] == len(found["token_strs"]) == len(tokens)
    monkeypatch.setattr(sys, "stdin", io.StringIO(" ".join(tokens)))
    assert main(["detokenize", "--json"]) == 0
    assert objects(capsys) == [{"text": "Hello world"}]
    assert server.requests[0].json["model"] == "tiny"


def test_detokenize_keeps_blanks(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    """The text of tokens is printed as it is: blanks, tabs and line ends stay."""
    text = "  two  blanks\n\nlines\t end"
    assert main(["tokenize", text]) == 0
    assert main(["detokenize", *lines(capsys)[0].split("\t")]) == 0
    assert capsys.readouterr().out == f"{text}\n"


def test_model_of_unknown_length(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    """A server that does not tell the length of the context shows none."""
    server.enqueue(json={"object": "list", "data": [{"id": "m", "object": "model"}]})
    assert main(["models"]) == 0
    assert capsys.readouterr().out == "m\t\n"


@pytest.mark.parametrize("command", ["models", "health", "version", "metrics"])
def test_time_limit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """--timeout holds for the commands about the server too."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert main([command, "--base-url", url, "--timeout", "0.2"]) == 1
    out, err = capsys.readouterr()
    assert "total timeout of 0.2 s" in err or out.startswith("not healthy")


def test_a_server_without_the_route(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    """The advice about a wrong address names the option."""
    assert main(["version", "--base-url", f"{server.url}/x"]) == 1
    assert "check --base-url" in capsys.readouterr().err


@pytest.mark.parametrize("token", ["1.5", "-1", "x"])
def test_what_is_no_token(
    server: FakeServer, capsys: pytest.CaptureFixture[str], token: str
) -> None:
    """What cannot be a token id is named."""
    assert main(["detokenize", "--", "1", token]) == 1
    assert f"{token!r} is no token id" in capsys.readouterr().err
    assert len(server.requests) == 0


def test_token_that_is_no_number(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    """A token id that is no number is an error, and nothing is sent."""
    assert main(["detokenize", "x"]) == 1
    assert "'x'" in capsys.readouterr().err
    assert len(server.requests) == 0
