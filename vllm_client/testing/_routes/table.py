"""Maps paths to routes, and holds the routes that generate no text.

To add a route, see the docstring of ``_routes``.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Callable

from .._engine.engine import VERSION, Engine
from .._wire.json_types import JsonObject
from .._wire.refusals import ENGINE_DIED, RefusalError
from .._wire.replies import DONE, EventStream, Reply, json_reply, sse_event
from .._wire.request_fields import RequestFields, decode_body, read_fields
from ..recorded import RecordedRequest, Recorder
from ..script import Script
from .audio import transcribe
from .chat import complete_chat
from .chat_batch import complete_chats
from .checks import check_model
from .completions import complete
from .control import Control, load_adapter, unload_adapter
from .messages import chat_prompt, check_messages
from .metrics import METRICS_TYPE, render_metrics
from .pooling import classify, embeddings, pooling, rerank, score
from .responses import ResponseStore, cancel_response, create_response, retrieve_response
from .tokens import generate

__all__ = ["RouteContext", "respond"]


_PATHS_WITH_KEY = ("/v1", "/v2", "/inference", "/cohere")


@dataclass(frozen=True)
class RouteContext:
    """A request, and what a route needs to respond to it."""

    engine: Engine
    recorder: Recorder
    request: RecordedRequest
    script: Script
    responses: ResponseStore
    control: Control


Route = Callable[[RouteContext], "Reply | EventStream"]


def respond(context: RouteContext, api_key: str | None) -> Reply | EventStream:
    """Return the response to a request: the scripted one, else the one of its route."""
    request, script = context.request, context.script
    if not _authorized(request, api_key):
        return json_reply({"error": "Unauthorized"}, 401)
    scripted = _reply_from_script(script)
    if scripted is not None:
        return scripted
    methods = _methods_of(request.path)
    if methods is None:
        return _unknown_path(request)
    if request.method not in methods:
        headers = {"allow": ", ".join(methods)}
        return json_reply({"detail": "Method Not Allowed"}, 405, headers=headers)
    try:
        if script.error_after is not None and not _wants_stream(request):
            raise RefusalError(script.error or ENGINE_DIED, status=script.status or 500)
        reply = methods[request.method](context)
        return replace(reply, headers={**reply.headers, **script.headers})
    except RefusalError as refusal:
        return json_reply(refusal.body, refusal.status)


def _methods_of(path: str) -> Mapping[str, Route] | None:
    if path in _ROUTES:
        return _ROUTES[path]
    found = (methods for pattern, methods in _PATTERNS.items() if re.fullmatch(pattern, path))
    return next(found, None)


def _authorized(request: RecordedRequest, api_key: str | None) -> bool:
    scheme, _, sent_key = request.headers.get("Authorization", "").partition(" ")
    needs_key = request.path.startswith(_PATHS_WITH_KEY) and request.method != "OPTIONS"
    has_key = scheme.lower() == "bearer" and sent_key == api_key
    return api_key is None or not needs_key or has_key


def _reply_from_script(script: Script) -> Reply | EventStream | None:
    """Return the response that a script contains, or None if the route must generate one."""
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
    events = [_chunk_bytes(chunk) for chunk in script.chunks]
    return EventStream(events, (DONE,) if script.done else (), status, script.headers)


def _chunk_bytes(chunk: object) -> bytes:
    if isinstance(chunk, bytes):
        return chunk
    return f"data: {chunk}\n\n".encode() if isinstance(chunk, str) else sse_event(chunk)


def _wants_stream(request: RecordedRequest) -> bool:
    body = request.json
    return isinstance(body, Mapping) and bool(body.get("stream"))


def _unknown_path(request: RecordedRequest) -> Reply:
    host = request.headers.get("Host", "")
    if request.path.endswith("/") and request.path.rstrip("/") in _ROUTES:
        location = f"http://{host}{request.path.rstrip('/')}"
        return Reply(307, headers={"location": location})
    return json_reply({"detail": "Not Found"}, 404)


def _metrics(context: RouteContext) -> Reply:
    text = render_metrics(context.recorder, context.engine.models[0])
    return Reply(200, text.encode(), METRICS_TYPE)


def _models(context: RouteContext) -> Reply:
    created = int(time.time())
    engine = context.engine
    cards = [_model_card(name, engine, created) for name in (*engine.models, *engine.adapters)]
    return json_reply({"object": "list", "data": cards})


def _server_info(context: RouteContext) -> Reply:
    model = {"model": context.engine.models[0], "max_model_len": context.engine.max_model_len}
    return json_reply({"vllm_config": {"model_config": model}, "system_env": {}})


def _tokenizer_info(context: RouteContext) -> Reply:
    length = context.engine.max_model_len
    return json_reply({"tokenizer_class": "FakeTokenizer", "model_max_length": length})


def _model_card(name: str, engine: Engine, created: int) -> JsonObject:
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
        "root": engine.adapters.get(name, engine.models[0]),
        "parent": engine.models[0] if name in engine.adapters else None,
        "max_model_len": None if name in engine.adapters else engine.max_model_len,
        "permission": [permission],
    }


def _tokenize(context: RouteContext) -> Reply:
    engine, fields = context.engine, _read_fields(context)
    if "messages" in fields:
        check_messages(fields)
        ids = chat_prompt(engine, fields)
    else:
        ids = engine.tokenizer.encode(str(fields.get("prompt", "")))
    texts = [engine.tokenizer.decode([id_], skip_special_tokens=False) for id_ in ids]
    body = {"count": len(ids), "max_model_len": engine.max_model_len, "tokens": ids}
    return json_reply({**body, "token_strs": texts if fields.get("return_token_strs") else None})


def _detokenize(context: RouteContext) -> Reply:
    engine, fields = context.engine, _read_fields(context)
    ids = fields.get("tokens", [])
    for id_ in ids:
        if not 0 <= id_ < engine.tokenizer.vocab_size:
            raise RefusalError(f"Token id {id_} is out of vocabulary")
    return json_reply({"prompt": engine.tokenizer.decode(ids, skip_special_tokens=False)})


def _transcribe(context: RouteContext, kind: str) -> Reply | EventStream:
    return transcribe(context.engine, context.request, context.script, kind)


def _read_fields(context: RouteContext) -> RequestFields:
    request = context.request
    fields = read_fields(decode_body(request.headers.get("Content-Type", ""), request.body))
    check_model(context.engine, fields)
    return fields


_ROUTES: Mapping[str, Mapping[str, Route]] = {
    "/health": {"GET": lambda _: Reply()},
    "/ping": {"GET": lambda _: Reply(), "POST": lambda _: Reply()},
    "/version": {"GET": lambda _: json_reply({"version": VERSION})},
    "/load": {"GET": lambda context: json_reply({"server_load": context.recorder.running})},
    "/metrics": {"GET": _metrics},
    "/v1/models": {"GET": _models},
    "/server_info": {"GET": _server_info},
    "/sleep": {"POST": lambda context: context.control.sleep(context.request)},
    "/wake_up": {"POST": lambda context: context.control.wake_up(context.request)},
    "/is_sleeping": {"GET": lambda context: context.control.state("is_sleeping")},
    "/pause": {"POST": lambda context: context.control.pause(context.request)},
    "/resume": {"POST": lambda context: context.control.resume(context.request)},
    "/is_paused": {"GET": lambda context: context.control.state("is_paused")},
    "/reset_prefix_cache": {"POST": lambda _: json_reply({"success": True})},
    "/reset_mm_cache": {"POST": lambda _: Reply()},
    "/abort_requests": {"POST": lambda context: context.control.abort(context.request)},
    "/tokenizer_info": {"GET": _tokenizer_info},
    "/v1/load_lora_adapter": {
        "POST": lambda context: load_adapter(context.engine, context.request)
    },
    "/v1/unload_lora_adapter": {
        "POST": lambda context: unload_adapter(context.engine, context.request)
    },
    "/tokenize": {"POST": _tokenize},
    "/detokenize": {"POST": _detokenize},
    "/v1/completions": {
        "POST": lambda context: complete(context.engine, context.request, context.script)
    },
    "/v1/chat/completions": {
        "POST": lambda context: complete_chat(context.engine, context.request, context.script)
    },
    "/v1/chat/completions/batch": {
        "POST": lambda context: complete_chats(context.engine, context.request, context.script)
    },
    "/inference/v1/generate": {
        "POST": lambda context: generate(context.engine, context.request, context.script)
    },
    "/v1/audio/transcriptions": {"POST": lambda context: _transcribe(context, "transcription")},
    "/v1/audio/translations": {"POST": lambda context: _transcribe(context, "translation")},
    "/v1/responses": {
        "POST": lambda context: create_response(
            context.engine, context.request, context.script, context.responses
        )
    },
    "/v1/embeddings": {"POST": lambda context: embeddings(context.engine, context.request)},
    "/pooling": {"POST": lambda context: pooling(context.engine, context.request)},
    "/classify": {"POST": lambda context: classify(context.engine, context.request)},
    "/score": {"POST": lambda context: score(context.engine, context.request)},
    "/v1/score": {"POST": lambda context: score(context.engine, context.request)},
    "/rerank": {"POST": lambda context: rerank(context.engine, context.request)},
    "/v1/rerank": {"POST": lambda context: rerank(context.engine, context.request)},
    "/v2/rerank": {"POST": lambda context: rerank(context.engine, context.request)},
}
# Regular expressions of paths that contain an id.
_PATTERNS: Mapping[str, Mapping[str, Route]] = {
    "/v1/responses/[^/]+": {
        "GET": lambda context: retrieve_response(context.request.path, context.responses)
    },
    "/v1/responses/[^/]+/cancel": {
        "POST": lambda context: cancel_response(context.request.path, context.responses)
    },
}
