"""The response of ``/v1/audio/transcriptions`` and ``/v1/audio/translations``."""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Union

from attrs import define, field

from .._shown import shown
from ._answer import TextAnswer
from .shared import JSONValue, Usage

__all__ = ["Transcription", "TranscriptionSegment", "TranscriptionWord"]


@shown
@define
class TranscriptionSegment:
    """A part of a recording. ``start`` and ``end`` are in seconds from its beginning.

    ``speaker`` is there with ``diarized_json``, ``avg_logprob`` and ``no_speech_prob`` perhaps
    with ``verbose_json``. ``raw`` holds what has no attribute here.
    """

    id: Union[int, str]
    start: float
    end: float
    text: str
    speaker: Optional[str] = None
    avg_logprob: Optional[float] = None
    no_speech_prob: Optional[float] = None
    raw: Dict[str, JSONValue] = field(factory=dict, repr=False, eq=False)

    @classmethod
    def from_raw(cls, raw: Dict[str, JSONValue]) -> TranscriptionSegment:
        """Read one object of ``segments``. Raises KeyError or TypeError if it is none."""
        return cls(
            raw["id"],
            raw["start"],
            raw["end"],
            raw["text"],
            raw.get("speaker"),
            raw.get("avg_logprob"),
            raw.get("no_speech_prob"),
            raw,
        )


@shown
@define
class TranscriptionWord:
    """A word of a recording. ``start`` and ``end`` are in seconds from its beginning."""

    word: str
    start: float
    end: float

    @classmethod
    def from_raw(cls, raw: Mapping[str, JSONValue]) -> TranscriptionWord:
        """Read one object of ``words``. Raises KeyError or TypeError if it is none."""
        return cls(raw["word"], raw["start"], raw["end"])


@shown
@define
class Transcription(TextAnswer):
    """The text of a recording, in its own language or translated.

    Attributes:
        text: The whole text; for ``srt`` and ``vtt`` the whole document.
        language: The language of the recording, with ``verbose_json``.
        duration: Seconds; with ``verbose_json`` and ``diarized_json``.
        segments: The parts; with ``verbose_json`` and ``diarized_json``.
        words: The words; with ``verbose_json`` and ``timestamp_granularities``.
        usage: The token counts. Only in what a stream adds up to.
        finish_reason: Only in what a stream adds up to; ``"length"`` if any part was cut.
        raw: The decoded JSON as the server sent it; empty if it sent plain text.
    """

    text: str
    language: Optional[str] = None
    duration: Optional[float] = None
    segments: List[TranscriptionSegment] = field(factory=list)
    words: List[TranscriptionWord] = field(factory=list)
    usage: Optional[Usage] = None
    finish_reason: Optional[str] = None
    raw: Dict[str, JSONValue] = field(factory=dict, repr=False, eq=False)

    @classmethod
    def from_raw(cls, raw: Dict[str, JSONValue]) -> Transcription:
        """Read the decoded JSON of a response.

        Raises:
            KeyError, TypeError, AttributeError: It is not a response of this route.
        """
        text, duration = raw["text"], raw.get("duration")
        if not isinstance(text, str):
            raise TypeError(f"the text must be a string, not {text!r}")
        return cls(
            text,
            raw.get("language"),
            None if duration is None else float(duration),  # OpenAI sends it as text.
            [TranscriptionSegment.from_raw(each) for each in raw.get("segments") or ()],
            [TranscriptionWord.from_raw(each) for each in raw.get("words") or ()],
            raw=raw,
        )
