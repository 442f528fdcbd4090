"""The pieces of a streamed response, joined in the shape of one that is not streamed.

Pieces are kept in lists and joined when a program asks for them. Adding to a string, or rebuilding
the response with every event, would take quadratic time.
"""

from __future__ import annotations

from collections import deque
from threading import Lock
from typing import (
    Callable,
    ClassVar,
    Deque,
    Dict,
    FrozenSet,
    Generic,
    List,
    Mapping,
    Optional,
    TypeVar,
    Union,
)

from attrs import asdict, define, field

from ..types._json import JsonObject
from ..types.shared import JSONValue, Usage
from ..types.tool_calls import ToolCall
from .fast_json import is_json, loads

_KNOWN = frozenset({"index", "logprobs", "finish_reason", "stop_reason", "token_ids"})


class ChoicePieces:
    """What the choices of both routes accumulate alike.

    Attributes:
        thinking: Whether the last text of the choice was reasoning.
        token_ids: Those of all chunks so far.
        add_logprobs: Adds the log-probabilities of a chunk whose members are lists, or their JSON.
    """

    known: ClassVar[FrozenSet[str]]
    """The members of a streamed choice that :meth:`raw` writes in a way of their own."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.thinking = False
        self.finish_reason: Optional[str] = None
        self.stop_reason: JSONValue = None
        self._logprobs: Optional[Dict[str, List[JSONValue]]] = None
        self.token_ids: List[int] = []
        # Log-probabilities that are not joined yet, some of them as JSON. A deque and a lock:
        # a snapshot may be taken in one thread while another one reads the stream.
        self._logprobs_to_join: Deque[Union[JsonObject, str]] = deque()
        self.add_logprobs = self._logprobs_to_join.append
        self._joining = Lock()
        self._others: JsonObject = {}

    def add_others(self, choice: JsonObject) -> bool:
        """Keep the members that are not known, except null ones; later values win.

        Returns whether one of them is new or has another value than before.
        """
        if self.known.issuperset(choice):  # Nearly always, and cheaper than the difference.
            return False
        changed = False
        for name in choice.keys() - self.known:
            value = choice[name]
            if value is not None and (name not in self._others or self._others[name] != value):
                self._others[name] = value
                changed = True
        return changed

    def add_tokens(self, logprobs: Optional[JsonObject], token_ids: Optional[List[int]]) -> None:
        """Add the log-probabilities and ids of a chunk's tokens."""
        if logprobs is not None:
            with self._joining:
                if self._logprobs_to_join:
                    self.add_logprobs(_extended({}, logprobs))
                else:
                    self._logprobs = _extended(self._logprobs or {}, logprobs)
        if token_ids:
            self.token_ids += token_ids

    def _join_logprobs(self) -> None:
        with self._joining:
            while self._logprobs_to_join:
                piece = self._logprobs_to_join.popleft()
                piece = loads(piece) if isinstance(piece, str) else piece
                self._logprobs = _extended(self._logprobs or {}, piece)

    def raw(self) -> JsonObject:
        """The choice, as in a response that is not streamed."""
        self._join_logprobs()
        return {
            **self._others,
            "index": self.index,
            "logprobs": self._logprobs and _extended({}, self._logprobs),
            "finish_reason": self.finish_reason,
            "stop_reason": self.stop_reason,
            "token_ids": list(self.token_ids) or None,
        }


class TextPieces(ChoicePieces):
    """A choice of ``/v1/completions``."""

    known = _KNOWN | {"text", "prompt_token_ids"}

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.texts: List[str] = []
        self.prompt_token_ids: Optional[List[int]] = None

    def raw(self) -> JsonObject:
        """The choice, with its text."""
        return {
            "prompt_logprobs": None,
            **super().raw(),
            "text": "".join(self.texts),
            "prompt_token_ids": self.prompt_token_ids,
        }


class TokenPieces(ChoicePieces):
    """A choice of ``/inference/v1/generate``. ``texts`` is None if the server decodes nothing."""

    known = _KNOWN | {"text"}

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.texts: Optional[List[str]] = None

    def raw(self) -> JsonObject:
        """The choice, with its tokens."""
        raw = {**super().raw(), "token_ids": list(self.token_ids)}
        return raw if self.texts is None else {**raw, "text": "".join(self.texts)}


@define(eq=False)
class CallPieces:
    """A tool call whose arguments are still arriving.

    Attributes:
        emitted: Whether its ``ToolCall`` event was made.
    """

    id: str = ""
    name: str = ""
    arguments: List[str] = field(factory=list)
    emitted: bool = False

    def is_followed_by(self, call_id: str, name: str, arguments: str) -> bool:
        """Whether a piece that has the index of this call begins another call."""
        if not (call_id and self.id) and not (name and self.name):
            return False
        text = "".join(self.arguments)
        is_whole = is_json(text)
        if call_id and self.id:
            # Some servers make a new id for every piece. These have no name, and arrive while the
            # arguments are incomplete.
            return bool(name) or is_whole or not text.strip()
        return is_whole and (name != self.name or arguments.strip() not in {"", text.strip()})

    def add(self, arguments: str) -> None:
        """Add a piece of the arguments.

        A piece that repeats all of them adds nothing, and an empty object before others is none.
        """
        if len(self.arguments) == 1 and self.arguments[0] == "{}" and arguments.strip():
            self.arguments.clear()
        is_object = arguments[:1] == "{" and arguments[-1:] == "}"
        if not (is_object and arguments == "".join(self.arguments)):
            self.arguments.append(arguments)

    def joined(self, index: int) -> ToolCall:
        """The call as it is now, of choice ``index``."""
        return ToolCall(self.id, self.name, "".join(self.arguments), index)


