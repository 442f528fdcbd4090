"""Vectors as the server sent them: bytes that become numbers when somebody asks for them."""

from __future__ import annotations

import functools
import math
import struct
import sys
from array import array
from typing import TYPE_CHECKING, Any, List, Sequence, Tuple, Union

from attrs import frozen

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ITEM_SIZES = {"float32": 4, "float16": 2, "bfloat16": 2, "fp8_e4m3": 1, "fp8_e5m2": 1}
"""The names of number formats that vLLM sends → bytes of one number."""


Buffer = Union[bytes, bytearray, memoryview]


@frozen
class PackedVector:
    """Numbers in the bytes of a response.

    Attributes:
        data: The bytes, as many as ``dtype`` and ``shape`` need. A part of a body is a view, which
            keeps the body; copying each part took as long as reading the body.
        dtype: A name in ``ITEM_SIZES``.
        big_endian: The order of the bytes of a number.
        shape: The lengths of the dimensions.
    """

    data: Buffer
    dtype: str
    big_endian: bool
    shape: Tuple[int, ...]

    def __reduce__(self) -> Tuple[Any, ...]:
        # A memoryview cannot be pickled or copied.
        return PackedVector, (bytes(self.data), self.dtype, self.big_endian, self.shape)

    def to_list(self) -> List[Any]:
        """The numbers, as nested lists of this shape."""
        numbers = self._numbers()
        for length in reversed(self.shape[1:]):
            numbers = [numbers[at : at + length] for at in range(0, len(numbers), length)]
        return numbers

    def _numbers(self) -> List[Any]:
        if self.dtype == "float32":
            return _floats(self.data, self.big_endian)
        if self.dtype == "bfloat16":
            return _floats(self._widened(), self.big_endian)
        if self.dtype == "float16":
            order = ">" if self.big_endian else "<"
            return list(struct.unpack(f"{order}{len(self.data) // 2}e", self.data))
        values = fp8_values(self.dtype)
        return [values[byte] for byte in self.data]

    def _widened(self) -> bytes:
        # A bfloat16 is the upper half of a float32.
        wide = bytearray(2 * len(self.data))
        first = 0 if self.big_endian else 2
        wide[first::4] = self.data[0::2]
        wide[first + 1 :: 4] = self.data[1::2]
        return bytes(wide)

    def to_numpy(self) -> NDArray[np.float32]:
        """A writable array of float32 with this shape, made without a list."""
        numpy = import_numpy()
        order = ">" if self.big_endian else "<"
        if self.dtype == "bfloat16":
            halves = numpy.frombuffer(self.data, f"{order}u2").astype(numpy.uint32)
            flat = (halves << 16).view(numpy.float32)
        elif self.dtype in {"float32", "float16"}:
            code = f"{order}f{ITEM_SIZES[self.dtype]}"
            # Copied once, unless it must be converted: stacked() made the bytes for this array.
            own = isinstance(self.data, bytearray)
            flat = numpy.frombuffer(self.data, code).astype(numpy.float32, copy=not own)
        else:
            values = numpy.array(fp8_values(self.dtype), numpy.float32)
            flat = values[numpy.frombuffer(self.data, numpy.uint8)]
        shaped: NDArray[np.float32] = flat.reshape(self.shape)
        return shaped


Values = Union[PackedVector, List[Any]]
"""The numbers of one vector or matrix."""


def list_of(values: Values) -> List[Any]:
    """The numbers as lists."""
    return values.to_list() if isinstance(values, PackedVector) else values


def array_of(values: Values) -> NDArray[np.float32]:
    """The numbers as an array."""
    if isinstance(values, PackedVector):
        return values.to_numpy()
    made: NDArray[np.float32] = import_numpy().array(values, "float32")
    return made


def stacked(parts: Sequence[Values]) -> NDArray[np.float32]:
    """One array of all vectors, which need the same shape.

    Raises:
        ValueError: Their shapes differ, or there is none.
    """
    shapes = {shape_of(part) for part in parts}
    if len(shapes) != 1:
        raise ValueError(
            f"{len(parts)} vectors with {len(shapes)} different shapes make no array: call "
            "to_numpy() of each item of data instead"
        )
    packed = [part for part in parts if isinstance(part, PackedVector)]
    kinds = {(part.dtype, part.big_endian) for part in packed}
    if len(packed) == len(parts) and len(kinds) == 1:
        # One conversion of all bytes costs a tenth of one for each vector.
        ((dtype, big_endian),) = kinds
        data = bytearray().join([part.data for part in packed])
        return PackedVector(data, dtype, big_endian, (len(parts), *shapes.pop())).to_numpy()
    made: NDArray[np.float32] = import_numpy().stack([array_of(part) for part in parts])
    return made


def shape_of(values: Values) -> Tuple[int, ...]:
    """The lengths of the dimensions of one vector or matrix."""
    if isinstance(values, PackedVector):
        return values.shape
    # Rows of a list were checked to have the same length when the response was decoded.
    is_matrix = bool(values) and isinstance(values[0], list)
    return (len(values), len(values[0])) if is_matrix else (len(values),)


def import_numpy() -> Any:
    """NumPy, which only arrays need.

    Raises:
        ImportError: It is not installed.
    """
    try:
        import numpy  # noqa: ICN001, PLC0415
    except ImportError as error:
        raise ImportError(
            "to_numpy() needs NumPy: pip install 'vllm-sync-client[numpy]'"
        ) from error
    return numpy


def _floats(data: Buffer, big_endian: bool) -> List[float]:
    numbers = array("f")
    numbers.frombytes(data)
    if big_endian != (sys.byteorder == "big"):
        numbers.byteswap()
    return numbers.tolist()


@functools.cache
def fp8_values(dtype: str) -> List[float]:
    """The number that each of the 256 bytes stands for."""
    if dtype == "fp8_e5m2":  # The upper half of a float16.
        return [struct.unpack(">e", bytes([byte, 0]))[0] for byte in range(256)]
    return [_e4m3(byte) for byte in range(256)]


def _e4m3(byte: int) -> float:
    # The variant "fn" of the OCP specification: no infinities, and two bytes that are no number.
    sign, exponent, fraction = -1.0 if byte & 0x80 else 1.0, (byte >> 3) & 0xF, byte & 7
    if byte & 0x7F == 0x7F:
        return math.nan
    if exponent == 0:
        return sign * fraction * 2.0**-9
    return sign * (8 + fraction) * 2.0 ** (exponent - 10)
