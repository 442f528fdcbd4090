"""Read one stream to its end with each client, as its own manual recommends.

All readers do the same work: they pass every piece of text to ``on_text``. A reader is created
from a base URL before the measurement begins. It imports its library itself, so that a process
contains only one of the libraries.
"""

# ruff: noqa: PLC0415 — a process imports only the library that it measures

from __future__ import annotations

import asyncio
import importlib.util
import json
import socket
import sys
from typing import Any, Callable, Dict, Iterator, List, NamedTuple
from urllib.parse import urlsplit

from .recorded_streams import CHAT, COMPLETIONS

OnText = Callable[[str], object]
LIMIT = "raw socket + json"
OURS, OURS_ASYNC, OURS_FAST = "vllm_client", "vllm_client async", "vllm_client + orjson"
OURS_PLAIN = "vllm_client, shortcuts off"
BODIES: Dict[str, Dict[str, Any]] = {
    COMPLETIONS: {"model": "m", "prompt": "What is machine learning?", "max_tokens": 500},
    CHAT: {
        "model": "m",
        "messages": [{"role": "user", "content": "What is machine learning?"}],
        "max_tokens": 500,
    },
}
PATHS = {COMPLETIONS: "/completions", CHAT: "/chat/completions"}


class Reader(NamedTuple):
    """A client, and the function that reads a stream with it."""

    make: Callable[[str, str], Callable[[OnText], Any]]
    """Base URL and ``completions`` or ``chat`` → a function that reads; it may be async."""
    needs: str = ""
    is_async: bool = False
    kinds: str = f"{COMPLETIONS} {CHAT}"


READERS: Dict[str, Reader] = {}


def _reader(name: str, **about: Any) -> Callable[[Any], Any]:
    def register(make: Any) -> Any:
        READERS[name] = Reader(make, **about)
        return make

    return register


def absent(modules: str) -> str:
    """Name the modules that are not installed, as a text; empty if all are."""
    names = [name for name in modules.split() if importlib.util.find_spec(name) is None]
    return f"{' and '.join(names)} not installed" if names else ""


def missing(name: str) -> str:
    """Return why a reader cannot run here; empty if it can."""
    return absent(READERS[name].needs)


def uses_orjson() -> bool:
    """Whether our client decodes with orjson in this environment."""
    import vllm_client._decoding.fast_json  # noqa: F401

    return "orjson" in sys.modules


def read(name: str, url: str, kind: str, on_text: OnText) -> None:
    """Read one stream."""
    reader = READERS[name]
    if not reader.is_async:
        reader.make(url, kind)(on_text)
        return

    async def main() -> None:
        await reader.make(url, kind)(on_text)

    asyncio.run(main())


def text_of_completion(chunk: Dict[str, Any]) -> str:
    choices = chunk["choices"]
    return choices[0]["text"] if choices else ""


def text_of_chat(chunk: Dict[str, Any]) -> str:
    choices = chunk["choices"]
    return (choices[0]["delta"].get("content") or "") if choices else ""


TEXT_OF = {COMPLETIONS: text_of_completion, CHAT: text_of_chat}


def _streamed(kind: str) -> Dict[str, Any]:
    return {**BODIES[kind], "stream": True, "stream_options": {"include_usage": True}}


# The limit: the least work that reads this format in Python, without any check.


