"""Bodies of ``/v1/embeddings`` and ``/pooling`` → vectors.

The server writes vectors as floats or base64 in JSON, or as bytes with a header that describes
them. Which of these arrived is read from the response, because a gateway may ignore what was asked.
"""

from __future__ import annotations

import base64
import functools
import math
from array import array
from typing import Any, List, Mapping, Optional, Sequence, Tuple

from attrs import frozen

from ..exceptions import InvalidResponseError
from ..types._json import JsonObject
from ..types._vectors import ITEM_SIZES, Buffer, PackedVector, Values
from ..types.shared import JSONValue, Usage
from .answers import decoded_answer
from .chunks import MISSHAPEN, shortened
from .fast_json import loads

BYTES = "application/octet-stream"
# Nothing tells the byte order of "native", which is the server's own. vLLM's usual machines are
# little-endian, and unless the caller decides otherwise, the client requests "little".
_BIG_ENDIAN = {"little": False, "big": True, "native": False}


@frozen
class Expected:
    """What was asked for.

    Attributes:
        member: The member of an item that has its vector: ``embedding`` or ``data``.
        count: The number of inputs.
        dtype: The number format, for encodings that do not state it.
        endianness: The byte order, likewise.
    """

    member: str
    count: int
    dtype: str = "float32"
    endianness: str = "little"


@frozen
class Vectors:
    """A decoded response.

    Attributes:
        raw: The JSON that came with the vectors.
        values: The vectors, in the order of the inputs.
        model: The name of the model.
        usage: The token counts.
    """

    raw: JsonObject
    values: List[Values]
    model: str = ""
    usage: Optional[Usage] = None

    @classmethod
    def from_items(
        cls, raw: JsonObject, items: Sequence[Tuple[int, Values]], expected: Expected
    ) -> Vectors:
        """The vectors of numbered items.

        Raises:
            InvalidResponseError: There is not exactly one item for each input.
        """
        ordered = sorted(items, key=lambda item: item[0])
        indexes = [index for index, _ in ordered]
        if indexes != list(range(expected.count)):
            raise InvalidResponseError(
                f"the response has vectors for the inputs {shortened(str(indexes))}, but there "
                f"are {expected.count} inputs",
                body=raw,
            )
        values = [value for _, value in ordered]
        return cls(raw, values, raw.get("model") or "", Usage.from_raw(raw.get("usage")))


def decoded_vectors(content: bytes, headers: Mapping[str, str], expected: Expected) -> Vectors:
    """The vectors in a response.

    Args:
        content: The body.
        headers: The headers of the response, whose names match in any case.
        expected: What was asked for.

    Raises:
        InvalidResponseError: The response is not one of these routes, or lacks a vector or a part
            of one.
    """
    if headers.get("content-type", "").partition(";")[0].strip().lower() != BYTES:
        return decoded_answer(content, functools.partial(_from_json, expected=expected))
    metadata = headers.get("metadata")
    if metadata is None:
        return _equal_parts(content, expected)
    try:
        return _from_metadata(content, loads(metadata), expected)
    except MISSHAPEN as error:
        raise InvalidResponseError(
            f"the header metadata does not describe the body ({error!r}): {shortened(metadata)}",
            body=metadata,
        ) from error


def _from_metadata(content: bytes, raw: JsonObject, expected: Expected) -> Vectors:
    items: List[Tuple[int, Values]] = []
    end, view = 0, memoryview(content)
    for item in raw["data"]:
        if item["start"] != end:
            raise ValueError(f"a vector begins at byte {item['start']} instead of {end}")
        end = item["end"]
        vector = _packed(
            view[item["start"] : end], item["embed_dtype"], item["endianness"], item["shape"]
        )
        items.append((item["index"], vector))
    if end != len(content):
        raise ValueError(f"the body has {len(content)} bytes instead of {end}")
    return Vectors.from_items(raw, items, expected)


def _equal_parts(content: bytes, expected: Expected) -> Vectors:
    # Without metadata nothing but the length tells how long a vector is.
    size, rest = divmod(len(content), expected.count)
    try:
        if rest:
            raise ValueError(f"{len(content)} bytes are not {expected.count} vectors")
        view = memoryview(content)
        parts = [view[at : at + size] for at in range(0, len(content), size or 1)]
        items = [(index, _flat(part, expected)) for index, part in enumerate(parts)]
    except MISSHAPEN as error:
        raise InvalidResponseError(f"the body is cut off, or no vectors: {error}") from error
    return Vectors.from_items({}, items, expected)


def _from_json(raw: JsonObject, expected: Expected) -> Vectors:
    items = [(item["index"], _values(item[expected.member], expected)) for item in raw["data"]]
    return Vectors.from_items(raw, items, expected)


def _values(value: JSONValue, expected: Expected) -> Values:
    if isinstance(value, str):
        return _flat(base64.b64decode(value, validate=True), expected)
    rows: List[Any] = value if value and isinstance(value[0], list) else [value]
    for row in rows:
        array("d", row)  # The cheapest way to find what is no number.
    if not rows[0] or any(len(row) != len(rows[0]) for row in rows):
        raise ValueError("a vector is empty, or the rows of a matrix differ in length")
    return list(value)


def _flat(data: Buffer, expected: Expected) -> PackedVector:
    # At least 1, so that too few bytes are reported as that.
    length = max(len(data) // _item_size(expected.dtype), 1)
    return _packed(data, expected.dtype, expected.endianness, [length])


def _packed(data: Buffer, dtype: str, endianness: str, shape: List[int]) -> PackedVector:
    size, big_endian, lengths = _layout(dtype, endianness, *shape)
    if size != len(data):
        raise ValueError(
            f"a vector of shape {shape} in {dtype} has {len(data)} bytes instead of {size}"
        )
    return PackedVector(data, dtype, big_endian, lengths)


# Nearly always the same one for all vectors of a model. Typed, because True equals 1.
@functools.lru_cache(maxsize=64, typed=True)
def _layout(dtype: str, endianness: str, *shape: int) -> Tuple[int, bool, Tuple[int, ...]]:
    """The number of bytes of a vector, whether the order is big-endian, and the shape."""
    if not shape or {*map(type, shape)} != {int} or min(shape) < 1:
        raise ValueError(f"{list(shape)} is not the shape of a vector")
    return math.prod(shape) * _item_size(dtype), _BIG_ENDIAN[endianness], shape


def _item_size(dtype: str) -> int:
    if dtype not in ITEM_SIZES:
        raise ValueError(f"{dtype!r} is no number format of vLLM: {', '.join(ITEM_SIZES)}")
    return ITEM_SIZES[dtype]
