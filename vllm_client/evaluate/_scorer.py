"""Scores the tokens of prompts in whichever exact way the server has."""

from __future__ import annotations

import functools
import warnings
from typing import Any, Callable, Dict, List, Optional, Sequence, Union

from attrs import frozen

from .._http.transport import Transport
from ..exceptions import BadRequestError, EvaluationError
from ..params import Prompt, RequestOptions
from ..resources.chat import ChatCompletions
from ..resources.completions import Completions
from ..types._json import JsonObject
from ..types.chat import ChatCompletion
from ..types.completion import Completion, CompletionChoice
from ._reading import from_echo, from_prompt_logprobs, next_logprobs
from ._tokens import TokenCache, TokenSource
from .results import TokenColumns

PROMPT_LOGPROBS = "prompt_logprobs"
ECHO = "echo"
MOST_NEXT_TOKENS = 128
"""How many ids vLLM takes in ``logprob_token_ids``."""
_UNPROCESSED: Dict[str, Any] = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
}
"""Leaves the probabilities as they are, whatever a model's ``generation_config`` says, on a server
that sends them as they are after sampling parameters."""


_SPACE = (
    "a context ends with a space, which this tokenizer joins to the word that follows; the joined "
    "token is scored as part of the continuation (context_tokens_rescored). Begin the continuation "
    "with the space instead"
)


@frozen
class PromptScores:
    """The scores of one prompt.

    Attributes:
        ids: Its tokens.
        method: How they were read.
    """

    ids: List[int]
    method: str
    _read: Callable[[int], TokenColumns]

    def columns(self, start: int) -> TokenColumns:
        """The tokens from ``start`` on, 1 or more.

        Raises:
            InvalidResponseError: The response lacks one of them.
        """
        return self._read(start)


@frozen
class ScoringOptions:
    """What the calls of ``client.evaluate`` have in common.

    Attributes:
        model: A served model; None for the default one.
        add_special_tokens: Whether the tokenizer puts its special tokens around a text.
        bos_token_id: The token in front of a text whose tokenizer adds none.
        fields: Further fields of each request.
        chat: Fields of a conversation, beside ``messages``.
        call: Headers and time limits of each request.
        max_length: The length of the context to stay in; None for that of the server.
    """

    model: Optional[str]
    add_special_tokens: bool
    bos_token_id: Optional[int]
    fields: Dict[str, Any]
    chat: Dict[str, Any]
    call: RequestOptions
    max_length: Optional[int] = None


