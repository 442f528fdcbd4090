"""What makes a vLLM server serve a route, for the message of a 404.

The facts are those of vLLM 0.32's routers. A server answers 404 with ``{"detail": "Not Found"}``
for a route that it does not serve.
"""

from __future__ import annotations

import re
from typing import Dict
from urllib.parse import urlsplit

_GENERATES = "it needs a model that generates text; this server may serve a pooling model"
_EMBEDS = "it needs an embedding model (vllm serve … --runner pooling --convert embed)"
_SCORES = "it needs a model that scores or embeds (vllm serve … --runner pooling)"
_CLASSIFIES = "it needs a classifying model (vllm serve … --runner pooling --convert classify)"
_POOLS = "it needs a pooling model (vllm serve … --runner pooling)"
_SPEAKS = "it needs a speech model such as Whisper"
_ADAPTERS = "start the server with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and --enable-lora"
_DEVELOPS = "start the server with VLLM_SERVER_DEV_MODE=1"
_SCALES_OUT = "start the server with --enable-scale-out (vLLM 0.30 and later)"

HINTS: Dict[str, str] = {
    "/completions": _GENERATES,
    "/chat/completions": _GENERATES,
    "/chat/completions/batch": f"{_GENERATES}, or it is older than vLLM 0.20",
    "/responses": f"{_GENERATES}, or it is older than vLLM 0.10",
    "/messages": f"{_GENERATES}, or it is older than vLLM 0.11.2",
    "/messages/count_tokens": _GENERATES,
    "/generative_scoring": f"{_GENERATES}, or it is older than vLLM 0.20",
    "/systemone": "it needs vLLM 0.32 or later",
    "/decisions": "it needs vLLM 0.33 or later",
    "/render": _SCALES_OUT,
    "/derender": _SCALES_OUT,
    "/inference/v1/generate": _SCALES_OUT,
    "/inference/v1/abort_requests": _SCALES_OUT,
    "/embeddings": _EMBEDS,
    "/embed": _EMBEDS,
    "/pooling": _POOLS,
    "/classify": _CLASSIFIES,
    "/score": _SCORES,
    "/rerank": _SCORES,
    "/audio/transcriptions": _SPEAKS,
    "/audio/translations": _SPEAKS,
    "/load_lora_adapter": _ADAPTERS,
    "/unload_lora_adapter": _ADAPTERS,
    "/tokenizer_info": "start the server with --enable-tokenizer-info-endpoint",
    "/openapi.json": "the server was started with --disable-fastapi-docs",
    "/start_profile": "start the server with a profiler (--profiler-config)",
    "/stop_profile": "start the server with a profiler (--profiler-config)",
    "/sleep": _DEVELOPS,
    "/wake_up": _DEVELOPS,
    "/is_sleeping": _DEVELOPS,
    "/pause": _DEVELOPS,
    "/resume": _DEVELOPS,
    "/is_paused": _DEVELOPS,
    "/abort_requests": _DEVELOPS,
    "/server_info": _DEVELOPS,
    "/reset_prefix_cache": _DEVELOPS,
    "/reset_mm_cache": _DEVELOPS,
    "/reset_encoder_cache": _DEVELOPS,
    "/collective_rpc": _DEVELOPS,
    "/get_world_size": _DEVELOPS,
}
"""What each route needs, by the end of its path."""

_UNDER_V1 = frozenset(
    {
        "/completions",
        "/chat/completions",
        "/responses",
        "/messages",
        "/embeddings",
        "/audio/transcriptions",
        "/audio/translations",
    }
)
"""The routes that vLLM serves under ``/v1`` alone."""


def not_served(method: str, url: str) -> str:
    """Explain a 404 for a route.

    Args:
        method: The HTTP method of the request.
        url: Its URL.
    """
    parts = urlsplit(url)
    server = f"{parts.scheme}://{parts.netloc}"
    path = re.sub("/responses/.*", "/responses", parts.path)  # Without the id.
    fitting = [end for end in HINTS if path.endswith(end)]
    advice = _advice(path, max(fitting, key=len)) if fitting else "check base_url and the path"
    return f"the server at {server} does not serve {method} {parts.path}: {advice}"


def _advice(path: str, end: str) -> str:
    if end in _UNDER_V1 and not path[: -len(end)].endswith("/v1"):
        return f"vLLM serves /v1{end}, so check the path of base_url"
    return HINTS[end]
