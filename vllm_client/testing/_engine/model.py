"""A word model: counts which token follows which tokens in the text of ``text.py``.

It is not a language model. It writes text that reads as English, prefers sentences with words of
the prompt, and writes the same text for the same seed.

The model is frozen. Do not change it for a new route: new routes send canned responses (see
``_routes``). Each change here changes the text that existing tests and demonstrations see.
"""

from __future__ import annotations

import functools
import math
import random
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .tokenizer import EOS, Tokenizer

__all__ = ["Sampling", "Walk", "Weights", "WordModel"]

Weights = Mapping[int, float]
"""Token ids with their relative weights, which need not add up to 1."""

# The weight of a sentence is multiplied by _SHARED_WORD for each word that it shares with the
# prompt, and also by _SHARED_START if that is one of its first two words, as in a definition.
_SHARED_WORD = 100.0
_SHARED_START = 5.0
# The weight of a sentence that was generated already, and the factor for a position in the text
# that the current sentence has used already.
_REPETITION = 1e-3
# The next sentence is most likely one that is near the last sentence in the text: this weight is
# divided by the square of the distance. Before the first sentence, all distances are
# _START_DISTANCE.
_NEAR_SENTENCE = 300.0
_START_DISTANCE = 20
# The model compares up to _ORDER preceding tokens; each token more in common multiplies the weight
# by _LONGER_MATCH.
_ORDER = 4
_LONGER_MATCH = 40.0
# The probability that the output ends after its first, second, ... sentence. It exceeds one half in
# the end, so that output at temperature 0 ends too.
_END_PROBABILITIES = (0.02, 0.15, 0.3, 0.45, 0.6, 0.75)
# The share of the probability for tokens that never followed these tokens in the text.
_SMOOTHING = 0.02
_SENTENCE_END = re.compile(r"(?<=\.)\s+")
_CONTENT_WORD = re.compile(r"[^\W_]{4,}")
_STOP_WORDS = frozenset(
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
    """How the next token is sampled: the fields of a request that bear on it."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    allowed_token_ids: frozenset[int] = frozenset()
    forbidden_token_ids: frozenset[int] = frozenset()

    def biased(self, weights: Weights) -> Weights:
        """Return the weights after ``logit_bias``."""
        biased = dict(weights)
        for id_, bias in self.logit_bias.items():
            # vLLM cuts off the bias at these limits too.
            limited = min(100.0, max(-100.0, bias))
            biased[id_] = biased.get(id_, _SMOOTHING) * math.exp(limited)
        return biased

    def choose(self, weights: Weights, rng: random.Random) -> int:
        """Return a token id sampled from ``weights``; at temperature 0, the likeliest one."""
        weights = self._constrained(weights)
        if self.temperature == 0:
            return max(weights, key=weights.__getitem__)
        heaviest = max(weights.values())
        heated = {id_: (w / heaviest) ** (1 / self.temperature) for id_, w in weights.items()}
        kept = self._truncated(sorted(heated.items(), key=lambda item: -item[1]))
        return rng.choices([id_ for id_, _ in kept], [weight for _, weight in kept])[0]

    def _constrained(self, weights: Weights) -> Weights:
        """Apply the allowed and forbidden ids. At least one token remains."""
        allowed = self.allowed_token_ids or weights.keys()
        kept = {id_: w for id_, w in weights.items() if id_ in allowed}
        kept = kept or dict.fromkeys(sorted(allowed), 1.0)
        rest = {id_: w for id_, w in kept.items() if id_ not in self.forbidden_token_ids}
        return rest or kept

    def _truncated(self, ranked: list[tuple[int, float]]) -> list[tuple[int, float]]:
        """Apply ``top_k``, ``top_p`` and ``min_p``."""
        ranked = ranked[: self.top_k] if self.top_k > 0 else ranked
        limit = self.top_p * sum(weight for _, weight in ranked)
        kept: list[tuple[int, float]] = []
        kept_weight = 0.0
        for id_, weight in ranked:
            # The largest weight is 1, so `min_p` applies without scaling.
            if kept and (kept_weight >= limit or weight < self.min_p):
                break
            kept.append((id_, weight))
            kept_weight += weight
        return kept


class WordModel:
    """Learns which token follows which in a text of complete sentences, each with a full stop.

    Attributes:
        ids: The token ids of the text. A *position* is an index into this list.
        sentence_of: The number of the sentence at each position.
        starts: The position at which each sentence starts.
        token_counts: How often each token is in the text.
    """

    def __init__(self, tokenizer: Tokenizer, text: str) -> None:
        self._tokenizer = tokenizer
        self._sentences = _SENTENCE_END.split(text.strip())
        self.ids: list[int] = []
        self.sentence_of: list[int] = []
        self.starts: list[int] = []
        self._positions_after: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for number, sentence in enumerate(self._sentences):
            self._learn(number, tokenizer.encode(" " + " ".join(sentence.split())))
        self._sentence_end_ids = frozenset(self.ids[start - 1] for start in self.starts)
        self.token_counts = Counter(self.ids)

    def sentence_weights(self, prompt: str) -> list[float]:
        """Return the weight of each sentence of the text: its relevance for ``prompt``."""
        prompt_words = _content_words(prompt)
        return [_relevance(prompt_words, sentence) for sentence in self._sentences]

    def context(self, prompt_ids: Sequence[int]) -> list[int]:
        """Return the end of the prompt if the text contains its last token, else an empty list."""
        spaced = [self._with_space(id_) for id_ in prompt_ids[-_ORDER:]]
        known = bool(spaced) and bool(self.positions(spaced[-1:]))
        return spaced if known else []

    def positions(self, context: Sequence[int]) -> Sequence[int]:
        """Return the positions in the text that follow the tokens ``context``."""
        return self._positions_after.get(tuple(context), ())

    def ends_sentence(self, id_: int) -> bool:
        """Return whether this token ends a sentence of the text."""
        return id_ in self._sentence_end_ids

    def ranking(self, weights: Weights) -> list[tuple[int, float]]:
        """Return (token id, log-probability) of all tokens of the text, likeliest first."""
        total = sum(weights.values())
        share_per_count = _SMOOTHING / len(self.ids)
        chances = {id_: share_per_count * count for id_, count in self.token_counts.items()}
        for id_, weight in weights.items():
            chances[id_] = chances.get(id_, 0.0) + (1 - _SMOOTHING) * weight / total
        ranked = sorted(chances.items(), key=lambda item: -item[1])
        return [(id_, math.log(chance)) for id_, chance in ranked]

    def without_space(self, id_: int) -> int:
        """Return the token of the same word without its leading space, for the start of a text."""
        piece = self._tokenizer.token_bytes(id_)
        has_space = piece[:1] == b" " and len(piece) > 1
        return self._tokenizer.find(piece.lstrip(), id_) if has_space else id_

    def _learn(self, number: int, ids: list[int]) -> None:
        self.starts.append(len(self.ids))
        self.ids += ids
        self.sentence_of += [number] * len(ids)
        for end in range(1, len(ids)):
            for length in range(1, min(end, _ORDER) + 1):
                context = tuple(ids[end - length : end])
                self._positions_after[context].append(self.starts[-1] + end)

    def _with_space(self, id_: int) -> int:
        piece = b" " + self._tokenizer.token_bytes(id_).lstrip()
        return self._tokenizer.find(piece, id_)


class Walk:
    """The generation of one output: a walk from token to token through the text of the model.

    Args:
        model: The word model.
        prompt: The prompt; sentences that share words with it are preferred.
        context: The tokens that the output continues; by default it starts with a new sentence.
    """

    def __init__(self, model: WordModel, prompt: str, context: Sequence[int] = ()) -> None:
        self._model = model
        self._sentence_weights = model.sentence_weights(prompt)
        self._context = list(context)
        # The positions of the text that may come next, with their weights.
        self._candidates: dict[int, float] = {}
        # The positions that the current sentence has used.
        self._visited: set[int] = set()
        # The sentences of the text that the last generated sentence followed longest.
        self._last_sentences: set[int] = set()
        self._sentence_count = 0

    def weights(self) -> Weights:
        """Return the weights of the possible next tokens.

        After the end of a sentence, EOS is one of them. Its weight grows with the number of
        sentences.
        """
        self._candidates = self._positions_in_sentence() or self._sentence_starts()
        weights: dict[int, float] = defaultdict(float)
        for position, weight in self._candidates.items():
            weights[self._model.ids[position]] += weight
        if self._sentence_count and not self._context:
            share = _END_PROBABILITIES[min(self._sentence_count, len(_END_PROBABILITIES)) - 1]
            weights[EOS] = sum(weights.values()) * share / (1 - share)
        return weights

    def advance(self, id_: int) -> None:
        """Move on by the token that was sampled."""
        here = [position for position in self._candidates if self._model.ids[position] == id_]
        self._visited.update(here)
        self._context = [*self._context[1 - _ORDER :], id_]
        if self._model.ends_sentence(id_):
            self._end_sentence()

    def _end_sentence(self) -> None:
        # The output may have crossed several sentences of the text. The ones that it followed
        # longest count as generated.
        visits = Counter(self._model.sentence_of[position] for position in self._visited)
        longest = max(visits.values(), default=0)
        self._last_sentences = {number for number, count in visits.items() if count == longest}
        self._visited.clear()
        self._context = []
        self._sentence_count += 1
        for number in self._last_sentences:
            self._sentence_weights[number] = _REPETITION

    def _positions_in_sentence(self) -> dict[int, float]:
        # Relevance for the prompt decides how a sentence begins. Later it must not decide, or the
        # output would jump between sentences.
        relevance_cap = math.inf if len(self._context) < _ORDER else 1.0
        found: dict[int, float] = {}
        for length in range(len(self._context), 0, -1):
            for position in self._model.positions(self._context[-length:]):
                sentence = self._model.sentence_of[position]
                relevance = min(relevance_cap, self._sentence_weights[sentence])
                # Without this factor a sentence could go round in a circle.
                repetition = _REPETITION if position in self._visited else 1.0
                found.setdefault(position, relevance * repetition * _LONGER_MATCH**length)
            # One word in common is too little to change to another sentence, unless two words
            # found nothing.
            if found and length == 2:
                break
        return found

    def _sentence_starts(self) -> dict[int, float]:
        found = {}
        for sentence, start in enumerate(self._model.starts):
            distances = [abs(sentence - last) for last in self._last_sentences]
            nearness = _NEAR_SENTENCE / max(1, min(distances, default=_START_DISTANCE)) ** 2
            found[start] = self._sentence_weights[sentence] * nearness
        return found


# Scoring a prompt asks this for each of its tokens, and its words seldom change between two.
@functools.lru_cache(maxsize=1024)
def _relevance(prompt_words: frozenset[str], sentence: str) -> float:
    words = _content_words(sentence)
    first = _content_words(" ".join(sentence.split()[:2]))
    shared, shared_first = len(prompt_words & words), len(prompt_words & first)
    return float(_SHARED_WORD**shared * _SHARED_START**shared_first)


def _content_words(text: str) -> frozenset[str]:
    words = _CONTENT_WORD.findall(text.lower())
    return frozenset(word.rstrip("s") for word in words if word not in _STOP_WORDS)
