"""From a prompt to the tokens of an answer, and from tokens to the text that is let out."""

from __future__ import annotations

import codecs
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Optional, Union

from .model import Sampling, Walk, Weights, WordModel
from .tokenizer import EOS, SPECIAL_TOKENS, Tokenizer

__all__ = ["Limits", "Output", "Token", "Writer"]

StopReason = Optional[Union[str, int]]
# The finish reason, the stop reason, and how much of the text remains.
End = tuple[str, StopReason, int]


@dataclass(frozen=True)
class Token:
    """One generated token.

    `text` is what it decodes to by itself; `released` is what a stream may show once it is there,
    which is less while a stop string may have begun, and more when it turns out that none has.
    """

    id: int
    text: str
    weights: Weights
    released: str = ""


@dataclass(frozen=True)
class Output:
    """The answer of one choice."""

    index: int
    tokens: Sequence[Token]
    finish_reason: str
    stop_reason: StopReason = None

    @property
    def text(self) -> str:
        """The text that the client gets."""
        return "".join(token.released for token in self.tokens)

    @property
    def token_ids(self) -> list[int]:
        """The generated ids, those of stop tokens included."""
        return [token.id for token in self.tokens]

    def aborted_after(self, count: int) -> Output:
        """Return the same answer as the server leaves it when it aborts after `count` tokens."""
        if len(self.tokens) <= count:
            return self
        return replace(self, tokens=self.tokens[:count], finish_reason="abort", stop_reason=None)


@dataclass(frozen=True)
class Limits:
    """When an answer ends: the fields of a request that bear on it."""

    max_tokens: int
    min_tokens: int = 0
    stop: Sequence[str] = ()
    stop_token_ids: frozenset[int] = frozenset()
    include_stop: bool = False
    ignore_eos: bool = False
    sampling: Sampling = field(default_factory=Sampling)

    def end(self, tokens: Sequence[Token], text: str) -> End | None:
        """Return how the answer ends with the last of `tokens`, or None if it goes on.

        Args:
            tokens: all tokens so far.
            text: what they decode to.
        """
        last = tokens[-1]
        added = len(_shown(last.id, last.text))
        if last.id == EOS and not self.ignore_eos:
            return "stop", None, len(text)
        if len(tokens) >= self.min_tokens:
            if last.id in self.stop_token_ids:
                return "stop", last.id, len(text) - (0 if self.include_stop else added)
            for stop in self.stop:
                at = text.find(stop, max(0, len(text) - added - len(stop) + 1))
                if at >= 0:
                    return "stop", stop, at + (len(stop) if self.include_stop else 0)
        return ("length", None, len(text)) if len(tokens) >= self.max_tokens else None

    @property
    def held_back(self) -> int:
        """How many characters a stream keeps to itself, since a stop string may have begun."""
        return 0 if self.include_stop else max(map(len, self.stop), default=1) - 1


class Writer:
    """Writes answers, by the word model or from a given text."""

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
        anew: bool = False,
    ) -> Output:
        """Return what the word model makes of a prompt; `anew` begins another sentence."""
        prompt = self._tokenizer.decode(prompt_ids)
        if prompt[-1:].isspace():
            return self.answer(prompt, index, limits, rng)
        context = self._model.context(prompt_ids)
        if anew and context:
            prompt, context = "", []
        drawn = self._sample(prompt, context, limits, rng)
        return self._finish(drawn, index, limits)

    def answer(self, question: str, index: int, limits: Limits, rng: random.Random) -> Output:
        """Return what the word model has to say to a question, beginning afresh."""
        drawn = self._without_space(self._sample(question, [], limits, rng))
        return self._finish(drawn, index, limits)

    def copy(self, text: str, index: int, limits: Limits) -> Output:
        """Return a given text as an answer: cut by the limits, ended by EOS."""
        ids = [*self._tokenizer.encode(text), EOS]
        return self._finish([(id_, {id_: 1.0}) for id_ in ids], index, limits)

    def script(self, text: str, index: int, finish_reason: str | None) -> Output:
        """Return a given text as it is, ended by EOS, or by its length if that is the reason."""
        ids = self._tokenizer.encode(text)
        cut = finish_reason == "length" and bool(ids)
        output = self.copy(text, index, Limits(len(ids) if cut else len(ids) + 1))
        return replace(output, finish_reason=finish_reason or output.finish_reason)

    def tokens(self, ids: Sequence[int]) -> list[Token]:
        """Return ids as tokens that are released as they come."""
        decoder = _Decoder(self._tokenizer)
        decoded = [(id_, decoder.decode(id_)) for id_ in ids]
        return [Token(id_, text, {id_: 1.0}, _shown(id_, text)) for id_, text in decoded]

    def _sample(
        self, question: str, context: list[int], limits: Limits, rng: random.Random
    ) -> Iterator[tuple[int, Weights]]:
        walk = Walk(self._model, question, context)
        count = 0
        while True:
            weights = walk.weights()
            refuse_eos = limits.ignore_eos or count < limits.min_tokens
            forbidden = frozenset([EOS]) if refuse_eos else frozenset()
            id_ = replace(limits.sampling, forbidden_token_ids=forbidden).choose(weights, rng)
            yield id_, weights
            walk.take(id_)
            count += 1

    def _without_space(self, drawn: Iterator[tuple[int, Weights]]) -> Iterator[tuple[int, Weights]]:
        id_, weights = next(drawn)
        bare = self._model.without_space
        yield bare(id_), {bare(each): weight for each, weight in weights.items()}
        yield from drawn

    def _finish(self, drawn: Iterable[tuple[int, Weights]], index: int, limits: Limits) -> Output:
        decoder = _Decoder(self._tokenizer)
        tokens: list[Token] = []
        text, lengths = "", []
        end = None
        for id_, weights in drawn:
            token = Token(id_, decoder.decode(id_), weights)
            tokens.append(token)
            text += _shown(id_, token.text)
            lengths.append(len(text))
            end = limits.end(tokens, text)
            if end:
                break
        reason, stop_reason, length = end or ("stop", None, len(text))
        lengths[-1:] = [length + limits.held_back]
        released = _release(text[:length], [each - limits.held_back for each in lengths])
        shown = [replace(token, released=part) for token, part in zip(tokens, released)]
        return Output(index, shown, reason, stop_reason)


class _Decoder:
    """Turns ids into text one by one; a character appears with the last of its bytes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def decode(self, id_: int) -> str:
        piece = self._tokenizer.token_bytes(id_)
        return SPECIAL_TOKENS[id_] if id_ < len(SPECIAL_TOKENS) else self._decoder.decode(piece)


def _shown(id_: int, text: str) -> str:
    return "" if id_ < len(SPECIAL_TOKENS) else text


def _release(text: str, until: Iterable[int]) -> list[str]:
    parts = []
    start = 0
    for end in until:
        parts.append(text[start : max(start, end)])
        start += len(parts[-1])
    return parts
