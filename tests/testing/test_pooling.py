"""The routes of pooling models in the fake server, as the client sees them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pytest

from vllm_client import BadRequestError, ContextLengthError, VllmClient
from vllm_client.testing import FakeServer

ENCODINGS = ("float", "base64", "bytes", "bytes_only")
# How far a number may be from the exact one: half or all of the last place.
PRECISION = {
    "float32": 0.0,
    "float16": 2**-11,
    "bfloat16": 2**-7,
    "fp8_e4m3": 2**-3,
    "fp8_e5m2": 2**-2,
}
SMALLEST = 2**-9  # Of fp8_e4m3; smaller numbers become 0.


@pytest.fixture
def client() -> Iterator[VllmClient]:
    """A client of a fake server."""
    with FakeServer("tiny", max_model_len=64) as server, VllmClient(server.base_url) as client:
        yield client


def embedding(client: VllmClient, text: Any, **fields: Any) -> list[float]:
    (found,) = client.embeddings.create(input=text, **fields).data
    return found.embedding


def cosine(left: list[float], right: list[float]) -> float:
    return sum(one * other for one, other in zip(left, right))


def test_embeddings_are_stable(client: VllmClient) -> None:
    """A text has the same embedding, of length 1, in every server."""
    vector = embedding(client, "A network has nodes")
    with FakeServer() as other, VllmClient(other.base_url) as stranger:
        assert embedding(stranger, "A network has nodes") == vector
    assert len(vector) == 128
    assert cosine(vector, vector) == pytest.approx(1)


def test_similar_texts_have_similar_embeddings(client: VllmClient) -> None:
    """Texts that share words are nearer than texts that share none."""
    question, near, far = (
        embedding(client, text)
        for text in ("How do networks learn?", "Networks learn slowly.", "Soup with beans")
    )
    assert cosine(question, near) > 0.4 > 0.2 > cosine(question, far)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("endianness", ["native", "little", "big"])
@pytest.mark.parametrize("dtype", PRECISION)
def test_encodings(client: VllmClient, encoding: Any, endianness: Any, dtype: Any) -> None:
    """Each encoding, format and byte order has the same numbers, as exact as the format."""
    exact = embedding(client, "A model", encoding_format="float")
    fields = {"encoding_format": encoding, "embed_dtype": dtype, "endianness": endianness}
    found = client.embeddings.create(input=["Another", "A model"], **fields).data[1].embedding
    allowed = 0.0 if encoding == "float" else PRECISION[dtype]
    for one, other in zip(found, exact):
        assert abs(one - other) <= max(allowed * abs(other), SMALLEST if allowed else 0.0)


def test_floats_are_of_32_bits(client: VllmClient) -> None:
    """The numbers in JSON are those that 32 bits can hold, as in vLLM."""
    vector = embedding(client, "A model", encoding_format="float")
    assert list(struct.unpack("128f", struct.pack("128f", *vector))) == vector


def test_inputs_of_each_kind(client: VllmClient) -> None:
    """Texts, token ids, conversations and lists of them are read, and their tokens counted."""
    ids = client.request("POST", "/tokenize", json={"prompt": "A model"}).json()["tokens"]
    text = embedding(client, "A model")
    assert embedding(client, ids) == text
    response = client.embeddings.create(input=[ids, ids[:1]])
    assert response.data[0].embedding == text
    assert response.usage is not None
    assert response.usage.prompt_tokens == len(ids) + 1
    conversation = [{"role": "user", "content": "A model"}]
    (answer,) = client.embeddings.create(messages=conversation).data
    both = client.embeddings.create(messages=[conversation, conversation]).data
    assert [each.embedding for each in both] == [answer.embedding] * 2
    assert embedding(client, conversation) == answer.embedding


def test_truncation(client: VllmClient) -> None:
    """An input is cut to truncate_prompt_tokens, or with -1 to the length of the context."""
    long = "word " * 100
    with pytest.raises(ContextLengthError):
        embedding(client, long)
    assert embedding(client, long, truncate_prompt_tokens=-1)
    assert embedding(client, "a b c", truncate_prompt_tokens=1) == embedding(client, "a")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"input": [999999]}, "out of vocabulary"),
        ({"input": ["a", ""]}, "cannot be empty"),
        ({"input": "a", "dimensions": 3}, "Matryoshka"),
        ({"input": "a", "encoding_format": "hex"}, "'float', 'base64', 'bytes' or 'bytes_only'"),
        ({"input": "a", "embed_dtype": "int4"}, "body.embed_dtype"),
        ({"input": "a", "model": "other"}, "does not exist"),
    ],
)
def test_refused_embeddings(client: VllmClient, fields: Any, message: str) -> None:
    """What vLLM refuses is refused."""
    with pytest.raises(Exception, match=message) as caught:
        client.embeddings.create(**fields)
    assert caught.value.status_code in {400, 404}  # type: ignore[attr-defined]


def test_pooling(client: VllmClient) -> None:
    """/pooling has the same vectors; a token task is refused, as an embedding model does."""
    for fields in ({}, {"encoding_format": "float", "task": "embed"}):
        (found,) = client.pooling.create(input="A model", **fields).data  # type: ignore[arg-type]
        assert found.data == embedding(client, "A model")
    with pytest.raises(BadRequestError, match="--pooler-config"):
        client.pooling.create(input="A model", task="token_embed")


def test_classify(client: VllmClient) -> None:
    """/classify has a label and probabilities that follow from the text."""
    question, statement = client.classify.create(input=["A question?", "A statement."]).data
    assert (question.label, statement.label) == ("question", "statement")
    assert sum(question.probs) == pytest.approx(1)
    assert max(question.probs) == question.probs[0]


def test_score(client: VllmClient) -> None:
    """/score compares one input with each, or pairs; the scores follow from the embeddings."""
    one, other = embedding(client, "One"), embedding(client, "Two")
    response = client.score.create(queries="One", documents=["One", "Two"])
    assert [each.score for each in response.data] == pytest.approx([1, cosine(one, other)])
    content: Any = {"content": [{"type": "text", "text": "Two"}]}
    pairs = client.score.create(text_1=["One", content], text_2=["Two", "Two"]).data
    assert [each.score for each in pairs] == pytest.approx([cosine(one, other), 1])


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_rerank(client: VllmClient, path: str) -> None:
    """/rerank orders the documents by their score; top_n limits them."""
    documents = ["beans", "a network of nodes", "the network"]
    body = {"query": "a network", "documents": documents}
    results = client.request("POST", path, json=body).json()["results"]
    assert [each["index"] for each in results] == [1, 2, 0]
    assert results[0]["document"] == {"text": documents[1], "multi_modal": None}
    best = client.rerank.create(query="a network", documents=documents, top_n=1).results
    assert [each.index for each in best] == [1]


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/score", {"queries": ["a", "b"], "items": ["a"]}, "1:1, 1:N or N:N"),
        ("/score", {"queries": ["a", "b"], "items": []}, "At least one text"),
        ("/v1/score", {"queries": "a"}, "body.data_1"),
        ("/rerank", {"query": "a"}, "body.documents"),
    ],
)
def test_refused_scores(client: VllmClient, path: str, body: Any, message: str) -> None:
    """What vLLM refuses is refused."""
    with pytest.raises(BadRequestError, match=message):
        client.request("POST", path, json=body)


def test_faults(client: VllmClient) -> None:
    """Scripts apply to these routes too."""
    with FakeServer() as server, VllmClient(server.base_url, max_retries=0) as scripted:
        server.enqueue(json={"error": {"message": "x", "code": 400}}, status=400)
        with pytest.raises(BadRequestError):
            scripted.embeddings.create(input="a")
        server.enqueue(cut_after=1)
        with pytest.raises(Exception, match="broke in the middle"):
            scripted.embeddings.create(input=["a", "b"])
