"""``client.generate``: token ids in, token ids out."""

from __future__ import annotations

from typing import Any, List, Optional

import pytest

from vllm_client import (
    Done,
    Error,
    FinishReason,
    GenerationAbortedError,
    InvalidResponseError,
    InvalidStreamError,
    ModelNotFoundError,
    NotFoundError,
    ServerStreamError,
    StreamInterruptedError,
    Tokens,
    Usage,
)
from vllm_client.params import RequestOptions, names
from vllm_client.params.generation import GenerationParams, TokenSamplingParams

from ..aio.conftest import run_with
from ..recorded import USAGE, capture, json_bytes, stream_bytes
from ..servers import Serve
from .test_params import pinned

# Set by the server itself.
INTERNAL = {"output_kind", "output_text_buffer_length", "skip_clone"}
LOGPROBS = {"content": [{"token_id": 5, "logprob": -0.5, "rank": 1, "top_logprobs": []}]}


def choice(token_ids: List[int], finish: Optional[str] = None, index: int = 0, **more: Any) -> Any:
    return {"index": index, "token_ids": token_ids, "finish_reason": finish, **more}


def piece(*token_ids: int, **more: Any) -> Any:
    """A chunk of a stream."""
    return {"request_id": "g-1", "usage": None, "choices": [choice(list(token_ids), **more)]}


def test_fields_are_those_of_the_server() -> None:
    """The keywords are exactly the fields of vLLM's request class and of its sampling params."""
    sampling = set(names(TokenSamplingParams))
    assert sampling == pinned("sampling") - INTERNAL
    assert set(names(GenerationParams)) - sampling - set(names(RequestOptions)) == pinned(
        "generate"
    )


def test_real_generation(serve: Serve) -> None:
    """The captured response has its tokens, and the request is the captured one."""
    request, response = capture("f_generate_tokens")
    served = serve(response)
    generation = served.client.generate.create(**request["body"])
    assert generation.token_ids == [583, 654, 350, 619]
    assert (generation.finish_reason, generation.model) == ("length", "tiny")
    assert generation.request_id == "generate-tokens-bc5ef0c0e210caea"
    assert generation.usage is not None
    assert (generation.usage.prompt_tokens, generation.usage.completion_tokens) == (3, 4)
    assert generation.text == ""
    assert generation.raw["output_mode"] == "tokens"
    assert served.requests[0].path == "/inference/v1/generate"
    assert served.requests[0].json == request["body"]


def test_real_stream(serve: Serve) -> None:
    """The captured stream adds up to the captured response."""
    request, response = capture("f_generate_tokens_stream")
    served = serve(response, capture("f_generate_tokens")[1])
    fields = {name: value for name, value in request["body"].items() if name != "stream"}
    with served.client.generate.stream(**fields) as stream:
        events = list(stream)
        collected = stream.collect()
    assert [each for each in events if isinstance(each, Tokens)] == [
        Tokens([token]) for token in (583, 654, 350, 619)
    ]
    assert events[4:] == [FinishReason("length"), Done()]
    assert len(stream.timings.stamps) == 4
    whole = served.client.generate.create(**fields)
    assert collected.choices == whole.choices
    assert (
        collected.raw["choices"][0]["weight_versions"]
        == (whole.raw["choices"][0]["weight_versions"])
    )
    assert "object" not in collected.raw
    wanted = {"stream": True, "stream_options": {"include_usage": True}}
    assert served.requests[0].json == {**request["body"], **wanted}


def test_sampling_parameters_are_nested(serve: Serve) -> None:
    """Keywords and ``sampling_params`` are sent as one object; without any it is empty."""
    served = serve(json_bytes({"choices": [choice([1], "stop")]}))
    create = served.client.generate.create
    create(token_ids=[1], temperature=0, sampling_params={"max_tokens": 2}, priority=1)
    create(token_ids=(1, 2))
    assert [request.json for request in served.requests] == [
        {"token_ids": [1], "priority": 1, "sampling_params": {"max_tokens": 2, "temperature": 0}},
        {"token_ids": [1, 2], "sampling_params": {}},
    ]


def test_text_mode(serve: Serve) -> None:
    """With ``output_mode="text"`` tokens have their text and log-probabilities."""
    chunks = [
        {**piece(5, text="Hel", logprobs=LOGPROBS), "prompt_token_ids": [1, 2]},
        piece(6, text=""),
        {"request_id": "g-1", "choices": [{"index": 0, "token_ids": None, "text": "l"}]},
        piece(7, text="o", finish="stop", stop_reason=7),
        {"request_id": "g-1", "usage": USAGE, "choices": []},
        "[DONE]",
    ]
    served = serve(stream_bytes(*chunks))
    with served.client.generate.stream(token_ids=[1, 2], output_mode="text") as stream:
        assert list(stream.text_deltas()) == ["Hel", "l", "o"]
        assert stream.collect_text() == "Hello"
        generation = stream.collect()
    assert generation.token_ids == [5, 6, 7]
    assert generation.prompt_token_ids == [1, 2]
    assert generation.choices[0].text == "Hello"
    assert generation.choices[0].logprobs == LOGPROBS
    assert generation.choices[0].stop_reason == 7
    assert generation.usage == Usage(1, 2, 3)


def test_server_without_the_route(serve: Serve) -> None:
    """A server without the route gets a hint; a model that is not there gets none."""
    missing = {"error": {"message": "The model `x` does not exist.", "param": "model", "code": 404}}
    served = serve(
        json_bytes(missing, "404 Not Found"), json_bytes({"detail": "Not Found"}, "404 Not Found")
    )
    with pytest.raises(ModelNotFoundError) as raised:
        served.client.generate.create(token_ids=[1], model="x")
    assert "--enable-scale-out" not in str(raised.value)
    with pytest.raises(NotFoundError, match="start the server with --enable-scale-out"):
        served.client.generate.create(token_ids=[1])


