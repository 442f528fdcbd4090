"""What ``/v1/completions`` answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional

from attrs import define, field

from .shared import Usage

if TYPE_CHECKING:
    from .logprobs import TokenLogprob


@define
class CompletionChoice:
    """One of the texts asked for.

    ``index`` is prompt number × ``n`` + output number. ``logprobs`` and ``prompt_logprobs`` are as
    the server sent them.
    """

    index: int
    text: str
    finish_reason: Optional[str] = None
    stop_reason: Any = None
    logprobs: Optional[Dict[str, Any]] = None
    token_ids: Optional[List[int]] = None
    prompt_token_ids: Optional[List[int]] = None
    prompt_logprobs: Optional[List[Any]] = None

    @property
    def token_logprobs(self) -> List[TokenLogprob]:
        """``logprobs`` token by token; built anew each time."""
        from .logprobs import TokenLogprob  # noqa: PLC0415 — few ask for it

        return TokenLogprob.sequence(self.logprobs)

    @classmethod
    def from_raw(cls, raw: Mapping[str, Any]) -> CompletionChoice:
        """One object of ``choices``. Raises ``KeyError`` or ``TypeError`` for anything else."""
        text = raw["text"]
        if not isinstance(text, str):
            raise TypeError(f"the text of a choice is {text!r}")
        return cls(
            raw.get("index", 0),
            text,
            raw.get("finish_reason"),
            raw.get("stop_reason"),
            raw.get("logprobs"),
            raw.get("token_ids"),
            raw.get("prompt_token_ids"),
            raw.get("prompt_logprobs"),
        )


@define
class Completion:
    """The answer of ``/v1/completions``.

    ``created`` is in seconds since 1970. ``raw`` is the decoded JSON, untouched: what has no field
    here (``system_fingerprint``, ``metrics``, …) is there.
    """

    id: str
    model: str
    created: int
    choices: List[CompletionChoice]
    usage: Optional[Usage] = None
    raw: Dict[str, Any] = field(factory=dict, repr=False, eq=False)

    @property
    def text(self) -> str:
        """The text of choice 0; empty while there is none, as in an early snapshot."""
        return next((choice.text for choice in self.choices if choice.index == 0), "")

    @property
    def finish_reason(self) -> Optional[str]:
        """The finish reason of choice 0: ``"stop"``, ``"length"``, ``"repetition"``, …"""
        return next((choice.finish_reason for choice in self.choices if choice.index == 0), None)

    @classmethod
    def from_raw(cls, raw: Dict[str, Any]) -> Completion:
        """Read the decoded JSON of an answer.

        Raises:
            KeyError, TypeError, AttributeError: It is not the answer of ``/v1/completions``.
        """
        choices = [CompletionChoice.from_raw(choice) for choice in raw["choices"]]
        return cls(
            raw.get("id") or "",
            raw.get("model") or "",
            raw.get("created") or 0,
            sorted(choices, key=lambda choice: choice.index),
            Usage.from_raw(raw.get("usage")),
            raw,
        )