class Scorer:
    """Asks one server for scores.

    Args:
        transport: The server.
        cache: What is known about it.
        options: What all calls have in common.
    """

    def __init__(self, transport: Transport, cache: TokenCache, options: ScoringOptions) -> None:
        self._completions = Completions(transport)
        self._chat = ChatCompletions(transport)
        self._cache = cache
        self._facts = cache.facts
        self._options = options
        self.tokens = TokenSource(transport, cache, options.model, options.call)

    def over(self, transport: Transport) -> Scorer:
        """The same by another transport to the server."""
        return Scorer(transport, self._cache, self._options)

    @property
    def method(self) -> str:
        """The way in which this server scores prompts."""
        method: str = self._facts.get("method", PROMPT_LOGPROBS)
        return method

    def warn_of_space(self, context: Any) -> None:
        """Warn, once a client, if the space at the end of a context is what was scored again."""
        if isinstance(context, str) and context[-1:] == " " and not self._facts.get("warned"):
            self._facts["warned"] = True
            warnings.warn(_SPACE, stacklevel=5)

    def longest_prompt(self) -> int:
        """The most tokens of a prompt: one more is generated."""
        return (self._options.max_length or self.tokens.max_model_len()) - 1

    # Special tokens in front of a text.

    @property
    def adds_special_tokens(self) -> bool:
        """Whether the tokenizer puts its special tokens around a text."""
        return self._options.add_special_tokens

    def encode(self, text: str) -> List[int]:
        """The tokens of a text, with those that the tokenizer adds."""
        return self.tokens.of_text(text, special=self._options.add_special_tokens)

    def lead(self) -> List[int]:
        """The special tokens in front of each text: those of the tokenizer, else the given one."""
        added = self.encode("") if self._options.add_special_tokens else []
        given = self._options.bos_token_id
        return added or ([] if given is None else [given])

    def lead_of(self, ids: Sequence[int]) -> List[int]:
        """The special tokens for each part of these tokens: those they begin with, else given."""
        lead = self.lead()
        given = self._options.bos_token_id
        return lead if given is not None or list(ids[: len(lead)]) == lead else []

    def bos_of(self, ids: Sequence[int]) -> Optional[int]:
        """The special token that these tokens begin with, or None."""
        lead = self.lead()
        return lead[0] if lead and list(ids[: len(lead)]) == lead else None

    # Scores of the tokens of prompts.

    def score_text(self, text: str) -> PromptScores:
        """The scores of a text and its tokens, in one request where the server can.

        Raises:
            VllmError: The server refused the request, or has no scores.
        """
        special = self._options.add_special_tokens
        answer = self._by_prompt_logprobs(text, {} if special else {"add_special_tokens": False})
        if answer is None:
            return self.score_ids([self.encode(text)])[0]
        choice = answer.choices[0]
        return _by_logprobs(choice, choice.prompt_token_ids or self.encode(text), answer.raw)

    def score_ids(self, prompts: List[List[int]]) -> List[PromptScores]:
        """The scores of several prompts, in one request.

        Raises:
            VllmError: The server refused the request, or has no scores.
        """
        answer = self._by_prompt_logprobs(_sent(prompts), {})
        if answer is None:
            return self._by_echo(prompts)
        return [
            _by_logprobs(choice, ids, answer.raw) for choice, ids in zip(answer.choices, prompts)
        ]

    def score_answer(self, messages: Sequence[Any], answer: str) -> PromptScores:
        """The scores of a conversation that ends with this answer.

        Raises:
            VllmError: The server refused the request, or has no scores.
        """
        fields = self._with_answer(messages, answer)
        if self.method != PROMPT_LOGPROBS:
            return self.score_ids([self.encode_chat(messages, answer)])[0]
        whole = self._chat.create(
            **fields,
            prompt_logprobs=0,
            return_token_ids=True,
            max_tokens=1,
            temperature=0.0,
            **self._common,
        )
        if whole.prompt_logprobs is None:
            return self.score_ids([self.encode_chat(messages, answer)])[0]
        ids = whole.prompt_token_ids or self.encode_chat(messages, answer)
        return _by_logprobs(whole, ids, whole.raw)

    def encode_chat(self, messages: Sequence[Any], answer: Optional[str] = None) -> List[int]:
        """The tokens of a conversation, up to its answer, or up to the end of this answer."""
        if answer is not None:
            return self.tokens.of_messages(self._with_answer(messages, answer))
        fields = {"messages": list(messages), "add_generation_prompt": True}
        return self.tokens.of_messages({**fields, **self._options.chat})

    def encode_conversation(self, messages: Sequence[Any]) -> List[int]:
        """The tokens of a whole conversation."""
        fields = {"messages": list(messages), "add_generation_prompt": False}
        return self.tokens.of_messages({**fields, **self._options.chat})

    def _with_answer(self, messages: Sequence[Any], answer: str) -> Dict[str, Any]:
        return {
            "messages": [*messages, {"role": "assistant", "content": answer}],
            "add_generation_prompt": False,
            "continue_final_message": True,
            **self._options.chat,
        }

    @property
    def _common(self) -> Dict[str, Any]:
        model = self._options.model
        named = {} if model is None else {"model": model}
        extra = {"extra_body": self._options.fields} if self._options.fields else {}
        return {**named, **extra, **self._options.call}

    def _by_prompt_logprobs(self, prompt: Prompt, fields: Dict[str, Any]) -> Optional[Completion]:
        """The response with ``prompt_logprobs``; None from a server that has none."""
        if self.method != PROMPT_LOGPROBS:
            return None
        answer: Optional[Completion] = None
        try:
            answer = self._completions.create(
                prompt=prompt,
                prompt_logprobs=0,
                return_token_ids=True,
                max_tokens=1,
                temperature=0.0,
                **fields,
                **self._common,
            )
        except BadRequestError as error:
            if PROMPT_LOGPROBS not in str(error):
                raise
        if answer is not None and all(each.prompt_logprobs for each in answer.choices):
            return answer
        self._facts["method"] = ECHO
        return None

    def _by_echo(self, prompts: List[List[int]]) -> List[PromptScores]:
        answer = self._completions.create(
            prompt=_sent(prompts),
            echo=True,
            logprobs=1,
            return_tokens_as_token_ids=True,
            max_tokens=1,
            temperature=0.0,
            **self._common,
        )
        return [_echoed(choice, ids, answer.raw) for choice, ids in zip(answer.choices, prompts)]

    # Scores of the tokens that may come next.

    def score_next(
        self, prompts: List[List[int]], ids: Sequence[int]
    ) -> Optional[List[Dict[int, float]]]:
        """The log-probabilities of these tokens after each prompt; None if the server cannot.

        Args:
            prompts: Tokens.
            ids: At most ``MOST_NEXT_TOKENS`` tokens.

        Raises:
            VllmError: The server refused the request for another reason.
        """
        if not self._facts.get("has_next", True):
            return None
        found: List[Dict[int, float]] = []
        try:
            answer: Completion = self._completions.create(
                prompt=_sent(prompts),
                logprobs=1,
                logprob_token_ids=list(ids),
                return_tokens_as_token_ids=True,
                max_tokens=1,
                **{**_UNPROCESSED, **self._common},
            )
        except BadRequestError as error:
            if "logprob_token_ids" not in str(error) or "out-of-vocab" in str(error):
                raise
        else:
            found = [next_logprobs(each.logprobs, ids) for each in answer.choices]
        if all(found) and found:
            return found
        self._facts["has_next"] = False
        return None


def _sent(prompts: List[List[int]]) -> Prompt:
    return prompts[0] if len(prompts) == 1 else prompts


def _by_logprobs(
    scored: Union[CompletionChoice, ChatCompletion], ids: List[int], body: JsonObject
) -> PromptScores:
    entries = scored.prompt_logprobs or []
    return PromptScores(
        ids, PROMPT_LOGPROBS, functools.partial(from_prompt_logprobs, entries, ids, body)
    )


def _echoed(choice: CompletionChoice, ids: List[int], body: JsonObject) -> PromptScores:
    if choice.logprobs is None:
        raise EvaluationError(
            "this server scores no prompts: it knows neither prompt_logprobs nor echo with "
            "logprobs, which vLLM serves since 0.10"
        )
    return PromptScores(ids, ECHO, functools.partial(from_echo, choice.logprobs, ids, body))
