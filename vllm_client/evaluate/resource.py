"""``client.evaluate``: how likely a model finds a text, exact in tokens."""

from __future__ import annotations

import functools
from typing import (
    TYPE_CHECKING,
    Any,
    Dict,
    Iterable,
    Iterator,
    List,
    Literal,
    Mapping,
    Optional,
    Sequence,
    Tuple,
    Union,
)

from attrs import evolve

from .._http.transport import Transport
from .._request import split, takes
from ..batch._engine import Settings
from ..exceptions import BatchInputError
from ..params.evaluate import EvaluateManyParams, EvaluateParams
from ..types.messages import Message
from ._choosing import Question, choose
from ._many import Results
from ._pairs import Pair, Part, check_ways, loglikelihood
from ._scorer import PromptScores, Scorer, ScoringOptions
from ._texts import Passage, perplexity
from ._tokens import TokenCache
from .results import Choice, LogLikelihood, LogLikelihoodFailure, Perplexity

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Evaluate"]

_CHAT = ("chat_template", "chat_template_kwargs", "tools")
_SETTINGS = ("max_concurrency", "patience")
_MAX_CONCURRENCY = 64
_PAIR_MEMBERS = {"context", "messages", "continuation"}

Boundary = Literal["joint", "tokens"]
Normalize = Optional[Literal["token", "byte"]]
LogLikelihoods = Results[Union[LogLikelihood, LogLikelihoodFailure]]


