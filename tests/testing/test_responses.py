"""The fake server's ``/v1/responses``: input, output, stored responses and faults."""

from __future__ import annotations

import json
from typing import Any, Iterator
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from vllm_client import (
    BadRequestError,
    GenerationAbortedError,
    NotFoundError,
    ResponseReasoningDelta,
    ResponseToolCall,
    ServerStreamError,
    StreamInterruptedError,
    VllmClient,
)
from vllm_client.testing import FakeServer

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "name": "get_weather", "parameters": CITY}
QUESTION = "How is the weather in Rome?"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


@pytest.fixture
def client(server: FakeServer) -> Iterator[VllmClient]:
    with VllmClient(server.base_url, max_retries=0) as client:
        yield client


def test_text(client: VllmClient) -> None:
    """A text as input gets an answer; the same seed gives the same one, streamed or not."""
    whole = client.responses.create(input="What is a network?", seed=3, max_output_tokens=9)
    assert (whole.status, whole.incomplete_reason) == ("incomplete", "max_output_tokens")
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 9
    with client.responses.stream(input="What is a network?", seed=3, max_output_tokens=9) as stream:
        assert "".join(stream.text_deltas()) == whole.text
    assert stream.timings.chunks == 9
    ended = client.responses.create(input="What is a network?", request_id="mine")
    assert (ended.status, ended.id) == ("completed", "mine")


def test_scripted_output(server: FakeServer, client: VllmClient) -> None:
    """A script sets the text, the reasoning and the calls."""
    call = {"name": "f", "arguments": {"a": 1}, "id": "call_7"}
    script: Any = {"text": "Well.", "reasoning": "Hm.", "tool_calls": [call]}
    server.enqueue(times=3, **script)
    whole = client.responses.create(input="x")
    assert (whole.text, whole.reasoning) == ("Well.", "Hm.")
    assert [(one.id, one.parse_args()) for one in whole.tool_calls] == [("call_7", {"a": 1})]
    assert [item["type"] for item in whole.output] == ["reasoning", "message", "function_call"]
    assert whole.raw["usage"]["output_tokens_details"]["reasoning_tokens"] > 0
    with client.responses.stream(input="x") as stream:
        events = list(stream)
    texts = [one.text for one in events if isinstance(one, ResponseReasoningDelta)]
    assert "".join(texts) == "Hm."
    assert [one.name for one in events if isinstance(one, ResponseToolCall)] == ["f"]
    assert [one.raw["sequence_number"] for one in events] == list(range(len(events)))  # type: ignore[union-attr]
    assert client.responses.create(input="x", include_reasoning=False).reasoning is None


def test_empty_output(server: FakeServer, client: VllmClient) -> None:
    """An empty text is a message without content."""
    server.enqueue(text="", times=2)
    assert client.responses.create(input="x").output[0]["content"] == []
    with client.responses.stream(input="x") as stream:
        assert stream.collect_text() == ""


def test_tools(client: VllmClient) -> None:
    """A tool that the question mentions is called; its result ends the calls."""
    whole = client.responses.create(input=QUESTION, tools=[WEATHER])
    assert [one.parse_args() for one in whole.tool_calls] == [{"city": "Rome"}]
    results = [one.result({"degrees": 17}) for one in whole.tool_calls]
    question = {"role": "user", "content": [{"type": "input_text", "text": QUESTION}]}
    answer = client.responses.create(input=[question, *whole.output, *results], tools=[WEATHER])
    assert answer.tool_calls == []
    assert answer.text
    named: Any = {"type": "function", "name": "get_weather"}
    forced = client.responses.create(input="Hello", tools=[WEATHER], tool_choice=named)
    assert [one.name for one in forced.tool_calls] == ["get_weather"]
    search = {"type": "web_search_preview"}
    assert client.responses.create(input=QUESTION, tools=[search]).tool_calls == []


