"""Fields of a request that look at the tokens so far: penalties, bad words, repetitions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .model import Weights

__all__ = ["Penalties", "RepetitionLimit"]


class _HasId(Protocol):
    @property
    def id(self) -> int: ...


@dataclass(frozen=True)
class Penalties:
    """How the tokens so far change the weights of the next one. The default changes nothing.

    Attributes:
        frequency: ``frequency_penalty``.
        presence: ``presence_penalty``.
        repetition: ``repetition_penalty``.
        bad_words: The token ids of each word that must not be generated.
    """

    frequency: float = 0.0
    presence: float = 0.0
    repetition: float = 1.0
    bad_words: Sequence[Sequence[int]] = ()

    def applied(self, weights: Weights, prompt: Sequence[int], output: Sequence[int]) -> Weights:
        """Return the weights after the penalties for the tokens of the prompt and the output."""
        if (self.frequency, self.presence, self.repetition) == (0, 0, 1):
            return weights
        counts = Counter(output)
        seen = counts.keys() | set(prompt)
        total = sum(weights.values())
        logits = {}
        for id_, weight in weights.items():
            penalty = self.frequency * counts[id_] + self.presence * (id_ in counts)
            # The logarithm of a share is negative: vLLM multiplies negative logits.
            factor = self.repetition if id_ in seen else 1
            logits[id_] = math.log(weight / total) * factor - penalty
        highest = max(logits.values())
        return {id_: math.exp(logit - highest) for id_, logit in logits.items()}

    def forbidden(self, output: Sequence[int]) -> frozenset[int]:
        """Return the tokens that would complete a bad word."""
        return frozenset(
            last
            for *before, last in self.bad_words
            if list(output[len(output) - len(before) :]) == before
        )


@dataclass(frozen=True)
class RepetitionLimit:
    """``repetition_detection``: ends an output whose last tokens repeat a pattern.

    Attributes:
        max_pattern_size: The longest pattern, in tokens; 0 detects nothing.
        min_pattern_size: The shortest pattern; 0 means 1.
        min_count: How often the pattern must stand at the end.
    """

    max_pattern_size: int = 0
    min_pattern_size: int = 0
    min_count: int = 0

    def is_reached(self, tokens: Sequence[_HasId]) -> bool:
        """Return whether the output repeats itself."""
        if not self.max_pattern_size:
            return False
        ids = [token.id for token in tokens[-self.max_pattern_size * self.min_count :]]
        sizes = range(max(1, self.min_pattern_size), self.max_pattern_size + 1)
        return any(self._repeats(ids, size) for size in sizes)

    def _repeats(self, ids: list[int], size: int) -> bool:
        end = ids[-size * self.min_count :]
        return end == end[:size] * self.min_count
