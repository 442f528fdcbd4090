"""The pieces of a streamed answer, put together in the shape of a whole one.

Pieces are kept in lists and joined when somebody asks: adding to a string, or rebuilding the
answer with every event, would take quadratic time.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Generic, List, Mapping, Optional, TypeVar

from attrs import asdict

from ..types.shared import Usage
from ..types.tool_calls import ToolCall


class _Pieces:
    """Of one choice, what both routes have.

    Attributes:
        thinking: Whether its last text was reasoning.
    """

    def __init__(self, index: int) -> None:
        self.index = index
        self.thinking = False
        self.finish_reason: Optional[str] = None
        self.stop_reason: Any = None
        self._logprobs: Optional[Dict[str, List[Any]]] = None
        self._token_ids: List[int] = []

    def add_tokens(
        self, logprobs: Optional[Mapping[str, Any]], token_ids: Optional[List[int]]
    ) -> None:
        """What a chunk says of its tokens besides their text."""
        if logprobs is not None:
            self._logprobs = _extended(self._logprobs or {}, logprobs)
        if token_ids:
            self._token_ids += token_ids

    def raw(self) -> Dict[str, Any]:
        """The choice, as it would stand in an answer that is not streamed."""
        return {
            "index": self.index,
            "logprobs": self._logprobs and _extended({}, self._logprobs),
            "finish_reason": self.finish_reason,
            "stop_reason": self.stop_reason,
            "token_ids": list(self._token_ids) or None,
        }


class TextPieces(_Pieces):
    """A choice of ``/v1/completions``."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.texts: List[str] = []
        self.prompt_token_ids: Optional[List[int]] = None

    def raw(self) -> Dict[str, Any]:
        """The choice, with its text."""
        return {
            **super().raw(),
            "text": "".join(self.texts),
            "prompt_token_ids": self.prompt_token_ids,
            "prompt_logprobs": None,
        }


class CallPieces:
    """A tool call whose arguments are under way."""

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments: List[str] = []
        self.given = False

    def joined(self, index: int) -> ToolCall:
        """The call so far."""
        return ToolCall(self.id, self.name, "".join(self.arguments), index)


class MessagePieces(_Pieces):
    """A choice of ``/v1/chat/completions``."""

    def __init__(self, index: int, *, forced: bool) -> None:
        super().__init__(index)
        self.role = "assistant"
        self.contents: List[str] = []
        self.reasonings: List[str] = []
        self.calls: Dict[int, CallPieces] = {}
        self._forced = forced

    def raw(self) -> Dict[str, Any]:
        """The choice, with its message."""
        message: Dict[str, Any] = {
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
        # Without a stream vLLM leaves the content out if all was reasoning or calls; beside the
        # calls it was forced to make stands an empty text. The streams of both are alike.
        content = "".join(self.contents)
        if content or self._forced:
            return content
        return None if self.calls or self.reasonings else ""


P = TypeVar("P", bound=_Pieces)


class Accumulator(Generic[P]):
    """The pieces of an answer: those of its choices, and what stands beside them.

    Args:
        kind: The ``object`` of an answer that is not streamed.
        new: Makes the pieces of a choice from its index.
    """

    def __init__(self, kind: str, new: Callable[[int], P]) -> None:
        self._kind = kind
        self._new = new
        self._top: Dict[str, Any] = {}
        self._choices: Dict[int, P] = {}

    def add_chunk(self, chunk: Mapping[str, Any]) -> None:
        """Note what stands beside the choices; later chunks know better."""
        self._top.update(chunk)

    def choice(self, index: int) -> P:
        """The pieces of a choice, new or begun."""
        pieces = self._choices.get(index)
        if pieces is None:
            pieces = self._choices[index] = self._new(index)
        return pieces

    def raw(self, usage: Optional[Usage]) -> Dict[str, Any]:
        """What the server would have answered without a stream."""
        return {
            **self._top,
            "object": self._kind,
            "choices": [self._choices[index].raw() for index in sorted(self._choices)],
            "usage": usage
            and asdict(usage, recurse=False, filter=lambda field, _: field.name != "type"),
        }


def _extended(joined: Dict[str, List[Any]], piece: Mapping[str, Any]) -> Dict[str, List[Any]]:
    # Lists in parallel, of which every chunk has a stretch.
    for name, values in piece.items():
        joined.setdefault(name, []).extend(values or ())
    return joined
