"""``client.audio``: the text of a recording, in its own language or translated."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar, Mapping, NoReturn

from .._decoding.answers import decoded_answer
from .._decoding.transcription import TranscriptionDecoder
from .._http.payload import Payload
from .._http.transport import Transport
from .._request import refuse_positional, split, takes
from ..params.audio import TranscriptionParams, TranslationParams
from ..streams import OnError, TranscriptionStream
from ..types._json import JsonObject
from ..types.transcription import Transcription
from ._base import Resource
from ._media import recording_file

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Audio", "Transcriptions", "Translations"]

_EXAMPLE = 'file="speech.wav"'
# With these formats some servers send the text itself, and no JSON.
_TEXTS = frozenset({"text", "srt", "vtt"})
_NOT_STREAMED = frozenset({"verbose_json", "diarized_json"})


class _AudioRoute(Resource):
    """What both routes do alike."""

    _path: ClassVar[str]

    def _transcribe(self, method: str, params: Any, kind: type) -> Transcription:
        body, options = split(method, params, kind)
        plain = body.get("response_format") in _TEXTS
        return self._post_form(
            self._path, _form(body), options, _from_text if plain else _from_json
        )

    def _transcribe_streamed(
        self, method: str, params: Any, kind: type, on_error: OnError
    ) -> TranscriptionStream:
        body, options = split(method, params, kind)
        if body.get("response_format") in _NOT_STREAMED:
            raise ValueError(
                f"{body['response_format']} cannot be streamed: call create() without stream"
            )
        if body.get("use_beam_search") is True:
            raise ValueError("beam search cannot be streamed: call create() without stream")
        body.setdefault("stream_include_usage", True)
        form = _form({**body, "stream": True})
        decoder = TranscriptionDecoder()
        return self._stream(
            self._path, form, options, decoder, TranscriptionStream, on_error=on_error
        )


class Transcriptions(_AudioRoute):
    """``POST /v1/audio/transcriptions``, of a speech model."""

    _path = "audio/transcriptions"

    @takes(TranscriptionParams)
    def create(self, *_: NoReturn, **params: Unpack[TranscriptionParams]) -> Transcription:
        """Write down what is said in a recording, and wait for the whole text.

        Args:
            **params: The fields of :class:`~vllm_client.params.audio.TranscriptionParams`.

        Returns:
            The text; with ``verbose_json`` and ``diarized_json`` also its segments.

        Raises:
            TypeError: An argument is not a field, or there is no recording.
            ValueError: The file is larger than 100 MB, or not a regular file.
            OSError: The file cannot be read.
            NotFoundError: The server has no speech model.
            APIStatusError: The server refused the request.
            APIConnectionError: No complete response arrived.
            InvalidResponseError: The response is not one of this route.
        """
        if _:
            refuse_positional("create", _EXAMPLE)
        return self._transcribe("create", params, TranscriptionParams)

    @takes(TranscriptionParams)
    def stream(
        self, *_: NoReturn, on_error: OnError = "raise", **params: Unpack[TranscriptionParams]
    ) -> TranscriptionStream:
        """Write down what is said in a recording, and read the text while it is generated.

        Sends the request at once. Asks for usage unless you set ``stream_include_usage``.

        Args:
            on_error: With ``"event"``, the stream ends with an ``Error`` event instead of raising
                an exception while it is read.
            **params: As for :meth:`create`.

        Returns:
            An iterator of ``Text``, ``FinishReason``, ``Usage`` and ``Done``, to be used in
            ``with``. The server cuts a long recording into parts; each has a ``FinishReason``.

        Raises:
            TypeError, ValueError, OSError: As :meth:`create` does; also for the formats
                ``verbose_json`` and ``diarized_json`` and for ``use_beam_search``, which vLLM does
                not stream.
            APIStatusError: The server refused the request.
            APIConnectionError: No response arrived.
            InvalidStreamError: The response is a document, not a stream.
        """
        if _:
            refuse_positional("stream", _EXAMPLE)
        return self._transcribe_streamed("stream", params, TranscriptionParams, on_error)


class Translations(_AudioRoute):
    """``POST /v1/audio/translations``, of a speech model."""

    _path = "audio/translations"

    @takes(TranslationParams)
    def create(self, *_: NoReturn, **params: Unpack[TranslationParams]) -> Transcription:
        """Translate what is said in a recording, and wait for the whole text.

        Args:
            **params: The fields of :class:`~vllm_client.params.audio.TranslationParams`.

        Returns:
            The text; with ``verbose_json`` also its segments.

        Raises:
            VllmError, TypeError, ValueError, OSError: As for :meth:`Transcriptions.create`.
        """
        if _:
            refuse_positional("create", _EXAMPLE)
        return self._transcribe("create", params, TranslationParams)

    @takes(TranslationParams)
    def stream(
        self, *_: NoReturn, on_error: OnError = "raise", **params: Unpack[TranslationParams]
    ) -> TranscriptionStream:
        """Translate what is said in a recording, and read the text while it is generated.

        Args:
            on_error: As for :meth:`Transcriptions.stream`.
            **params: As for :meth:`create`.

        Returns:
            As :meth:`Transcriptions.stream` does.

        Raises:
            VllmError, TypeError, ValueError, OSError: As for :meth:`Transcriptions.stream`.
        """
        if _:
            refuse_positional("stream", _EXAMPLE)
        return self._transcribe_streamed("stream", params, TranslationParams, on_error)


class Audio:
    """``client.audio``, as openai-python has it."""

    def __init__(self, transport: Transport) -> None:
        self.transcriptions = Transcriptions(transport)
        self.translations = Translations(transport)


def _form(body: JsonObject) -> Payload:
    fields = {name: _form_value(value) for name, value in body.items() if name != "file"}
    granularities = fields.pop("timestamp_granularities", None)
    if granularities is not None:
        fields["timestamp_granularities[]"] = granularities
    return Payload.of(None, fields, {"file": recording_file(body.get("file"))})


def _form_value(value: object) -> object:
    # A form has texts only; the server decodes the JSON of ``vllm_xargs``.
    return json.dumps(value) if isinstance(value, Mapping) else value


def _from_json(content: bytes, content_type: str) -> Transcription:  # noqa: ARG001 — as _from_text
    return decoded_answer(content, Transcription.from_raw)


def _from_text(content: bytes, content_type: str) -> Transcription:
    if "json" in content_type:
        return decoded_answer(content, Transcription.from_raw)
    return Transcription(content.decode("utf-8", "replace"))
