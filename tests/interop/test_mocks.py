"""Libraries that answer or record the calls of requests work with our client, without settings."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Iterator

import pytest
import requests

from vllm_client import NotFoundError, VllmClient

from ..recorded import UNCHUNKED_HEAD, WHOLE, answer, stream_bytes
from ..servers import FINE, Serve, Served, WireServer, replying

STREAM = stream_bytes(*WHOLE, head=UNCHUNKED_HEAD).removeprefix(UNCHUNKED_HEAD)
EVENTS = {"content-type": "text/event-stream"}


@pytest.fixture
def served(serve: Serve) -> Iterator[Served]:
    """A real server, which must not be asked, and a client that has used it before."""
    served = serve(FINE)
    assert served.client.completions.create(prompt="x").text == "fine"
    yield served
    assert len(served.requests) == 1


def streamed(client: VllmClient) -> str:
    with client.completions.stream(prompt="x") as stream:
        return "".join(stream.text_deltas())


def test_requests_mock(served: Served) -> None:
    """requests-mock answers create(), a stream and an error instead of the server."""
    requests_mock = pytest.importorskip("requests_mock")
    url = f"{served.base_url}/completions"
    with requests_mock.Mocker() as mocker:
        mocker.post(url, json=answer("mocked"))
        assert served.client.completions.create(prompt="x").text == "mocked"
        assert mocker.last_request.json()["prompt"] == "x"
        mocker.post(url, content=STREAM, headers=EVENTS)
        assert streamed(served.client) == "Hello"
        mocker.post(url, status_code=404, json={"error": {"message": "no"}})
        with pytest.raises(NotFoundError, match="no"):
            served.client.completions.create(prompt="x")


def test_responses(served: Served) -> None:
    """The library responses answers create(), a stream and an error instead of the server."""
    responses = pytest.importorskip("responses")
    url = f"{served.base_url}/completions"
    with responses.RequestsMock() as mocker:
        mocker.post(url, json=answer("mocked"))
        mocker.post(url, body=STREAM, content_type="text/event-stream")
        mocker.post(url, status=404, json={"error": {"message": "no"}})
        assert served.client.completions.create(prompt="x").text == "mocked"
        assert json.loads(mocker.calls[0].request.body)["prompt"] == "x"
        assert streamed(served.client) == "Hello"
        with pytest.raises(NotFoundError, match="no"):
            served.client.completions.create(prompt="x")


def exchange(base_url: str) -> None:
    with VllmClient(base_url, max_retries=0) as client:
        assert client.completions.create(prompt="x").text == "fine"
        assert streamed(client) == "Hello"


def test_vcrpy_records_and_plays(tmp_path: Path) -> None:
    """A cassette of vcrpy holds create() and a stream; it answers when the server is gone."""
    vcr = pytest.importorskip("vcr")
    cassette = str(tmp_path / "cassette.yaml")
    with WireServer(replying(FINE)) as server:
        with vcr.use_cassette(cassette):
            exchange(server.base_url)
        assert len(server.requests) == 2
    with vcr.use_cassette(cassette, record_mode="none") as played:
        exchange(server.base_url)
    assert played.play_count == 2


def test_vcrpy_with_a_client_made_before(tmp_path: Path, serve: Serve) -> None:
    """A client with an open connection is recorded too, and works without the cassette again."""
    vcr = pytest.importorskip("vcr")
    served = serve(FINE)
    for mode in ("once", "none"):
        assert served.client.completions.create(prompt="x").text == "fine"
        with vcr.use_cassette(str(tmp_path / "cassette.yaml"), record_mode=mode) as cassette:
            assert streamed(served.client) == "Hello"
    assert cassette.play_count == 1
    assert served.client.completions.create(prompt="x").text == "fine"
    assert [request.json.get("stream", False) for request in served.requests] == [
        *(False, True),
        *(False, False),
    ]


FIRST_USE = {
    "vcr": """
import vcr
with vcr.use_cassette(folder + "/cassette.yaml") as cassette:
    use()
assert len(cassette) == 2, len(cassette)
use()
assert len(cassette) == 2, len(cassette)
""",
    "requests_mock": """
import requests_mock
with requests_mock.Mocker(real_http=True) as mocker:
    use()
assert mocker.call_count == 2, mocker.call_count
""",
    "responses": """
import responses
with responses.RequestsMock() as mocker:
    mocker.add_passthru("http://127.0.0.1")
    use()
""",
    "opentelemetry.instrumentation.requests": """
from opentelemetry.instrumentation.requests import RequestsInstrumentor
seen = []
RequestsInstrumentor().instrument(request_hook=lambda *_: seen.append(1))
use()
assert len(seen) == 2, seen
""",
}
USE = """
import sys
base_url, folder = sys.argv[1:]
def use():
    import vllm_client
    with vllm_client.VllmClient(base_url, max_retries=0) as client:
        assert client.completions.create(prompt="x").text == "fine"
        with client.completions.stream(prompt="x") as stream:
            assert stream.collect().text == "Hello"
"""


@pytest.mark.parametrize("tool", FIRST_USE)
def test_a_tool_that_is_at_work_before_the_client_is_imported(tool: str, tmp_path: Path) -> None:
    """A tool that was switched on before vllm_client is imported sees the calls as well."""
    pytest.importorskip(tool)
    with WireServer(replying(FINE)) as server:
        program = [sys.executable, "-c", USE + FIRST_USE[tool], server.base_url, str(tmp_path)]
        done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_a_users_session_under_a_mock(serve: Serve) -> None:
    """requests-mock sees the calls of a user's session too."""
    requests_mock = pytest.importorskip("requests_mock")
    with requests.Session() as session:
        served = serve(FINE, session=session)
        with requests_mock.Mocker() as mocker:
            mocker.post(f"{served.base_url}/completions", json=answer("mocked"))
            assert served.client.completions.create(prompt="x").text == "mocked"
    assert not served.requests
