"""``client.embeddings``: what is asked for, what is decoded, and what is refused."""

from __future__ import annotations

import copy
import json
import pickle
import sys
from typing import Any, List

import pytest

from vllm_client import (
    APIConnectionError,
    BadRequestError,
    EmbeddingResponse,
    InternalServerError,
    InvalidResponseError,
    NotFoundError,
    Usage,
)

from ..recorded import body_of, capture, json_bytes, single_bytes
from ..servers import Serve, break_off, in_pieces
from .vectors import (
    as_base64,
    binary,
    metadata,
    packed,
    refusal,
    unknown_format,
    vectors_in_bytes,
    vectors_in_json,
)

ONE, TWO = [1.0, -2.5, 0.25], [0.5, 4.0, -0.125]


def values(response: EmbeddingResponse) -> List[Any]:
    return [each.embedding for each in response.data]


def sent_formats(served: Any) -> List[str]:
    return [request.json["encoding_format"] for request in served.requests]


@pytest.mark.parametrize("pieces", [lambda data: [data], single_bytes], ids=["whole", "by byte"])
@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("embed_embeddings", "Hi"),
        ("embed_embeddings_base64", "Hi"),
        ("embed_embeddings_list", ["Hi", "there"]),
        ("embed_embeddings_bytes", ["Hi", "there"]),
        ("embed_embeddings_bytes_only", ["Hi", "there"]),
    ],
)
def test_captures(serve: Serve, name: str, inputs: Any, pieces: Any) -> None:
    """Each encoding of a real server has the same vectors, however the bytes arrive."""
    plain = json.loads(body_of(capture("embed_embeddings")[1]))["data"][0]["embedding"]
    request, reply = capture(name)
    served = serve(in_pieces(pieces(reply)))
    fields = {"input": inputs, "encoding_format": request["body"].get("encoding_format", "float")}
    response = served.client.embeddings.create(**fields)
    assert response.data[0].embedding == plain
    count = 1 if inputs == "Hi" else 2
    assert [each.index for each in response.data] == list(range(count))
    assert {len(each.embedding) for each in response.data} == {128}
    if name == "embed_embeddings_bytes_only":
        assert (response.model, response.usage, response.raw) == ("", None, {})
    else:
        assert response.model == "tiny-embed"
        assert response.usage == Usage(*([2, 0, 2] if count == 1 else [5, 0, 5]))
        assert response.id.startswith("embd-")
        assert response.created == response.raw["created"] > 1_700_000_000
    sent = served.requests[0].json
    assert (sent["input"], sent["encoding_format"]) == (inputs, fields["encoding_format"])
    assert served.requests[0].path == "/v1/embeddings"


