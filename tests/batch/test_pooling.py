"""``client.batch.embeddings``, ``.score`` and ``.rerank``, against the embedded server."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator

import pytest

from vllm_client import InvalidResponseError, VllmClient, read_batch
from vllm_client.testing import FakeServer

RANKING = {"query": "a", "documents": ["x", "a b", "a"]}
SCORING = {"queries": "a", "documents": ["x", "a"]}


@pytest.fixture
def client() -> Iterator[VllmClient]:
    """A client of an embedded server."""
    with FakeServer("tiny") as server, VllmClient(server.base_url) as made:
        yield made


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings(client: VllmClient, encoding: Any) -> None:
    """Each row is one request, with one embedding or several."""
    rows = list(client.batch.embeddings(["a", ["b", "c"]], encoding_format=encoding))
    single = client.embeddings.create(input=["a", "b", "c"])
    found = [each.embedding for row in rows for each in row.response.data]
    assert [len(row.response.data) for row in rows] == [1, 2]
    assert found[0] == pytest.approx(single.data[0].embedding)
    assert found[2] == pytest.approx(single.data[2].embedding)
    assert rows[0].usage is not None


def test_score_and_rerank(client: VllmClient) -> None:
    """Rows are mappings of fields; their responses are those of the single methods."""
    (scored,) = client.batch.score([("id", SCORING)])
    assert scored.custom_id == "id"
    assert scored.response.data == client.score.create(queries="a", documents=["x", "a"]).data
    (ranked,) = client.batch.rerank([RANKING])
    assert ranked.response.results[0].index == 2


def test_files(client: VllmClient, output: Path) -> None:
    """A file may have rows of every route; what is read back is what was received."""
    rows = [
        {"input": "a"},
        RANKING,
        {"url": "/v1/score", "body": SCORING},
        {"prompt": "x", "max_tokens": 2},
    ]
    assert client.batch.run(rows, output).done == 4
    embedded, ranked, scored, completed = read_batch(output, ordered=True)
    assert embedded.response.data[0].embedding == pytest.approx(
        client.embeddings.create(input="a").data[0].embedding
    )
    assert ranked.response.results[0].index == 2
    assert len(scored.response.data) == 2
    assert completed.text


LACKING = [
    (
        "embeddings",
        "/v1/embeddings",
        {"input": ["a", "b"]},
        {"data": [{"index": 0, "embedding": [1.0]}]},
    ),
    ("score", "/score", SCORING, {"data": [{"index": 0, "score": 1.0}]}),
    ("rerank", "/rerank", RANKING, {"results": [{"index": 0, "relevance_score": 1.0}]}),
]


@pytest.mark.parametrize(("method", "path", "row", "body"), LACKING)
def test_response_that_lacks_something(method: str, path: str, row: Any, body: Any) -> None:
    """A response with less than was asked for is a failed row."""
    with FakeServer("tiny") as server, VllmClient(server.base_url) as client:
        server.enqueue(path=path, json=body)
        (failed,) = getattr(client.batch, method)([row])
    assert isinstance(failed.error, InvalidResponseError)