class MessagePieces(ChoicePieces):
    """A choice of ``/v1/chat/completions``.

    Args:
        index: Its index.
        forced: Whether ``tool_choice`` left the model no choice but to call a tool.
        hides_reasoning: Whether the request has ``include_reasoning=False``.
    """

    known = _KNOWN | {"delta", "message"}

    def __init__(self, index: int, *, forced: bool, hides_reasoning: bool) -> None:
        super().__init__(index)
        self.role = "assistant"
        self.contents: List[str] = []
        self.reasonings: List[str] = []
        self.refusals: List[str] = []
        self.calls: Dict[int, CallPieces] = {}
        self._number_of_index: Dict[int, int] = {}
        self._last_number: Optional[int] = None
        self._forced = forced
        self._hides_reasoning = hides_reasoning

    def number_of_call(self, index: JSONValue, call_id: str, name: str, arguments: str) -> int:
        """The number of the tool call that a piece belongs to; a new number opens a call.

        vLLM sends an index with each piece. Other servers send 0 for all calls, or none: then a
        new id opens a new call, or without ids a name after complete arguments, and any other
        piece belongs to the call opened last.
        """
        usable = type(index) is int and index >= 0
        number = self._number_of_index.get(index) if usable else self._last_number
        known = [each for each, call in self.calls.items() if call_id and call.id == call_id]
        if known:
            number = known[0]
        elif number is None or self.calls[number].is_followed_by(call_id, name, arguments):
            number = index if usable and index not in self.calls else len(self.calls)
            while number in self.calls:
                number += 1
        if usable:
            self._number_of_index[index] = number
        self._last_number = number
        return number

    def new_in(self, message: Optional[JsonObject]) -> JsonObject:
        """A message where a delta was expected: all of it, or nothing if it has arrived before.

        Some gateways send a whole message as one chunk, or repeat it in the last one.
        """
        has_arrived = self.contents or self.reasonings or self.calls
        return {} if has_arrived else message or {}

    def raw(self) -> JsonObject:
        """The choice, with its message."""
        message: JsonObject = {
            "role": self.role,
            "content": self._content(),
            "refusal": "".join(self.refusals) or None,
            "reasoning": "".join(self.reasonings) or None,
        }
        if self.calls:
            message["tool_calls"] = [
                self.calls[number].joined(self.index).raw() for number in sorted(self.calls)
            ]
        return {**super().raw(), "message": message}

    def _content(self) -> Optional[str]:
        # When not streaming, vLLM sends null content for responses of only reasoning or tool
        # calls, but "" if `tool_choice` forced the calls. Streams do not show the difference,
        # nor whether there was reasoning that the request excluded.
        content = "".join(self.contents)
        if content or self._forced:
            return content
        return None if self.calls or self.reasonings or self._hides_reasoning else ""


P = TypeVar("P", bound=ChoicePieces)


@define(eq=False)
class Accumulator(Generic[P]):
    """The pieces of a response: those of its choices, and the members outside the choices.

    Args:
        object_name: The ``object`` of a response that is not streamed.
        new_pieces: Makes the pieces of a choice from its index.
    """

    _object_name: str
    _new_pieces: Callable[[int], P]
    _outside_choices: JsonObject = field(factory=dict, init=False)
    _choices: Dict[int, P] = field(factory=dict, init=False)

    def add_chunk(self, chunk: JsonObject) -> None:
        """Merge the top-level members of a chunk.

        Later values win, but a null or empty value does not replace another one.
        """
        for name, value in chunk.items():
            if value or value is False or name not in self._outside_choices:
                self._outside_choices[name] = value

    def choice(self, index: int) -> P:
        """The pieces of a choice; new ones for an index that is new."""
        pieces = self._choices.get(index)
        if pieces is None:
            pieces = self._choices[index] = self._new_pieces(index)
        return pieces

    def choices(self) -> List[P]:
        """The pieces of all choices, in the order of their indexes."""
        return [self._choices[index] for index in sorted(self._choices)]

    def raw(self, usage: Optional[Usage]) -> JsonObject:
        """What the server would have sent without a stream."""
        return {
            **self._outside_choices,
            "object": self._object_name,
            "choices": [pieces.raw() for pieces in self.choices()],
            "usage": usage
            and asdict(usage, recurse=False, filter=lambda field, _: field.name != "type"),
        }


# Lists of a completion's log-probabilities, with one entry a token.
_PARALLEL = frozenset({"tokens", "token_logprobs", "top_logprobs", "text_offset"})


def _extended(
    joined: Dict[str, List[JSONValue]], piece: Mapping[str, JSONValue]
) -> Dict[str, List[JSONValue]]:
    """Append the lists of a chunk; parallel lists are padded, so that they stay parallel."""
    before = max((len(joined[name]) for name in joined if name in _PARALLEL), default=0)
    tokens = max((len(piece[name] or ()) for name in piece if name in _PARALLEL), default=0)
    for name in [*piece.keys(), *(name for name in joined if name not in piece)]:
        values = list(piece.get(name) or ())
        if name in _PARALLEL and (values or joined.get(name)):
            joined.setdefault(name, []).extend([None] * (before - len(joined[name])))
            values += [None] * (tokens - len(values))
        joined.setdefault(name, []).extend(values)
    return joined