class Evaluate:
    """Scores of given texts; see ``docs/evaluate.md``. Threads may share it.

    Args:
        transport: The server.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._cache = TokenCache()

    def __reduce__(self) -> Any:
        return type(self), (self._transport,)  # A copy has a cache of its own.

    @takes(EvaluateParams)
    def loglikelihood(
        self,
        context: Union[str, Sequence[int], None] = None,
        continuation: Union[str, Sequence[int]] = "",
        *,
        messages: Optional[Sequence[Message]] = None,
        boundary: Boundary = "joint",
        **params: Unpack[EvaluateParams],
    ) -> LogLikelihood:
        """How likely ``continuation`` is after ``context``.

        Args:
            context: A text, or token ids. May be empty; see ``bos_token_id``. Give this or
                ``messages``.
            continuation: A text after a text, or token ids after token ids. Not empty.
            messages: A conversation; the continuation is the model's answer.
            boundary: ``"joint"`` tokenizes both as one text, as the model saw such texts in
                training. If a token spans the boundary, the tokens of the context that it changes
                are scored too, and ``context_tokens_rescored`` tells. ``"tokens"`` tokenizes the
                two apart: what the model would have to write after this prompt.
            **params: The fields of :class:`~vllm_client.params.evaluate.EvaluateParams`.

        Raises:
            TypeError, ValueError: An argument is invalid, or the continuation is empty.
            EvaluationError: There is no exact score; the message tells why.
            ContextLengthError: The two do not fit; see ``truncate``.
            VllmError: The server refused a request, or no complete response arrived.
        """
        body, scorer = self._prepared("loglikelihood", params, EvaluateParams)
        fields = {"context": context, "messages": messages, "continuation": continuation}
        pair = _pair(fields, boundary, body.get("truncate"))
        return loglikelihood(scorer, pair)

    @takes(EvaluateManyParams)
    def loglikelihoods(
        self,
        pairs: Iterable[Union[Tuple[Part, Part], Mapping[str, Any]]],
        *,
        boundary: Boundary = "joint",
        ordered: bool = True,
        on_error: Literal["raise", "row"] = "raise",
        **params: Unpack[EvaluateManyParams],
    ) -> LogLikelihoods:
        """Score many pairs, several at a time.

        Args:
            pairs: Any iterable, also an endless one, of ``(context, continuation)``, or of dicts
                with ``context`` or ``messages``, and ``continuation``. It is read in the thread
                that iterates. Pairs with the same context should follow each other: its tokens
                are asked for once.
            boundary: As for :meth:`loglikelihood`.
            ordered: Whether results come in the order of the pairs.
            on_error: ``"raise"`` ends the run with the error of the first pair that fails;
                ``"row"`` returns a :class:`LogLikelihoodFailure` in its place and goes on.
            **params: The fields of :class:`~vllm_client.params.evaluate.EvaluateManyParams`.

        Returns:
            An iterator of :class:`LogLikelihood`. Break off, or use ``with``, and the requests in
            flight are cancelled.

        Raises, while it is read:
            BatchInputError: A pair is invalid.
            BatchStoppedError: The server was away for longer than ``patience``.
            VllmError: As for :meth:`loglikelihood`.
        """
        if on_error not in {"raise", "row"}:
            raise ValueError(f"on_error must be 'raise' or 'row', not {on_error!r}")
        body, scorer = self._prepared("loglikelihoods", params, EvaluateManyParams)
        check_ways(boundary, body.get("truncate"))
        tasks = _pair_tasks(pairs, boundary, body.get("truncate"), scorer)
        failure = None if on_error == "raise" else LogLikelihoodFailure
        return Results(
            self._transport, tasks, self._settings(body), ordered=ordered, failure=failure
        )

    @takes(EvaluateParams)
    def choose(
        self,
        context: Union[str, Sequence[int], None] = None,
        options: Sequence[Union[str, Sequence[int]]] = (),
        *,
        messages: Optional[Sequence[Message]] = None,
        normalize: Normalize = None,
        **params: Unpack[EvaluateParams],
    ) -> Choice:
        """Which of the options is the most likely continuation, by the cheapest exact way.

        Args:
            context: As for :meth:`loglikelihood`.
            options: Texts, or lists of token ids after token ids; one or more, none empty.
            messages: A conversation; the options are answers of the model.
            normalize: What the log-likelihood of an option is divided by: None for nothing,
                ``"token"`` for its tokens, ``"byte"`` for its length in UTF-8.
            **params: As for :meth:`loglikelihood`.

        Raises:
            TypeError, ValueError: An argument is invalid, or an option is empty.
            VllmError: As for :meth:`loglikelihood`.
        """
        body, scorer = self._prepared("choose", params, EvaluateParams)
        source, is_chat = _source(context, messages)
        if isinstance(options, str):
            raise TypeError("options must be a list of options, not one text")
        question = Question(source, list(options), is_chat, normalize, body.get("truncate"))
        return choose(scorer, question)

    @takes(EvaluateManyParams)
    def perplexity(
        self,
        text: Union[str, Sequence[int], None] = None,
        *,
        messages: Optional[Sequence[Message]] = None,
        window: Optional[int] = None,
        stride: Optional[int] = None,
        **params: Unpack[EvaluateManyParams],
    ) -> Perplexity:
        """How well the model predicts a text; each token is scored once.

        A text that is longer than ``window`` is scored in several requests, and the tokens at the
        beginning of each are context. No prefix cache helps, so a text costs ``window / stride``
        times its tokens. Compare figures of the same window and stride only.

        Args:
            text: A text or token ids, not empty. Give this or ``messages``.
            messages: A conversation; all tokens that the chat template makes of it are scored.
            window: The most tokens of a request, special tokens included; default: what the server
                allows, one less than the length of its context.
            stride: How many tokens each request after the first one scores, below ``window``;
                default half of ``window``.
            **params: The fields of :class:`~vllm_client.params.evaluate.EvaluateManyParams`;
                ``truncate`` has no meaning here.

        Raises:
            TypeError, ValueError: An argument is invalid, or the text is empty.
            VllmError: As for :meth:`loglikelihood`.
        """
        body, scorer = self._prepared("perplexity", params, EvaluateManyParams)
        if body.get("truncate") is not None:
            raise ValueError("perplexity() cuts nothing: a long text is scored in windows")
        source, is_chat = _source(text, messages)
        score_all = functools.partial(self._score_all, scorer, self._settings(body))
        return perplexity(scorer, Passage(source, is_chat, window, stride), score_all)

    def _score_all(
        self, scorer: Scorer, settings: Settings, prompts: Iterable[List[int]]
    ) -> Iterator[PromptScores]:
        tasks = (functools.partial(_score_one, scorer, prompt) for prompt in prompts)
        with Results[PromptScores](self._transport, tasks, settings) as results:
            yield from results

    def _prepared(self, method: str, params: Any, known: type) -> Tuple[Dict[str, Any], Scorer]:
        """The keywords that are no fields of requests, and what sends the requests."""
        body, call = split(method, params, known)
        options = ScoringOptions(
            body.pop("model", None),
            body.pop("add_special_tokens", True),
            body.pop("bos_token_id", None),
            {name: body.pop(name) for name in ("priority",) if name in body},
            {name: body.pop(name) for name in _CHAT if name in body},
            call,
        )
        own = {name: body.pop(name) for name in (*_SETTINGS, "truncate") if name in body}
        options.fields.update(body)  # The rest is extra_body.
        return own, Scorer(self._transport, self._cache, options)

    def _settings(self, body: Dict[str, Any]) -> Settings:
        given = {name: body[name] for name in _SETTINGS if name in body}
        settings = Settings(max_retries=self._transport.max_retries)
        return evolve(settings, **{"max_concurrency": _MAX_CONCURRENCY, **given}).checked()


def _source(text: Any, messages: Any) -> Tuple[Any, bool]:
    """What was given, and whether it is a conversation."""
    if (text is None) == (messages is None):
        raise TypeError("give a text (or token ids), or messages=[…], one of the two")
    return (text, False) if messages is None else (messages, True)


def _pair(fields: Mapping[str, Any], boundary: str, truncate: Optional[str]) -> Pair:
    source, is_chat = _source(fields.get("context"), fields.get("messages"))
    return Pair(source, fields.get("continuation", ""), is_chat, boundary, truncate)


def _pair_tasks(
    pairs: Iterable[Any], boundary: str, truncate: Optional[str], scorer: Scorer
) -> Iterator[Any]:
    """What scores each pair; an error in place of one that is invalid."""
    for index, item in enumerate(pairs):
        try:
            pair = evolve(_pair(_pair_fields(item), boundary, truncate), index=index)
            yield functools.partial(_score_pair, scorer, pair)
        except (TypeError, ValueError) as error:  # noqa: PERF203 — one bad pair ends no run
            yield BatchInputError(f"pair {index}: {error}")


def _pair_fields(item: Any) -> Mapping[str, Any]:
    if isinstance(item, Mapping):
        unknown = item.keys() - _PAIR_MEMBERS
        if unknown:
            raise TypeError(f"a pair has no {min(unknown)!r}: it has {sorted(_PAIR_MEMBERS)}")
        return item
    if isinstance(item, (tuple, list)) and len(item) == 2:
        return {"context": item[0], "continuation": item[1]}
    raise TypeError(f"a pair is (context, continuation) or a dict, not {type(item).__name__}")


# By the transport of a worker: it retries nothing by itself, and is closed with the run.
def _score_pair(scorer: Scorer, pair: Pair, transport: Transport) -> LogLikelihood:
    try:
        return loglikelihood(scorer.over(transport), pair)
    except (TypeError, ValueError) as error:  # Of its tokens or messages, which nothing has read.
        raise BatchInputError(f"pair {pair.index}: {error}") from error


def _score_one(scorer: Scorer, prompt: List[int], transport: Transport) -> PromptScores:
    return scorer.over(transport).score_ids([prompt])[0]
