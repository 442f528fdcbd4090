"""Chunks of ``/v1/audio/transcriptions`` and ``/v1/audio/translations`` → events."""

from __future__ import annotations

from typing import List, Optional

from ..events import CompletionStreamEvent, Text
from ..types._json import JsonObject
from ..types.shared import JSONValue
from ..types.transcription import Transcription
from .accumulator import TextPieces
from .chunks import Decoder, TextOnly, finish_reason_of, index_of, typed


class TranscriptionDecoder(Decoder[CompletionStreamEvent, Transcription, TextPieces]):
    """Chunks of both routes.

    The server cuts a long recording into parts and sends them one after the other, all as choice
    0. Each part has a finish reason; text after one belongs to a next part, which must finish too.
    """

    object_name = "transcription"
    new_pieces = TextPieces

    def __init__(self) -> None:
        super().__init__(expected=1)

    def snapshot(self) -> Transcription:
        """What has arrived so far."""
        raw = self._raw_snapshot()
        choices = raw.pop("choices")
        text, reason = (choices[0]["text"], choices[0]["finish_reason"]) if choices else ("", None)
        return Transcription(
            text, usage=self.usage, finish_reason=reason, raw={**raw, "text": text}
        )

    def _decode_choice(
        self, choice: JsonObject, raw_chunk: JSONValue, events: List[CompletionStreamEvent]
    ) -> None:
        pieces = self._pieces.choice(index_of(choice))
        text = typed(str, choice["delta"].get("content") or "")
        if text:
            self._finished.discard(pieces.index)
            pieces.texts.append(text)
            events.append(Text(text, pieces.index, None, None, raw_chunk))
        reason = finish_reason_of(choice)
        if reason is not None:
            reason_before = pieces.finish_reason
            events.append(self._finish(reason, choice, pieces, raw_chunk))
            if reason_before not in {None, "stop"}:
                pieces.finish_reason = reason_before  # Part of the text is missing.

    def _text_only(
        self,
        choice: JsonObject,  # noqa: ARG002
    ) -> Optional[TextOnly[CompletionStreamEvent]]:
        # A template would not notice that text follows a finish reason.
        return None
