"""Log-probabilities, in vLLM's three formats: completion, chat and prompt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Optional

from .._wire.json_types import JsonObject
from .generation import Token, Writer
from .model import WordModel
from .tokenizer import Tokenizer

__all__ = ["Logprobs", "PromptLogprob"]

PromptLogprob = Optional[Mapping[str, JsonObject]]
"""What ``prompt_logprobs`` holds for one token: entries by token id, None for the first token."""

# The log-probability of tokens that are not in the model's ranking.
_UNLISTED_LOGPROB = -18.5


class Logprobs:
    """Writes log-probabilities.

    Args:
        tokenizer: The tokenizer of the model.
        model: Ranks tokens by their weights.
        writer: Knows what may follow a prompt, so that a token of a prompt has the probability
            with which it would have been generated there.
        as_ids: Whether to write ``token_id:N`` instead of a token's text.
        listed_ids: The tokens to list instead of the likeliest ones, if not None.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        model: WordModel,
        writer: Writer,
        *,
        as_ids: bool = False,
        listed_ids: Optional[Sequence[int]] = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._model = model
        self._writer = writer
        self._as_ids = as_ids
        self._listed_ids = listed_ids

    def completion_lists(self, tokens: Sequence[Token], top: int, offset: int = 0) -> JsonObject:
        """Return the parallel lists of a completion.

        Args:
            tokens: The tokens of one event, or of the whole choice.
            top: The number of likeliest tokens to list in addition to the sampled one.
            offset: The length of the text of all tokens before these.
        """
        offsets, texts = [], []
        for token in tokens:
            offsets.append(offset)
            texts.append(self._displayed(token.id, token.text))
            offset += len(texts[-1])
        tops = [self._logprobs_by_text(token, top) for token in tokens]
        # The first entry of each mapping is the sampled token.
        sampled = [None if each is None else next(iter(each.values())) for each in tops]
        return {
            "text_offset": offsets,
            "token_logprobs": sampled,
            "tokens": texts,
            "top_logprobs": tops,
        }

    def text_length(self, tokens: Iterable[Token]) -> int:
        """Return by how much these tokens increase the offset of the next ones."""
        return sum(len(self._displayed(token.id, token.text)) for token in tokens)

    def chat_entries(self, tokens: Iterable[Token], top: int) -> JsonObject:
        """Return ``logprobs`` of a chat choice, with the ``top`` likeliest tokens for each."""
        return {"content": [self._chat_entry(token, top) for token in tokens]}

    def prompt_logprobs(self, ids: Sequence[int], top: int) -> list[PromptLogprob]:
        """Return ``prompt_logprobs``: entries by token id for each token except the first."""
        return [self._entries_by_id(token, top) for token in self.prompt_tokens(ids)]

    def prompt_tokens(self, ids: Sequence[int]) -> list[Token]:
        """Return the prompt as tokens, with the weights that the model computes for them."""
        return [
            replace(token, weights=self._writer.next_weights(ids[:number]) if number else {})
            for number, token in enumerate(self._writer.as_tokens(ids))
        ]

    def _listed(self, token: Token, top: int) -> list[tuple[int, float, int]]:
        """Return the entries of a generated token: those of :meth:`_ranked`, or what was asked."""
        if self._listed_ids is None:
            return self._ranked(token, top)
        by_id = {entry[0]: entry for entry in self._ranked(token, self._tokenizer.vocab_size)}
        missing = _UNLISTED_LOGPROB, len(by_id) + 1
        asked = [by_id.get(id_, (id_, *missing)) for id_ in self._listed_ids if id_ != token.id]
        return [by_id[token.id], *asked]

    def _ranked(self, token: Token, top: int) -> list[tuple[int, float, int]]:
        """Return (id, log-probability, rank) of the token itself, then of the likeliest ones."""
        ranking = self._model.ranking(token.weights)
        ranked = [(id_, value, rank) for rank, (id_, value) in enumerate(ranking, 1)]
        missing = (token.id, _UNLISTED_LOGPROB, len(ranked) + 1)
        own = next((entry for entry in ranked if entry[0] == token.id), missing)
        return [own, *(entry for entry in ranked[:top] if entry[0] != token.id)]

    def _logprobs_by_text(self, token: Token, top: int) -> dict[str, float] | None:
        if not token.weights:
            return None
        ranked = self._listed(token, top)
        first = {self._displayed(token.id, token.text): ranked[0][1]}
        rest = {self._displayed(id_, self._text(id_)): value for id_, value, _ in ranked[1:]}
        return {**first, **rest}

    def _entries_by_id(self, token: Token, top: int) -> PromptLogprob:
        if not token.weights:
            return None
        return {
            str(id_): {
                "logprob": value,
                "rank": rank,
                "decoded_token": token.text if id_ == token.id else self._text(id_),
            }
            for id_, value, rank in self._ranked(token, top)
        }

    def _chat_entry(self, token: Token, top: int) -> JsonObject:
        (_, own_value, _), *others = self._listed(token, top)
        own = _logprob_entry(self._displayed(token.id, token.text), own_value)
        likeliest = [
            _logprob_entry(self._displayed(id_, self._text(id_)), value) for id_, value, _ in others
        ]
        shown = [own, *likeliest] if self._listed_ids is not None else [own, *likeliest][:top]
        return {**own, "top_logprobs": shown}

    def _displayed(self, id_: int, text: str) -> str:
        return f"token_id:{id_}" if self._as_ids else text

    def _text(self, id_: int) -> str:
        # A token that holds only some of a character's bytes has no text of its own.
        return self._tokenizer.decode([id_], skip_special_tokens=False).replace("\ufffd", "")


def _logprob_entry(text: str, logprob: float) -> JsonObject:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}
