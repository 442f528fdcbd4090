"""``POST /v1/chat/completions/batch``: one chat for each conversation, in one response."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from .._engine.engine import Engine
from .._wire.envelope import usage_counts
from .._wire.json_types import Json, JsonObject
from .._wire.refusals import RefusalError, parameter_error
from .._wire.replies import GenerationStats, Reply, json_reply
from .._wire.request_fields import RequestFields, decode_body, read_fields
from ..recorded import RecordedRequest
from ..script import Script
from .chat import complete_chat

__all__ = ["complete_chats"]


def complete_chats(engine: Engine, request: RecordedRequest, script: Script) -> Reply:
    """Return the response to a batch of conversations.

    Raises:
        RefusalError: vLLM refuses such a request.
    """
    fields = read_fields(
        decode_body(request.headers.get("Content-Type", ""), request.body), chat=True
    )
    _check(fields)
    replies = []
    for messages in fields["messages"]:
        body = json.dumps({**fields, "messages": messages, "stream": False}).encode()
        reply = complete_chat(engine, replace(request, body=body), script)
        assert isinstance(reply, Reply)  # ``stream`` is false.
        replies.append(reply)
    return json_reply(_joined([json.loads(reply.body) for reply in replies]), stats=_sum(replies))


def _check(fields: RequestFields) -> None:
    if not fields.get("messages"):
        raise RefusalError("messages must have at least one conversation")
    if fields.get("use_beam_search"):
        message = "Batch chat completions do not support beam search."
        raise parameter_error(
            f"{message} Please set `use_beam_search` to False.", "use_beam_search"
        )
    n = fields.get("n", 1)
    if n != 1:
        message = "Batch chat completions do not support `n > 1`. Please set `n` to 1."
        raise parameter_error(message, "n", n)


def _joined(bodies: Sequence[Mapping[str, Json]]) -> JsonObject:
    choices = [{**body["choices"][0], "index": index} for index, body in enumerate(bodies)]
    counts = [body["usage"] for body in bodies]
    usage = usage_counts(_total(counts, "prompt_tokens"), _total(counts, "completion_tokens"))
    return {**bodies[0], "choices": choices, "usage": {**bodies[0]["usage"], **usage}}


def _total(counts: Sequence[Mapping[str, Json]], name: str) -> int:
    return sum(int(each[name]) for each in counts)


def _sum(replies: Sequence[Reply]) -> GenerationStats:
    stats = [reply.stats or GenerationStats() for reply in replies]
    reasons: list[Json] = [reason for each in stats for reason in each.finish_reasons]
    prompt = sum(each.prompt_tokens for each in stats)
    return GenerationStats(prompt, sum(each.completion_tokens for each in stats), reasons)
