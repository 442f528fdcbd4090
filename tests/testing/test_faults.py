"""Scripted responses and scripted faults of the fake server, and clients that leave early."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from typing import Any, Iterator

import pytest

from vllm_client.testing import FakeServer, pytest_plugin

fake_vllm = pytest_plugin.fake_vllm

WAIT = 10.0
DONE = "data: [DONE]"
WORDS = "Machine learning is fun."


class Client:
    """A connection that sends completion requests and reads responses, also in parts."""

    def __init__(self, server: FakeServer) -> None:
        self.connection = http.client.HTTPConnection(server.url[len("http://") :], timeout=WAIT)

    def send(self, path: str = "/v1/completions", **body: Any) -> http.client.HTTPResponse:
        """Send a request; return the response when its head has arrived."""
        headers = {"Content-Type": "application/json"}
        self.connection.request("POST", path, json.dumps({"prompt": "Hi", **body}), headers)
        return self.connection.getresponse()

    def ask(self, **body: Any) -> tuple[int, Any]:
        """Send a request; return the status and the JSON of the response."""
        response = self.send(**body)
        return response.status, json.loads(response.read())

    def stream(self, **body: Any) -> list[str]:
        """Return the blocks of a stream whose HTTP body ends correctly."""
        return blocks(self.send(stream=True, **body).read())


def blocks(body: bytes) -> list[str]:
    """The blocks of a stream: the text between blank lines."""
    return [each for each in body.decode().split("\n\n") if each]


@pytest.fixture
def client(fake_vllm: FakeServer) -> Iterator[Client]:
    """A client of the server of ``fake_vllm``."""
    client = Client(fake_vllm)
    yield client
    client.connection.close()


# --- scripted responses -----------------------------------------------------------------------


def test_scripts_come_first_in_first_out(fake_vllm: FakeServer, client: Client) -> None:
    """Each script is used once, in order; then the server generates responses again."""
    fake_vllm.enqueue(text="one")
    fake_vllm.enqueue(text="two", times=2)
    assert fake_vllm.pending == 3
    texts = [client.ask()[1]["choices"][0]["text"] for _ in range(4)]
    assert texts[:3] == ["one", "two", "two"]
    assert texts[3] not in ("one", "two")
    assert fake_vllm.pending == 0


def test_a_scripted_text_is_exact(fake_vllm: FakeServer, client: Client) -> None:
    """A scripted text ignores the limits of the request; a stream splits it into tokens."""
    fake_vllm.enqueue(text=WORDS, headers={"X-Mine": "yes"}, times=2)
    response = client.send(max_tokens=1)
    answer = json.loads(response.read())
    assert response.headers["X-Mine"] == "yes"
    assert answer["choices"][0]["text"] == WORDS
    assert answer["choices"][0]["finish_reason"] == "stop"
    *events, done = client.stream(max_tokens=1)
    pieces = [json.loads(each[len("data: ") :])["choices"][0]["text"] for each in events]
    assert (pieces[0], "".join(pieces), done) == ("Machine", WORDS, DONE)


@pytest.mark.parametrize("reason", ["length", "repetition"])
def test_a_scripted_text_has_a_finish_reason(
    fake_vllm: FakeServer, client: Client, reason: str
) -> None:
    """A scripted finish reason is sent, also for an empty text."""
    for text in (WORDS, ""):
        fake_vllm.enqueue(text=text, finish_reason=reason)
        choice = client.ask()[1]["choices"][0]
        assert (choice["text"], choice["finish_reason"]) == (text, reason)


def test_a_whole_body_can_be_scripted(fake_vllm: FakeServer, client: Client) -> None:
    """Scripted JSON, text and bytes are sent unchanged, with the scripted status and headers."""
    fake_vllm.enqueue(json={"any": ["thing"]}, status=202)
    assert client.ask() == (202, {"any": ["thing"]})
    for body in ("<h1>Bad gateway</h1>", b"<h1>Bad gateway</h1>"):
        fake_vllm.enqueue(body=body, status=502, headers={"Content-Type": "text/html"})
        response = client.send()
        assert (response.status, response.read()) == (502, b"<h1>Bad gateway</h1>")
        assert response.headers.get_all("content-type") == ["text/html"]


def test_a_status_without_a_phrase_is_sent(fake_vllm: FakeServer, client: Client) -> None:
    """A status without a reason phrase in HTTP is sent."""
    fake_vllm.enqueue(status=599)
    assert client.send().status == 599


def test_a_stream_can_be_scripted(fake_vllm: FakeServer, client: Client) -> None:
    """A dict is sent as JSON data, a string as data unchanged, bytes without any framing."""
    chunks = [{"a": "\u00e9"}, "not JSON", b": keep-alive\n\n"]
    fake_vllm.enqueue(chunks=chunks)
    fake_vllm.enqueue(chunks=chunks, done=False)
    expected = ['data: {"a":"\u00e9"}', "data: not JSON", ": keep-alive"]
    assert client.stream() == [*expected, DONE]
    assert client.stream() == expected


def test_errors_have_vllms_shape(fake_vllm: FakeServer, client: Client) -> None:
    """A scripted error is sent in vLLM's format, with the scripted headers."""
    fake_vllm.enqueue(error="Come again", status=503, headers={"Retry-After": "0"})
    response = client.send(stream=True)
    assert response.headers["Retry-After"] == "0"
    assert json.loads(response.read()) == {
        "error": {
            "message": "Come again",
            "type": "ServiceUnavailableError",
            "param": None,
            "code": 503,
        }
    }


