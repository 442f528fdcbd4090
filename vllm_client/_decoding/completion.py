"""Chunks of a completion → events."""

from __future__ import annotations

from typing import List, Optional

from ..events import CompletionStreamEvent, Text
from ..types._json import JsonObject
from ..types.completion import Completion
from ..types.shared import JSONValue
from .accumulator import TextPieces
from .chunks import Decoder, TextOnly, finish_reason_of, index_of, typed


class CompletionDecoder(Decoder[CompletionStreamEvent, Completion, TextPieces]):
    """Chunks of ``/v1/completions``."""

    object_name = "text_completion"
    new_pieces = TextPieces

    def snapshot(self) -> Completion:
        """What has arrived so far."""
        return Completion.from_raw(self._raw_snapshot())

    def _decode_choice(
        self, choice: JsonObject, raw_chunk: JSONValue, events: List[CompletionStreamEvent]
    ) -> None:
        pieces = self._pieces.choice(index_of(choice))
        if "delta" in choice and "text" not in choice:
            raise TypeError("a chunk of /v1/chat/completions, not of /v1/completions")
        self._keep_others(choice, pieces)
        text, logprobs, token_ids = map(choice.get, ("text", "logprobs", "token_ids"))
        if choice.get("prompt_token_ids"):  # Only the first chunk of a choice has them.
            pieces.prompt_token_ids = choice["prompt_token_ids"]
        if text or logprobs is not None or token_ids:
            pieces.add_tokens(logprobs, token_ids)
            pieces.texts.append(typed(str, text or ""))
            events.append(Text(text or "", pieces.index, logprobs, token_ids, raw_chunk))
        reason = finish_reason_of(choice)
        if reason is not None:
            events.append(self._finish(reason, choice, pieces, raw_chunk))

    def _text_only(self, choice: JsonObject) -> Optional[TextOnly[CompletionStreamEvent]]:
        text = choice.get("text")
        texts = self._pieces.choice(index_of(choice)).texts
        return ("text", text, Text, texts) if text else None
