"""The fields of ``/v1/audio/transcriptions`` and ``/v1/audio/translations``."""

from __future__ import annotations

import os
from typing import IO, Literal, Mapping, Sequence, Tuple, Union

from . import RequestOptions

__all__ = ["AudioParams", "Recording", "TranscriptionParams", "TranslationParams"]

Recording = Union[
    str, "os.PathLike[str]", bytes, bytearray, IO[bytes], Tuple[str, bytes], Tuple[str, bytes, str]
]
"""A path, bytes, a file opened in binary mode, or ``(name, content[, content type])``."""


class AudioParams(RequestOptions, total=False):
    """The fields that both routes share. They are sent as a form, where None is left out."""

    file: Recording
    """The recording: WAV, MP3, FLAC, Ogg, MPEG-4, … At most 25 MB unless the server allows more."""
    model: str
    """Name of a served model or adapter. Default: the server's first model."""
    language: str
    """The language of the recording, as an ISO 639-1 code."""
    to_language: str
    """The language to translate to, for models that know several. Since vLLM 0.11.1."""
    prompt: str
    """Text that precedes the recording, or a hint at its style."""
    hotwords: str
    """Words that the model should expect. Since vLLM 0.20."""
    temperature: float
    """0 (greedy) or more. Default 0."""
    top_p: float
    """Above 0, at most 1. Sample among the most likely tokens that together have this
    probability."""
    top_k: int
    """Sample among this many of the most likely tokens."""
    min_p: float
    """0 to 1. Exclude tokens whose probability is below this fraction of the highest one."""
    seed: int
    """Makes sampling repeatable."""
    frequency_penalty: float
    """-2 to 2. Positive values penalise tokens by how often they occur in the text."""
    presence_penalty: float
    """-2 to 2. Positive values penalise tokens that occur in the text at all."""
    repetition_penalty: float
    """Above 0. Values above 1 penalise tokens that occurred before."""
    max_completion_tokens: int
    """Maximum number of tokens of the text."""
    use_beam_search: bool
    """Use beam search; ``n`` is the beam width. Not possible in a stream. Default false."""
    n: int
    """The beam width. Default 1."""
    length_penalty: float
    """Length penalty of beam search. Default 1."""
    include_stop_str_in_output: bool
    """Keep the stop text at the end of the text. Default false."""
    watermarking: bool
    """Turn the watermarking of the output on or off. Since vLLM 0.32."""
    vllm_xargs: Mapping[str, Union[str, int, float, Sequence[Union[str, int, float]]]]
    """Arguments for extensions of the server."""
    stream_include_usage: bool
    """Only for streams. If you omit it, ``stream()`` requests the token counts."""
    stream_continuous_usage_stats: bool
    """Only for streams: the token counts in every chunk as well."""


class TranscriptionParams(AudioParams, total=False):
    """The keywords of ``client.audio.transcriptions``."""

    response_format: Literal["json", "text", "srt", "verbose_json", "vtt", "diarized_json"]
    """``"verbose_json"`` has segments with times, ``"diarized_json"`` their speakers. vLLM 0.32
    refuses ``"srt"`` and ``"vtt"``. Default ``"json"``."""
    timestamp_granularities: Sequence[Literal["word", "segment"]]
    """What ``"verbose_json"`` has times of."""


class TranslationParams(AudioParams, total=False):
    """The keywords of ``client.audio.translations``."""

    response_format: Literal["json", "text", "srt", "verbose_json", "vtt"]
    """``"verbose_json"`` has segments with times. vLLM 0.32 refuses ``"srt"`` and ``"vtt"``.
    Default ``"json"``."""
