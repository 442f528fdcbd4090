"""Numbers of every format, byte order and shape; ``struct`` is the judge, NumPy where it is."""

from __future__ import annotations

import base64
import json
import math
import struct
from typing import Any, List, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_client._decoding.embeddings import Expected, decoded_vectors
from vllm_client.exceptions import InvalidResponseError
from vllm_client.types._vectors import ITEM_SIZES, array_of, list_of, stacked

ORDERS = {"little": "<", "native": "<", "big": ">"}


def judged(data: bytes, dtype: str, order: str) -> List[float]:
    """The numbers in some bytes, each by ``struct`` alone."""
    size = ITEM_SIZES[dtype]
    return [_number(data[at : at + size], dtype, order) for at in range(0, len(data), size)]


def _number(data: bytes, dtype: str, order: str) -> float:
    big = data if order == ">" else data[::-1]
    if dtype == "float32":
        return float(struct.unpack(">f", big)[0])
    if dtype == "float16":
        return float(struct.unpack(">e", big)[0])
    if dtype == "bfloat16":
        return float(struct.unpack(">f", big + b"\0\0")[0])
    if dtype == "fp8_e5m2":
        return float(struct.unpack(">e", big + b"\0")[0])
    return _e4m3_as_float16(big[0])


def _e4m3_as_float16(byte: int) -> float:
    # Moved to the exponent and fraction of a float16, whose exponents are smaller by 8.
    if byte & 0x7F == 0x7F:
        return math.nan
    half = ((byte & 0x80) << 8) | ((byte & 0x7F) << 7)
    return float(struct.unpack(">e", half.to_bytes(2, "big"))[0]) * 256


def same(left: Any, right: Any) -> bool:
    """Whether two nested lists have the same numbers; NaN equals NaN, -0 differs from 0."""
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if math.isnan(left):
        return math.isnan(right)
    return left == right and math.copysign(1, left) == math.copysign(1, right)


@st.composite
def items(draw: Any) -> Tuple[str, str, List[Tuple[List[int], bytes]]]:
    """A format, a byte order, and vectors or matrices of any bytes in it."""
    dtype = draw(st.sampled_from(sorted(ITEM_SIZES)))
    endianness = draw(st.sampled_from(sorted(ORDERS)))
    shapes = draw(st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=2), min_size=1))
    found = []
    for shape in shapes:
        size = math.prod(shape) * ITEM_SIZES[dtype]
        found.append((shape, draw(st.binary(min_size=size, max_size=size))))
    return dtype, endianness, found


def header(dtype: str, endianness: str, found: List[Tuple[List[int], bytes]]) -> str:
    """The header that describes these vectors."""
    data, end = [], 0
    for index, (shape, part) in enumerate(found):
        place = {"start": end, "end": end + len(part), "shape": shape}
        data.append({"index": index, "embed_dtype": dtype, "endianness": endianness, **place})
        end += len(part)
    return json.dumps({"data": data, "model": "m", "usage": None})


def nested(flat: List[float], shape: List[int]) -> List[Any]:
    if len(shape) == 1:
        return list(flat)
    return [flat[row * shape[1] : (row + 1) * shape[1]] for row in range(shape[0])]


@given(items())
def test_bytes(example: Any) -> None:
    """Bytes with a header are the numbers that struct reads, in the shape of the header."""
    dtype, endianness, found = example
    headers = {"content-type": "Application/octet-stream", "metadata": header(*example)}
    content = b"".join(part for _, part in found)
    vectors = decoded_vectors(content, headers, Expected("embedding", len(found)))
    wanted = [nested(judged(part, dtype, ORDERS[endianness]), shape) for shape, part in found]
    assert same([list_of(value) for value in vectors.values], wanted)
    with pytest.raises(InvalidResponseError):
        decoded_vectors(content[:-1], headers, Expected("embedding", len(found)))


@given(items())
def test_base64(example: Any) -> None:
    """Base64 in JSON is the same numbers, flat."""
    dtype, endianness, found = example
    data = [
        {"index": index, "data": base64.b64encode(part).decode()}
        for index, (_, part) in enumerate(found)
    ]
    body = json.dumps({"data": data, "model": "m"}).encode()
    expected = Expected("data", len(found), dtype, endianness)
    vectors = decoded_vectors(body, {"content-type": "application/json"}, expected)
    wanted = [judged(part, dtype, ORDERS[endianness]) for _, part in found]
    assert same([list_of(value) for value in vectors.values], wanted)


@given(items())
def test_numpy_reads_the_same(example: Any) -> None:
    """Arrays have the same numbers and shapes as lists, one by one and stacked."""
    pytest.importorskip("numpy")
    dtype, _, found = example
    headers = {"content-type": "application/octet-stream", "metadata": header(*example)}
    content = b"".join(part for _, part in found)
    vectors = decoded_vectors(content, headers, Expected("embedding", len(found))).values
    for vector, (shape, _) in zip(vectors, found):
        made = array_of(vector)
        assert made.shape == tuple(shape)
        assert made.dtype == "float32", dtype
        assert same(made.tolist(), list_of(vector))
    alike = [vector for vector, (shape, _) in zip(vectors, found) if shape == found[0][0]]
    assert same(stacked(alike).tolist(), [list_of(vector) for vector in alike])


def test_all_bytes_of_fp8() -> None:
    """Each byte of both 8-bit formats has the value of its specification."""
    for dtype, largest in (("fp8_e4m3", 448.0), ("fp8_e5m2", math.inf)):
        body = bytes(range(256))
        headers = {"content-type": "application/octet-stream"}
        (vector,) = decoded_vectors(body, headers, Expected("data", 1, dtype)).values
        assert same(list_of(vector), judged(body, dtype, "<"))
        assert max(each for each in list_of(vector) if not math.isnan(each)) == largest
