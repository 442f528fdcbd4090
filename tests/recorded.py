"""Responses as a vLLM server sends them: made for a test, or recorded from a real server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Optional

CAPTURES = Path(__file__).parent / "data" / "captures"
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
UNCHUNKED_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


def chunk(text: str = "", *, index: int = 0, finish: Optional[str] = None, **more: Any) -> Any:
    """A chunk as /v1/completions sends it."""
    choice = {
        "index": index,
        "text": text,
        "logprobs": None,
        "finish_reason": finish,
        "stop_reason": None,
        "prompt_token_ids": None,
        "token_ids": None,
    }
    return {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1,
        "model": "m",
        "choices": [{**choice, **more}],
    }


def capture(name: str) -> tuple[Any, bytes]:
    """A captured exchange: the request's description and the bytes that came back."""
    request = json.loads((CAPTURES / f"{name}.request.json").read_text())
    return request, (CAPTURES / f"{name}.response.http").read_bytes()


def body_of(response: bytes) -> bytes:
    """The body in the bytes of a captured response, without chunked framing."""
    head, _, rest = response.partition(b"\r\n\r\n")
    while head.startswith(b"HTTP/1.1 100"):
        head, _, rest = rest.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" not in head.lower():
        return rest
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return body


def dechunked(body: bytes) -> bytes:
    """What has arrived of a body of which only a part of the chunked framing has."""
    data = b""
    while b"\r\n" in body:
        size, _, body = body.partition(b"\r\n")
        data, body = data + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return data


def stream_bytes(*events: Any, head: bytes = STREAM_HEAD) -> bytes:
    """A whole response with these events, chunked if its head says so."""
    texts = [event if isinstance(event, str) else json.dumps(event) for event in events]
    data = [f"data: {text}\n\n".encode() for text in texts]
    if b"chunked" not in head:
        return head + b"".join(data)
    return head + b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in data) + b"0\r\n\r\n"


def json_bytes(body: Any, status: str = "200 OK", headers: str = "") -> bytes:
    """A whole response with a JSON body."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}"
    return f"{head}content-length: {len(data)}\r\n\r\n".encode() + data


def answer(text: str = "ok", finish: str = "stop") -> Any:
    """An answer as /v1/completions gives it when nothing is streamed."""
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    return {**chunk(text, finish=finish), "usage": usage}


USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
WHOLE = (
    chunk("Hel"),
    chunk("lo"),
    chunk("", finish="stop"),
    {"id": "cmpl-1", "choices": [], "usage": USAGE},
    "[DONE]",
)
"""The events of a stream that is whole; its text is "Hello"."""


def text_in(partial: Any, index: int = 0) -> str:
    """The text of one choice of what had arrived, if there is that choice."""
    return "".join(choice.text for choice in partial.choices if choice.index == index)