def test_constraints(client: VllmClient) -> None:
    """text={"format": …} constrains the output, and reasoning={"effort": …} adds reasoning."""
    schema: Any = {"format": {"type": "json_schema", "name": "c", "schema": CITY}}
    assert set(json.loads(client.responses.create(input="Rome", text=schema).text)) == {"city"}
    free: Any = {"format": {"type": "text"}}
    assert client.responses.create(input="Rome", text=free).text
    assert client.responses.create(input="Rome", reasoning={"effort": "low"}).reasoning


def test_instructions_and_earlier_responses(client: VllmClient) -> None:
    """Instructions and the conversation before are part of the prompt."""
    first = client.responses.create(input="What is a network?", max_output_tokens=5)
    plain = client.responses.create(input="And now?", max_output_tokens=5)
    following = client.responses.create(
        input="And now?", max_output_tokens=5, previous_response_id=first.id, store=False
    )
    told = client.responses.create(input="And now?", max_output_tokens=5, instructions="Be kind")
    sizes = [one.usage.prompt_tokens for one in (plain, following, told) if one.usage]
    assert sizes[1] > sizes[0] < sizes[2]
    assert following.raw["previous_response_id"] == first.id
    with pytest.raises(NotFoundError):
        client.responses.retrieve(following.id)


def test_background(client: VllmClient) -> None:
    """A response in the background is queued, and complete or cancelled when it is asked for."""
    queued = client.responses.create(input="x", background=True)
    assert (queued.status, queued.output) == ("queued", [])
    assert client.responses.retrieve(queued.id).status == "completed"
    with pytest.raises(BadRequestError, match="Cannot cancel a synchronous response"):
        client.responses.cancel(queued.id)
    queued = client.responses.create(input="x", background=True)
    assert client.responses.cancel(queued.id).status == "cancelled"
    assert client.responses.retrieve(queued.id).status == "cancelled"
    with client.responses.stream(input="x", background=True) as stream:
        assert stream.collect().status == "completed"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "Field required"),
        ({"input": 3}, "Input should be a valid list"),
        ({"input": [3]}, "Input should be a valid dictionary"),
        ({"input": "x", "prompt": {"id": "p"}}, "prompt template is not supported"),
        ({"input": "x", "background": True, "store": False}, "background can only be used"),
        ({"input": "x", "tool_choice": "required"}, "must be specified with 'tools'"),
        ({"input": "x", "tool_choice": {"type": "function", "name": "f"}}, "not found in 'tools'"),
        ({"input": "x", "tools": [{"type": "function"}]}, "Input should be a valid string"),
        ({"input": "x", "model": "nope"}, "does not exist"),
        ({"input": "x", "temperature": -1}, "temperature must be non-negative"),
        ({"input": "x", "top_logprobs": 99}, "greater than max allowed"),
        ({"input": "x", "max_output_tokens": 10**6}, "cannot be greater than max_model_len"),
        ({"input": "x", "previous_response_id": "resp_nope"}, "'resp_nope' not found"),
    ],
)
def test_refusals(server: FakeServer, body: Any, message: str) -> None:
    """The fake server refuses what vLLM refuses."""
    headers = {"Content-Type": "application/json"}
    request = Request(f"{server.base_url}/responses", json.dumps(body).encode(), headers)
    with pytest.raises(HTTPError) as caught:
        urlopen(request)
    with caught.value as error:
        assert message in json.load(error)["error"]["message"]
        assert error.code in {400, 404}


def test_faults(server: FakeServer, client: VllmClient) -> None:
    """The faults of scripts work for this route."""
    server.enqueue(text="Paris", cut_after=6, clean=True)
    with client.responses.stream(input="x") as stream, pytest.raises(StreamInterruptedError):
        list(stream)
    server.enqueue(text="Paris", error_after=5)
    with client.responses.stream(input="x") as stream, pytest.raises(ServerStreamError):
        list(stream)
    server.enqueue(abort_after=2, times=2)
    with client.responses.stream(input="x") as stream, pytest.raises(GenerationAbortedError):
        list(stream)
    with pytest.raises(GenerationAbortedError):
        client.responses.create(input="x")
    server.enqueue(text="Paris", stall_after=5)
    with client.responses.stream(input="x") as stream:
        next(stream)
    server.wait_for_abort()