def test_an_error_needs_no_more_than_a_status(fake_vllm: FakeServer, client: Client) -> None:
    """A status without content is an error, and an error without a status has status 500."""
    fake_vllm.enqueue(status=429)
    fake_vllm.enqueue(error="Oh")
    status, answer = client.ask()
    assert (status, answer["error"]["type"]) == (429, "Too Many Requests")
    assert client.ask()[0] == 500


def test_a_script_may_be_for_one_path(fake_vllm: FakeServer, client: Client) -> None:
    """A script with ``path`` is used only for requests to this path."""
    fake_vllm.enqueue(json={"for": "tokenize"}, path="/tokenize")
    assert "choices" in client.ask()[1]
    assert client.ask(path="/tokenize")[1] == {"for": "tokenize"}


def test_a_text_is_only_for_completions(fake_vllm: FakeServer, client: Client) -> None:
    """A scripted text is not used for a route that generates no text."""
    fake_vllm.enqueue(text="mine")
    assert client.ask(path="/tokenize")[1]["count"] == 2
    assert client.ask()[1]["choices"][0]["text"] == "mine"


def test_always_sets_the_response(fake_vllm: FakeServer, client: Client) -> None:
    """``always`` sets the response when nothing is enqueued; ``always()`` resets it."""
    fake_vllm.always(text="always")
    fake_vllm.enqueue(text="first")
    texts = [client.ask()[1]["choices"][0]["text"] for _ in range(3)]
    assert texts == ["first", "always", "always"]
    assert client.ask(path="/tokenize")[1]["count"] == 2
    fake_vllm.always()
    assert client.ask()[1]["choices"][0]["text"] != "always"


def test_mistakes_in_scripts_are_errors(fake_vllm: FakeServer) -> None:
    """``enqueue`` raises an error for an unknown field and for two contents at once."""
    misspelt: Any = {"txet": "Hi"}
    with pytest.raises(TypeError, match="txet"):
        fake_vllm.enqueue(**misspelt)
    with pytest.raises(ValueError, match="got \\['text', 'json'\\]"):
        fake_vllm.enqueue(text="Hi", json={})


@pytest.mark.parametrize("call", [("get_weather", {}), {"arguments": {}}])
def test_tool_calls_are_checked(call: Any) -> None:
    """A tool call of a script that is no dict with a name is refused when it is enqueued."""
    with FakeServer() as server:
        with pytest.raises(TypeError, match="a tool call must be a dict"):
            server.enqueue(tool_calls=[call])


def test_a_scripted_response_requires_the_key() -> None:
    """A scripted response still requires the API key."""
    with FakeServer(api_key="secret") as server:
        server.enqueue(text="Hi")
        client = Client(server)
        assert client.ask() == (401, {"error": "Unauthorized"})
        client.connection.close()


# --- faults -----------------------------------------------------------------------------------


def read_to_the_cut(response: http.client.HTTPResponse) -> bytes:
    """Return the bytes that arrive before the connection breaks."""
    with pytest.raises(http.client.IncompleteRead) as caught:
        response.read()
    return caught.value.partial


@pytest.mark.parametrize("count", [0, 2, 5])
def test_a_stream_can_be_cut(fake_vllm: FakeServer, client: Client, count: int) -> None:
    """``cut_after`` closes the connection after this many SSE events, without ending the body."""
    fake_vllm.enqueue(text=WORDS, cut_after=count)
    assert len(blocks(read_to_the_cut(client.send(stream=True)))) == count


@pytest.mark.parametrize("count", [0, 2, 5])
def test_a_cut_can_look_like_an_end(fake_vllm: FakeServer, client: Client, count: int) -> None:
    """With ``clean`` the body ends correctly but without [DONE], and the connection stays open."""
    fake_vllm.enqueue(text=WORDS, cut_after=count, clean=True)
    found = client.stream()
    assert len(found) == count
    assert DONE not in found
    assert client.ask()[0] == 200


