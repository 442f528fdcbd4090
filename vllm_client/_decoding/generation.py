"""Chunks of ``/inference/v1/generate`` → events."""

from __future__ import annotations

from typing import List, Optional

from ..events import GenerationStreamEvent, Tokens
from ..types._json import JsonObject
from ..types.generation import Generation
from ..types.shared import JSONValue
from .accumulator import TokenPieces
from .chunks import Decoder, TextOnly, finish_reason_of, index_of, typed


class GenerationDecoder(Decoder[GenerationStreamEvent, Generation, TokenPieces]):
    """Chunks of ``/inference/v1/generate``."""

    object_name = ""  # The responses of this route have no ``object``.
    new_pieces = TokenPieces

    def snapshot(self) -> Generation:
        """What has arrived so far."""
        raw = self._raw_snapshot()
        del raw["object"]
        return Generation.from_raw(raw)

    def _decode_choice(
        self, choice: JsonObject, raw_chunk: JSONValue, events: List[GenerationStreamEvent]
    ) -> None:
        pieces = self._pieces.choice(index_of(choice))
        if "token_ids" not in choice:
            raise TypeError("not a chunk of /inference/v1/generate: a choice has no token_ids")
        token_ids = typed(list, choice["token_ids"] or [])
        text, logprobs = choice.get("text"), choice.get("logprobs")
        self._keep_others(choice, pieces)
        if text is not None:
            pieces.texts = pieces.texts or []
            pieces.texts.append(typed(str, text))
        if token_ids or text or logprobs is not None:
            pieces.add_tokens(logprobs, token_ids)
            events.append(Tokens(token_ids, pieces.index, text or "", logprobs, raw_chunk))
        reason = finish_reason_of(choice)
        if reason is not None:
            events.append(self._finish(reason, choice, pieces, raw_chunk))

    def _text_only(
        self,
        choice: JsonObject,  # noqa: ARG002 — no chunk is only text
    ) -> Optional[TextOnly[GenerationStreamEvent]]:
        return None
