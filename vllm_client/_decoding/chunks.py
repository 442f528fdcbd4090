"""Chunks → events: what the streams of both routes have in common.

A stream is complete only when every choice that was asked for has its finish reason and the server
sent ``[DONE]``. The decoder knows the first, the stream the second.
"""

from __future__ import annotations

from functools import partial
from typing import (
    Any,
    Callable,
    ClassVar,
    Generic,
    List,
    Optional,
    Set,
    Tuple,
    Type,
    TypeVar,
    Union,
)

from .._error_bodies import frame_error
from ..events import FinishReason, Reasoning, tag_of
from ..exceptions import InvalidStreamError
from ..types._json import JsonObject
from ..types.shared import JSONValue, Usage
from .accumulator import Accumulator, ChoicePieces
from .fast_json import loads
from .templates import ChunkTemplates, MakeEvent

E = TypeVar("E")
R = TypeVar("R")
P = TypeVar("P", bound=ChoicePieces)

TextOnly = Tuple[str, str, Type[E], List[str]]
_COLUMNS = ("logprobs", "token_ids", "usage")

ABORTED = frozenset({"abort", "error"})
"""The finish reasons of a choice that the server gave up."""

_NO_REASON = frozenset({"", "null", "none"})

# What reading a JSON value of an unexpected shape may raise.
MISSHAPEN = (KeyError, TypeError, AttributeError, ValueError, RecursionError)


class Decoder(Generic[E, R, P]):
    """The state of one stream, and how its chunks become events.

    Args:
        expected: How many choices were asked for.

    Attributes:
        latest_usage: The latest token counts in a chunk, which may not be decoded yet.
        aborted: Whether the server gave up a choice.
        complete: Whether the stream has ended as it should. Written by ``streams``.
        chunk_had_choices: Whether the latest chunk passed to :meth:`decode` had choices.
        unknown_frame: The latest object that is neither a chunk nor a known error, as JSON. It may
            tell why the stream is incomplete.
        match: The event of a chunk that repeats an earlier one except for its text; None for any
            other chunk, which :meth:`decode` takes.
    """

    object_name: ClassVar[str]
    """The ``object`` of a response of this route that is not streamed."""

    new_pieces: Callable[[int], P]
    """Makes the pieces of a choice from its index."""

    def __init__(self, expected: int) -> None:
        self.latest_usage: Union[Usage, JsonObject, str, None] = None
        self.aborted = False
        self.complete = False
        self.chunk_had_choices = False
        self.unknown_frame = ""
        self._expected = expected
        self._finished: Set[int] = set()
        self._pieces: Accumulator[P] = Accumulator(self.object_name, self.new_pieces)
        self._templates: ChunkTemplates[E] = ChunkTemplates()
        self.match: Callable[[str], Optional[E]] = self._templates.match
        self._outside_choices: JsonObject = {}

    @property
    def usage(self) -> Optional[Usage]:
        """The latest token counts in a chunk."""
        latest = self.latest_usage
        if isinstance(latest, str):
            latest = loads(latest)
        if isinstance(latest, dict):
            self.latest_usage = latest = Usage.from_raw(latest)
        return latest

    def decode(self, raw_chunk: str) -> List[E]:
        """The events of one chunk.

        Raises:
            ServerStreamError: It is an error frame.
            InvalidStreamError: It is not a chunk.
        """
        try:
            chunk: JsonObject = loads(raw_chunk) or {}  # Gateways send `null` as a keep-alive.
            choices: JSONValue = chunk.get("choices")
            if "error" in chunk or not choices:
                self._refuse_error(chunk, raw_chunk)
            events: List[E] = []
            for choice in choices or ():
                if choice is not None:
                    self._decode_choice(choice, raw_chunk, events)
                    if choice.get("error"):  # Gateways report an error of their model here.
                        raise frame_error(choice)
            usage = self._note_outside_choices(chunk)
        except MISSHAPEN as error:
            raise InvalidStreamError(
                f"a chunk of the stream cannot be decoded ({error!r}): {shortened(raw_chunk)}"
            ) from error
        self.chunk_had_choices = bool(choices)
        if self._templates.learning and len(choices or ()) == len(events) == 1:
            self._learn(choices[0], usage or None, raw_chunk)
        return events

    def _refuse_error(self, chunk: JsonObject, raw_chunk: str) -> None:
        # Up to vLLM 0.10 errors were flat objects; gateways send {"detail": …} too.
        is_error = chunk.get("error") or chunk.get("errors") or chunk.get("object") == "error"
        lacks_choices = "choices" not in chunk
        if is_error or (lacks_choices and (chunk.get("detail") or chunk.get("message"))):
            raise frame_error(chunk)
        if lacks_choices and chunk and not chunk.get("usage"):
            self.unknown_frame = raw_chunk

    def _note_outside_choices(self, chunk: JsonObject) -> JSONValue:
        usage = chunk.pop("usage", None)
        if usage:
            self.latest_usage = Usage.from_raw(usage)
        chunk.pop("choices", None)
        if chunk != self._outside_choices:
            self._outside_choices = chunk
            self._templates.forget()
            self._pieces.add_chunk(chunk)
        return usage

    def _learn(self, choice: JsonObject, usage: JSONValue, raw_chunk: str) -> None:
        # Learn only from choices that carry nothing but text and columns; a template cannot
        # reproduce anything else.
        if choice.get("finish_reason") or choice.get("prompt_token_ids") is not None:
            return
        text_only = self._text_only(choice)
        if text_only is None:
            return
        key, text, event_class, texts = text_only
        pieces = self._pieces.choice(index_of(choice))
        columns = {**choice, "usage": usage}
        columns = {each: columns[each] for each in _COLUMNS if columns.get(each) is not None}
        find = None
        if columns:
            from .columns import Target, find_columns  # noqa: PLC0415 — few programs use it

            target = Target(event_class, pieces, texts, self)
            find = partial(find_columns, values=columns, target=target)
        make_event = event_maker(event_class, pieces, texts)
        self._templates.learn(raw_chunk, key, text, make_event, find)

    def _keep_others(self, choice: JsonObject, pieces: P) -> None:
        # A template stands for chunks whose other members are those of the choice as it is now.
        if pieces.add_others(choice):
            self._templates.forget()

    def _text_only(self, choice: JsonObject) -> Optional[TextOnly[E]]:
        """What a template needs of a choice that carries only text, and perhaps columns.

        Its JSON key, the text, the class of its event, and the texts of the choice so far.
        """
        raise NotImplementedError

    def _decode_choice(self, choice: JsonObject, raw_chunk: JSONValue, events: List[E]) -> None:
        """Append the events of a choice.

        They keep ``raw_chunk``, the text, and decode it if a program asks for ``event.chunk``.
        """
        raise NotImplementedError

    def last_events(self) -> List[E]:
        """The events that only the end of a complete stream shows to be due."""
        return []

    def snapshot(self) -> R:
        """What has arrived, in the shape of a response that is not streamed."""
        raise NotImplementedError

    def _raw_snapshot(self) -> JsonObject:
        return self._pieces.raw(self.usage)

    def unfinished(self) -> List[int]:
        """The choices that were asked for and have no finish reason."""
        return [index for index in range(self._expected) if index not in self._finished]

    def _finish(
        self, reason: str, choice: JsonObject, pieces: P, raw_chunk: JSONValue
    ) -> FinishReason:
        pieces.finish_reason = reason
        if choice.get("stop_reason") is not None:
            pieces.stop_reason = choice["stop_reason"]
        self._finished.add(pieces.index)
        self.aborted = self.aborted or reason in ABORTED
        return FinishReason(reason, pieces.index, pieces.stop_reason, raw_chunk)