@pytest.mark.parametrize(
    "name", ["embed_embeddings", "embed_embeddings_base64", "embed_embeddings_bytes"]
)
def test_a_capture_that_breaks_off_is_an_error(serve: Serve, name: str) -> None:
    """A response that breaks off is never a shorter vector."""
    reply = capture(name)[1]
    body = len(body_of(reply))
    for missing in (8, body // 2):
        client = serve(break_off(reply[:-missing]), max_retries=0).client
        with pytest.raises(APIConnectionError):
            client.embeddings.create(input=["Hi", "there"] if "bytes" in name else "Hi")


@pytest.mark.parametrize(
    "name", ["embed_embeddings_dimensions", "embed_embeddings_empty", "embed_embeddings_too_long"]
)
def test_refused_inputs(serve: Serve, name: str) -> None:
    """What the server refuses for another reason than the encoding is raised at once."""
    request, reply = capture(name)
    served = serve(reply)
    with pytest.raises(BadRequestError):
        served.client.embeddings.create(**request["body"])
    assert sent_formats(served) == ["bytes"]


def test_a_model_without_embeddings(serve: Serve) -> None:
    """A server whose model generates text has no such route."""
    served = serve(capture("error_generate_model_v1_embeddings")[1])
    with pytest.raises(NotFoundError):
        served.client.embeddings.create(input="Hi")


def test_the_cheapest_encoding_is_requested(serve: Serve) -> None:
    """Bytes in a known order are requested, with a header that describes them."""
    served = serve(vectors_in_bytes(ONE, TWO))
    response = served.client.embeddings.create(input=["a", "b"], model="m", user="u")
    assert served.requests[0].json == {
        "input": ["a", "b"],
        "model": "m",
        "user": "u",
        "encoding_format": "bytes",
        "endianness": "little",
    }
    assert served.requests[0].headers["accept"] == "application/octet-stream, application/json"
    assert values(response) == [ONE, TWO]
    assert (response.model, response.id, response.created) == ("m", "embd-1", 7)
    assert response.usage == Usage(3, 0, 3)


def test_an_older_server_is_remembered(serve: Serve) -> None:
    """The client asks for base64, then for floats, if the server refuses, and remembers it."""
    served = serve(
        unknown_format("bytes"),
        vectors_in_json(as_base64(packed(ONE))),
        vectors_in_json(as_base64(packed(TWO))),
        unknown_format("base64"),
        vectors_in_json(ONE),
        vectors_in_json(TWO),
    )
    create = served.client.embeddings.create
    got = [values(create(input="x", timeout=9, extra_headers={"x-me": "1"})) for _ in range(4)]
    assert got == [[ONE], [TWO], [ONE], [TWO]]
    assert sent_formats(served) == ["bytes", "base64", "base64", "base64", "float", "float"]
    assert {request.headers["x-me"] for request in served.requests} == {"1"}
    assert "endianness" not in served.requests[-1].json


def test_no_encoding_is_left(serve: Serve) -> None:
    """A server that refuses every encoding is reported with its own words."""
    served = serve(*map(unknown_format, ("bytes", "base64", "float")))
    with pytest.raises(BadRequestError, match="'input': 'float'"):
        served.client.embeddings.create(input="x")


@pytest.mark.parametrize("field", [{"embed_dtype": "float16"}, {"endianness": "big"}])
def test_fields_that_an_older_server_ignores(serve: Serve, field: Any) -> None:
    """Base64 is not used if the server may ignore the number format that was asked for."""
    served = serve(unknown_format("bytes"), vectors_in_json(ONE))
    assert values(served.client.embeddings.create(input="x", **field)) == [ONE]
    assert sent_formats(served) == ["bytes", "float"]


def test_a_proxy_refuses_the_header(serve: Serve) -> None:
    """If a proxy refuses the header of bytes with 502, the client asks for base64."""
    served = serve(
        refusal("upstream sent too big header", "502 Bad Gateway"),
        vectors_in_json(as_base64(packed(ONE))),
        refusal("no upstream", "502 Bad Gateway"),
        max_retries=0,
    )
    assert values(served.client.embeddings.create(input="x")) == [ONE]
    with pytest.raises(InternalServerError):
        served.client.embeddings.create(input="x")
    assert sent_formats(served) == ["bytes", "base64", "base64"]


def test_an_explicit_encoding_is_obeyed(serve: Serve) -> None:
    """An encoding that the caller chose is sent, and its refusal is raised."""
    served = serve(vectors_in_json(ONE), unknown_format("bytes_only"))
    assert values(served.client.embeddings.create(input="x", encoding_format="float")) == [ONE]
    with pytest.raises(BadRequestError, match="encoding_format"):
        served.client.embeddings.create(input="x", encoding_format="bytes_only")
    assert sent_formats(served) == ["float", "bytes_only"]


def test_a_gateway_ignores_the_encoding(serve: Serve) -> None:
    """What arrived is decoded, not what was asked for."""
    assert values(serve(vectors_in_json(ONE)).client.embeddings.create(input="x")) == [ONE]


def test_items_in_another_order(serve: Serve) -> None:
    """Embeddings come in the order of the inputs."""
    header = metadata([12, 12])
    header["data"][0]["index"], header["data"][1]["index"] = 1, 0
    served = serve(binary([packed(ONE), packed(TWO)], header))
    response = served.client.embeddings.create(input=["a", "b"])
    assert values(response) == [TWO, ONE]
    assert [each.index for each in response.data] == [0, 1]


def test_a_vector_a_token(serve: Serve) -> None:
    """A model with a vector a token has lists of lists, in each encoding with a shape."""
    header = metadata([24], shape=[2, 3])
    served = serve(binary([packed([*ONE, *TWO])], header), vectors_in_json([ONE, TWO]))
    for _ in range(2):
        assert values(served.client.embeddings.create(input="a b")) == [[ONE, TWO]]


def test_batches(serve: Serve) -> None:
    """batch_size bounds the requests; the order is kept and the token counts are summed."""
    served = serve(vectors_in_bytes(ONE, TWO), vectors_in_bytes(TWO, ONE), vectors_in_bytes(ONE))
    response = served.client.embeddings.create(
        input=list("abcde"), batch_size=2, extra_headers={"x-me": "1"}
    )
    assert [request.json["input"] for request in served.requests] == [
        ["a", "b"],
        ["c", "d"],
        ["e"],
    ]
    assert {request.headers["x-me"] for request in served.requests} == {"1"}
    assert values(response) == [ONE, TWO, TWO, ONE, ONE]
    assert [each.index for each in response.data] == [0, 1, 2, 3, 4]
    assert response.usage == Usage(9, 0, 9)
    assert response.raw["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


def test_batches_without_token_counts(serve: Serve) -> None:
    """The sum of unknown token counts is unknown."""
    served = serve(binary([packed(ONE)]), binary([packed(TWO)]))
    response = served.client.embeddings.create(
        input=["a", "b"], batch_size=1, encoding_format="bytes_only"
    )
    assert (values(response), response.usage) == ([ONE, TWO], None)


@pytest.mark.parametrize("fields", [{}, {"encoding_format": "bytes"}, {"batch_size": 1000}])
def test_bytes_are_bounded(serve: Serve, fields: Any) -> None:
    """A request for bytes has at most 256 inputs, because a header has a limit."""
    served = serve(vectors_in_bytes(*[ONE] * 256), vectors_in_bytes(TWO))
    response = served.client.embeddings.create(input=["x"] * 257, **fields)
    assert [len(request.json["input"]) for request in served.requests] == [256, 1]
    assert values(response) == [ONE] * 256 + [TWO]


def test_other_encodings_are_not_bounded(serve: Serve) -> None:
    """A list goes in one request if the encoding needs no header."""
    served = serve(vectors_in_json(*[ONE] * 300))
    response = served.client.embeddings.create(input=["x"] * 300, encoding_format="float")
    assert (len(response.data), len(served.requests)) == (300, 1)


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({"input": "x"}, 1),
        ({"input": [1, 2]}, 1),
        ({"input": [[1, 2], [3]]}, 2),
        ({"input": ("a", "b")}, 2),
        ({"messages": [{"role": "user", "content": "x"}]}, 1),
        ({"input": [{"role": "user", "content": "x"}]}, 1),
        ({"messages": [[{"role": "user", "content": "x"}]] * 2}, 2),
    ],
)
def test_inputs_of_each_kind(serve: Serve, fields: Any, count: int) -> None:
    """The client knows how many inputs there are, and sends single ones whole."""
    served = serve(vectors_in_bytes(ONE), vectors_in_bytes(TWO))
    response = served.client.embeddings.create(batch_size=1, **fields)
    assert len(response.data) == len(served.requests) == count
    if count == 1:
        sent = served.requests[0].json
        assert {name: sent[name] for name in fields} == fields


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({}, TypeError, "input="),
        ({"input": None}, TypeError, "input="),
        ({"input": []}, ValueError, "at least one input"),
        ({"messages": []}, ValueError, "at least one input"),
        ({"input": "x", "batch_size": 0}, ValueError, "batch_size must be an int, 1 or greater"),
        ({"input": "x", "batch_size": True}, ValueError, "batch_size"),
        ({"input": "x", "batch_size": "3"}, ValueError, "batch_size"),
        ({"input": "x", "dimension": 3}, TypeError, "did you mean 'dimensions'"),
    ],
)
def test_refused_before_it_is_sent(serve: Serve, fields: Any, error: Any, message: str) -> None:
    """Arguments that cannot work are refused, and nothing is sent."""
    served = serve(vectors_in_bytes(ONE))
    with pytest.raises(error, match=message):
        served.client.embeddings.create(**fields)
    assert served.requests == []


