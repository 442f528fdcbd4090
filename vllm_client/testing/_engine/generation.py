"""Generates the tokens of a choice, ends them at the limits, and finds the text that is shown."""

from __future__ import annotations

import codecs
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Optional, Union

from .model import Sampling, Walk, Weights, WordModel
from .penalties import Penalties, RepetitionLimit
from .tokenizer import EOS, SPECIAL_TOKENS, Tokenizer

__all__ = ["Limits", "Output", "Token", "Writer"]

StopReason = Optional[Union[str, int]]
"""The stop string or the id of the stop token that ended a choice; None if neither did."""


class Ending(NamedTuple):
    """How a choice ends. ``text_length`` is the number of characters of its text that remain."""

    finish_reason: str
    stop_reason: StopReason
    text_length: int


@dataclass(frozen=True)
class Token:
    """One generated token.

    Attributes:
        id: The token id.
        text: The text of this token alone.
        weights: The weights of the tokens from which it was sampled.
        released: The text that a stream may show with this token. It is shorter than ``text``
            while a stop string may have begun, and longer after it is certain that none has.
    """

    id: int
    text: str
    weights: Weights
    released: str = ""


@dataclass(frozen=True)
class Output:
    """The output of one choice."""

    index: int
    tokens: Sequence[Token]
    finish_reason: str
    stop_reason: StopReason = None

    @property
    def text(self) -> str:
        """The text that the client receives."""
        return "".join(token.released for token in self.tokens)

    @property
    def token_ids(self) -> list[int]:
        """The ids of all generated tokens, stop tokens included."""
        return [token.id for token in self.tokens]

    def aborted_after(self, count: int) -> Output:
        """Return this output as it is if the server aborts it after ``count`` tokens."""
        if len(self.tokens) <= count:
            return self
        return replace(self, tokens=self.tokens[:count], finish_reason="abort", stop_reason=None)


@dataclass(frozen=True)
class Limits:
    """When an output ends: the fields of a request that bear on it."""

    max_tokens: int
    min_tokens: int = 0
    stop: Sequence[str] = ()
    stop_token_ids: frozenset[int] = frozenset()
    include_stop: bool = False
    ignore_eos: bool = False
    sampling: Sampling = field(default_factory=Sampling)
    penalties: Penalties = field(default_factory=Penalties)
    repetition: RepetitionLimit = field(default_factory=RepetitionLimit)

    def ending(self, tokens: Sequence[Token], text: str) -> Ending | None:
        """Return how the output ends with the last of ``tokens``, or None if it does not end.

        Args:
            tokens: All tokens so far.
            text: The text of these tokens.
        """
        last = tokens[-1]
        added = len(_visible_text(last.id, last.text))
        if last.id == EOS and not self.ignore_eos:
            return Ending("stop", None, len(text))
        if len(tokens) >= self.min_tokens:
            if last.id in self.stop_token_ids:
                kept = len(text) - (0 if self.include_stop else added)
                return Ending("stop", last.id, kept)
            for stop in self.stop:
                at = text.find(stop, max(0, len(text) - added - len(stop) + 1))
                if at >= 0:
                    return Ending("stop", stop, at + (len(stop) if self.include_stop else 0))
        if len(tokens) >= self.max_tokens:
            return Ending("length", None, len(text))
        if len(tokens) >= self.min_tokens and self.repetition.is_reached(tokens):
            return Ending("repetition", "repetition_detected", len(text))
        return None

    @property
    def withheld_length(self) -> int:
        """How many of the last characters a stream withholds: a stop string may begin in them."""
        return 0 if self.include_stop else max(map(len, self.stop), default=1) - 1


