"""Chunks → events, and the pieces of an answer → the answer.

A stream is whole only when every choice that was asked for has its finish reason and ``[DONE]``
came; a decoder knows of the first, the stream of the second.
"""

from __future__ import annotations

import json
from typing import Any, Callable, Dict, Generic, List, Optional, Set, TypeVar

from ._accumulator import CompletionAccumulator
from ._errors import frame_error, message_in
from .events import CompletionStreamEvent, FinishReason, Text
from .exceptions import GenerationAbortedError, InvalidResponseError, InvalidStreamError
from .types import Completion, Usage

E = TypeVar("E")
R = TypeVar("R")

# What reading a value of an unforeseen shape may raise.
_MISSHAPEN = (KeyError, TypeError, AttributeError, ValueError, RecursionError)


class Decoder(Generic[E, R]):
    """What the two kinds of streams have in common.

    Attributes:
        usage: The latest usage figures a chunk had.
        aborted: Whether a choice was given up by the server.
        counts: Whether the latest chunk had choices.
    """

    def __init__(self, expected: int) -> None:
        self.usage: Optional[Usage] = None
        self.aborted = False
        self.counts = False
        self._expected = expected
        self._finished: Set[int] = set()

    def decode(self, data: str) -> List[E]:
        """The events of one chunk.

        Raises:
            ServerStreamError: It is an error frame.
            InvalidStreamError: It is no chunk.
        """
        try:
            chunk = json.loads(data)
            if "choices" not in chunk and _is_error(chunk):
                raise frame_error(chunk)
            return self._decode(chunk, data)
        except _MISSHAPEN as error:
            raise InvalidStreamError(
                f"a chunk of the stream cannot be decoded ({error!r}): {_shortened(data)}"
            ) from error

    def _decode(self, chunk: Dict[str, Any], data: str) -> List[E]:
        raise NotImplementedError

    def snapshot(self) -> R:
        """What has arrived, in the shape of the whole answer."""
        raise NotImplementedError

    def unfinished(self) -> List[int]:
        """The choices that were asked for and have no finish reason."""
        return [index for index in range(self._expected) if index not in self._finished]

    def _finish(self, index: int, reason: str) -> None:
        self._finished.add(index)
        self.aborted = self.aborted or reason == "abort"


class CompletionDecoder(Decoder[CompletionStreamEvent, Completion]):
    """Chunks of ``/v1/completions``."""

    def __init__(self, expected: int) -> None:
        super().__init__(expected)
        self._pieces = CompletionAccumulator()

    def _decode(self, chunk: Dict[str, Any], data: str) -> List[CompletionStreamEvent]:
        events: List[CompletionStreamEvent] = []
        held: Any = data  # Decoded again by the few who ask an event for its chunk.
        choices = chunk.get("choices") or ()
        usage = chunk.get("usage")
        if usage:
            self.usage = Usage.from_raw(usage)
        self._pieces.add_chunk(chunk)
        for choice in choices:
            index, text = choice.get("index", 0), choice.get("text") or ""
            if type(index) is not int or type(text) is not str:
                raise TypeError(f"choice {index!r} has the text {text!r}")
            piece = self._pieces.choice(index, choice)
            logprobs, token_ids = choice.get("logprobs"), choice.get("token_ids")
            if text or logprobs is not None or token_ids:
                piece.add(text, logprobs, token_ids)
                events.append(Text(text, index, logprobs, token_ids, held))
            reason = choice.get("finish_reason")
            if reason is not None:
                stop_reason = choice.get("stop_reason")
                piece.finish(reason, stop_reason)
                self._finish(index, reason)
                events.append(FinishReason(reason, index, stop_reason, held))
        self.counts = bool(choices)
        return events

    def snapshot(self) -> Completion:
        """What has arrived as a ``Completion``."""
        return Completion.from_raw(self._pieces.raw(self.usage))


def decoded_answer(content: bytes, read: Callable[[Dict[str, Any]], R]) -> R:
    """The answer in the body of a request that was not streamed.

    Raises:
        InvalidResponseError: It is something else.
        GenerationAbortedError: The server gave up the generation.
    """
    try:
        raw = json.loads(content)
    except (ValueError, RecursionError) as error:
        text = content.decode("utf-8", "replace")
        raise InvalidResponseError(
            f"the answer is not JSON ({error}): {_shortened(text)}", body=text
        ) from error
    try:
        answer = read(raw)
        aborted = any(choice["finish_reason"] == "abort" for choice in raw.get("choices", ()))
    except _MISSHAPEN as error:
        said = message_in(raw) or f"the answer has not the shape of this route's ({error!r})"
        raise InvalidResponseError(
            f"{said}: {_shortened(json.dumps(raw, ensure_ascii=False))}", body=raw
        ) from error
    if aborted:
        raise aborted_error(answer)
    return answer


def aborted_error(partial: Any) -> GenerationAbortedError:
    """The error for an answer with the finish reason ``"abort"``."""
    return GenerationAbortedError(
        "the server gave up the generation (it is shutting down, paused, or was told to): "
        "the text so far is in error.partial",
        partial=partial,
    )


def _is_error(chunk: Dict[str, Any]) -> bool:
    return bool(chunk.get("error")) or chunk.get("object") == "error"


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 300 else text[:300] + "…")