def test_positional_arguments(serve: Serve) -> None:
    """A positional argument is explained."""
    served = serve(vectors_in_bytes(ONE))
    with pytest.raises(TypeError, match=r"write create\(input="):
        served.client.embeddings.create("x")  # type: ignore[arg-type]
    assert served.requests == []


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (binary([packed(ONE)[:-1]], metadata([12])), "11 bytes instead of 12"),
        (binary([packed(ONE), b"x"], metadata([12])), "13 bytes instead of 12"),
        (binary([packed(ONE)], metadata([12], shape=[4])), "instead of 16"),
        (binary([packed(ONE)], metadata([12], shape=[-3])), "not the shape"),
        (binary([packed(ONE)], metadata([12], shape=[])), "not the shape"),
        (binary([packed(ONE)], metadata([12], shape=[True, 3])), "not the shape"),
        (binary([packed(ONE)], metadata([12], embed_dtype="int4")), "'int4' is no number format"),
        (binary([packed(ONE)], metadata([12], endianness="middle")), "middle"),
        (binary([packed(ONE)], metadata([12], start=4)), "byte 4 instead of 0"),
        (binary([packed(ONE)], metadata([12], index=1)), r"inputs '\[1\]'"),
        (binary([packed(ONE)], metadata([12], index=None)), "inputs"),
        (binary([packed(ONE)] * 2, metadata([12] * 2)), r"inputs '\[0, 1\]'"),
        (binary([packed(ONE)], metadata([])), "12 bytes instead of 0"),
        (binary([packed(ONE)], "{"), "does not describe the body"),
        (binary([packed(ONE)], "[]"), "does not describe the body"),
        (binary([packed(ONE)], {"data": 3}), "does not describe the body"),
        (binary([packed(ONE)[:-1]]), "cut off"),
        (binary([]), "inputs"),
        (vectors_in_json(), "inputs"),
        (vectors_in_json("!!!!"), "shape of its route"),
        (vectors_in_json("AAA"), "shape of its route"),
        (vectors_in_json("AAAA"), "3 bytes instead of"),
        (vectors_in_json(""), "0 bytes instead of 4"),
        (vectors_in_json([]), "shape of its route"),
        (vectors_in_json([1.0, None]), "shape of its route"),
        (vectors_in_json([[1.0], [1.0, 2.0]]), "differ in length"),
        (vectors_in_json([[1.0], 2.0]), "shape of its route"),
        (vectors_in_json(None), "shape of its route"),
        (json_bytes({"model": "m"}), "shape of its route"),
        (json_bytes([]), "shape of its route"),
    ],
)
def test_what_is_no_response(serve: Serve, reply: bytes, message: str) -> None:
    """A body that does not fit its description is an error, never a shorter vector."""
    one_row = binary([packed(ONE)], metadata([12], shape=[1, 3]))  # True equals this 1.
    serve(one_row).client.embeddings.create(input="x")
    with pytest.raises(InvalidResponseError, match=message):
        serve(reply).client.embeddings.create(input="x")


