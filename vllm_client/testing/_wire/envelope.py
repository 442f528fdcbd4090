"""The JSON around the choices of an answer, and its events in a stream."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ..recorded import RecordedRequest
from .fields import Fields
from .replies import DONE, STAND_IN, EventStream, Work, event

__all__ = ["FINGERPRINT", "Envelope", "EventWriter", "event_groups", "usage"]

FINGERPRINT = STAND_IN

T = TypeVar("T")


@dataclass(frozen=True)
class Envelope:
    """The fields that all events of a stream, and the whole answer, have in common."""

    id: str
    object: str
    created: int
    model: str

    @classmethod
    def of(
        cls, request: RecordedRequest, fields: Fields, model: str, prefix: str, kind: str
    ) -> Envelope:
        """Return the envelope for a request; its X-Request-Id wins over the field.

        Args:
            request: what arrived.
            fields: its fields.
            model: the served name.
            prefix: what ids begin with.
            kind: the `object` of each event, or of the whole answer.
        """
        given = request.headers.get("X-Request-Id") or fields.get("request_id")
        id_ = given or uuid.uuid4().hex[:16]
        return cls(f"{prefix}-{id_}", kind, int(time.time()), model)

    def around(self, choices: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
        """Return one event, or a whole answer."""
        head = {"id": self.id, "object": self.object, "created": self.created}
        return {**head, "model": self.model, "choices": choices, **more}


class EventWriter:
    """Writes the events of a stream, with as much usage as the request asks for."""

    def __init__(self, envelope: Envelope, fields: Fields) -> None:
        options = fields.get("stream_options", {})
        self._counted = bool(options.get("include_usage"))
        self._running = self._counted and bool(options.get("continuous_usage_stats"))
        self._envelope = envelope
        self._events: list[bytes] = []

    def add(self, choice: Mapping[str, Any], count: Mapping[str, Any], **more: Any) -> None:
        """Add an event of one choice; `count` is the usage of that choice so far."""
        extra: dict[str, Any] = {"usage": count} if self._running else {}
        if choice["finish_reason"] and not self._counted:
            extra["system_fingerprint"] = FINGERPRINT
        self._events.append(event(self._envelope.around([choice], **extra, **more)))

    def stream(self, total: Mapping[str, Any], work: Work) -> EventStream:
        """Return the events, ended by the usage of all choices and `[DONE]`."""
        closing = self._envelope.around([], usage=total, system_fingerprint=FINGERPRINT)
        tail = (event(closing), DONE) if self._counted else (DONE,)
        return EventStream(self._events, tail, work=work)


def event_groups(tokens: Sequence[T], interval: int, finish_reason: str) -> list[Sequence[T]]:
    """Return the tokens of each event: the first comes by itself, then so many at a time."""
    starts = range(1, len(tokens), interval)
    groups = [tokens[:1], *(tokens[start : start + interval] for start in starts)]
    # An abort comes between two tokens, so it has an event of its own.
    return [*groups, tokens[:0]] if finish_reason == "abort" and tokens else groups


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, Any]:
    """Return the counts in the order in which vLLM writes them."""
    total = prompt_tokens + completion_tokens
    counts = {"prompt_tokens": prompt_tokens, "total_tokens": total}
    return {**counts, "completion_tokens": completion_tokens}