def test_several_outputs(serve: Serve) -> None:
    """Each of ``n`` outputs must finish, in a stream and without one."""
    both = {"choices": [choice([2], "stop", 1), choice([1], "length", 0)]}
    chunks = [piece(2, index=1, finish="stop"), piece(1, finish="length")]
    served = serve(
        json_bytes(both), stream_bytes(*chunks, "[DONE]"), stream_bytes(chunks[0], "[DONE]")
    )
    generate = served.client.generate
    whole = generate.create(token_ids=[1], n=2)
    assert [each.token_ids for each in whole.choices] == [[1], [2]]
    with generate.stream(token_ids=[1], sampling_params={"n": 2}) as stream:
        assert stream.collect().choices == whole.choices
    with generate.stream(token_ids=[1], n=2) as stream:
        with pytest.raises(StreamInterruptedError, match="choice 0 has no finish reason") as raised:
            stream.collect()
    assert raised.value.partial.token_ids == []
    assert raised.value.partial.choices[0].token_ids == [2]


def test_response_that_is_incomplete(serve: Serve) -> None:
    """create() raises without a finish reason, for ``abort``, and for another route's response."""
    served = serve(
        json_bytes({"choices": [choice([1])]}),
        json_bytes({"choices": [choice([1], "abort")]}),
        json_bytes({"choices": [{"index": 0, "text": "Hi", "finish_reason": "stop"}]}),
    )
    create = served.client.generate.create
    with pytest.raises(InvalidResponseError, match="choice 0 has no finish reason") as raised:
        create(token_ids=[1])
    assert raised.value.partial.token_ids == [1]
    with pytest.raises(GenerationAbortedError):
        create(token_ids=[1])
    with pytest.raises(InvalidResponseError, match="has not the shape of its route"):
        create(token_ids=[1])


@pytest.mark.parametrize(
    ("chunks", "error_class"),
    [
        ([piece(1)], StreamInterruptedError),
        ([piece(1), "[DONE]"], StreamInterruptedError),
        ([piece(1), {"error": {"message": "no", "code": 500}}, "[DONE]"], ServerStreamError),
        ([piece(1), piece(finish="abort"), "[DONE]"], GenerationAbortedError),
        ([piece(1), {"choices": [{"index": 0, "text": "x"}]}], InvalidStreamError),
        ([piece(1), {"choices": [choice("12")]}], InvalidStreamError),  # type: ignore[arg-type]
    ],
)
def test_stream_that_is_incomplete(serve: Serve, chunks: Any, error_class: Any) -> None:
    """A stream that is incomplete raises, with the tokens that arrived."""
    served = serve(stream_bytes(*chunks))
    with served.client.generate.stream(token_ids=[1]) as stream:
        with pytest.raises(error_class) as raised:
            stream.collect()
    assert raised.value.partial.token_ids == [1]
    with served.client.generate.stream(token_ids=[1], on_error="event") as stream:
        last = list(stream)[-1]
    assert isinstance(last, Error)
    assert isinstance(last.error, error_class)


@pytest.mark.parametrize(
    ("fields", "error_class", "reason"),
    [
        ({}, TypeError, "a generation needs token_ids="),
        ({"token_ids": "Hi"}, TypeError, "a generation needs token_ids="),
        ({"token_ids": []}, ValueError, "at least one token"),
        ({"token_ids": [1], "sampling_params": [1]}, TypeError, "must be a dict, not list"),
        (
            {"token_ids": [1], "n": 1, "sampling_params": {"n": 2}},
            TypeError,
            "n is given twice: as a keyword and in sampling_params",
        ),
        ({"token_ids": [1], "max_token": 1}, TypeError, "did you mean 'max_tokens'"),
    ],
)
def test_bad_arguments(serve: Serve, fields: Any, error_class: Any, reason: str) -> None:
    """Bad arguments are refused with a reason, and nothing is sent."""
    served = serve(json_bytes({}))
    for method in (served.client.generate.create, served.client.generate.stream):
        with pytest.raises(error_class, match=reason):
            method(**fields)
    assert served.requests == []


def test_what_cannot_be_streamed(serve: Serve) -> None:
    """Log-probabilities of the prompt cannot be streamed, wherever they are asked for."""
    stream = serve(json_bytes({})).client.generate.stream
    with pytest.raises(ValueError, match="prompt_logprobs cannot be streamed"):
        stream(token_ids=[1], prompt_logprobs=1)
    with pytest.raises(ValueError, match="prompt_logprobs cannot be streamed"):
        stream(token_ids=[1], sampling_params={"prompt_logprobs": 1})
    with pytest.raises(ValueError, match="output_mode='derender' cannot be streamed"):
        stream(token_ids=[1], output_mode="derender")


@pytest.mark.parametrize("name", ["create", "stream"])
def test_positional_argument(serve: Serve, name: str) -> None:
    """A positional argument gets an explanation."""
    with pytest.raises(TypeError, match=r"write \w+\(token_ids="):
        getattr(serve().client.generate, name)([1, 2])


def test_async_generation(serve: Serve) -> None:
    """The asynchronous client does the same."""
    served = serve(
        json_bytes({"choices": [choice([1], "stop")]}),
        stream_bytes(piece(1, finish="stop"), "[DONE]"),
    )

    async def main(client: Any) -> Any:
        whole = await client.generate.create(token_ids=[7])
        async with client.generate.stream(token_ids=[7]) as stream:
            return whole.choices, (await stream.collect()).choices

    whole, collected = run_with(served, main)
    assert whole == collected
    assert whole[0].token_ids == [1]
