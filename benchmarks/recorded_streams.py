"""The bytes that every client reads: traffic of a real vLLM 0.32 server, made longer.

SSE events and responses are those of the captures in ``tests/data/captures``. This module only
inserts text, and log-probabilities in long responses. Everything is built once and beforehand, so
that the server only sends it.
"""

from __future__ import annotations

import base64
import json
import random
import struct
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Dict, List, Tuple

CAPTURES = Path(__file__).parent.parent / "tests" / "data" / "captures"
COMPLETIONS, CHAT = "completions", "chat"
TEXT, TOKEN_IDS, LOGPROBS, USAGE = COLUMNS = ("text", "token_ids", "logprobs", "usage")
"""What the chunks of a stream carry: text alone, or beside it values that differ in each chunk."""

# Like the tokens of a model: short, mostly words after a space, some of them not ASCII.
_TOKENS = """
 the| of| and| machine| learning| is| a| field| data| that| model| can| be| from| in| to|,|.|ing|s
| pre|dict| neural| network|:| 1|2|3|4|-| "| für| naïve| 東京|é| —| 😁|(|)| with| without| being
| explicitly| programmed| algorithms| statistical| generalise| unseen""".replace("\n", "").split(
    "|"
)
_TOKENS += ["\n", "\n\n"]
_DONE = b"data: [DONE]\n\n"
LAST_CHUNK = b"0\r\n\r\n"


def tokens(count: int) -> List[str]:
    """Return a varied text, the same one on every call."""
    return random.Random(0).choices(_TOKENS, k=count)


def dumped(value: Any) -> str:
    """Return JSON in the format of vLLM."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def event(chunk: Dict[str, Any]) -> bytes:
    return f"data: {dumped(chunk)}\n\n".encode()


def framed(data: bytes) -> bytes:
    """Return one HTTP chunk; uvicorn sends each SSE event as one."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def captured(name: str) -> Tuple[bytes, bytes]:
    """Return the head and the body of a captured response."""
    head, _, body = (CAPTURES / f"{name}.response.http").read_bytes().partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", body


@cache
def head(kind: str, *, chunked: bool = True) -> bytes:
    """Return the head of a streamed response."""
    found, _ = captured(_STREAMS[kind, TEXT])
    if chunked:
        return found
    return found.replace(b"transfer-encoding: chunked", b"connection: close")


_STREAMS = {
    (COMPLETIONS, TEXT): "completion_stream_usage",
    (COMPLETIONS, TOKEN_IDS): "completion_return_token_ids_stream",
    (COMPLETIONS, LOGPROBS): "completion_logprobs_stream",
    (COMPLETIONS, USAGE): "completion_stream_continuous_usage",
    (CHAT, TEXT): "chat_stream_usage",
    (CHAT, LOGPROBS): "chat_logprobs_stream",
    (CHAT, USAGE): "chat_stream_continuous_usage",
}
KINDS_WITH_COLUMNS = tuple((kind, column) for kind, column in _STREAMS if column != TEXT)


@cache
def _chunks(kind: str, column: str = TEXT) -> List[Dict[str, Any]]:
    _, body = captured(_STREAMS[kind, column])
    lines = [line[6:] for line in body.splitlines() if line.startswith(b"data: {")]
    chunks = [json.loads(line) for line in lines]
    assert dumped(chunks[1]).encode() == lines[1], "dumped() differs from vLLM's JSON"
    return chunks


def text_event(kind: str, text: str) -> bytes:
    """Return one SSE event from the middle of a stream."""
    return event(_text_chunk(kind, TEXT, text))


def _text_chunk(kind: str, column: str, text: str) -> Dict[str, Any]:
    chunk = dict(_chunks(kind, column)[1])
    choice = dict(chunk["choices"][0])
    if kind == CHAT:
        choice["delta"] = {"content": text}
    else:
        choice["text"] = text
    return {**chunk, "choices": [choice]}


@lru_cache(maxsize=8)
def events(kind: str, count: int, column: str = TEXT) -> List[bytes]:
    """Return a complete stream: ``count`` events with text, finish reason, usage, ``[DONE]``."""
    chunks = _chunks(kind, column)
    first = chunks[:1] if kind == CHAT else []
    texts = [_text_chunk(kind, column, token) for token in tokens(count)]
    if column != TEXT:
        _fill(kind, column, texts)
    last = [
        chunk for chunk in chunks if not chunk["choices"] or chunk["choices"][0]["finish_reason"]
    ]
    return [*map(event, [*first, *texts, *last]), _DONE]