def test_a_cut_may_come_after_the_last_event(fake_vllm: FakeServer, client: Client) -> None:
    """A cut after [DONE] omits only the HTTP chunk that ends the body."""
    fake_vllm.enqueue(chunks=["one"], cut_after=2)
    assert blocks(read_to_the_cut(client.send(stream=True))) == ["data: one", DONE]


def test_a_whole_answer_can_be_cut(fake_vllm: FakeServer, client: Client) -> None:
    """A response that is not streamed is cut in the middle of its body."""
    fake_vllm.enqueue(text=WORDS, cut_after=1)
    assert read_to_the_cut(client.send())


def test_a_connection_can_be_dropped(fake_vllm: FakeServer, client: Client) -> None:
    """With ``drop`` the server records the request and sends no byte."""
    fake_vllm.enqueue(drop=True)
    with pytest.raises(http.client.RemoteDisconnected):
        client.send()
    assert len(fake_vllm.requests) == 1
    client.connection.close()
    assert client.ask()[0] == 200


@pytest.mark.parametrize("count", [0, 2])
def test_an_error_can_come_in_a_stream(fake_vllm: FakeServer, client: Client, count: int) -> None:
    """``error_after`` sends an error event and [DONE] in place of the remaining events."""
    fake_vllm.enqueue(text=WORDS, error_after=count, error="Full", status=503)
    *events, frame, done = client.stream()
    assert len(events) == count
    error = '{"message": "Full", "type": "ServiceUnavailableError", "param": null, "code": 503}'
    assert (frame, done) == (f'data: {{"error": {error}}}', DONE)
    assert client.ask()[0] == 200


def test_an_error_in_a_whole_answer_is_its_status(fake_vllm: FakeServer, client: Client) -> None:
    """``error_after`` makes a response without a stream an HTTP error, by default 500."""
    fake_vllm.enqueue(error_after=3)
    status, answer = client.ask()
    assert (status, answer["error"]["message"][:10]) == (500, "EngineCore")
    fake_vllm.enqueue(error_after=3, error="Full", status=503)
    assert client.ask()[0] == 503


def test_a_completion_can_be_aborted(fake_vllm: FakeServer, client: Client) -> None:
    """``abort_after`` stops each choice after this many tokens, streamed or not."""
    fake_vllm.enqueue(text=WORDS, abort_after=2, times=2)
    _, answer = client.ask(n=2)
    found = [(each["text"], each["finish_reason"]) for each in answer["choices"]]
    assert found == [("Machine learning", "abort")] * 2
    *events, done = client.stream()
    choices = [json.loads(each[len("data: ") :])["choices"][0] for each in events]
    assert [each["text"] for each in choices] == ["Machine", " learning", ""]
    assert (choices[-1]["finish_reason"], done) == ("abort", DONE)


def test_an_abort_may_come_before_the_first_token(fake_vllm: FakeServer, client: Client) -> None:
    """An abort after 0 tokens sends only the finish reason; a shorter text is not aborted."""
    fake_vllm.enqueue(text=WORDS, abort_after=0)
    event, _ = client.stream()
    assert json.loads(event[len("data: ") :])["choices"][0]["finish_reason"] == "abort"
    fake_vllm.enqueue(text="Hi", abort_after=9)
    assert client.ask()[1]["choices"][0]["finish_reason"] == "stop"


def test_always_sets_a_fault(fake_vllm: FakeServer, client: Client) -> None:
    """``always`` with only a fault applies the fault to every generated response."""
    fake_vllm.always(abort_after=1)
    for _ in range(2):
        assert client.ask()[1]["choices"][0]["finish_reason"] == "abort"


# --- clients that leave -----------------------------------------------------------------------


def metric(server: FakeServer, name: str) -> float:
    """Return the value of one metric; ``name`` may include the first labels."""
    client = Client(server)
    client.connection.request("GET", "/metrics")
    page = client.connection.getresponse().read().decode()
    client.connection.close()
    [line] = [line for line in page.splitlines() if line.startswith(f"vllm:{name}")]
    return float(line.split()[-1])


def hang_up(client: Client, response: http.client.HTTPResponse) -> None:
    """Close the response and the connection: http.client keeps the socket open for both."""
    response.close()
    client.connection.close()


ABORTS = 'request_success_total{engine="0",finished_reason="abort"'


@pytest.mark.parametrize("script", [{}, {"text": WORDS}, {"chunks": ["one", "two", "three"]}])
def test_a_client_that_leaves_is_noticed(
    fake_vllm: FakeServer, client: Client, script: dict[str, Any]
) -> None:
    """A stalled stream ends when the client closes the connection, and counts as aborted."""
    fake_vllm.enqueue(stall_after=2, **script)
    response = client.send(stream=True)
    assert response.readline().startswith(b"data: ")
    assert metric(fake_vllm, "num_requests_running") == 1
    hang_up(client, response)
    fake_vllm.wait_for_abort(timeout=WAIT)
    assert fake_vllm.aborted == 1
    assert metric(fake_vllm, ABORTS) == 1
    assert metric(fake_vllm, "num_requests_running") == 0