def _request(sock: socket.socket, url: str, kind: str) -> bytes:
    parts = urlsplit(url)
    body = json.dumps(_streamed(kind)).encode()
    sock.sendall(
        f"POST {parts.path}{PATHS[kind]} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    data = b""
    while b"\r\n\r\n" not in data:
        data += sock.recv(65536)
    return data


def _pieces(sock: socket.socket, rest: bytes) -> Iterator[bytes]:
    # Remove the chunked encoding.
    while True:
        start = 0
        while True:
            line_end = rest.find(b"\r\n", start)
            if line_end < 0:
                break
            stop = line_end + 2 + int(rest[start:line_end], 16)
            if len(rest) < stop + 2:
                break
            if stop == line_end + 2:
                return
            yield rest[line_end + 2 : stop]
            start = stop + 2
        data = sock.recv(65536)
        if not data:
            return
        rest = rest[start:] + data


def _unframed(sock: socket.socket, rest: bytes) -> Iterator[bytes]:
    while rest:
        yield rest
        rest = sock.recv(65536)


def _raw(url: str, kind: str, loads: Callable[[Any], Any]) -> Callable[[OnText], None]:
    parts, text_of = urlsplit(url), TEXT_OF[kind]

    def read_raw(on_text: OnText) -> None:
        with socket.create_connection((parts.hostname, parts.port)) as sock:
            head, _, rest = _request(sock, url, kind).partition(b"\r\n\r\n")
            is_chunked = b"chunked" in head
            if not is_chunked and not rest:
                rest = sock.recv(65536)
            tail = b""
            for piece in _pieces(sock, rest) if is_chunked else _unframed(sock, rest):
                *events, tail = (tail + piece).split(b"\n\n")
                for event in events:
                    if event == b"data: [DONE]":
                        return
                    on_text(text_of(loads(event[6:])))

    return read_raw


@_reader(LIMIT)
def raw_json(url: str, kind: str) -> Callable[[OnText], None]:
    loads = json.loads
    return _raw(url, kind, lambda data: loads(data.decode()))


@_reader("raw socket + orjson", needs="orjson")
def raw_orjson(url: str, kind: str) -> Callable[[OnText], None]:
    import orjson

    return _raw(url, kind, orjson.loads)


# Ours.


def _ours(url: str, kind: str) -> Callable[[OnText], None]:
    import vllm_client

    client = vllm_client.VllmClient(url)
    resource: Any = client.chat.completions if kind == CHAT else client.completions
    tag = "content" if kind == CHAT else "text"

    def read_ours(on_text: OnText) -> None:
        with resource.stream(**BODIES[kind]) as stream:
            for event in stream:
                if event.type == tag:
                    on_text(event.text)

    return read_ours


def hide_orjson() -> None:
    """Make ``import orjson`` fail, to measure an installation without it."""
    sys.modules["orjson"] = None  # type: ignore[assignment]


@_reader(OURS)
def ours(url: str, kind: str) -> Callable[[OnText], None]:
    hide_orjson()
    return _ours(url, kind)


@_reader(OURS_FAST, needs="orjson")
def ours_fast(url: str, kind: str) -> Callable[[OnText], None]:
    return _ours(url, kind)


@_reader(OURS_PLAIN)
def ours_plain(url: str, kind: str) -> Callable[[OnText], None]:
    hide_orjson()
    from vllm_client._decoding import fast_json, sse_fields, templates
    from vllm_client._http import framing

    shortcuts: List[Any] = [framing, sse_fields, fast_json, templates]
    for shortcut in shortcuts:
        shortcut.ENABLED = False
    return _ours(url, kind)


@_reader(OURS_ASYNC, is_async=True)
def ours_async(url: str, kind: str) -> Callable[[OnText], Any]:
    hide_orjson()
    from vllm_client import AsyncVllmClient

    client = AsyncVllmClient(url)
    resource: Any = client.chat.completions if kind == CHAT else client.completions
    tag = "content" if kind == CHAT else "text"

    async def read_ours(on_text: OnText) -> None:
        async with resource.stream(**BODIES[kind]) as stream:
            async for event in stream:
                if event.type == tag:
                    on_text(event.text)

    return read_ours


# Other clients.


@_reader("aiohttp, lines by hand + json", needs="aiohttp", is_async=True)
def aiohttp_by_hand(url: str, kind: str) -> Callable[[OnText], Any]:
    import aiohttp

    text_of = TEXT_OF[kind]
    sessions: List[aiohttp.ClientSession] = []

    async def read_aiohttp(on_text: OnText) -> None:
        if not sessions:
            no_limit = aiohttp.TCPConnector(limit=0)
            sessions.append(aiohttp.ClientSession(connector=no_limit))
        tail = b""
        async with sessions[0].post(url + PATHS[kind], json=_streamed(kind)) as response:
            async for piece in response.content.iter_any():
                *lines, tail = (tail + piece).split(b"\n")
                for line in lines:
                    if line == b"data: [DONE]":
                        break
                    if line:
                        on_text(text_of(json.loads(line[6:])))

    return read_aiohttp


@_reader("requests iter_lines + json", needs="requests")
def requests_lines(url: str, kind: str) -> Callable[[OnText], None]:
    import requests

    session, text_of = requests.Session(), TEXT_OF[kind]

    def read_lines(on_text: OnText) -> None:
        with session.post(url + PATHS[kind], json=_streamed(kind), stream=True) as response:
            for line in response.iter_lines():
                if line and line != b"data: [DONE]":
                    on_text(text_of(json.loads(line[6:])))

    return read_lines


@_reader("requests + sseclient-py + json", needs="requests sseclient")
def requests_sseclient(url: str, kind: str) -> Callable[[OnText], None]:
    import requests
    import sseclient

    session, text_of = requests.Session(), TEXT_OF[kind]

    def read_sse(on_text: OnText) -> None:
        with session.post(url + PATHS[kind], json=_streamed(kind), stream=True) as response:
            for event in sseclient.SSEClient(response.iter_content(None)).events():
                if event.data != "[DONE]":
                    on_text(text_of(json.loads(event.data)))

    return read_sse


@_reader("httpx + httpx-sse + json", needs="httpx httpx_sse")
def httpx_sse_json(url: str, kind: str) -> Callable[[OnText], None]:
    import httpx
    from httpx_sse import connect_sse

    client, text_of = httpx.Client(), TEXT_OF[kind]

    def read_sse(on_text: OnText) -> None:
        with connect_sse(client, "POST", url + PATHS[kind], json=_streamed(kind)) as source:
            for event in source.iter_sse():
                if event.data != "[DONE]":
                    on_text(text_of(json.loads(event.data)))

    return read_sse


def _text_of_openai(kind: str) -> Callable[[Any], str]:
    if kind == CHAT:
        return lambda chunk: (chunk.choices[0].delta.content or "") if chunk.choices else ""
    return lambda chunk: chunk.choices[0].text if chunk.choices else ""


@_reader("openai", needs="openai")
def openai_sync(url: str, kind: str) -> Callable[[OnText], None]:
    import openai

    client, text_of = openai.OpenAI(base_url=url, api_key="key"), _text_of_openai(kind)
    resource: Any = client.chat.completions if kind == CHAT else client.completions

    def read_openai(on_text: OnText) -> None:
        for chunk in resource.create(**_streamed(kind)):
            on_text(text_of(chunk))

    return read_openai


@_reader("openai async", needs="openai", is_async=True)
def openai_async(url: str, kind: str) -> Callable[[OnText], Any]:
    import openai

    client, text_of = openai.AsyncOpenAI(base_url=url, api_key="key"), _text_of_openai(kind)
    resource: Any = client.chat.completions if kind == CHAT else client.completions

    async def read_openai(on_text: OnText) -> None:
        stream = await resource.create(**_streamed(kind))
        async with stream:
            async for chunk in stream:
                on_text(text_of(chunk))

    return read_openai


@_reader("huggingface_hub InferenceClient", needs="huggingface_hub", kinds=CHAT)
def huggingface(url: str, kind: str) -> Callable[[OnText], None]:
    from huggingface_hub import InferenceClient

    client, text_of = InferenceClient(base_url=url, api_key="key"), _text_of_openai(kind)
    body: List[Any] = BODIES[CHAT]["messages"]

    def read_huggingface(on_text: OnText) -> None:
        for chunk in client.chat_completion(
            body, max_tokens=500, stream=True, stream_options={"include_usage": True}
        ):
            on_text(text_of(chunk))

    return read_huggingface
