"""Chunks → events, and bodies → answers; what chat does otherwise is in ``_chat_decoding``.

A stream is whole only when every choice that was asked for has its finish reason and ``[DONE]``
came; a decoder knows of the first, the stream of the second.
"""

from __future__ import annotations

import json
from typing import Any, Callable, Dict, Generic, List, Optional, Set, Tuple, TypeVar

from .._error_bodies import frame_error, message_in
from ..events import CompletionStreamEvent, FinishReason, Reasoning, Text
from ..exceptions import GenerationAbortedError, InvalidResponseError, InvalidStreamError
from ..types.completion import Completion
from ..types.shared import Usage
from .accumulator import Accumulator, TextPieces
from .fast_json import loads
from .templates import RepeatedShape, Say

E = TypeVar("E")
R = TypeVar("R")

# What reading a value of an unforeseen shape may raise.
_MISSHAPEN = (KeyError, TypeError, AttributeError, ValueError, RecursionError)
_SAID_ONCE = ("finish_reason", "logprobs", "token_ids", "prompt_token_ids")


class Decoder(Generic[E, R]):
    """What the two kinds of streams have in common.

    Attributes:
        usage: The latest usage figures a chunk had.
        aborted: Whether a choice was given up by the server.
        counts: Whether the latest chunk that was decoded had choices.
        again: The one event of a chunk that repeats an earlier one but for its text; None for any
            other, which is left to :meth:`decode`.
    """

    def __init__(self, expected: int, pieces: Accumulator[Any], read: Callable[[Any], R]) -> None:
        self.usage: Optional[Usage] = None
        self.aborted = False
        self.counts = False
        self._expected = expected
        self._finished: Set[int] = set()
        self._pieces = pieces
        self._read = read
        self._repeated = RepeatedShape()
        self.again: Callable[[str], Optional[E]] = self._repeated.again
        self._beside: Dict[str, Any] = {}

    def decode(self, data: str) -> List[E]:
        """The events of one chunk.

        Raises:
            ServerStreamError: It is an error frame.
            InvalidStreamError: It is no chunk.
        """
        try:
            chunk = loads(data)
            choices = chunk.get("choices")
            if "error" in chunk or not choices:
                _refuse_error(chunk)
            events: List[E] = []
            for choice in choices or ():
                self._decode_choice(choice, data, events)
            usage = chunk.pop("usage", None)
            if usage:
                self.usage = Usage.from_raw(usage)
            chunk.pop("choices", None)
            if chunk != self._beside:
                self._beside = chunk
                self._repeated.forget()
                self._pieces.add_chunk(chunk)
        except _MISSHAPEN as error:
            raise InvalidStreamError(
                f"a chunk of the stream cannot be decoded ({error!r}): {_shortened(data)}"
            ) from error
        self.counts = bool(choices)
        if self._repeated.learning and not usage and len(choices or ()) == len(events) == 1:
            self._learn(choices[0], data)
        return events

    def _learn(self, choice: Dict[str, Any], data: str) -> None:
        # Whatever else a choice says would have to be said again for every chunk of its shape.
        if all(choice.get(name) is None for name in _SAID_ONCE):
            only = self._only_text(choice)
            if only is not None:
                self._repeated.learn(data, *only)

    def _only_text(self, choice: Dict[str, Any]) -> Optional[Tuple[str, str, Say]]:
        # Of a choice that has nothing to say but a text: the member with the text, the text, and
        # how to say the same with another.
        raise NotImplementedError

    def _decode_choice(self, choice: Dict[str, Any], held: Any, events: List[E]) -> None:
        # ``held`` is the text of the chunk, which the few who ask an event for it decode again.
        raise NotImplementedError

    def snapshot(self) -> R:
        """What has arrived, in the shape of the whole answer."""
        return self._read(self._pieces.raw(self.usage))

    def unfinished(self) -> List[int]:
        """The choices that were asked for and have no finish reason."""
        return [index for index in range(self._expected) if index not in self._finished]

    def _finish(self, choice: Dict[str, Any], pieces: Any, held: Any, events: List[Any]) -> None:
        reason = typed(str, choice["finish_reason"])
        pieces.finish_reason = reason
        pieces.stop_reason = choice.get("stop_reason")
        self._finished.add(pieces.index)
        self.aborted = self.aborted or reason == "abort"
        events.append(FinishReason(reason, pieces.index, pieces.stop_reason, held))