def _fill(kind: str, column: str, chunks: List[Dict[str, Any]]) -> None:
    """Give each chunk values of its own: one token's ids or log-probabilities, or the usage."""
    rng, offset = random.Random(3), 0
    for number, chunk in enumerate(chunks, 1):
        choice = chunk["choices"][0]
        text = choice["delta"]["content"] if kind == CHAT else choice["text"]
        if column == USAGE:
            usage = chunk["usage"]
            total = usage["prompt_tokens"] + number
            chunk["usage"] = {**usage, "total_tokens": total, "completion_tokens": number}
        elif column == TOKEN_IDS:
            choice["token_ids"] = [rng.randrange(1000)]
        else:
            values = {each: -rng.expovariate(0.5) for each in (text, *rng.sample(_TOKENS, 2))}
            choice["logprobs"] = _ONE_TOKEN[kind](text, values, offset)
        offset += len(text)


def _one_token(text: str, values: Dict[str, float], offset: int) -> Dict[str, Any]:
    return {
        "text_offset": [offset],
        "token_logprobs": [values[text]],
        "tokens": [text],
        "top_logprobs": [values],
    }


def _one_token_of_chat(text: str, values: Dict[str, float], _: int) -> Dict[str, Any]:
    top = [
        {"token": token, "logprob": value, "bytes": list(token.encode())}
        for token, value in values.items()
    ]
    return {"content": [{**top[0], "token": text, "top_logprobs": top}]}


_ONE_TOKEN = {COMPLETIONS: _one_token, CHAT: _one_token_of_chat}


@lru_cache(maxsize=8)
def stream(kind: str, count: int, column: str = TEXT) -> bytes:
    """Return the bytes of the same stream, with head and chunked encoding."""
    return head(kind) + b"".join(map(framed, events(kind, count, column))) + LAST_CHUNK


@cache
def stamped(kind: str) -> Tuple[bytes, bytes]:
    """Return the bytes before and after the text of an event, a time stamp of 19 digits."""
    before, _, after = text_event(kind, "0" * 19).partition(b"0" * 19)
    return before, after


def document(body: bytes) -> bytes:
    """Return a response that is not streamed."""
    return (
        b"HTTP/1.1 200 OK\r\ndate: Sun, 22 Nov 2026 06:44:55 GMT\r\nserver: uvicorn\r\n"
        b"content-length: %d\r\ncontent-type: application/json\r\n\r\n%b" % (len(body), body)
    )


@cache
def answer(token_count: int) -> bytes:
    """Return the response body of ``create()``, with the log-probabilities of its tokens.

    For 0 tokens the body has a short text without log-probabilities.
    """
    _, body = captured("completion_logprobs")
    response = json.loads(body)
    choice = response["choices"][0]
    choice["text"] = "".join(tokens(token_count or 24))
    choice["logprobs"] = _logprobs(token_count) if token_count else None
    return dumped(response).encode()


def _logprobs(count: int) -> Dict[str, Any]:
    rng = random.Random(1)
    chosen, offsets, offset = tokens(count), [], 0
    for token in chosen:
        offsets.append(offset)
        offset += len(token)
    values = [-rng.expovariate(0.5) for _ in chosen]
    tops = [
        {token: value, **{other: -rng.expovariate(0.5) for other in rng.sample(_TOKENS, 4)}}
        for token, value in zip(chosen, values)
    ]
    return {
        "text_offset": offsets,
        "token_logprobs": values,
        "tokens": chosen,
        "top_logprobs": tops,
    }


@cache
def vectors(count: int, dimensions: int, encoding: str) -> bytes:
    """Return a response with embeddings: as ``bytes`` in HTTP chunks, or as ``base64`` in JSON."""
    rng = random.Random(2)
    packed = [
        struct.pack(f"<{dimensions}f", *(rng.gauss(0, 0.03) for _ in range(dimensions)))
        for _ in range(count)
    ]
    if encoding == "base64":
        _, body = captured("embed_embeddings_base64")
        response = json.loads(body)
        item = response["data"][0]
        response["data"] = [
            {**item, "index": index, "embedding": base64.b64encode(part).decode()}
            for index, part in enumerate(packed)
        ]
        return document(dumped(response).encode())
    assert encoding == "bytes", encoding
    head_lines = captured("embed_embeddings_bytes")[0].split(b"\r\n")
    place = next(at for at, line in enumerate(head_lines) if line.startswith(b"metadata: "))
    metadata = json.loads(head_lines[place].partition(b": ")[2])
    item, size = metadata["data"][0], 4 * dimensions
    metadata["data"] = [
        {**item, "index": at, "start": at * size, "end": (at + 1) * size, "shape": [dimensions]}
        for at in range(count)
    ]
    head_lines[place] = b"metadata: " + json.dumps(metadata).encode()
    return b"\r\n".join(head_lines) + b"".join(map(framed, packed)) + LAST_CHUNK
