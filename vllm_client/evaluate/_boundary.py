"""Where a continuation begins among the tokens, and which windows a long text takes."""

from __future__ import annotations

from typing import Iterator, Sequence, Tuple


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two sequences begin with alike."""
    count = min(len(first), len(second))
    if first[:count] == second[:count]:
        return count
    return next(number for number in range(count) if first[number] != second[number])


def spans(total: int, window: int, stride: int) -> Iterator[Tuple[int, int, int]]:
    """Windows over ``total`` tokens that score each once: (begin, end, the first that is scored).

    Args:
        total: How many tokens there are, 1 or more.
        window: The most tokens of a window, 2 or more.
        stride: How many tokens each window after the first one scores, below ``window``.
    """
    end = min(window, total)
    yield 0, end, 0
    while end < total:
        scored, end = end, min(end + stride, total)
        yield max(end - window, 0), end, scored
