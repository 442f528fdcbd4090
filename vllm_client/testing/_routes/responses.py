"""``/v1/responses``: the responses, their streams, and the stored ones."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from urllib.parse import unquote

from .._engine.engine import Engine
from .._wire.json_types import JsonObject
from .._wire.refusals import RefusalError
from .._wire.replies import EventStream, GenerationStats, Reply, json_reply, named_sse_event
from .._wire.request_fields import RequestFields, decode_body, read_fields
from ..recorded import RecordedRequest
from ..script import Script
from .chat import chat_outputs
from .chat_output import ChatOutput
from .checks import check_logprobs_limit, check_model, check_ranges, output_limit
from .messages import chat_prompt, check_messages
from .response_input import chat_fields, check_input, messages_of
from .response_output import OutputWriter

__all__ = ["ResponseStore", "cancel_response", "create_response", "retrieve_response"]


class ResponseStore:
    """The responses that a server keeps, as with ``VLLM_ENABLE_RESPONSES_API_STORE=1``.

    A response in the background is complete once it has been retrieved; until then it can be
    cancelled. So a test decides what becomes of it.
    """

    def __init__(self) -> None:
        self._bodies: dict[str, JsonObject] = {}
        self._messages: dict[str, Sequence[JsonObject]] = {}
        self._running: set[str] = set()

    def put(self, body: JsonObject, messages: Sequence[JsonObject], *, running: bool) -> None:
        """Keep a response, with the messages that one that continues it begins with."""
        id_ = str(body["id"])
        self._bodies[id_], self._messages[id_] = body, messages
        if running:
            self._running.add(id_)

    def messages(self, id_: str | None) -> Sequence[JsonObject]:
        """Return the messages before a response that continues ``id_``."""
        return self._messages[self._known(id_)] if id_ else ()

    def retrieve(self, id_: str) -> JsonObject:
        """Return a response, and let it be complete."""
        self._running.discard(self._known(id_))
        return self._bodies[id_]

    def cancel(self, id_: str) -> JsonObject:
        """Cancel a response that runs in the background, and return it."""
        if self._known(id_) not in self._running:
            message = "Cannot cancel a synchronous response."
            type_ = "invalid_request_error"
            raise RefusalError(message, error_type=type_, param="response_id")
        self._running.discard(id_)
        self._bodies[id_] = _unfinished(self._bodies[id_], "cancelled")
        return self._bodies[id_]

    def _known(self, id_: str) -> str:
        if id_ not in self._bodies:
            message = f"Response with id '{id_}' not found."
            type_ = "invalid_request_error"
            raise RefusalError(message, status=404, error_type=type_, param="response_id")
        return id_


def create_response(
    engine: Engine, request: RecordedRequest, script: Script, store: ResponseStore
) -> Reply | EventStream:
    """Return the response to a request of ``POST /v1/responses``.

    Raises:
        RefusalError: vLLM refuses such a request.
    """
    body = decode_body(request.headers.get("Content-Type", ""), request.body)
    fields = read_fields(body, response=True)
    check_input(fields)
    check_model(engine, fields)
    earlier = store.messages(fields.get("previous_response_id"))
    conversation = [*earlier, *messages_of(fields["input"])]
    chat = chat_fields(fields, conversation)
    _check(engine, chat, fields)
    prompt = chat_prompt(engine, chat)
    limit = output_limit(engine, fields.get("max_output_tokens"), len(prompt), 0)
    output = chat_outputs(engine, chat, len(prompt), script)[0]
    writer = OutputWriter(
        piece
        for piece in output.pieces
        if fields.get("include_reasoning", True) or not piece.is_reasoning
    )
    ended = _ended(_head(engine, fields, limit), writer, output, len(prompt))
    background = bool(fields.get("background"))
    if fields.get("store", True):
        messages = [*conversation, *messages_of(writer.items)]
        store.put(ended, messages, running=background and not fields.get("stream"))
    stats = GenerationStats(len(prompt), len(output.pieces), [output.finish_reason])
    if fields.get("stream"):
        return _stream(ended, writer, stats)
    return json_reply(_unfinished(ended, "queued") if background else ended, stats=stats)


def retrieve_response(path: str, store: ResponseStore) -> Reply:
    """Return the response to ``GET /v1/responses/{id}``."""
    return json_reply(store.retrieve(unquote(path.split("/")[3])))


def cancel_response(path: str, store: ResponseStore) -> Reply:
    """Return the response to ``POST /v1/responses/{id}/cancel``."""
    return json_reply(store.cancel(unquote(path.split("/")[3])))


def _check(engine: Engine, chat: RequestFields, fields: RequestFields) -> None:
    check_messages(chat)
    check_ranges(engine, chat)
    check_logprobs_limit(engine, "top_logprobs", "sample", fields.get("top_logprobs", 0))


def _head(engine: Engine, fields: RequestFields, limit: int) -> JsonObject:
    """Return a response without output, with its keys in the same order as vLLM."""
    choice = fields.get("tool_choice", "auto") if fields.get("tools") else "none"
    return {
        "id": fields.get("request_id") or f"resp_{uuid.uuid4().hex[:16]}",
        "created_at": int(time.time()),
        "incomplete_details": None,
        "instructions": fields.get("instructions"),
        "metadata": fields.get("metadata"),
        "model": engine.models[0],
        "object": "response",
        "output": [],
        "parallel_tool_calls": fields.get("parallel_tool_calls", True),
        "temperature": fields.get("temperature", 1.0),
        "tool_choice": choice,
        "tools": fields.get("tools", []),
        "top_p": fields.get("top_p", 1.0),
        "background": fields.get("background", False),
        "max_output_tokens": limit,
        "max_tool_calls": fields.get("max_tool_calls"),
        "previous_response_id": fields.get("previous_response_id"),
        "prompt": None,
        "reasoning": fields.get("reasoning"),
        "service_tier": fields.get("service_tier", "auto"),
        "status": "in_progress",
        "text": fields.get("text"),
        "top_logprobs": fields.get("top_logprobs"),
        "truncation": fields.get("truncation", "disabled"),
        "usage": None,
        "user": fields.get("user"),
        "presence_penalty": fields.get("presence_penalty", 0.0),
        "frequency_penalty": fields.get("frequency_penalty", 0.0),
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "input_messages": None,
        "output_messages": None,
    }


def _ended(
    head: JsonObject, writer: OutputWriter, output: ChatOutput, prompt_tokens: int
) -> JsonObject:
    # vLLM tells of an aborted generation for gpt-oss models only; here every response does.
    status = {"length": "incomplete", "abort": "cancelled"}.get(output.finish_reason, "completed")
    details = {"reason": "max_output_tokens"} if status == "incomplete" else None
    reasoning = sum(piece.is_reasoning for piece in output.pieces)
    usage = _usage(prompt_tokens, len(output.pieces), reasoning)
    end = {"incomplete_details": details, "status": status, "usage": usage}
    return {**head, **end, "output": writer.items}


def _usage(prompt_tokens: int, output_tokens: int, reasoning_tokens: int) -> JsonObject:
    return {
        "input_tokens": prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": 0,
            "cache_write_tokens": 0,
            "input_tokens_per_turn": [],
            "cached_tokens_per_turn": [],
        },
        "output_tokens": output_tokens,
        "output_tokens_details": {
            "reasoning_tokens": reasoning_tokens,
            "tool_output_tokens": 0,
            "output_tokens_per_turn": [],
            "tool_output_tokens_per_turn": [],
        },
        "total_tokens": prompt_tokens + output_tokens,
    }


def _unfinished(ended: JsonObject, status: str) -> JsonObject:
    nothing: JsonObject = {"incomplete_details": None, "output": [], "usage": None}
    return {**ended, **nothing, "status": status}


def _stream(ended: JsonObject, writer: OutputWriter, stats: GenerationStats) -> EventStream:
    begun = _unfinished(ended, "in_progress")
    events = [
        {"response": begun, "type": "response.created"},
        {"response": begun, "type": "response.in_progress"},
        *writer.events,
        # vLLM 0.32 ends an incomplete response in the same way.
        {"response": ended, "type": "response.completed"},
    ]
    # vLLM sends the members of an event in alphabetical order.
    sent = [
        named_sse_event(dict(sorted({**event, "sequence_number": number}.items())))
        for number, event in enumerate(events)
    ]
    generated = max(n for n, event in enumerate(events) if n < 2 or "delta" in event) + 1
    return EventStream(sent[:generated], sent[generated:], stats=stats)