def event_maker(event_class: Type[E], pieces: ChoicePieces, texts: List[str]) -> MakeEvent[E]:
    """A function that makes an event of this class and adds its text to those of the choice."""
    index, append, thinking = pieces.index, texts.append, event_class is Reasoning
    new, tag = object.__new__, tag_of(event_class)

    def make_event(text: str, raw_chunk: str) -> Any:
        append(text)
        pieces.thinking = thinking
        # Without __init__, which would set the chunk through a property and take three times as
        # long.
        event: Any = new(event_class)
        event.text = text
        event.index = index
        event.logprobs = None
        event.token_ids = None
        event._raw_chunk = raw_chunk
        event.type = tag
        return event

    return make_event


T = TypeVar("T")


def typed(expected: Type[T], value: JSONValue) -> T:
    """The value. Raises TypeError if it is of another type."""
    if type(value) is not expected:
        raise TypeError(f"expected {expected.__name__}, not {value!r}")
    return value


def index_of(member: JsonObject) -> int:
    """The index of a choice or a tool call. Raises TypeError if it is not one."""
    index = member.get("index")
    if index is None:
        return 0
    if type(index) is not int or index < 0:
        raise TypeError(f"not an index: {index!r}")
    return index


def finish_reason_of(choice: JsonObject) -> Optional[str]:
    """The finish reason of a choice; None if it has none.

    Some servers write "" or the word "null" for null. Raises TypeError if it is not text.
    """
    reason = choice.get("finish_reason")
    if reason is None:
        return None
    text = typed(str, reason)
    return None if text.strip().lower() in _NO_REASON else text


def shortened(text: str) -> str:
    """The beginning of a text as it is quoted in messages."""
    return repr(text if len(text) <= 300 else text[:300] + "…")
