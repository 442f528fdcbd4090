"""``client.pooling`` and ``client.classify``."""

from __future__ import annotations

import json
from typing import Any

import pytest

from vllm_client import BadRequestError, InvalidResponseError, NotFoundError, Usage
from vllm_client.types import Classification

from ..recorded import body_of, capture, json_bytes
from ..servers import Serve
from .vectors import USAGE, binary, metadata, packed, unknown_format, vectors_in_json

LABELS = [
    {"index": 1, "label": None, "probs": [1.0], "num_classes": 1},
    {"index": 0, "label": "good", "probs": [0.75, 0.25], "num_classes": 2},
]


def classes(*data: Any) -> bytes:
    return json_bytes(
        {"id": "classify-1", "created": 7, "model": "m", "data": data, "usage": USAGE}
    )


def test_capture(serve: Serve) -> None:
    """The output of a real server is decoded as an embedding is."""
    request, reply = capture("embed_pooling")
    served = serve(reply)
    response = served.client.pooling.create(input="Hi", encoding_format="base64")
    plain = json.loads(body_of(capture("embed_embeddings")[1]))["data"][0]["embedding"]
    assert response.data[0].data == plain
    assert (response.model, response.usage) == ("tiny-embed", Usage(2, 0, 2))
    assert response.id.startswith("pooling-")
    assert (served.requests[0].path, request["path"]) == ("/pooling", "/pooling")


def test_refused_task(serve: Serve) -> None:
    """A task that the model does not have is refused in the server's words."""
    served = serve(capture("embed_pooling_task")[1])
    with pytest.raises(BadRequestError, match="token_embed") as caught:
        served.client.pooling.create(input="Hi", task="token_embed")
    assert caught.value.param == "task"
    assert served.requests[0].json["task"] == "token_embed"


def test_a_vector_a_token(serve: Serve) -> None:
    """The output of a token task is a list of lists, and base64, which loses it, is not used."""
    served = serve(
        binary([packed([1.0, 2.0, 3.0, 4.0])], metadata([16], shape=[2, 2])),
        unknown_format("bytes"),
        vectors_in_json([[1.0, 2.0], [3.0, 4.0]], member="data"),
    )
    for _ in range(2):
        response = served.client.pooling.create(input="a b")
        assert response.data[0].data == [[1.0, 2.0], [3.0, 4.0]]
    formats = [request.json["encoding_format"] for request in served.requests]
    assert formats == ["bytes", "bytes", "float"]


def test_batches(serve: Serve) -> None:
    """batch_size bounds the requests; the order is kept and the token counts are summed."""
    served = serve(vectors_in_json([1.0], member="data"), vectors_in_json([2.0], member="data"))
    response = served.client.pooling.create(input=["a", "b"], batch_size=1)
    assert [(each.index, each.data) for each in response.data] == [(0, [1.0]), (1, [2.0])]
    assert response.usage == Usage(6, 0, 6)
    assert len(served.requests) == 2


def test_to_numpy(serve: Serve) -> None:
    """to_numpy() has a row for each input."""
    pytest.importorskip("numpy")
    served = serve(vectors_in_json([1.0, 2.0], [3.0, 4.0], member="data"))
    response = served.client.pooling.create(input=["a", "b"])
    assert response.to_numpy().tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_classify(serve: Serve) -> None:
    """Classes come in the order of the inputs, with the probability of each class."""
    served = serve(classes(*LABELS))
    response = served.client.classify.create(input=["a", "b"], model="m")
    assert response.data == [
        Classification(0, "good", [0.75, 0.25], 2),
        Classification(1, None, [1.0], 1),
    ]
    assert (response.model, response.usage, response.id) == ("m", Usage(3, 0, 3), "classify-1")
    assert (response.created, response.raw["data"]) == (7, LABELS)
    assert served.requests[0].path == "/classify"
    assert served.requests[0].json == {"input": ["a", "b"], "model": "m"}


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (classes(LABELS[1]), r"inputs \[0\], but there are 2"),
        (classes(LABELS[1], LABELS[1]), r"inputs \[0, 0\]"),
        (classes({**LABELS[1], "num_classes": 3}, LABELS[0]), "2 probabilities of 3"),
        (classes({"index": 0}), "shape of its route"),
        (json_bytes({"data": 3}), "shape of its route"),
    ],
)
def test_what_is_no_classification(serve: Serve, reply: bytes, message: str) -> None:
    """A response without exactly one class for each input is an error."""
    with pytest.raises(InvalidResponseError, match=message):
        serve(reply).client.classify.create(input=["a", "b"])


@pytest.mark.parametrize("route", ["pooling", "classify"])
def test_no_pooling_model(serve: Serve, route: str) -> None:
    """A server of another kind of model has no such route."""
    served = serve(capture(f"error_generate_model_{route}")[1])
    with pytest.raises(NotFoundError):
        getattr(served.client, route).create(input="Hi")


@pytest.mark.parametrize("route", ["pooling", "classify"])
def test_refused_before_it_is_sent(serve: Serve, route: str) -> None:
    """Missing inputs and positional arguments are refused, and nothing is sent."""
    served = serve(classes(*LABELS))
    create = getattr(served.client, route).create
    with pytest.raises(ValueError, match="at least one input"):
        create(input=[])
    with pytest.raises(TypeError, match="input="):
        create()
    with pytest.raises(TypeError, match="keyword arguments only"):
        create("Hi")
    assert served.requests == []
