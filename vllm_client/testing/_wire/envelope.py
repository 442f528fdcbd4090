"""The JSON around the choices of a response, and the SSE events of a stream."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from ..recorded import RecordedRequest
from .json_types import JsonObject
from .replies import DONE, SERVER_NAME, EventStream, GenerationStats, sse_event
from .request_fields import RequestFields

__all__ = [
    "FINGERPRINT",
    "Envelope",
    "EventWriter",
    "group_by_event",
    "usage_counts",
    "weight_versions",
]

FINGERPRINT = SERVER_NAME

T = TypeVar("T")


@dataclass(frozen=True)
class Envelope:
    """The fields that every event of a stream contains, and also the body without a stream."""

    id: str
    object_type: str
    created: int
    model: str

    @classmethod
    def for_request(
        cls,
        request: RecordedRequest,
        fields: RequestFields,
        model: str,
        prefix: str,
        object_type: str,
    ) -> Envelope:
        """Return the envelope for a request.

        The id contains the header ``X-Request-Id``, else the field ``request_id``, else a random
        number.

        Args:
            request: The request.
            fields: The fields of its body.
            model: The served model name.
            prefix: The beginning of the id.
            object_type: The value of ``object``.
        """
        requested = request.headers.get("X-Request-Id") or fields.get("request_id")
        id_ = requested or uuid.uuid4().hex[:16]
        return cls(f"{prefix}-{id_}", object_type, int(time.time()), model)

    def wrap(self, choices: Sequence[JsonObject], **more: object) -> JsonObject:
        """Return the JSON of an event, or of a body, with these choices and further fields."""
        head = {"id": self.id, "object": self.object_type, "created": self.created}
        return {**head, "model": self.model, "choices": choices, **more}


class EventWriter:
    """Writes the events of a stream, with usage where ``stream_options`` asks for it."""

    def __init__(self, envelope: Envelope, fields: RequestFields) -> None:
        options = fields.get("stream_options", {})
        self._with_usage = bool(options.get("include_usage"))
        self._usage_in_each_event = self._with_usage and bool(options.get("continuous_usage_stats"))
        self._envelope = envelope
        self._events: list[bytes] = []

    def add(self, choice: JsonObject, usage_so_far: JsonObject, **more: object) -> None:
        """Add an event with one choice.

        Args:
            choice: The choice.
            usage_so_far: The usage of this choice up to this event.
            **more: Further fields of the event.
        """
        extra: dict[str, object] = {"usage": usage_so_far} if self._usage_in_each_event else {}
        if choice["finish_reason"] and not self._with_usage:
            extra["system_fingerprint"] = FINGERPRINT
        self._events.append(sse_event(self._envelope.wrap([choice], **extra, **more)))

    def stream(self, total: JsonObject, stats: GenerationStats) -> EventStream:
        """Return the stream: all events, then the usage of all choices if wanted, ``[DONE]``."""
        usage_event = self._envelope.wrap([], usage=total, system_fingerprint=FINGERPRINT)
        tail = (sse_event(usage_event), DONE) if self._with_usage else (DONE,)
        return EventStream(self._events, tail, stats=stats)


def weight_versions(fields: RequestFields, tokens: int) -> JsonObject:
    """Return the member of a choice with this many tokens that ``return_weight_versions`` adds."""
    span = {"version": "default", "start": 0, "end": tokens}
    return {"weight_versions": [span]} if fields.get("return_weight_versions") else {}


def group_by_event(tokens: Sequence[T], interval: int, finish_reason: str) -> list[Sequence[T]]:
    """Return the tokens of each event: one in the first event, ``interval`` in the others."""
    starts = range(1, len(tokens), interval)
    groups = [tokens[:1], *(tokens[start : start + interval] for start in starts)]
    # vLLM aborts between two tokens, so the abort is an event without a token.
    return [*groups, tokens[:0]] if finish_reason == "abort" and tokens else groups


def usage_counts(prompt_tokens: int, completion_tokens: int) -> JsonObject:
    """Return ``usage`` with its keys in the same order as vLLM."""
    total = prompt_tokens + completion_tokens
    counts = {"prompt_tokens": prompt_tokens, "total_tokens": total}
    return {**counts, "completion_tokens": completion_tokens}
