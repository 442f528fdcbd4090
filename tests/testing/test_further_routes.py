"""The fake server's routes for token ids, for batches of chats, and for recordings."""

from __future__ import annotations

from typing import Any, Iterator

import pytest

from vllm_client import (
    BadRequestError,
    ChatCompletion,
    GenerationAbortedError,
    NotFoundError,
    VllmClient,
)
from vllm_client.testing import FakeServer

WAV = b"RIFF\x04\x00\x00\x00WAVE"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        yield running


@pytest.fixture
def client(server: FakeServer) -> Iterator[VllmClient]:
    with VllmClient(server.base_url, max_retries=0) as opened:
        yield opened


@pytest.fixture
def prompt(server: FakeServer, client: VllmClient) -> Any:
    """The token ids of a prompt."""
    body = {"prompt": "What is machine learning?"}
    return client.request("POST", "/tokenize", json=body).json()["tokens"]


def test_tokens_are_those_of_a_completion(client: VllmClient, prompt: Any) -> None:
    """The same seed gives the tokens of a completion, whole and streamed, with their text."""
    fields: Any = {"seed": 3, "max_tokens": 12, "n": 2}
    completion = client.completions.create(prompt=prompt, return_token_ids=True, **fields)
    whole = client.generate.create(token_ids=prompt, output_mode="text", **fields)
    with client.generate.stream(token_ids=prompt, output_mode="text", **fields) as stream:
        streamed = stream.collect()
    expected = [(each.token_ids, each.text, each.finish_reason) for each in completion.choices]
    for generation in (whole, streamed):
        found = [(each.token_ids, each.text, each.finish_reason) for each in generation.choices]
        assert found == expected
    assert streamed.usage == whole.usage
    ends = [each["weight_versions"][0]["end"] for each in streamed.raw["choices"]]
    assert ends == [len(ids) for ids, _, _ in expected if ids is not None]


def test_prompt_and_logprobs_of_tokens(client: VllmClient, prompt: Any) -> None:
    """Log-probabilities have token ids; the prompt is returned if it is asked for."""
    fields: Any = {"max_tokens": 3, "logprobs": 2}
    whole = client.generate.create(token_ids=prompt, return_token_ids=True, **fields)
    assert whole.prompt_token_ids == prompt
    logprobs = whole.choices[0].logprobs
    assert logprobs is not None
    assert [each["token_id"] for each in logprobs["content"]] == whole.token_ids
    assert client.generate.create(token_ids=prompt, max_tokens=1).prompt_token_ids is None
    with pytest.raises(BadRequestError, match="no logprobs with output_mode='text'"):
        client.generate.create(token_ids=prompt, output_mode="text", **fields)


def test_output_of_tokens_fills_the_context(client: VllmClient, prompt: Any) -> None:
    """Without ``max_tokens`` the output may fill the context, not only 16 tokens."""
    generation = client.generate.create(token_ids=prompt, ignore_eos=True, seed=1)
    assert generation.finish_reason == "length"
    assert len(prompt) + len(generation.token_ids) == client.models.default().max_model_len


def test_tokens_that_are_missing(client: VllmClient) -> None:
    """A request without token ids or sampling parameters is refused."""
    with pytest.raises(BadRequestError, match=r"2 validation errors:\n.*body.token_ids") as raised:
        client.request("POST", "/inference/v1/generate", json={"model": "fake-vllm"})
    assert "body.sampling_params" in raised.value.message


def test_faults_of_tokens(server: FakeServer, client: VllmClient, prompt: Any) -> None:
    """A script aborts a generation of tokens as it does a completion."""
    server.enqueue(abort_after=2)
    with client.generate.stream(token_ids=prompt) as stream:
        with pytest.raises(GenerationAbortedError) as raised:
            stream.collect()
    assert len(raised.value.partial.token_ids) == 2


def conversation(text: str) -> Any:
    return [{"role": "user", "content": text}]


def test_batch_has_one_choice_for_each_conversation(client: VllmClient) -> None:
    """A batch has the choices and the sum of the tokens of its chats."""
    conversations = [conversation("What is a network?"), conversation("What is a cache?")]
    chat = client.chat.completions
    batch = chat.batch(messages=conversations, seed=5, max_tokens=9)
    single = [chat.create(messages=each, seed=5, max_tokens=9) for each in conversations]
    assert [each.message.content for each in batch.choices] == [each.content for each in single]
    assert [each.index for each in batch.choices] == [0, 1]

    def tokens(answer: ChatCompletion) -> int:
        assert answer.usage is not None
        return answer.usage.total_tokens

    assert tokens(batch) == sum(map(tokens, single))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"messages": []}, "at least one conversation"),
        ({"messages": [conversation("x")], "n": 2}, "do not support `n > 1`"),
        ({"messages": [conversation("x")], "use_beam_search": True}, "not support beam search"),
    ],
)
def test_batch_that_is_refused(client: VllmClient, fields: Any, reason: str) -> None:
    """A batch with fields of other routes is refused as vLLM does."""
    with pytest.raises(BadRequestError, match=reason):
        client.request("POST", "/v1/chat/completions/batch", json=fields)


@pytest.mark.parametrize("route", ["transcriptions", "translations"])
def test_recordings(server: FakeServer, client: VllmClient, route: str) -> None:
    """Any recording has the canned text or that of a script, whole and streamed."""
    audio = getattr(client.audio, route)
    text = audio.create(file=WAV).text
    assert text == "This is a fake server. It has not listened."
    with audio.stream(file=WAV) as stream:
        transcription = stream.collect()
    assert transcription.text == text
    assert transcription.usage.completion_tokens == 9
    assert stream.snapshot.raw["object"] == "transcription"
    with audio.stream(file=WAV, stream_include_usage=False) as stream:
        assert stream.collect().usage is None
    server.enqueue(text="Hi", path=f"/v1/audio/{route}")
    verbose = audio.create(file=WAV, response_format="verbose_json", language="de")
    assert (verbose.text, verbose.language, verbose.duration) == ("Hi", "de", 2.0)
    assert [(each.start, each.end, each.text) for each in verbose.segments] == [(0.0, 2.0, "Hi")]


def test_recording_that_is_refused(server: FakeServer, client: VllmClient) -> None:
    """What vLLM refuses is refused."""
    create = client.audio.transcriptions.create
    with pytest.raises(BadRequestError, match="Currently only support response_format"):
        create(file=WAV, response_format="srt")
    with pytest.raises(NotFoundError, match="`x` does not exist"):
        create(file=WAV, model="x")
    form = {"response_format": "verbose_json", "stream": True}
    path = "/v1/audio/transcriptions"
    with pytest.raises(BadRequestError, match="doesn't support streaming"):
        client.request("POST", path, data=form, files={"file": WAV})
    with pytest.raises(BadRequestError, match=r"body\.file"):
        client.request("POST", path, data=form)
    server.enqueue(abort_after=1)
    with client.audio.transcriptions.stream(file=WAV) as stream:
        with pytest.raises(GenerationAbortedError) as raised:
            stream.collect()
    assert raised.value.partial.text == "This"
