"""A session of the user's is used unchanged."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
import requests
import requests.adapters
import requests.auth
import requests.certs
import urllib3

from vllm_client import (
    APIConnectionError,
    InvalidStreamError,
    NotFoundError,
    StreamConsumedError,
    Text,
    VllmClient,
    VllmError,
)

from ..recorded import UNCHUNKED_HEAD, WHOLE, answer, stream_bytes
from ..servers import FINE, Serve
from .conftest import tls_context

EVENTS = stream_bytes(*WHOLE, head=UNCHUNKED_HEAD).removeprefix(UNCHUNKED_HEAD)
ANSWER = json.dumps(answer("mocked")).encode()


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as given:
        yield given


def test_a_session_is_used_unchanged_and_left_open(serve: Serve, session: requests.Session) -> None:
    """Adapters and headers of the session stay, and client.close() leaves it open."""
    session.headers["X-Mine"] = "1"
    session.headers["User-Agent"] = "me"
    adapters, headers = dict(session.adapters), dict(session.headers)
    served = serve(stream_bytes(*WHOLE), session=session)
    for _ in range(2):
        with served.client.completions.stream(prompt="x") as stream:
            assert stream.collect().text == "Hello"
    served.client.close()
    assert served.connections == 1
    assert session.get(served.server.url).status_code == 200
    assert served.connections == 1
    request = served.requests[0]
    assert (dict(session.adapters), dict(session.headers)) == (adapters, headers)
    assert session.auth is None
    assert request.headers["x-mine"] == "1"
    assert request.headers["user-agent"] == "me"
    assert request.headers["accept"] == "text/event-stream"
    assert request.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "Basic bWU6c2VjcmV0"),
        ({"api_key": "k"}, "Bearer k"),
        ({"headers": {"Authorization": "Token t"}}, "Token t"),
    ],
)
def test_the_auth_of_a_session_is_used_without_a_key(
    serve: Serve, session: requests.Session, settings: Dict[str, Any], expected: str
) -> None:
    """The client's key and headers take precedence over the session's auth."""
    session.auth = ("me", "secret")
    served = serve(FINE, session=session, **settings)
    served.client.completions.create(prompt="x")
    assert served.requests[0].headers["authorization"] == expected


class Adapter(requests.adapters.BaseAdapter):
    """An adapter that responds from memory, as mocks do."""

    def __init__(self, kind: str, status: int = 200) -> None:
        super().__init__()
        self.kind = kind
        self.status = status
        self.sent: List[Any] = []

    def send(self, request: Any, **options: Any) -> requests.Response:
        self.sent.append((request, options))
        response = requests.Response()
        response.status_code = self.status
        response.request = request
        response.url = request.url
        response.headers["content-type"] = "whatever"
        data = EVENTS if b'"stream":true' in request.body else ANSWER
        if self.kind == "content":
            response._content = data
        elif self.kind == "file":
            response.raw = io.BytesIO(data)
        else:
            response.raw = urllib3.HTTPResponse(io.BytesIO(data), preload_content=False)
        return response

    def close(self) -> None:
        raise AssertionError("only the owner of a session may close its adapters")


@pytest.fixture(params=["file", "urllib3", "content"])
def mocked(request: pytest.FixtureRequest) -> Any:
    session = requests.Session()
    session.mount("http://", Adapter(request.param))
    return session


def test_a_mocked_response(mocked: Any) -> None:
    """The raw response may be a plain file, urllib3's response, or only content."""
    with VllmClient("localhost:1", session=mocked) as client:
        assert client.completions.create(prompt="x").text == "mocked"
        with client.completions.stream(prompt="x") as stream:
            assert list(stream.text_deltas()) == ["Hel", "lo"]
        with client.completions.stream(prompt="x") as stream:
            assert next(stream) == Text("Hel")
        with pytest.raises(StreamConsumedError):
            next(stream)
    request, options = mocked.adapters["http://"].sent[0]
    assert request.method == "POST"
    assert options["stream"] is True


