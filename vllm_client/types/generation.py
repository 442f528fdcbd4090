"""The response of ``/inference/v1/generate``."""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Union

from attrs import define, field

from .._shown import shown
from ._answer import ChoiceAnswer
from .shared import JSONValue, Usage

__all__ = ["Generation", "GenerationChoice"]


@shown
@define
class GenerationChoice:
    """One of the ``n`` outputs.

    ``text`` is None unless the request has ``output_mode="text"``. ``logprobs`` is what the server
    sent: its ``content`` has an entry with ``token_id`` and ``logprob`` for each token.
    """

    index: int
    token_ids: List[int]
    finish_reason: Optional[str] = None
    stop_reason: Union[int, str, None] = None
    text: Optional[str] = None
    logprobs: Optional[Dict[str, JSONValue]] = None

    @classmethod
    def from_raw(cls, raw: Mapping[str, JSONValue]) -> GenerationChoice:
        """Read one object of ``choices``.

        Raises:
            KeyError, TypeError, AttributeError: It is not a choice of this route.
        """
        return cls(
            raw.get("index", 0),
            list(raw["token_ids"] or ()),
            raw.get("finish_reason"),
            raw.get("stop_reason"),
            raw.get("text"),
            raw.get("logprobs"),
        )


@shown
@define
class Generation(ChoiceAnswer):
    """The response of ``/inference/v1/generate``. Its properties are shortcuts to choice 0.

    ``created`` is in seconds since 1970; it and ``model`` are empty in what a stream adds up to.
    ``prompt_token_ids`` is there with ``return_token_ids``. ``raw`` is the decoded JSON as the
    server sent it.
    """

    request_id: str
    model: str
    created: int
    choices: List[GenerationChoice]
    usage: Optional[Usage] = None
    prompt_token_ids: Optional[List[int]] = None
    prompt_logprobs: Optional[List[JSONValue]] = None
    raw: Dict[str, JSONValue] = field(factory=dict, repr=False, eq=False)

    @property
    def token_ids(self) -> List[int]:
        """The tokens of choice 0; empty until that choice arrives, as in an early snapshot."""
        return next((choice.token_ids for choice in self.choices if choice.index == 0), [])

    @property
    def text(self) -> str:
        """The text of choice 0; empty unless the request has ``output_mode="text"``."""
        return next((choice.text or "" for choice in self.choices if choice.index == 0), "")

    @property
    def finish_reason(self) -> Optional[str]:
        """The finish reason of choice 0: ``"stop"``, ``"length"``, ``"repetition"``, …"""
        return next((choice.finish_reason for choice in self.choices if choice.index == 0), None)

    def __str__(self) -> str:
        return self.text or repr(self)

    @classmethod
    def from_raw(cls, raw: Dict[str, JSONValue]) -> Generation:
        """Read the decoded JSON of a response.

        Raises:
            KeyError, TypeError, AttributeError: It is not a response of this route.
        """
        choices = [
            GenerationChoice.from_raw(choice) for choice in raw["choices"] if choice is not None
        ]
        return cls(
            raw.get("request_id") or "",
            raw.get("model") or "",
            raw.get("created") or 0,
            sorted(choices, key=lambda choice: choice.index),
            Usage.from_raw(raw.get("usage")),
            raw.get("prompt_token_ids"),
            raw.get("prompt_logprobs"),
            raw,
        )
