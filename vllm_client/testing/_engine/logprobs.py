"""Log-probabilities in the three shapes in which vLLM gives them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .generation import Token
from .model import Walk, WordModel
from .tokenizer import Tokenizer

__all__ = ["Logprobs"]

# For tokens that the model does not list at all.
_FLOOR = -18.5


class Logprobs:
    """Writes log-probabilities; `as_ids` replaces the text of tokens by `token_id:N`."""

    def __init__(self, tokenizer: Tokenizer, model: WordModel, *, as_ids: bool = False) -> None:
        self._tokenizer = tokenizer
        self._model = model
        self._as_ids = as_ids

    def completion(self, tokens: Sequence[Token], top: int, offset: int = 0) -> dict[str, Any]:
        """Return the parallel lists of a completion.

        Args:
            tokens: the tokens of one event, or of the whole choice.
            top: how many likely tokens to list besides the chosen one.
            offset: the length of the tokens before them.
        """
        offsets, texts = [], []
        for token in tokens:
            offsets.append(offset)
            texts.append(self._name(token.id, token.text))
            offset += len(texts[-1])
        tops = [self._by_text(token, top) for token in tokens]
        chosen = [None if each is None else next(iter(each.values())) for each in tops]
        return {
            "text_offset": offsets,
            "token_logprobs": chosen,
            "tokens": texts,
            "top_logprobs": tops,
        }

    def length(self, tokens: Iterable[Token]) -> int:
        """Return what tokens add to the offsets of the next ones."""
        return sum(len(self._name(token.id, token.text)) for token in tokens)

    def chat(self, tokens: Iterable[Token], top: int) -> dict[str, Any]:
        """Return the list of a chat choice, with `top` likely tokens for each."""
        return {"content": [self._entry(token, top) for token in tokens]}

    def prompt(self, ids: Sequence[int], top: int) -> list[Any]:
        """Return `prompt_logprobs`: a mapping by token id for each token but the first."""
        return [self._by_id(token, top) for token in self.prompt_tokens(ids)]

    def prompt_tokens(self, ids: Sequence[int]) -> list[Token]:
        """Return the prompt as tokens with the weights that the model gives them."""
        walk = Walk(self._model, "")
        tokens = []
        for number, id_ in enumerate(ids):
            weights = walk.weights() if number else {}
            walk.take(id_)
            tokens.append(Token(id_, self._text(id_), weights))
        return tokens

    def _ranked(self, token: Token, top: int) -> list[tuple[int, float, int]]:
        """Return (id, log-probability, rank): the token itself, then the `top` likeliest."""
        ranking = self._model.ranking(token.weights)
        ranked = [(id_, value, rank) for rank, (id_, value) in enumerate(ranking, 1)]
        missing = (token.id, _FLOOR, len(ranked) + 1)
        own = next((entry for entry in ranked if entry[0] == token.id), missing)
        return [own, *(entry for entry in ranked[:top] if entry[0] != token.id)]

    def _by_text(self, token: Token, top: int) -> dict[str, float] | None:
        if not token.weights:
            return None
        ranked = self._ranked(token, top)
        first = {self._name(token.id, token.text): ranked[0][1]}
        rest = {self._name(id_, self._text(id_)): value for id_, value, _ in ranked[1:]}
        return {**first, **rest}

    def _by_id(self, token: Token, top: int) -> dict[str, Any] | None:
        if not token.weights:
            return None
        return {
            str(id_): {"logprob": value, "rank": rank, "decoded_token": self._text(id_)}
            for id_, value, rank in self._ranked(token, top)
        }

    def _entry(self, token: Token, top: int) -> dict[str, Any]:
        ranked = self._ranked(token, top)
        own = self._named(self._name(token.id, token.text), ranked[0][1])
        others = [self._named(self._name(id_, self._text(id_)), v) for id_, v, _ in ranked[1:]]
        return {**own, "top_logprobs": [own, *others][:top]}

    def _named(self, name: str, logprob: float) -> dict[str, Any]:
        return {"token": name, "logprob": logprob, "bytes": list(name.encode())}

    def _name(self, id_: int, text: str) -> str:
        return f"token_id:{id_}" if self._as_ids else text

    def _text(self, id_: int) -> str:
        # Bytes of an unfinished character have no text of their own.
        return self._tokenizer.decode([id_], skip_special_tokens=False).replace("\ufffd", "")
