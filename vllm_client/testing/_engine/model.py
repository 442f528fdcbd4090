"""A word model: which token follows two others in the shipped text, and how often.

It is no language model. It exists so that an answer reads as English, keeps to the words of the
prompt where it can, and comes out the same for the same seed.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .tokenizer import EOS, Tokenizer

__all__ = ["Sampling", "Walk", "Weights", "WordModel"]

Weights = Mapping[int, float]

# A sentence weighs so much more for each word that it shares with the prompt, and more again if
# it begins with that word, as a definition does.
_SHARED_WORD = 100.0
_SHARED_START = 5.0
# What a sentence weighs once it has been said, and a word that the sentence already had.
_REPEATED = 1e-3
# Sentences near the last one in the text go on best, by the square of the distance. A text that
# has not begun is this far from all of them.
_NEARNESS = 300.0
_FAR = 20
# The model looks at so many tokens, and each one more in common weighs so much more.
_ORDER = 4
_LONGER_MATCH = 40.0
# How likely an answer is to end after its first, second, ... sentence. Past one half even the
# greedy choice is to end, so that no answer goes on for ever.
_END_AFTER = (0.02, 0.15, 0.3, 0.45, 0.6, 0.75)
# The part of the probability kept for tokens that never followed in the text.
_SMOOTHING = 0.02
_SENTENCE_END = re.compile(r"(?<=\.)\s+")
_CONTENT_WORD = re.compile(r"[^\W_]{4,}")
_EMPTY_WORDS = frozenset(
    (
        "about",
        "does",
        "from",
        "have",
        "please",
        "that",
        "this",
        "what",
        "when",
        "where",
        "which",
        "with",
        "work",
        "write",
        "your",
    )
)


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen: the fields of a request that bear on it."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    allowed_token_ids: frozenset[int] = frozenset()
    forbidden_token_ids: frozenset[int] = frozenset()

    def choose(self, weights: Weights, rng: random.Random) -> int:
        """Return a token id drawn from `weights`, the likeliest one at temperature 0."""
        weights = self._constrained(weights)
        if self.temperature == 0:
            return max(weights, key=weights.__getitem__)
        heaviest = max(weights.values())
        heated = {id_: (w / heaviest) ** (1 / self.temperature) for id_, w in weights.items()}
        kept = self._truncated(sorted(heated.items(), key=lambda item: -item[1]))
        return rng.choices([id_ for id_, _ in kept], [weight for _, weight in kept])[0]

    def _constrained(self, weights: Weights) -> Weights:
        biased = dict(weights)
        for id_, bias in self.logit_bias.items():
            biased[id_] = biased.get(id_, _SMOOTHING) * math.exp(bias)
        allowed = self.allowed_token_ids or biased.keys()
        kept = {id_: w for id_, w in biased.items() if id_ in allowed}
        kept = kept or dict.fromkeys(sorted(allowed), 1.0)
        rest = {id_: w for id_, w in kept.items() if id_ not in self.forbidden_token_ids}
        return rest or kept

    def _truncated(self, ranked: list[tuple[int, float]]) -> list[tuple[int, float]]:
        ranked = ranked[: self.top_k] if self.top_k > 0 else ranked
        limit = self.top_p * sum(weight for _, weight in ranked)
        kept: list[tuple[int, float]] = []
        seen = 0.0
        for id_, weight in ranked:
            # The heaviest weighs 1, so `min_p` compares as it is.
            if kept and (seen >= limit or weight < self.min_p):
                break
            kept.append((id_, weight))
            seen += weight
        return kept


class WordModel:
    """Which token follows which in a text of whole sentences, each ended by a full stop."""

    def __init__(self, tokenizer: Tokenizer, text: str) -> None:
        self._tokenizer = tokenizer
        self._sentences = _SENTENCE_END.split(text.strip())
        self.ids: list[int] = []
        self.sentence_of: list[int] = []
        self.starts: list[int] = []
        self._after: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for number, sentence in enumerate(self._sentences):
            self._learn(number, tokenizer.encode(" " + " ".join(sentence.split())))
        self._ends = frozenset(self.ids[start - 1] for start in self.starts)
        self._spread = Counter(self.ids)

    def topic(self, prompt: str) -> list[float]:
        """Return the weight of each sentence of the text for an answer to `prompt`."""
        asked = _content_words(prompt)
        return [_relevance(asked, line) for line in self._sentences]

    def context(self, prompt_ids: Sequence[int]) -> list[int]:
        """Return what an answer goes on from: the end of the prompt, if the text knows it."""
        spaced = [self._spaced(id_) for id_ in prompt_ids[-_ORDER:]]
        known = bool(spaced) and bool(self.positions(spaced[-1:]))
        return spaced if known else []

    def positions(self, context: Sequence[int]) -> Sequence[int]:
        """Return where in the text the tokens stand that followed `context`."""
        return self._after.get(tuple(context), ())

    def ends_sentence(self, id_: int) -> bool:
        """Whether a token ends a sentence of the text."""
        return id_ in self._ends

    def ranking(self, weights: Weights) -> list[tuple[int, float]]:
        """Return (token id, log-probability) of all tokens worth naming, likeliest first."""
        total = sum(weights.values())
        spread = _SMOOTHING / len(self.ids)
        chances = {id_: spread * count for id_, count in self._spread.items()}
        for id_, weight in weights.items():
            chances[id_] = chances.get(id_, 0.0) + (1 - _SMOOTHING) * weight / total
        ranked = sorted(chances.items(), key=lambda item: -item[1])
        return [(id_, math.log(chance)) for id_, chance in ranked]

    def without_space(self, id_: int) -> int:
        """Return the token for the same word at the very beginning of a text."""
        piece = self._tokenizer.token_bytes(id_)
        known = piece[:1] == b" " and len(piece) > 1
        return self._tokenizer.find(piece.lstrip(), id_) if known else id_

    def _learn(self, number: int, ids: list[int]) -> None:
        self.starts.append(len(self.ids))
        self.ids += ids
        self.sentence_of += [number] * len(ids)
        for end in range(1, len(ids)):
            for length in range(1, min(end, _ORDER) + 1):
                context = tuple(ids[end - length : end])
                self._after[context].append(self.starts[-1] + end)

    def _spaced(self, id_: int) -> int:
        piece = b" " + self._tokenizer.token_bytes(id_).lstrip()
        return self._tokenizer.find(piece, id_)


class Walk:
    """One answer in the making: where in the text it is, and what it has said already."""

    def __init__(self, model: WordModel, prompt: str, context: Sequence[int] = ()) -> None:
        self._model = model
        self._topic = model.topic(prompt)
        self._context = list(context)
        self._positions: dict[int, float] = {}
        self._trail: set[int] = set()
        self._said: set[int] = set()
        self._sentences = 0

    def weights(self) -> Weights:
        """Return the weights of the tokens that may come next.

        EOS is among them where a sentence has just ended, the heavier the more there are.
        """
        self._positions = self._next_positions() or self._next_sentences()
        weights: dict[int, float] = defaultdict(float)
        for position, weight in self._positions.items():
            weights[self._model.ids[position]] += weight
        if self._sentences and not self._context:
            share = _END_AFTER[min(self._sentences, len(_END_AFTER)) - 1]
            weights[EOS] = sum(weights.values()) * share / (1 - share)
        return weights

    def take(self, id_: int) -> None:
        """Go on by the token that was chosen."""
        here = [at for at in self._positions if self._model.ids[at] == id_]
        self._trail.update(here)
        self._context = [*self._context[1 - _ORDER :], id_]
        if self._model.ends_sentence(id_):
            # Of several sentences that have run together it said the one it went along most.
            along = Counter(self._model.sentence_of[at] for at in self._trail)
            longest = max(along.values(), default=0)
            self._said = {sentence for sentence, count in along.items() if count == longest}
            self._trail.clear()
            self._context = []
            self._sentences += 1
            for sentence in self._said:
                self._topic[sentence] = _REPEATED

    def _next_positions(self) -> dict[int, float]:
        # The topic decides how a sentence begins; within it, it would only tear it apart.
        most = math.inf if len(self._context) < _ORDER else 1.0
        found: dict[int, float] = {}
        for length in range(len(self._context), 0, -1):
            for at in self._model.positions(self._context[-length:]):
                topic = min(most, self._topic[self._model.sentence_of[at]])
                # Otherwise a sentence could run in a circle.
                again = _REPEATED if at in self._trail else 1.0
                found.setdefault(at, topic * again * _LONGER_MATCH**length)
            # A single word in common is too little to cross over at, unless there is no more.
            if found and length == 2:
                break
        return found

    def _next_sentences(self) -> dict[int, float]:
        found = {}
        for sentence, at in enumerate(self._model.starts):
            distances = [abs(sentence - said) for said in self._said]
            nearness = _NEARNESS / max(1, min(distances, default=_FAR)) ** 2
            found[at] = self._topic[sentence] * nearness
        return found


def _relevance(asked: frozenset[str], sentence: str) -> float:
    words = _content_words(sentence)
    first = _content_words(" ".join(sentence.split()[:2]))
    return float(_SHARED_WORD ** len(asked & words) * _SHARED_START ** len(asked & first))


def _content_words(text: str) -> frozenset[str]:
    words = _CONTENT_WORD.findall(text.lower())
    return frozenset(word.rstrip("s") for word in words if word not in _EMPTY_WORDS)
