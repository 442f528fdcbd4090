"""What ``client.evaluate`` returns: figures, and columns of one entry per token."""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence

from attrs import Factory, field, frozen

from .._frames import data_frame
from .._shown import Items, fields_of, shown
from ..types._vectors import import_numpy

if TYPE_CHECKING:
    from typing_extensions import Literal

    from ..exceptions import VllmError

__all__ = ["Choice", "LogLikelihood", "LogLikelihoodFailure", "Perplexity", "TokenColumns"]


@shown
@frozen
class TokenColumns:
    """Tokens in parallel columns, without an object a token.

    Attributes:
        tokens: Their texts. A token that holds only a part of a character has an empty text; the
            last part has the character. On a server that cannot tell texts beside ids they are
            ``token_id:N``.
        token_ids: Their ids.
        token_logprobs: Natural logarithms of their probabilities, given all tokens before.
        ranks: 1 for the most likely token at its place, and so on; None from a server that does
            not tell.
    """

    tokens: List[str] = field(repr=False)
    token_ids: array[int] = field(repr=False)
    token_logprobs: array[float] = field(repr=False)
    ranks: Optional[array[int]] = field(default=None, repr=False)

    def _shown_items(self) -> Items:
        yield from fields_of(self)
        yield "logprobs", self.token_logprobs

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def is_greedy(self) -> bool:
        """Whether each token is the most likely one at its place."""
        return self.ranks is not None and all(rank == 1 for rank in self.ranks)

    def to_numpy(self) -> Dict[str, Any]:
        """The columns as NumPy arrays, by name, without copying the numbers.

        Raises:
            ImportError: NumPy is not installed; it comes with the extra ``numpy``.
        """
        np = import_numpy()
        columns = {"token_ids": self.token_ids, "token_logprobs": self.token_logprobs}
        if self.ranks is not None:
            columns["ranks"] = self.ranks
        return {name: np.asarray(column) for name, column in columns.items()}

    def to_frame(self) -> Any:
        """The columns as a ``pandas.DataFrame``, one row per token.

        Raises:
            ImportError: pandas is not installed; it comes with the extra ``pandas``.
        """
        columns = {"token_id": self.token_ids, "logprob": self.token_logprobs, "rank": self.ranks}
        present = {name: column for name, column in columns.items() if column is not None}
        return data_frame({"token": self.tokens, **present})


@shown
@frozen
class LogLikelihood(TokenColumns):
    """How likely a continuation is after a context.

    Attributes:
        logprob: The sum of ``token_logprobs``, in nats.
        context_tokens_rescored: How many tokens at the end of the context are part of the sum,
            because a token of the whole text spans the boundary. 0 if exactly the continuation
            was scored.
        truncated_tokens: How many tokens of the context were left out, with ``truncate="left"``.
        bos_token_id: The special token in front of the context; None if there is none.
        boundary: ``"joint"`` or ``"tokens"``.
        method: The way it was read: ``"prompt_logprobs"`` or ``"echo"``.
        index: The number of the pair, from 0, in ``loglikelihoods()``.
    """

    logprob: float = Factory(lambda self: math.fsum(self.token_logprobs), takes_self=True)
    context_tokens_rescored: int = 0
    truncated_tokens: int = 0
    bos_token_id: Optional[int] = None
    boundary: str = "joint"
    method: str = "prompt_logprobs"
    index: int = 0

    ok: Literal[True] = field(default=True, init=False, repr=False)
    """True; the same name at a failure is False."""


@shown
@frozen
class LogLikelihoodFailure:
    """A pair that could not be scored, from ``loglikelihoods(on_error="row")``.

    Attributes:
        index: The number of the pair, from 0.
        error: Why.
    """

    index: int
    error: VllmError
    ok: Literal[False] = field(default=False, init=False, repr=False)


@shown
@frozen
class Choice:
    """Which of several options a model prefers.

    Attributes:
        best: The option with the highest score.
        index: Its number, from 0. Of options with the same score the first one.
        scores: One for each option: its log-likelihood in nats, divided by its tokens or bytes if
            ``normalize`` says so.
        probabilities: The scores as shares of 1: ``exp(score)`` divided by the sum over all
            options.
        ties: The numbers of further options with the score of the best one.
        logprobs: The log-likelihood of each option, in nats.
        token_counts: How many tokens each option was charged for.
        context_tokens_rescored: How many tokens at the end of the context every option was charged
            for, because with one of the options a token spans the boundary.
        truncated_tokens: How many tokens of the context were left out, with ``truncate="left"``.
        normalize: None, ``"token"`` or ``"byte"``.
        bos_token_id: The special token in front of the context; None if there is none.
        method: ``"labels"``: one request for the next token. ``"trie"``: the tree of the options,
            a prompt for each of its inner nodes. ``"prompt"``: each option as part of a prompt.
    """

    best: Any
    index: int
    scores: List[float]
    probabilities: List[float]
    ties: List[int]
    logprobs: List[float]
    token_counts: List[int]
    context_tokens_rescored: int
    truncated_tokens: int
    normalize: Optional[str]
    bos_token_id: Optional[int]
    method: str


@shown
@frozen
class Perplexity:
    """How well a model predicts a text.

    Attributes:
        nll: The negative log-likelihood of all scored tokens, in nats.
        tokens: How many tokens were scored, each once.
        columns: One entry per scored token, in the order of the text.
        window: The most tokens of one request.
        stride: How many tokens each further request scores; the others are context.
        windows: How many requests it took.
        bytes: The length of the scored text in UTF-8.
        words: How many words it has, separated by white space.
        unscored_tokens: 1 if nothing precedes the first token, which then has no probability.
        bos_token_id: The special token in front of each window; None if there is none.
        method: As of :class:`LogLikelihood`.
    """

    nll: float
    tokens: int
    window: int
    stride: int
    windows: int
    bytes: int
    words: int
    unscored_tokens: int
    bos_token_id: Optional[int]
    method: str
    columns: TokenColumns = field(repr=False)

    @property
    def per_token(self) -> float:
        """``nll`` in nats per token."""
        return _share(self.nll, self.tokens)

    @property
    def per_byte(self) -> float:
        """``nll`` in nats per byte; it compares models with different tokenizers."""
        return _share(self.nll, self.bytes)

    @property
    def per_word(self) -> float:
        """``nll`` in nats per word."""
        return _share(self.nll, self.words)

    @property
    def bits_per_byte(self) -> float:
        """``per_byte`` in bits."""
        return self.per_byte / math.log(2)

    @property
    def perplexity(self) -> float:
        """``exp(per_token)``; infinity where that is no number of a computer."""
        try:
            return math.exp(self.per_token)
        except OverflowError:
            return math.inf


def _share(total: float, count: int) -> float:
    return total / count if count else math.nan


def softmax(scores: Sequence[float]) -> List[float]:
    """``exp(score)`` of each as a share of their sum; equal shares if all are impossible."""
    highest = max(scores)
    if highest == -math.inf:
        return [1 / len(scores)] * len(scores)
    weights = [math.exp(score - highest) for score in scores]
    total = math.fsum(weights)
    return [weight / total for weight in weights]
