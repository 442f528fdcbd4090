"""The pieces of a streamed answer, put together in the shape of a whole one.

Pieces are kept in lists and joined when somebody asks: adding to a string, or rebuilding the
answer with every event, would take quadratic time.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional

from attrs import asdict

from .types import Usage


class _ChoicePieces:
    def __init__(self, index: int, first: Mapping[str, Any]) -> None:
        # Only the first chunk of a choice has the prompt's token ids.
        self._prompt_token_ids = first.get("prompt_token_ids")
        self._index = index
        self._texts: List[str] = []
        self._logprobs: Optional[Dict[str, List[Any]]] = None
        self._token_ids: List[int] = []
        self._finish_reason: Optional[str] = None
        self._stop_reason: Any = None

    def add(
        self, text: str, logprobs: Optional[Mapping[str, Any]], token_ids: Optional[List[int]]
    ) -> None:
        self._texts.append(text)
        if logprobs is not None:
            self._logprobs = _extended(self._logprobs or {}, logprobs)
        if token_ids:
            self._token_ids += token_ids

    def finish(self, reason: str, stop_reason: Any) -> None:
        self._finish_reason = reason
        self._stop_reason = stop_reason

    def raw(self) -> Dict[str, Any]:
        return {
            "index": self._index,
            "text": "".join(self._texts),
            "logprobs": self._logprobs and _extended({}, self._logprobs),
            "finish_reason": self._finish_reason,
            "stop_reason": self._stop_reason,
            "token_ids": list(self._token_ids) or None,
            "prompt_token_ids": self._prompt_token_ids,
            "prompt_logprobs": None,
        }


class CompletionAccumulator:
    """The pieces of an answer of ``/v1/completions``."""

    def __init__(self) -> None:
        self._top: Dict[str, Any] = {}
        self._choices: Dict[int, _ChoicePieces] = {}

    def add_chunk(self, chunk: Mapping[str, Any]) -> None:
        """Note what stands beside the choices; later chunks know better."""
        self._top.update(chunk)

    def choice(self, index: int, first: Mapping[str, Any]) -> _ChoicePieces:
        """The pieces of a choice, which ``first`` begins if it is new."""
        pieces = self._choices.get(index)
        if pieces is None:
            pieces = self._choices[index] = _ChoicePieces(index, first)
        return pieces

    def raw(self, usage: Optional[Usage]) -> Dict[str, Any]:
        """What the server would have answered without a stream."""
        return {
            **self._top,
            "object": "text_completion",
            "choices": [self._choices[index].raw() for index in sorted(self._choices)],
            "usage": usage and asdict(usage, filter=lambda field, _: field.name != "type"),
        }


def _extended(joined: Dict[str, List[Any]], piece: Mapping[str, Any]) -> Dict[str, List[Any]]:
    # Parallel lists, a stretch of each in every chunk.
    for name, values in piece.items():
        joined.setdefault(name, []).extend(values or ())
    return joined
