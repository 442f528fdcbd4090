"""A response that the server generates, and how it ends when the generation is aborted."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from .._wire.json_types import JsonObject
from .._wire.replies import EventStream, Reply, sse_event, to_json

__all__ = ["Running"]

_DATA = b"data: "


class Running:
    """A request for text that the server works on.

    Attributes:
        reply: The response; None until it has been made.
        is_held: Whether nothing may be generated now.
        is_aborted: Whether nothing may be generated any more.
    """

    def __init__(self) -> None:
        self.reply: Reply | EventStream | None = None
        self.is_held = False
        self.is_aborted = False

    def has_id(self, wanted: str) -> bool:
        """Whether an id of the route to abort means this request.

        vLLM adds the number of the prompt to the id of a completion. Here any of its prompts
        stands for the whole request.
        """
        own = self._id()
        return own is not None and re.fullmatch(rf"{re.escape(own)}(-\d+)?", wanted) is not None

    def _id(self) -> str | None:
        reply = self.reply
        if reply is None:
            return None
        parts = reply.events[:1] if isinstance(reply, EventStream) else [_DATA + reply.body]
        raw = next(iter(_decoded(parts)), {})
        return raw.get("id") or raw.get("request_id")

    def aborted_parts(self, stream: EventStream, sent: int) -> list[bytes]:
        """The SSE events that end a stream that is aborted after ``sent`` events.

        Each choice that has not finished gets an event without text. Streams without choices, as
        those of ``/v1/responses``, end as they would have.
        """
        rest = _decoded(stream.events[sent:])
        if not any(chunk.get("choices") for chunk in rest):
            return [*stream.events[sent:], *stream.tail]
        last = {
            choice["index"]: (chunk, choice)
            for chunk in rest
            for choice in chunk.get("choices", ())
        }
        events = [{**chunk, "choices": [_aborted(choice)]} for chunk, choice in last.values()]
        return [
            *map(sse_event, events),
            *(_with_fewer_tokens(part, len(rest)) for part in stream.tail),
        ]

    def aborted_reply(self, reply: Reply) -> bytes:
        """The body of a response that is aborted: its choices have no text."""
        raw = next(iter(_decoded([_DATA + reply.body])), {})
        if not raw.get("choices"):
            return reply.body
        raw["choices"] = [_aborted(choice) for choice in raw["choices"]]
        usage = raw.get("usage")
        raw["usage"] = usage and _usage(usage, usage["completion_tokens"])
        return to_json(raw)


def _decoded(parts: Sequence[bytes]) -> list[dict[str, Any]]:
    """The JSON objects among SSE events. Scripts may contain anything."""
    objects = []
    for part in parts:
        with suppress(ValueError):
            raw = json.loads(part[len(_DATA) :]) if part.startswith(_DATA) else None
            objects += [raw] if isinstance(raw, dict) else []
    return objects


def _aborted(choice: dict[str, Any]) -> JsonObject:
    ended: dict[str, Any] = {**choice, "finish_reason": "abort", "stop_reason": None}
    ended.update(logprobs=None, token_ids=None)
    if "text" in choice:
        ended["text"] = ""
    elif "delta" in choice:
        ended["delta"] = {"content": ""}
    elif "message" in choice:
        ended["message"] = {**choice["message"], "content": ""}
        ended["message"].pop("tool_calls", None)
    else:
        ended["token_ids"] = []
    return ended


def _with_fewer_tokens(part: bytes, fewer: int) -> bytes:
    chunk = next(iter(_decoded([part])), {})
    if not chunk.get("usage"):
        return part
    return sse_event({**chunk, "usage": _usage(chunk["usage"], fewer)})


def _usage(usage: Mapping[str, Any], fewer: int) -> JsonObject:
    completion = max(0, usage["completion_tokens"] - fewer)
    total = usage["prompt_tokens"] + completion
    return {**usage, "completion_tokens": completion, "total_tokens": total}
