"""Embeddings: the same for the same text, and similar for texts with the same words.

Each word, and each three letters of a word, has a direction that its hash chooses. The embedding of
a text is the sum of the directions of what it contains, with length 1. It knows no meanings.
"""

from __future__ import annotations

import functools
import math
import random
import re
import struct
from collections.abc import Iterator, Sequence

__all__ = ["DIMENSIONS", "class_probabilities", "embed", "pack", "similarity"]

DIMENSIONS = 128

_LETTERS = 3
_WORD_WEIGHT = 2.0
_SHARPNESS = 5.0


def embed(text: str) -> list[float]:
    """Return the embedding of a text: ``DIMENSIONS`` numbers, each a float32."""
    total = [0.0] * DIMENSIONS
    for feature, weight in _features(text):
        for index, value in enumerate(_direction(feature)):
            total[index] += weight * value
    length = math.sqrt(sum(value * value for value in total))
    exact = [value / length for value in total]
    return list(struct.unpack(f"{DIMENSIONS}f", struct.pack(f"{DIMENSIONS}f", *exact)))


def similarity(left: Sequence[float], right: Sequence[float]) -> float:
    """Return the cosine of two embeddings, -1 to 1."""
    return sum(one * other for one, other in zip(left, right))


def class_probabilities(vector: Sequence[float], classes: Sequence[str]) -> list[float]:
    """Return a probability for each class: the greater, the more similar its name is."""
    weights = [math.exp(_SHARPNESS * similarity(vector, embed(name))) for name in classes]
    return [weight / sum(weights) for weight in weights]


def pack(vector: Sequence[float], dtype: str, endianness: str) -> bytes:
    """Return the bytes of a vector as vLLM writes them. The 8-bit formats are rounded down."""
    order = ">" if endianness == "big" else "<"
    if dtype in ("float32", "float16"):
        return struct.pack(f"{order}{len(vector)}{'f' if dtype == 'float32' else 'e'}", *vector)
    numbers = [_UPPER_PARTS[dtype](value) for value in vector]
    return b"".join(part if order == ">" else part[::-1] for part in numbers)


def _bfloat16(value: float) -> bytes:
    return struct.pack(">f", value)[:2]


def _e5m2(value: float) -> bytes:
    return struct.pack(">e", value)[:1]


def _e4m3(value: float) -> bytes:
    # A float16 of a 256th has the exponent of an e4m3 in its lower bits.
    bits = int.from_bytes(struct.pack(">e", value / 256), "big")
    return bytes([(bits >> 8 & 0x80) | (bits >> 7 & 0x7F)])


_UPPER_PARTS = {"bfloat16": _bfloat16, "fp8_e5m2": _e5m2, "fp8_e4m3": _e4m3}


def _features(text: str) -> Iterator[tuple[str, float]]:
    # Something that every text has, so that no sum is zero.
    yield "", 0.1
    for word in re.findall(r"\w+", text.lower()):
        yield word, _WORD_WEIGHT
        padded = f"_{word}_"
        for start in range(len(padded) - _LETTERS + 1):
            yield padded[start : start + _LETTERS], 1.0


@functools.lru_cache(maxsize=4096)
def _direction(feature: str) -> tuple[float, ...]:
    # A string seeds by its SHA-512, in every process alike.
    rng = random.Random(f"direction of {feature}")
    return tuple(rng.gauss(0, 1) for _ in range(DIMENSIONS))
