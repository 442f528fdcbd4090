"""The response of ``/v1/completions``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Type, TypeVar, Union

from attrs import define, field

from .._habits import habits
from .._shown import shown
from ._answer import ChoiceAnswer
from .shared import JSONValue, Usage

if TYPE_CHECKING:
    from .logprobs import TokenLogprob

__all__ = ["Completion", "CompletionChoice"]

_T = TypeVar("_T")


@habits(message="use text")
@shown
@define
class CompletionChoice:
    """One of the outputs.

    ``index`` is prompt number × ``n`` + output number. ``logprobs`` and ``prompt_logprobs`` are
    what the server sent. ``weight_versions`` is so too: with ``return_weight_versions``, the
    version of the model's weights that sampled the tokens from ``start`` to before ``end``.
    """

    index: int
    text: str
    finish_reason: Optional[str] = None
    stop_reason: Union[int, str, None] = None
    logprobs: Optional[Dict[str, JSONValue]] = None
    token_ids: Optional[List[int]] = None
    prompt_token_ids: Optional[List[int]] = None
    prompt_logprobs: Optional[List[JSONValue]] = None
    weight_versions: Optional[List[Dict[str, JSONValue]]] = None
    parsed: Any = field(default=None, kw_only=True)
    """The text as an instance of the class that ``response_format`` named; else None."""

    @property
    def _text_to_parse(self) -> Optional[str]:
        return self.text

    @property
    def token_logprobs(self) -> List[TokenLogprob]:
        """``logprobs`` as one object per token. The list is built on every access."""
        from .logprobs import TokenLogprob  # noqa: PLC0415 — few programs use it

        return TokenLogprob.sequence(self.logprobs)

    @classmethod
    def from_raw(cls, raw: Mapping[str, JSONValue]) -> CompletionChoice:
        """Read one object of ``choices``.

        Raises:
            KeyError, TypeError, AttributeError: It is not a choice of this route.
        """
        text = raw["text"]
        if not isinstance(text, str):
            raise TypeError(f"the text of a choice must be a string, not {text!r}")
        return cls(
            raw.get("index") or 0,
            text,
            raw.get("finish_reason"),
            raw.get("stop_reason"),
            raw.get("logprobs"),
            raw.get("token_ids"),
            raw.get("prompt_token_ids"),
            raw.get("prompt_logprobs"),
            raw.get("weight_versions"),
        )


@shown
@define
class Completion(ChoiceAnswer):
    """The response of ``/v1/completions``.

    ``created`` is in seconds since 1970. ``raw`` is the decoded JSON as the server sent it. It
    also holds what has no attribute here (``system_fingerprint``, ``metrics``, …).
    """

    id: str
    model: str
    created: int
    choices: List[CompletionChoice]
    usage: Optional[Usage] = None
    raw: Dict[str, JSONValue] = field(factory=dict, repr=False, eq=False)

    @property
    def text(self) -> str:
        """The text of choice 0; empty until that choice arrives, as in an early snapshot."""
        return next((choice.text for choice in self.choices if choice.index == 0), "")

    @property
    def finish_reason(self) -> Optional[str]:
        """The finish reason of choice 0: ``"stop"``, ``"length"``, ``"repetition"``, …"""
        return next((choice.finish_reason for choice in self.choices if choice.index == 0), None)

    @property
    def parsed(self) -> Any:
        """``parsed`` of choice 0; None unless ``response_format`` named a class."""
        return next((choice.parsed for choice in self.choices if choice.index == 0), None)

    def parsed_as(self, answer_type: Type[_T]) -> _T:
        """The text of choice 0 as an instance of a class, whose type a type checker then knows.

        Args:
            answer_type: A pydantic model, an attrs class, a dataclass or a TypedDict. All but the
                first need the extra ``structured``.

        Raises:
            InvalidAnswerError: The text does not fit.
            TypeError: It is a class of another kind.
            ImportError: The extra is not installed.
        """
        from ._parsed import parse_text  # noqa: PLC0415 — few programs use it

        first = next((choice for choice in self.choices if choice.index == 0), None)
        return parse_text(self.text, answer_type, first, self)

    @classmethod
    def from_raw(cls, raw: Dict[str, JSONValue]) -> Completion:
        """Read the decoded JSON of a response.

        Raises:
            KeyError, TypeError, AttributeError: It is not a response of this route.
        """
        choices = [
            CompletionChoice.from_raw(choice) for choice in raw["choices"] if choice is not None
        ]
        return cls(
            raw.get("id") or "",
            raw.get("model") or "",
            raw.get("created") or 0,
            sorted(choices, key=lambda choice: choice.index),
            Usage.from_raw(raw.get("usage")),
            raw,
        )
