"""Checks: every method of the client, and that routes that are not served say so."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any, Callable, Iterator

from vllm_client import AsyncVllmClient, ModelNotFoundError, NotFoundError, VllmClient

from .samples import HELLO
from .servers import Server
from .table import CHECKS, check, first, raised

GENERATING = ("plain", "parsers", "lora")
ALL = (*GENERATING, "pooling")
PROMPT = {"prompt": "One, two", "max_tokens": 4, "seed": 1}
CHAT = {"messages": HELLO, "max_tokens": 4, "seed": 1}


def method(name: str, *kinds: str) -> Callable[[Callable[[VllmClient], Any]], None]:
    """Check a method: the function gets a client of the server; what it returns is the remark."""

    def registered(use: Callable[[VllmClient], Any]) -> None:
        def run(server: Server) -> str:
            with server.client() as client:
                return use(client) or ""

        check("methods", name, *kinds)(run)

    return registered


def in_asyncio(name: str, *kinds: str) -> Callable[[Callable[[AsyncVllmClient], Any]], None]:
    """The same for a method of ``AsyncVllmClient``; the function is a coroutine."""

    def registered(use: Callable[[AsyncVllmClient], Any]) -> None:
        async def main(server: Server) -> Any:
            key = server.kind.api_key or ""
            async with AsyncVllmClient(server.base_url, api_key=key, timeout=60) as client:
                return await use(client)

        check("methods", f"async {name}", *kinds)(lambda server: asyncio.run(main(server)) or "")

    return registered


@method("completions.create", *GENERATING)
def _(client: VllmClient) -> None:
    completion = client.completions.create(**PROMPT)
    assert completion.finish_reason == "length"
    assert completion.usage
    assert completion.usage.completion_tokens == 4


@method("completions.stream", *GENERATING)
def _(client: VllmClient) -> None:
    with client.completions.stream(**PROMPT) as stream:
        types = [event.type for event in stream]
    assert types[-3:] == ["finish_reason", "usage", "done"]


@method("chat.completions.create", *GENERATING)
def _(client: VllmClient) -> None:
    answer = client.chat.completions.create(**CHAT)
    assert answer.finish_reason == "length"
    assert answer.content or answer.reasoning


@method("chat.completions.stream", *GENERATING)
def _(client: VllmClient) -> None:
    with client.chat.completions.stream(**CHAT) as stream:
        types = [event.type for event in stream]
    assert types[-3:] == ["finish_reason", "usage", "done"]
    assert {"content", "reasoning"} & {*types}


@in_asyncio("completions.create", *GENERATING)
async def _(client: AsyncVllmClient) -> None:
    assert (await client.completions.create(**PROMPT)).finish_reason == "length"


@in_asyncio("completions.stream", *GENERATING)
async def _(client: AsyncVllmClient) -> None:
    async with client.completions.stream(**PROMPT) as stream:
        assert [event.type async for event in stream][-1] == "done"


@in_asyncio("chat.completions.create", *GENERATING)
async def _(client: AsyncVllmClient) -> None:
    assert (await client.chat.completions.create(**CHAT)).finish_reason == "length"


@in_asyncio("chat.completions.stream", *GENERATING)
async def _(client: AsyncVllmClient) -> None:
    async with client.chat.completions.stream(**CHAT) as stream:
        assert (await stream.collect()).finish_reason == "length"


@method("batch.completions", *GENERATING)
def _(client: VllmClient) -> None:
    with client.batch.completions([f"Number {i}" for i in range(40)], max_tokens=4) as rows:
        found = [(row.index, row.ok, row.response.finish_reason) for row in rows]
    assert [(index, ok) for index, ok, _ in found] == [(index, True) for index in range(40)]


@method("batch.chat", *GENERATING)
def _(client: VllmClient) -> None:
    with client.batch.chat([HELLO] * 20, max_tokens=4, ordered=False) as rows:
        found = [row for row in rows if row.ok]
    assert sorted(row.index for row in found) == list(range(20))


@method("batch.run", *GENERATING)
def _(client: VllmClient) -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.jsonl"
        rows = [{"prompt": f"Number {i}"} for i in range(20)]
        report = client.batch.run(rows, out, max_tokens=4)
        again = client.batch.run(rows, out, max_tokens=4)
        lines = out.read_text(encoding="utf-8").splitlines()
    assert (report.done, report.failed, again.skipped, again.read) == (20, 0, 20, 0)
    assert len(lines) == 20


@method("models.list", *ALL)
def _(client: VllmClient) -> None:
    assert first(client.models.list(), lambda model: model.id == "tiny").max_model_len == 1024


@method("models.retrieve", *ALL)
def _(client: VllmClient) -> None:
    assert client.models.retrieve("tiny").id == "tiny"
    error = raised(NotFoundError, lambda: client.models.retrieve("none"))
    assert "tiny" in str(error)


@method("models.default", *ALL)
def _(client: VllmClient) -> None:
    assert client.models.default().id == "tiny"


@method("request", *ALL)
def _(client: VllmClient) -> str:
    return f"vLLM {client.request('GET', '/version').json()['version']}"


@method("request, streamed", *GENERATING)
def _(client: VllmClient) -> None:
    body = {"model": "tiny", "input": "Say hi", "max_output_tokens": 4, "stream": True}
    with client.request("POST", "responses", json=body, stream=True) as stream:
        names = [event.event for event in stream]
    assert names[0] == "response.created"
    assert names[-1] in {"response.completed", "response.incomplete"}


@method("completions.create of an unknown model", *GENERATING)
def _(client: VllmClient) -> None:
    raised(NotFoundError, lambda: client.completions.create(model="none", prompt="One"))


@method("completions.create", "pooling")
def _(client: VllmClient) -> str:
    raised(NotFoundError, lambda: client.completions.create(**PROMPT))
    return "not served"


@check("methods", "every method has a check", "plain")
def _(server: Server) -> str:
    with server.client() as client:
        public = set(_methods(client, "")) - _NOT_REQUESTS
    named = {each.name for each in CHECKS if each.group == "methods"} | _INSIDE
    missing = sorted(public - named)
    assert not missing, f"no check in tests/real: {', '.join(missing)}"
    return f"{len(public)} methods"


_AUDIO = ("create", "stream")
_NOT_REQUESTS = {"close", "with_options"}
_INSIDE = {
    *(f"audio.{kind}.{name}" for kind in ("transcriptions", "translations") for name in _AUDIO),
    *("server.resume", "server.is_paused", "server.wake_up", "server.is_sleeping"),
    *("tokenizer.detokenize", "lora.unload", "lora.list"),
}
"""Methods that the check of another one calls; no model here knows audio."""


def _methods(owner: object, path: str) -> Iterator[str]:
    """The public methods of a client and of its groups of routes, as they are called."""
    for name in dir(owner):
        if not name.startswith("_"):
            value = getattr(owner, name)
            if callable(value):
                yield path + name
            elif type(value).__module__.startswith(("vllm_client.resources", "vllm_client.batch")):
                yield from _methods(value, f"{path}{name}.")


@method("request: tokenize and detokenize", *ALL)
def _(client: VllmClient) -> None:
    tokens = client.request("POST", "/tokenize", json={"prompt": "One, two"}).json()["tokens"]
    text = client.request("POST", "/detokenize", json={"tokens": tokens}).json()["prompt"]
    assert text == "One, two"


@check("methods", "request: load and unload an adapter", "lora")
def _(server: Server) -> None:
    body = {"lora_name": "more", "lora_path": str(server.paths.models / "adapter")}
    with server.client() as client:
        client.request("POST", "load_lora_adapter", json=body)
        assert client.models.retrieve("more").parent == "tiny"
        changed = client.completions.create(model="more", **PROMPT)
        assert changed.model == "more"
        client.request("POST", "unload_lora_adapter", json={"lora_name": "more"})
        raised(ModelNotFoundError, lambda: client.completions.create(model="more", **PROMPT))