@pytest.mark.parametrize("count", [2, 3])
def test_bytes_only_of_a_wrong_length(serve: Serve, count: int) -> None:
    """Without a header, a body that is not as many vectors as inputs is an error."""
    served = serve(binary([packed(ONE), b"xxxx\0"]))
    with pytest.raises(InvalidResponseError, match="17 bytes are not"):
        served.client.embeddings.create(input=["x"] * count, encoding_format="bytes_only")


def test_bytes_only_in_an_unknown_order(serve: Serve) -> None:
    """A byte order that nobody knows cannot be decoded."""
    fields: Any = {"encoding_format": "bytes_only", "endianness": "middle"}
    with pytest.raises(InvalidResponseError, match="middle"):
        serve(binary([packed(ONE)])).client.embeddings.create(input="x", **fields)


def test_a_response_can_be_compared_and_pickled(serve: Serve) -> None:
    """Responses are plain data: equal vectors are equal, in whatever encoding they came."""
    served = serve(vectors_in_bytes(ONE), vectors_in_json(ONE), vectors_in_json(TWO))
    first, second, third = [served.client.embeddings.create(input="x") for _ in range(3)]
    assert first.data == second.data != third.data
    assert pickle.loads(pickle.dumps(first)) == first
    assert copy.deepcopy(first) == first
    assert repr(first.data[0]) == "Embedding(index=0, embedding=<3 numbers>)"


def test_numpy_is_optional(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without NumPy, to_numpy() names the extra that installs it."""
    monkeypatch.setitem(sys.modules, "numpy", None)
    response = serve(vectors_in_bytes(ONE)).client.embeddings.create(input="x")
    with pytest.raises(ImportError, match=r"vllm-sync-client\[numpy\]"):
        response.to_numpy()
    with pytest.raises(ImportError, match="to_numpy"):
        response.data[0].to_numpy()


def test_to_numpy(serve: Serve) -> None:
    """to_numpy() has a row for each input, in whatever encoding the vectors came."""
    numpy = pytest.importorskip("numpy")
    served = serve(
        vectors_in_bytes(ONE, TWO),
        vectors_in_json(ONE, TWO),
        vectors_in_json(as_base64(packed(ONE)), TWO),
        vectors_in_json([ONE, TWO], [TWO, ONE]),
    )
    for _ in range(3):
        response = served.client.embeddings.create(input=["a", "b"])
        made = response.to_numpy()
        assert (made.dtype, made.tolist()) == (numpy.float32, [ONE, TWO])
        assert response.data[1].to_numpy().tolist() == TWO
        made[0, 0] = 7  # It is the caller's own.
        assert values(response) == [ONE, TWO]
    response = served.client.embeddings.create(input=["a", "b"])
    assert response.to_numpy().shape == (2, 2, 3)


def test_to_numpy_of_different_shapes(serve: Serve) -> None:
    """Vectors of different shapes make no array; each of them does."""
    pytest.importorskip("numpy")
    response = serve(vectors_in_bytes(ONE, ONE[:2])).client.embeddings.create(input=["a", "b"])
    with pytest.raises(ValueError, match="2 different shapes"):
        response.to_numpy()
    assert [each.to_numpy().tolist() for each in response.data] == [ONE, ONE[:2]]