def test_each_choice_of_a_client_that_left_is_aborted(
    fake_vllm: FakeServer, client: Client
) -> None:
    """The metrics count each choice of an aborted request as aborted."""
    fake_vllm.enqueue(stall_after=0)
    hang_up(client, client.send(stream=True, n=3))
    fake_vllm.wait_for_abort(timeout=WAIT)
    assert metric(fake_vllm, ABORTS) == 3


def test_leaving_before_the_response_is_noticed(fake_vllm: FakeServer) -> None:
    """A client that leaves before a stalled response has begun counts as aborted."""
    fake_vllm.enqueue(stall_after=0)
    client = Client(fake_vllm)
    client.connection.request(
        "POST", "/v1/completions", '{"prompt": "Hi"}', {"Content-Type": "application/json"}
    )
    fake_vllm.wait_for(1, timeout=WAIT)
    client.connection.close()
    fake_vllm.wait_for_abort(timeout=WAIT)


def test_a_reset_is_noticed(fake_vllm: FakeServer, client: Client) -> None:
    """A connection that the client resets counts as aborted."""
    fake_vllm.enqueue(stall_after=1)
    response = client.send(stream=True)
    assert response.readline().startswith(b"data: ")
    linger = socket.SO_LINGER
    client.connection.sock.setsockopt(socket.SOL_SOCKET, linger, b"\1\0\0\0\0\0\0\0")
    hang_up(client, response)
    fake_vllm.wait_for_abort(timeout=WAIT)


def test_leaving_is_noticed_between_events(fake_vllm: FakeServer, client: Client) -> None:
    """A client that leaves during a delay is noticed at once, not after the delay."""
    fake_vllm.enqueue(chunks=["one"] * 3, delay=0)
    fake_vllm.enqueue(chunks=["one"] * 3, delay=1000 * WAIT)
    assert len(client.stream()) == 4
    response = client.send(stream=True)
    hang_up(client, response)
    fake_vllm.wait_for_abort(timeout=WAIT)


def test_a_delay_does_not_change_responses() -> None:
    """A server with a delay sends complete responses."""
    with FakeServer(delay=0.001) as server:
        client = Client(server)
        assert client.ask()[0] == 200
        assert client.stream()[-1] == DONE
        client.connection.close()


def test_a_client_that_sends_ahead_can_be_stalled(fake_vllm: FakeServer) -> None:
    """Bytes of the next request do not end a stall; closing the server does."""
    fake_vllm.enqueue(stall_after=1)
    client = Client(fake_vllm)
    response = client.send(stream=True)
    client.connection.sock.sendall(b"GET /health HTTP/1.1\r\n\r\n")
    assert response.readline().startswith(b"data: ")
    fake_vllm.close()
    assert fake_vllm.aborted == 0
    hang_up(client, response)


def test_a_broken_connection_is_noticed(fake_vllm: FakeServer, client: Client) -> None:
    """A connection that breaks while the server sends a long response counts as aborted."""
    fake_vllm.enqueue(chunks=["x" * 10**7] * 3)
    response = client.send(stream=True)
    assert response.read(10)
    hang_up(client, response)
    fake_vllm.wait_for_abort(timeout=WAIT)


def test_leaving_after_the_answer_aborts_nothing(fake_vllm: FakeServer, client: Client) -> None:
    """A client that leaves after the last generated event has aborted nothing."""
    fake_vllm.enqueue(text="Hi")
    response = client.send(stream=True, stream_options={"include_usage": True})
    while b'"finish_reason":"stop"' not in response.readline():
        pass
    hang_up(client, response)
    fake_vllm.close()
    assert fake_vllm.aborted == 0


def test_closing_does_not_wait_for_a_slow_reader(fake_vllm: FakeServer, client: Client) -> None:
    """A server can be closed while it blocks on sending to a client that does not read."""
    fake_vllm.enqueue(chunks=["x" * 10**7] * 3)
    response = client.send(stream=True)
    fake_vllm.close()
    hang_up(client, response)


def test_closing_ends_open_streams(fake_vllm: FakeServer, client: Client) -> None:
    """Closing the server ends open streams at once and counts no client as aborted."""
    before = threading.active_count()
    fake_vllm.enqueue(stall_after=1)
    response = client.send(stream=True)
    assert response.readline().startswith(b"data: ")
    fake_vllm.close()
    assert threading.active_count() == before - 1
    with pytest.raises(http.client.IncompleteRead):
        response.read()
    assert fake_vllm.aborted == 0
    hang_up(client, response)
