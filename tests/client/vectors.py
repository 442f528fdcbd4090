"""Responses with vectors, as vLLM sends them; ``struct`` writes the numbers."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any, Dict, List, Sequence

from ..recorded import LAST_CHUNK, chunked, json_bytes

HEAD = b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\n"
USAGE = {"prompt_tokens": 3, "total_tokens": 3}


def packed(vector: Sequence[float], code: str = "f", order: str = "<") -> bytes:
    """The bytes of a vector of float32 or float16."""
    return struct.pack(f"{order}{len(vector)}{code}", *vector)


def metadata(sizes: Sequence[int], **of_items: Any) -> Dict[str, Any]:
    """The header of vectors of float32 with these numbers of bytes."""
    items: List[Dict[str, Any]] = []
    end = 0
    for index, size in enumerate(sizes):
        item = {"index": index, "embed_dtype": "float32", "endianness": "little"}
        item = {**item, "start": end, "end": end + size, "shape": [size // 4], **of_items}
        items.append(item)
        end += size
    return {"id": "embd-1", "created": 7, "model": "m", "data": items, "usage": USAGE}


def binary(body: Sequence[bytes], header: Any = None) -> bytes:
    """A response of bytes, each part in an HTTP chunk, with a header unless it is None."""
    head = HEAD
    if header is not None:
        text = header if isinstance(header, str) else json.dumps(header)
        head += f"metadata: {text}\r\n".encode()
    head += b"content-type: application/octet-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"".join(chunked(part) for part in body if part) + LAST_CHUNK


def vectors_in_bytes(*vectors: Sequence[float]) -> bytes:
    """A response of these vectors as bytes."""
    body = [packed(vector) for vector in vectors]
    return binary(body, metadata([len(part) for part in body]))


def vectors_in_json(*values: Any, member: str = "embedding") -> bytes:
    """A response of these vectors as JSON: lists, or text in base64."""
    data = [{"index": index, member: value} for index, value in enumerate(values)]
    return json_bytes({"id": "e", "created": 7, "model": "m", "data": data, "usage": USAGE})


def as_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def refusal(message: str, status: str = "400 Bad Request", param: Any = None) -> bytes:
    """An error response of vLLM."""
    code = int(status.split(maxsplit=1)[0])
    error = {"message": message, "type": "BadRequestError", "param": param, "code": code}
    return json_bytes({"error": error}, status)


def unknown_format(format_: str) -> bytes:
    """How a server refuses an encoding that it does not know."""
    problem = {"type": "literal_error", "loc": "body.encoding_format", "input": format_}
    return refusal(f"1 validation error:\n  {problem}", param="body.encoding_format")
