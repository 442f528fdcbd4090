"""The embedded server sleeps, pauses and aborts: what that does to generations."""

from __future__ import annotations

import json
from typing import Any, Iterator, List

import pytest

from vllm_client import GenerationAbortedError, Text, VllmClient
from vllm_client.testing import FakeServer
from vllm_client.testing._routes.running import Running as Generation

from ..recorded import HELLO, body_of, capture
from ..threads import Running


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer("tiny") as fake:
        yield fake


@pytest.fixture
def client(server: FakeServer) -> Iterator[VllmClient]:
    with VllmClient(server.base_url, max_retries=0) as opened:
        yield opened


PATH = "/v1/completions"
ABORTED = 'finished_reason="abort"'


def abort_until_ended(client: VllmClient, running: Running) -> None:
    """Abort all; again, because the server may not have begun to work on the request."""
    while running.is_alive():
        client.server.abort(["cmpl-nobody-0"])
        client.request("POST", "/abort_requests")
        running.join(0.05)


def texts(stream: Any) -> List[str]:
    return [event.text for event in stream if isinstance(event, Text)]


@pytest.mark.parametrize("stop", ["pause", "sleep", "abort"])
def test_a_stream_is_aborted(server: FakeServer, client: VllmClient, stop: str) -> None:
    """Running choices end with the finish reason ``abort``; usage has the tokens that were sent."""
    server.enqueue(stall_after=4, path=PATH)
    with client.completions.stream(prompt="x", n=2, max_tokens=9, ignore_eos=True) as stream:
        begun = [next(stream) for _ in range(4)]
        if stop == "abort":
            client.server.abort([f"{stream.snapshot.id}-0"])
        else:
            getattr(client.server, stop)()
        with pytest.raises(GenerationAbortedError) as caught:
            list(stream)
    partial = caught.value.partial
    assert [choice.finish_reason for choice in partial.choices] == ["abort", "abort"]
    assert "".join(event.text for event in begun if event.index == 0) == partial.choices[0].text
    assert partial.usage.completion_tokens == 4


def test_the_last_chunk_is_that_of_vllm(server: FakeServer, client: VllmClient) -> None:
    """The chunk of an abort has the fields of a real server, and ``[DONE]`` follows."""
    recorded = body_of(capture("dev_abort_stream")[1]).split(b"data: ")
    server.enqueue(stall_after=1, path=PATH)
    with client.request("POST", PATH, json={"prompt": "x", "stream": True}, stream=True) as stream:
        next(stream)
        client.server.pause()
        ended, done = (event.data for event in stream)
    ours, theirs = json.loads(ended), json.loads(recorded[-2].split(b"\r\n")[0])
    assert (done, ours.keys()) == ("[DONE]", theirs.keys())
    changing = {"text": "", "logprobs": None, "token_ids": None, "prompt_token_ids": None}
    assert ours["choices"] == [{**theirs["choices"][0], **changing}]


CALLS: List[Any] = [
    ("/v1/completions", lambda client: client.completions.create(prompt="x")),
    ("/v1/chat/completions", lambda client: client.chat.completions.create(messages=HELLO)),
    ("/inference/v1/generate", lambda client: client.generate.create(token_ids=[5, 6])),
]


@pytest.mark.parametrize(("path", "call"), CALLS)
def test_a_whole_response_is_aborted(
    server: FakeServer, client: VllmClient, path: str, call: Any
) -> None:
    """A response that has not been sent yet ends with ``abort``, and metrics count it so."""
    server.enqueue(stall_after=0, path=path)
    running = Running(lambda: call(client))
    server.wait_for(1)
    abort_until_ended(client, running)
    assert isinstance(running.error(), GenerationAbortedError)
    (line,) = [line for line in client.server.metrics(raw=True).splitlines() if ABORTED in line]
    assert line.endswith(" 1.0")


STREAMS: List[Any] = [
    ("/v1/chat/completions", lambda client: client.chat.completions.stream(messages=HELLO)),
    (
        "/inference/v1/generate",
        lambda client: client.generate.stream(token_ids=[5, 6], max_tokens=9, ignore_eos=True),
    ),
]


@pytest.mark.parametrize(("path", "start"), STREAMS)
def test_streams_of_other_routes_are_aborted(
    server: FakeServer, client: VllmClient, path: str, start: Any
) -> None:
    """A conversation and a generation of tokens end with ``abort`` too."""
    server.enqueue(stall_after=2, path=path)
    with start(client) as stream:
        next(stream)
        client.request("POST", "/abort_requests", json={"request_ids": []})
        with pytest.raises(GenerationAbortedError):
            list(stream)


def test_an_aborted_body_without_choices(server: FakeServer, client: VllmClient) -> None:
    """A scripted response without choices, or a refusal, is sent as it is."""
    server.enqueue(body=b"[1]", stall_after=0, path="/v1/completions")
    running = Running(lambda: client.request("POST", "/v1/completions", json={}))
    server.wait_for(1)
    abort_until_ended(client, running)
    assert running.result().json() == [1]


def test_the_stream_of_a_response_is_not_cut(server: FakeServer, client: VllmClient) -> None:
    """A stream without choices ends as it would have."""
    server.enqueue(stall_after=2, path="/v1/responses")
    with client.responses.stream(input="x", max_output_tokens=5) as stream:
        next(stream)
        client.server.abort(["cmpl-other-0"])
        client.server.pause()
        assert list(stream)[-1].type == "response.completed"


def test_kept_generations_go_on(server: FakeServer, client: VllmClient) -> None:
    """With ``keep`` a generation stands still, and goes on without a loss after resume()."""
    whole = texts(client.completions.stream(prompt="x", max_tokens=9, seed=1))
    server.enqueue(delay=0.05, path=PATH)
    with client.completions.stream(prompt="x", max_tokens=9, seed=1) as stream:
        begun = [next(stream).text]
        client.server.pause(mode="keep")
        client.server.sleep(0, mode="keep")
        client.server.resume()
        rest = Running(lambda: texts(stream))
        rest.wait_blocked()
        assert client.server.is_sleeping()
        assert client.server.load() == 1
        client.server.wake_up()
        assert begun + rest.result() == whole


def test_pause_waits_for_generations(server: FakeServer, client: VllmClient) -> None:
    """With ``wait`` the command returns when all generations have ended, each complete."""
    server.enqueue(delay=0.01, path=PATH)
    with client.completions.stream(prompt="x", max_tokens=9, ignore_eos=True) as stream:
        next(stream)
        client.server.pause(mode="wait")
        assert client.server.load() == 0
        assert stream.collect().choices[0].finish_reason == "length"
    assert client.server.is_paused()


def test_an_abort_of_nothing(server: FakeServer, client: VllmClient) -> None:
    """An id that no request has aborts nothing, also if the script's chunks are no JSON."""
    server.enqueue(chunks=["no JSON"], stall_after=1, path=PATH)
    stream = client.request("POST", PATH, json={}, stream=True)
    next(stream)
    client.server.abort(["cmpl-nobody-0"])
    assert client.server.load() == 1
    stream.close()
    server.wait_for_abort()


def test_a_request_without_a_response_has_no_id() -> None:
    """While the response is made, no id means the request."""
    assert not Generation().has_id("cmpl-x")