def _refuse_error(chunk: Dict[str, Any]) -> None:
    if chunk.get("error") or chunk.get("object") == "error":  # flat in old servers
        raise frame_error(chunk)


class CompletionDecoder(Decoder[CompletionStreamEvent, Completion]):
    """Chunks of ``/v1/completions``, of which ``expected`` choices were asked for."""

    def __init__(self, expected: int) -> None:
        pieces = Accumulator("text_completion", TextPieces)
        super().__init__(expected, pieces, Completion.from_raw)

    def _decode_choice(
        self, choice: Dict[str, Any], held: Any, events: List[CompletionStreamEvent]
    ) -> None:
        pieces: TextPieces = self._pieces.choice(index_of(choice))
        text, logprobs, token_ids = map(choice.get, ("text", "logprobs", "token_ids"))
        if choice.get("prompt_token_ids"):  # Only the first chunk of a choice has them.
            pieces.prompt_token_ids = choice["prompt_token_ids"]
        if text or logprobs is not None or token_ids:
            pieces.add_tokens(logprobs, token_ids)
            pieces.texts.append(typed(str, text or ""))
            events.append(Text(text or "", pieces.index, logprobs, token_ids, held))
        if choice.get("finish_reason") is not None:
            self._finish(choice, pieces, held, events)

    def _only_text(self, choice: Dict[str, Any]) -> Optional[Tuple[str, str, Say]]:
        pieces: TextPieces = self._pieces.choice(index_of(choice))
        return "text", choice["text"], says(Text, pieces, pieces.texts)


def says(kind: Callable[..., Any], pieces: Any, kept: List[str]) -> Say:
    """Says a text as an event of this kind and keeps it among the pieces of its choice."""
    index, keep, thinking = pieces.index, kept.append, kind is Reasoning

    def say(text: str, held: str) -> Any:
        keep(text)
        pieces.thinking = thinking
        return kind(text, index, None, None, held)

    return say


T = TypeVar("T")


def typed(kind: Callable[..., T], value: Any) -> T:
    """The value. Raises TypeError if it is of another type."""
    if type(value) is not kind:
        raise TypeError(f"{value!r} where {kind.__name__} was expected")
    return value  # type: ignore[no-any-return]


def index_of(member: Dict[str, Any]) -> int:
    """The number of a choice or a call. Raises TypeError if it is none."""
    index: int = member.get("index", 0)
    if type(index) is not int or index < 0:
        raise TypeError(f"the index {index!r}")
    return index


def decoded_answer(content: bytes, read: Callable[[Dict[str, Any]], R]) -> R:
    """The answer in the body of a request that was not streamed.

    Raises:
        InvalidResponseError: It is something else.
        GenerationAbortedError: The server gave up the generation.
    """
    try:
        raw = loads(content)
    except (ValueError, RecursionError) as error:
        text = content.decode("utf-8", "replace")
        raise InvalidResponseError(
            f"the answer is not JSON ({error}): {_shortened(text)}", body=text
        ) from error
    try:
        answer = read(raw)
        aborted = any(choice.get("finish_reason") == "abort" for choice in raw.get("choices", ()))
    except _MISSHAPEN as error:
        said = message_in(raw) or f"the answer has not the shape of this route's ({error!r})"
        raise InvalidResponseError(
            f"{said}: {_shortened(json.dumps(raw, ensure_ascii=False))}", body=raw
        ) from error
    if aborted:
        raise aborted_error(answer)
    return answer


def aborted_error(partial_answer: Any) -> GenerationAbortedError:
    """The error for an answer with the finish reason ``"abort"``."""
    return GenerationAbortedError(
        "the server gave up the generation (it is shutting down, paused, or was told to): "
        "the text so far is in error.partial",
        partial=partial_answer,
    )


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 300 else text[:300] + "…")