class Writer:
    """Writes outputs, with the word model or from a fixed text."""

    def __init__(self, tokenizer: Tokenizer, model: WordModel) -> None:
        self._tokenizer = tokenizer
        self._model = model

    def continue_prompt(
        self,
        prompt_ids: Sequence[int],
        index: int,
        limits: Limits,
        rng: random.Random,
        *,
        new_sentence: bool = False,
    ) -> Output:
        """Return the output for a prompt of the completions route.

        Args:
            prompt_ids: The token ids of the prompt.
            index: The index of the choice.
            limits: When the output ends.
            rng: The random numbers.
            new_sentence: Whether to start with a new sentence that ignores the prompt.
        """
        prompt = self._tokenizer.decode(prompt_ids)
        if _begins_sentence(prompt):
            return self.answer_question(prompt, index, limits, rng)
        context = self._model.context(prompt_ids)
        if new_sentence and context:
            prompt, context = "", []
        walk = Walk(self._model, prompt, context)
        sampled = self._sample(walk, prompt_ids, limits, rng)
        return self._build_output(sampled, index, limits)

    def next_weights(self, prompt_ids: Sequence[int]) -> Weights:
        """Return the weights of the tokens that may follow a prompt of the completions route."""
        prompt = self._tokenizer.decode(prompt_ids)
        if not _begins_sentence(prompt):
            return Walk(self._model, prompt, self._model.context(prompt_ids)).weights()
        return self._weights_without_space(Walk(self._model, prompt).weights())

    def answer_question(
        self, question: str, index: int, limits: Limits, rng: random.Random
    ) -> Output:
        """Return the output for a question: new sentences, without a leading space."""
        walk, prompt_ids = Walk(self._model, question), self._tokenizer.encode(question)
        sampled = self._without_space(self._sample(walk, prompt_ids, limits, rng))
        return self._build_output(sampled, index, limits)

    def write_within_limits(self, text: str, index: int, limits: Limits) -> Output:
        """Return a fixed text as output, followed by EOS and cut at the limits of the request."""
        ids = [*self._tokenizer.encode(text), EOS]
        return self._build_output([(id_, {id_: 1.0}) for id_ in ids], index, limits)

    def write_exactly(self, text: str, index: int, finish_reason: str | None) -> Output:
        """Return a fixed text as output, without any limit.

        It is followed by EOS, unless ``finish_reason`` is ``length``.
        """
        ids = self._tokenizer.encode(text)
        cut = finish_reason == "length" and bool(ids)
        output = self.write_within_limits(text, index, Limits(len(ids) if cut else len(ids) + 1))
        return replace(output, finish_reason=finish_reason or output.finish_reason)

    def as_tokens(self, ids: Sequence[int]) -> list[Token]:
        """Return ids as tokens whose text is shown without delay."""
        decoder = _Decoder(self._tokenizer)
        decoded = [(id_, decoder.decode(id_)) for id_ in ids]
        return [Token(id_, text, {id_: 1.0}, _visible_text(id_, text)) for id_, text in decoded]

    def _sample(
        self, walk: Walk, prompt_ids: Sequence[int], limits: Limits, rng: random.Random
    ) -> Iterator[tuple[int, Weights]]:
        ids: list[int] = []
        while True:
            weights = walk.weights()
            # Log-probabilities are those before bias and penalties, as in vLLM.
            biased = limits.sampling.biased(weights)
            penalised = limits.penalties.applied(biased, prompt_ids, ids)
            bad = limits.penalties.forbidden(ids)
            refuse_eos = limits.ignore_eos or len(ids) < limits.min_tokens
            forbidden = bad | {EOS} if refuse_eos else bad
            if bad and forbidden.issuperset(penalised):
                # Only bad words may follow here, so the text goes on somewhere else.
                penalised = self._model.token_counts
            id_ = replace(limits.sampling, forbidden_token_ids=forbidden).choose(penalised, rng)
            yield id_, weights
            walk.advance(id_)
            ids.append(id_)

    def _without_space(
        self, sampled: Iterator[tuple[int, Weights]]
    ) -> Iterator[tuple[int, Weights]]:
        id_, weights = next(sampled)
        yield self._model.without_space(id_), self._weights_without_space(weights)
        yield from sampled

    def _weights_without_space(self, weights: Weights) -> Weights:
        return {self._model.without_space(id_): weight for id_, weight in weights.items()}

    def _build_output(
        self, sampled: Iterable[tuple[int, Weights]], index: int, limits: Limits
    ) -> Output:
        decoder = _Decoder(self._tokenizer)
        tokens: list[Token] = []
        text, lengths = "", []
        ending = None
        for id_, weights in sampled:
            token = Token(id_, decoder.decode(id_), weights)
            tokens.append(token)
            text += _visible_text(id_, token.text)
            lengths.append(len(text))
            ending = limits.ending(tokens, text)
            if ending:
                break
        reason, stop_reason, length = ending or Ending("stop", None, len(text))
        # The last token releases the rest of the text.
        lengths[-1:] = [length + limits.withheld_length]
        parts = _split_at(text[:length], [each - limits.withheld_length for each in lengths])
        shown = [replace(token, released=part) for token, part in zip(tokens, parts)]
        return Output(index, shown, reason, stop_reason)


class _Decoder:
    """Decodes one token id after the other. A character appears with the last of its bytes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def decode(self, id_: int) -> str:
        piece = self._tokenizer.token_bytes(id_)
        return SPECIAL_TOKENS[id_] if id_ < len(SPECIAL_TOKENS) else self._decoder.decode(piece)


def _begins_sentence(prompt: str) -> bool:
    """Whether the output for this prompt is a new sentence, without a leading space."""
    return prompt[-1:].isspace()


def _visible_text(id_: int, text: str) -> str:
    return "" if id_ < len(SPECIAL_TOKENS) else text


def _split_at(text: str, ends: Iterable[int]) -> list[str]:
    """Split ``text`` at these indices; an index before an earlier one makes an empty part."""
    parts = []
    start = 0
    for end in ends:
        parts.append(text[start : max(start, end)])
        start += len(parts[-1])
    return parts
