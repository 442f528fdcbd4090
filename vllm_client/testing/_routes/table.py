"""Which path answers what."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Callable

from .._engine.engine import VERSION, Engine
from .._wire.fields import Fields, decode_body, read_fields
from .._wire.refusals import ENGINE_DIED, RefusalError
from .._wire.replies import DONE, EventStream, Reply, event, json_reply
from ..recorded import RecordedRequest, Recorder
from ..script import Script
from .chat import complete_chat
from .checks import check_model
from .completions import complete
from .messages import chat_prompt, check_messages
from .metrics import METRICS_TYPE, render_metrics

__all__ = ["Exchange", "respond"]


_GUARDED = ("/v1", "/v2", "/inference", "/cohere")


@dataclass(frozen=True)
class Exchange:
    """A request, with what is needed to answer it."""

    engine: Engine
    recorder: Recorder
    request: RecordedRequest
    script: Script


Handler = Callable[[Exchange], "Reply | EventStream"]


def respond(exchange: Exchange, api_key: str | None) -> Reply | EventStream:
    """Return the answer to a request: the scripted one, else the route's own."""
    request, script = exchange.request, exchange.script
    if not _authorized(request, api_key):
        return json_reply({"error": "Unauthorized"}, 401)
    scripted = _scripted(script)
    if scripted is not None:
        return scripted
    methods = _ROUTES.get(request.path)
    if methods is None:
        return _no_route(request)
    if request.method not in methods:
        headers = {"allow": ", ".join(methods)}
        return json_reply({"detail": "Method Not Allowed"}, 405, headers=headers)
    try:
        if script.error_after is not None and not _streams(request):
            raise RefusalError(script.error or ENGINE_DIED, status=script.status or 500)
        reply = methods[request.method](exchange)
        return replace(reply, headers={**reply.headers, **script.headers})
    except RefusalError as refusal:
        return json_reply(refusal.body, refusal.status)


def _authorized(request: RecordedRequest, key: str | None) -> bool:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    guarded = request.path.startswith(_GUARDED) and request.method != "OPTIONS"
    return key is None or not guarded or (scheme.lower() == "bearer" and given == key)


def _scripted(script: Script) -> Reply | EventStream | None:
    """Return the answer that a script gives whole, or None if something is to be generated."""
    if script.refuses:
        status = script.status or 500
        refusal = RefusalError(script.error or f"A scripted error {status}", status=status)
        return json_reply(refusal.body, status, headers=script.headers)
    status = script.status or 200
    if script.body is not None:
        body = script.body.encode() if isinstance(script.body, str) else script.body
        return Reply(status, body, headers=script.headers)
    if script.json is not None:
        return json_reply(script.json, status, headers=script.headers)
    if script.chunks is None:
        return None
    chunks = [_chunk(each) for each in script.chunks]
    return EventStream(chunks, (DONE,) if script.done else (), status, script.headers)


def _chunk(given: Any) -> bytes:
    if isinstance(given, bytes):
        return given
    return f"data: {given}\n\n".encode() if isinstance(given, str) else event(given)


def _streams(request: RecordedRequest) -> bool:
    body = request.json
    return isinstance(body, Mapping) and bool(body.get("stream"))


def _no_route(request: RecordedRequest) -> Reply:
    host = request.headers.get("Host", "")
    if request.path.endswith("/") and request.path.rstrip("/") in _ROUTES:
        location = f"http://{host}{request.path.rstrip('/')}"
        return Reply(307, headers={"location": location})
    return json_reply({"detail": "Not Found"}, 404)


def _metrics(exchange: Exchange) -> Reply:
    text = render_metrics(exchange.recorder, exchange.engine.models[0])
    return Reply(200, text.encode(), METRICS_TYPE)


def _models(exchange: Exchange) -> Reply:
    created = int(time.time())
    cards = [_card(name, exchange.engine, created) for name in exchange.engine.models]
    return json_reply({"object": "list", "data": cards})


def _card(name: str, engine: Engine, created: int) -> dict[str, Any]:
    permission = {
        "id": f"modelperm-{uuid.uuid4().hex[:16]}",
        "object": "model_permission",
        "created": created,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "vllm",
        "root": engine.models[0],
        "parent": None,
        "max_model_len": engine.max_model_len,
        "permission": [permission],
    }


def _tokenize(exchange: Exchange) -> Reply:
    engine, fields = exchange.engine, _read(exchange)
    if "messages" in fields:
        check_messages(fields)
        ids = chat_prompt(engine, fields)
    else:
        ids = engine.tokenizer.encode(str(fields.get("prompt", "")))
    pieces = [engine.tokenizer.decode([id_], skip_special_tokens=False) for id_ in ids]
    answer = {"count": len(ids), "max_model_len": engine.max_model_len, "tokens": ids}
    return json_reply({**answer, "token_strs": pieces if fields.get("return_token_strs") else None})


def _detokenize(exchange: Exchange) -> Reply:
    engine, fields = exchange.engine, _read(exchange)
    ids = fields.get("tokens", [])
    for id_ in ids:
        if not 0 <= id_ < engine.tokenizer.vocab_size:
            raise RefusalError(f"Token id {id_} is out of vocabulary")
    return json_reply({"prompt": engine.tokenizer.decode(ids)})


def _read(exchange: Exchange) -> Fields:
    request = exchange.request
    fields = read_fields(decode_body(request.headers.get("Content-Type", ""), request.body))
    check_model(exchange.engine, fields)
    return fields


_ROUTES: Mapping[str, Mapping[str, Handler]] = {
    "/health": {"GET": lambda _: Reply()},
    "/ping": {"GET": lambda _: Reply(), "POST": lambda _: Reply()},
    "/version": {"GET": lambda _: json_reply({"version": VERSION})},
    "/load": {"GET": lambda exchange: json_reply({"server_load": exchange.recorder.running})},
    "/metrics": {"GET": _metrics},
    "/v1/models": {"GET": _models},
    "/tokenize": {"POST": _tokenize},
    "/detokenize": {"POST": _detokenize},
    "/v1/completions": {"POST": lambda each: complete(each.engine, each.request, each.script)},
    "/v1/chat/completions": {
        "POST": lambda each: complete_chat(each.engine, each.request, each.script)
    },
}
