"""``POST /v1/audio/transcriptions`` and ``…/translations``: canned texts for any recording."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from email import message_from_bytes
from email.message import Message

from .._engine.engine import Engine
from .._wire.envelope import Envelope, usage_counts
from .._wire.json_types import JsonObject
from .._wire.refusals import RefusalError, field_error, validation_error
from .._wire.replies import DONE, EventStream, Reply, json_reply, sse_event
from ..recorded import RecordedRequest
from ..script import Script
from .checks import check_model

__all__ = ["transcribe"]

_TEXT = "This is a fake server. It has not listened."
_SECONDS = 2
_PROMPT_TOKENS = 4


def transcribe(
    engine: Engine, request: RecordedRequest, script: Script, kind: str
) -> Reply | EventStream:
    """Return the response to a recording.

    Args:
        engine: The engine of the server.
        request: The request.
        script: Its ``text`` replaces the canned one.
        kind: ``transcription`` or ``translation``.

    Raises:
        RefusalError: vLLM refuses such a request.
    """
    fields = _form_fields(request)
    check_model(engine, fields)
    text = _TEXT if script.text is None else script.text
    format_ = fields.get("response_format", "json")
    streamed = fields.get("stream") == "true"
    if format_ not in ("json", "text", "verbose_json"):
        # A speech model without speakers refuses diarized_json too.
        allowed = "`text`, `json`, `verbose_json` or `diarized_json`"
        raise RefusalError(f"Currently only support response_format: {allowed}")
    if streamed and format_ == "verbose_json":
        raise RefusalError(f"{format_} format doesn't support streaming case")
    if streamed:
        return _stream(engine, fields, text, kind, script)
    if format_ == "verbose_json":
        return json_reply(_verbose(text, fields.get("language")))
    usage = {"usage": {"type": "duration", "seconds": _SECONDS}}
    return json_reply({"text": text, **(usage if kind == "transcription" else {})})


def _form_fields(request: RecordedRequest) -> Mapping[str, str]:
    head = f"Content-Type: {request.headers.get('Content-Type', '')}\r\n\r\n"
    message = message_from_bytes(head.encode("latin-1") + request.body)
    parts = message.get_payload() if message.is_multipart() else []
    fields: dict[str, str] = {}
    for part in parts:
        assert isinstance(part, Message)
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        name = part.get_param("name", header="content-disposition")
        fields[str(name)] = content.decode("utf-8", "replace")
    if "file" not in fields:
        raise validation_error([field_error("missing", "body.file", "Field required", "None")])
    return fields


def _verbose(text: str, language: str | None) -> JsonObject:
    segment: JsonObject = {
        "id": 0,
        "avg_logprob": -0.25,
        "compression_ratio": 1.0,
        "end": float(_SECONDS),
        "no_speech_prob": None,
        "seek": 0,
        "start": 0.0,
        "temperature": 0.0,
        "text": text,
        "tokens": [],
    }
    head = {"duration": float(_SECONDS), "language": language or "en", "text": text}
    return {**head, "segments": [segment], "words": None}


def _stream(
    engine: Engine, fields: Mapping[str, str], text: str, kind: str, script: Script
) -> EventStream:
    id_, model = f"{kind}-{uuid.uuid4().hex[:16]}", fields.get("model") or engine.models[0]
    envelope = Envelope(id_, f"{kind}.chunk", 1, model)
    # As vLLM: what is not set is not sent.
    words = text.split(" ")
    pieces = [words[0], *(f" {word}" for word in words[1:])][: script.abort_after]
    choices: list[JsonObject] = [{"delta": {"content": piece}} for piece in pieces]
    end = "stop" if script.abort_after is None else "abort"
    choices.append({"delta": {"content": ""}, "finish_reason": end, "stop_reason": None})
    events = [sse_event(envelope.wrap([choice])) for choice in choices]
    usage = usage_counts(_PROMPT_TOKENS, len(pieces))
    with_usage = fields.get("stream_include_usage") == "true"
    tail = [sse_event(envelope.wrap([], usage=usage))] if with_usage else []
    return EventStream(events, [*tail, DONE])
