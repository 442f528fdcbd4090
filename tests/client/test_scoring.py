"""``client.score`` and ``client.rerank``."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_client import InvalidResponseError, NotFoundError, Usage
from vllm_client.types import RerankDocument

from ..recorded import capture, json_bytes
from ..servers import Serve
from .vectors import USAGE

PAIRS = [("queries", "documents"), ("queries", "items"), ("data_1", "data_2"), ("text_1", "text_2")]


def scores(*pairs: Any) -> bytes:
    data = [{"index": index, "object": "score", "score": score} for index, score in pairs]
    return json_bytes({"id": "s", "created": 7, "model": "m", "data": data, "usage": USAGE})


def ranked(*pairs: Any) -> bytes:
    results = [
        {"index": index, "document": {"text": str(index)}, "relevance_score": score}
        for index, score in pairs
    ]
    return json_bytes({"id": "s", "model": "m", "usage": USAGE, "results": results})


@pytest.mark.parametrize("name", ["embed_score", "embed_score_v1"])
def test_score_captures(serve: Serve, name: str) -> None:
    """The scores of a real server come in the order of the pairs."""
    request, reply = capture(name)
    served = serve(reply)
    response = served.client.score.create(**request["body"])
    assert [each.index for each in response.data] == [0, 1]
    assert response.data[0].score == 1.0000001192092896
    assert response.data[0].score > response.data[1].score
    assert (response.model, response.usage) == ("tiny-embed", Usage(5, 0, 5))
    assert response.id.startswith("score-")
    assert response.created == response.raw["created"]
    assert served.requests[0].path == "/score"
    assert served.requests[0].json == request["body"]


@pytest.mark.parametrize("pair", PAIRS, ids=" and ".join)
def test_each_pair_of_fields(serve: Serve, pair: Any) -> None:
    """Each pair of fields is sent as it is, with one input or a list on either side."""
    served = serve(scores((1, 0.5), (0, 0.25)), scores((0, 1)))
    response = served.client.score.create(**{pair[0]: "a", pair[1]: ["b", "c"]})
    assert [each.score for each in response.data] == [0.25, 0.5]
    assert served.client.score.create(**{pair[0]: ["a"], pair[1]: "b"}).data[0].score == 1.0
    assert [request.json for request in served.requests] == [
        {pair[0]: "a", pair[1]: ["b", "c"]},
        {pair[0]: ["a"], pair[1]: "b"},
    ]


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({}, TypeError, "exactly one pair"),
        ({"queries": "a"}, TypeError, "exactly one pair"),
        ({"queries": "a", "text_2": "b"}, TypeError, "exactly one pair"),
        ({"queries": "a", "documents": "b", "items": "c"}, TypeError, "exactly one pair"),
        ({"text_1": "a", "text_2": []}, ValueError, "text_2 is an empty list"),
        ({"text_1": [], "text_2": ["b"]}, ValueError, "text_1 is an empty list"),
        ({"text_1": ["a", "b"], "text_2": ["c"]}, ValueError, "text_1 has 2 inputs and text_2"),
        ({"text_1": "a", "text_2": "b", "text": "c"}, TypeError, "did you mean"),
    ],
)
def test_score_refuses(serve: Serve, fields: Any, error: Any, message: str) -> None:
    """Fields that make no pairs are refused, and nothing is sent."""
    served = serve(scores((0, 1)))
    with pytest.raises(error, match=message):
        served.client.score.create(**fields)
    assert served.requests == []


@pytest.mark.parametrize(
    "reply",
    [
        scores((0, 1)),
        scores((0, 1), (0, 1)),
        scores((0, 1), (2, 1)),
        scores((0, None), (1, 1)),
        json_bytes({"model": "m"}),
    ],
)
def test_what_is_no_score(serve: Serve, reply: bytes) -> None:
    """A response without exactly one score for each pair is an error."""
    with pytest.raises(InvalidResponseError):
        serve(reply).client.score.create(queries="a", documents=["b", "c"])


def test_rerank_capture(serve: Serve) -> None:
    """The documents of a real server come best first, with what was sent."""
    request, reply = capture("embed_rerank")
    served = serve(reply)
    response = served.client.rerank.create(**request["body"])
    (best,) = response.results
    assert (best.index, best.document) == (1, RerankDocument("One"))
    assert best.relevance_score == 1.0000001192092896
    assert (response.model, response.usage) == ("tiny-embed", Usage(5, 0, 5))
    assert response.id == response.raw["id"]
    assert served.requests[0].path == "/rerank"
    assert served.requests[0].json == request["body"]


@pytest.mark.parametrize("fields", [{}, {"top_n": 0}, {"top_n": 9}])
def test_rerank_all(serve: Serve, fields: Any) -> None:
    """Without top_n all documents are returned, best first, whatever the server's order."""
    served = serve(ranked((2, -1.5), (0, 0.25), (1, 2.0)))
    response = served.client.rerank.create(query="q", documents=["a", "b", "c"], **fields)
    assert [each.index for each in response.results] == [1, 0, 2]
    assert [each.document.text for each in response.results] == ["1", "0", "2"]


@pytest.mark.parametrize(
    "reply",
    [
        ranked((0, 1)),
        ranked((0, 1), (0, 1)),
        ranked((0, 1), (3, 1)),
        ranked((0, 1), (1, 1), (2, 1)),
        json_bytes({"results": [{}], "model": "m"}),
    ],
)
def test_what_is_no_ranking(serve: Serve, reply: bytes) -> None:
    """A response without the documents that were asked for is an error."""
    with pytest.raises(InvalidResponseError):
        serve(reply).client.rerank.create(query="q", documents=["a", "b", "c"], top_n=2)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"query": "q"}, TypeError, "needs query"),
        ({"documents": ["a"]}, TypeError, "needs query"),
        ({"query": "q", "documents": []}, ValueError, "documents is an empty list"),
    ],
)
def test_rerank_refuses(serve: Serve, fields: Any, error: Any, message: str) -> None:
    """Missing documents are refused, and nothing is sent."""
    served = serve(ranked((0, 1)))
    with pytest.raises(error, match=message):
        served.client.rerank.create(**fields)
    assert served.requests == []


@pytest.mark.parametrize("route", ["score", "rerank"])
def test_positional_arguments(serve: Serve, route: str) -> None:
    """A positional argument is explained."""
    with pytest.raises(TypeError, match="keyword arguments only"):
        getattr(serve(ranked((0, 1))).client, route).create("q")


def test_no_pooling_model(serve: Serve) -> None:
    """A server of another kind of model has no such routes."""
    client = serve(
        capture("error_generate_model_score")[1], capture("error_generate_model_rerank")[1]
    ).client
    with pytest.raises(NotFoundError):
        client.score.create(queries="a", documents="b")
    with pytest.raises(NotFoundError):
        client.rerank.create(query="a", documents=["b"])
