"""Responses as a vLLM server sends them: made for a test, or recorded from a real server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Iterable, Iterator, List, Optional, Tuple

CAPTURES = Path(__file__).parent / "data" / "captures"
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
UNCHUNKED_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


def chunk(text: str = "", *, index: int = 0, finish: Optional[str] = None, **more: Any) -> Any:
    """A chunk of a /v1/completions stream."""
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


def delta(index: int = 0, finish: Any = None, **fields: Any) -> Any:
    """A chunk of a /v1/chat/completions stream; ``fields`` are those of its delta."""
    tokens = {key: fields.pop(key) for key in ("logprobs", "token_ids") if key in fields}
    choice = {"index": index, "delta": fields, "finish_reason": finish, **tokens}
    return {"id": "chatcmpl-1", "created": 1, "model": "m", "choices": [choice]}


HELLO = [{"role": "user", "content": "hi"}]
"""The messages of a chat."""


def capture(name: str) -> tuple[Any, bytes]:
    """A captured exchange: the description of the request and the bytes of the response."""
    request = json.loads((CAPTURES / f"{name}.request.json").read_text())
    return request, (CAPTURES / f"{name}.response.http").read_bytes()


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def captures_of(path: str) -> Iterator[Tuple[str, int, bool]]:
    """Name and status of each capture of a POST to this path, and whether it is a stream.

    A capture that is marked as unfinished is left out: the server sent no end of it.
    """
    for file in sorted(CAPTURES.glob("*.request.json")):
        name = file.name.removesuffix(".request.json")
        request, response = capture(name)
        is_finished = not request.get("unfinished")
        if is_finished and (request["method"], request["path"]) == ("POST", path):
            head = response.removeprefix(CONTINUE).partition(b"\r\n\r\n")[0]
            yield name, int(head.split()[1]), b"event-stream" in head


def data_of(name: str) -> List[str]:
    """The data of each event of a captured stream, without comments and ``[DONE]``."""
    blocks = body_of(capture(name)[1]).decode().split("\n\n")
    return [block[len("data: ") :] for block in blocks if block.startswith("data: {")]


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
    """The body in the beginning of a chunked body, without chunked framing."""
    data = b""
    while b"\r\n" in body:
        size, _, body = body.partition(b"\r\n")
        data, body = data + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return data


def stream_bytes(*events: Any, head: bytes = STREAM_HEAD) -> bytes:
    """A whole response with these SSE events, chunked if the head announces it."""
    data = [event_bytes(event) for event in events]
    if b"chunked" not in head:
        return head + b"".join(data)
    return head + b"".join(map(chunked, data)) + LAST_CHUNK


def beginning(*events: Any, head: bytes = STREAM_HEAD) -> bytes:
    """The beginning of a response with these SSE events, to be continued."""
    return stream_bytes(*events, head=head).removesuffix(LAST_CHUNK)


def middle(*events: Any) -> bytes:
    """More of a stream; neither its beginning nor its end."""
    return chunked(b"".join(map(event_bytes, events)))


def rest(*events: Any) -> bytes:
    """The end of a chunked response, with these SSE events."""
    return stream_bytes(*events).removeprefix(STREAM_HEAD)


def event_bytes(data: Any) -> bytes:
    """An SSE event with this data."""
    return f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode()


def chunked(data: bytes) -> bytes:
    """The data as one piece of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
"""The end of a chunked body."""


def cut(data: bytes, places: Iterable[int]) -> List[bytes]:
    """The data, cut at these places."""
    at = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in zip(at, at[1:])]


def single_bytes(data: bytes) -> List[bytes]:
    """The data, cut between all its bytes."""
    return cut(data, range(len(data)))


def json_bytes(body: Any, status: str = "200 OK", headers: str = "") -> bytes:
    """A whole response with a JSON body."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}"
    return f"{head}content-length: {len(data)}\r\n\r\n".encode() + data


def answer(text: str = "ok", finish: str = "stop") -> Any:
    """A response of /v1/completions that is not streamed, decoded."""
    return {**chunk(text, finish=finish), "usage": USAGE}


USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
WHOLE = (
    chunk("Hel"),
    chunk("lo"),
    chunk("", finish="stop"),
    {"id": "cmpl-1", "choices": [], "usage": USAGE},
    "[DONE]",
)
"""The data of each event of a complete stream; its text is "Hello"."""


def text_in(partial: Any, index: int = 0) -> str:
    """The text of one choice; empty if there is no such choice."""
    return "".join(choice.text for choice in partial.choices if choice.index == index)