def test_a_mocked_error_response(mocked: Any) -> None:
    """Error statuses of a mock raise the same errors as those of a server."""
    mocked.adapters["http://"].status = 404
    with VllmClient("localhost:1", session=mocked) as client:
        with pytest.raises(NotFoundError) as raised:
            client.completions.create(prompt="x")
    assert raised.value.body["choices"][0]["text"] == "mocked"


def test_a_mock_closed_by_other_code(mocked: Any) -> None:
    """If other code closes the response, reading the stream raises a VllmError."""
    with VllmClient("localhost:1", session=mocked) as client:
        stream = client.completions.stream(prompt="x")
        stream.response.raw.close()
        with pytest.raises(VllmError):
            stream.collect()


def test_the_sessions_request_method_is_called(serve: Serve) -> None:
    """A subclass that overrides request() sees every call."""
    seen: List[Any] = []

    class Mine(requests.Session):
        def request(self, method: str, url: str, **options: Any) -> Any:
            seen.append((method, url, options["stream"], options["allow_redirects"]))
            return super().request(method, url, **options)

    with Mine() as session:
        served = serve(FINE, session=session)
        served.client.completions.stream(prompt="x").collect()
        assert seen == [("POST", f"{served.base_url}/completions", True, False)]


@pytest.mark.parametrize(
    "error",
    [
        requests.ConnectionError("no"),
        requests.exceptions.InvalidProxyURL("no"),
        urllib3.exceptions.ProtocolError("no"),
        OSError("no"),
        ValueError("no"),
        AttributeError("no"),
    ],
)
def test_errors_of_a_session_become_ours(error: Exception) -> None:
    """Errors of other libraries become an APIConnectionError with the original as cause."""

    class Failing(requests.Session):
        def request(self, *_: Any, **__: Any) -> Any:
            raise error

    with Failing() as session, VllmClient("localhost:1", session=session) as client:
        with pytest.raises(APIConnectionError) as raised:
            client.completions.create(prompt="x")
    assert raised.value.__cause__ is error


def test_a_hook_that_reads_the_response(
    serve: Serve,
    session: requests.Session,
) -> None:
    """A stream works although a session hook has read the response."""
    session.hooks["response"].append(lambda response, **_: response.content and None)
    served = serve(stream_bytes(*WHOLE), session=session)
    with served.client.completions.stream(prompt="x") as stream:
        assert stream.collect().text == "Hello"
    assert served.client.request("POST", "completions", json={"stream": True}).content
    assert served.connections == 1


def test_a_mocked_document_is_not_a_stream(mocked: Any) -> None:
    """The content type of a mocked response is checked too."""
    adapter = mocked.adapters["http://"]
    send = adapter.send

    def as_json(request: Any, **options: Any) -> requests.Response:
        response: requests.Response = send(request, **options)
        response.headers["content-type"] = "application/json"
        response.raw = io.BytesIO(b'{"detail": "no"}')
        response._content = False
        return response

    adapter.send = as_json
    with VllmClient("localhost:1", session=mocked) as client:
        with pytest.raises(InvalidStreamError, match="application/json"):
            client.completions.stream(prompt="x")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_with_an_adapter_that_cannot_be_closed() -> None:
    """After a fork, an adapter that cannot be closed is no error."""

    class Uncloseable(Adapter):
        close = requests.adapters.BaseAdapter.close

    session = requests.Session()
    session.mount("http://", Uncloseable("file"))
    with VllmClient("localhost:1", session=session) as client:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = int(client.completions.create(prompt="x").text != "mocked")
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0


def test_the_certificates_of_a_session_win(
    serve: Serve, session: requests.Session, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session's ``verify`` counts, whatever REQUESTS_CA_BUNDLE says."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", requests.certs.where())
    session.verify = str(certificate)
    served = serve(FINE, tls=tls_context(certificate), session=session, max_retries=0)
    assert served.client.completions.create(prompt="x").text == "fine"
