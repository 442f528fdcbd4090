"""The pieces of a streamed response, joined in the shape of one that is not streamed.

Pieces are kept in lists and joined when a program asks for them. Adding to a string, or rebuilding
the response with every event, would take quadratic time.
"""

from __future__ import annotations

from typing import Callable, Dict, Generic, List, Mapping, Optional, TypeVar

from attrs import asdict, define, field

from ..types._json import Json, JsonObject
from ..types.shared import Usage
from ..types.tool_calls import ToolCall


class ChoicePieces:
    """What the choices of both routes accumulate alike.

    Attributes:
        thinking: Whether the last text of the choice was reasoning.
    """

    def __init__(self, index: int) -> None:
        self.index = index
        self.thinking = False
        self.finish_reason: Optional[str] = None
        self.stop_reason: Json = None
        self._logprobs: Optional[Dict[str, List[Json]]] = None
        self._token_ids: List[int] = []

    def add_tokens(self, logprobs: Optional[JsonObject], token_ids: Optional[List[int]]) -> None:
        """Add the log-probabilities and ids of a chunk's tokens."""
        if logprobs is not None:
            self._logprobs = _extended(self._logprobs or {}, logprobs)
        if token_ids:
            self._token_ids += token_ids

    def raw(self) -> JsonObject:
        """The choice, as in a response that is not streamed."""
        return {
            "index": self.index,
            "logprobs": self._logprobs and _extended({}, self._logprobs),
            "finish_reason": self.finish_reason,
            "stop_reason": self.stop_reason,
            "token_ids": list(self._token_ids) or None,
        }


class TextPieces(ChoicePieces):
    """A choice of ``/v1/completions``."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.texts: List[str] = []
        self.prompt_token_ids: Optional[List[int]] = None

    def raw(self) -> JsonObject:
        """The choice, with its text."""
        return {
            **super().raw(),
            "text": "".join(self.texts),
            "prompt_token_ids": self.prompt_token_ids,
            "prompt_logprobs": None,
        }


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

    def joined(self, index: int) -> ToolCall:
        """The call as it is now, of choice ``index``."""
        return ToolCall(self.id, self.name, "".join(self.arguments), index)


class MessagePieces(ChoicePieces):
    """A choice of ``/v1/chat/completions``.

    Args:
        index: Its index.
        forced: Whether ``tool_choice`` left the model no choice but to call a tool.
    """

    def __init__(self, index: int, *, forced: bool) -> None:
        super().__init__(index)
        self.role = "assistant"
        self.contents: List[str] = []
        self.reasonings: List[str] = []
        self.calls: Dict[int, CallPieces] = {}
        self._forced = forced

    def raw(self) -> JsonObject:
        """The choice, with its message."""
        message: JsonObject = {
            "role": self.role,
            "content": self._content(),
            "refusal": None,
            "reasoning": "".join(self.reasonings) or None,
        }
        if self.calls:
            message["tool_calls"] = [
                self.calls[number].joined(self.index).raw() for number in sorted(self.calls)
            ]
        return {**super().raw(), "message": message}

    def _content(self) -> Optional[str]:
        # When not streaming, vLLM sends null content for responses of only reasoning or tool
        # calls, but "" if `tool_choice` forced the calls. Streams do not show the difference.
        content = "".join(self.contents)
        if content or self._forced:
            return content
        return None if self.calls or self.reasonings else ""


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
        """Merge the top-level members of a chunk; later values win."""
        self._outside_choices.update(chunk)

    def choice(self, index: int) -> P:
        """The pieces of a choice; new ones for an index that is new."""
        pieces = self._choices.get(index)
        if pieces is None:
            pieces = self._choices[index] = self._new_pieces(index)
        return pieces

    def raw(self, usage: Optional[Usage]) -> JsonObject:
        """What the server would have sent without a stream."""
        return {
            **self._outside_choices,
            "object": self._object_name,
            "choices": [self._choices[index].raw() for index in sorted(self._choices)],
            "usage": usage
            and asdict(usage, recurse=False, filter=lambda field, _: field.name != "type"),
        }


def _extended(joined: Dict[str, List[Json]], piece: Mapping[str, Json]) -> Dict[str, List[Json]]:
    # Lists in parallel, one entry a token; every chunk has those of its own tokens.
    for name, values in piece.items():
        joined.setdefault(name, []).extend(values or ())
    return joined
