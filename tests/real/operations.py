"""Checks of the methods for operators, and of tokens in and out."""

from __future__ import annotations

from vllm_client import AsyncVllmClient, ModelNotFoundError, VllmClient, VllmError

from .routes import ALL, CHAT, GENERATING, PROMPT, in_asyncio, method
from .samples import HELLO
from .servers import Server
from .table import check, raised

TEXT = "One, two, Größe 🚀"
TOKENS = {"token_ids": [11, 12, 13], "max_tokens": 6, "seed": 1}


@method("server.health", *ALL)
def _(client: VllmClient) -> None:
    assert client.server.health() is True


@in_asyncio("server.health", *ALL)
async def _(client: AsyncVllmClient) -> None:
    assert await client.server.health() is True


@method("server.wait_until_ready", *ALL)
def _(client: VllmClient) -> None:
    client.server.wait_until_ready(timeout=5)


@method("server.version", *ALL)
def _(client: VllmClient) -> str:
    return client.server.version()


@method("server.load", *ALL)
def _(client: VllmClient) -> None:
    assert client.server.load() == 0


@method("server.metrics", *ALL)
def _(client: VllmClient) -> None:
    assert "vllm:num_requests_running" in client.server.metrics(raw=True)


@method("server.info", "parsers", "pooling")
def _(client: VllmClient) -> None:
    assert "vllm_config" in client.server.info()


@method("server.info, not served", "plain")
def _(client: VllmClient) -> None:
    error = raised(VllmError, client.server.info)
    assert "VLLM_SERVER_DEV_MODE" in str(error)


@method("server.pause", "parsers")
def _(client: VllmClient) -> None:
    client.server.pause(mode="keep")
    try:
        assert client.server.is_paused() is True
    finally:
        client.server.resume()
    assert client.server.is_paused() is False


@method("server.sleep", "parsers")
def _(client: VllmClient) -> None:
    client.server.sleep(level=1)
    try:
        assert client.server.is_sleeping() is True
    finally:
        client.server.wake_up()
    assert client.server.is_sleeping() is False
    assert client.completions.create(**PROMPT).finish_reason == "length"


@method("server.abort", "parsers")
def _(client: VllmClient) -> None:
    client.server.abort(["cmpl-none-0"])


@method("server.reset_prefix_cache", "parsers", "pooling")
def _(client: VllmClient) -> None:
    assert client.server.reset_prefix_cache() is True


@method("server.reset_mm_cache", "parsers")
def _(client: VllmClient) -> None:
    client.server.reset_mm_cache()


@method("tokenizer.tokenize", *ALL)
def _(client: VllmClient) -> None:
    found = client.tokenizer.tokenize(TEXT, return_token_strs=True)
    assert found.count == len(found.tokens) == len(found.token_strs or ())
    assert client.tokenizer.detokenize(found.tokens) == TEXT
    assert client.tokenizer.tokenize(messages=HELLO).count > 0


@method("tokenizer.info", "parsers")
def _(client: VllmClient) -> None:
    assert "chat_template" in client.tokenizer.info()


@method("generate.create", "parsers")
def _(client: VllmClient) -> None:
    whole = client.generate.create(**TOKENS)
    assert len(whole.choices[0].token_ids) == 6


@method("generate.stream", "parsers")
def _(client: VllmClient) -> None:
    whole = client.generate.create(**TOKENS)
    with client.generate.stream(**TOKENS) as stream:
        streamed = stream.collect()
    assert streamed.choices[0].token_ids == whole.choices[0].token_ids
    assert streamed.choices[0].finish_reason == whole.choices[0].finish_reason == "length"


@method("chat.completions.batch", *GENERATING)
def _(client: VllmClient) -> None:
    single = client.chat.completions.create(**CHAT)
    both = client.chat.completions.batch(**{**CHAT, "messages": [HELLO, HELLO]})
    texts = [(choice.message.content, choice.message.reasoning) for choice in both.choices]
    assert texts == [(single.content, single.reasoning)] * 2


@check("methods", "lora.load", "lora")
def _(server: Server) -> None:
    with server.client() as client:
        client.lora.load("more", str(server.paths.models / "adapter"))
        assert [model.id for model in client.lora.list()] == ["more"]
        assert client.completions.create(model="more", **PROMPT).model == "more"
        client.lora.unload("more")
        assert client.lora.list() == []
        raised(ModelNotFoundError, lambda: client.completions.create(model="more", **PROMPT))


@method("audio, not served", *GENERATING)
def _(client: VllmClient) -> None:
    for resource in (client.audio.transcriptions, client.audio.translations):
        raised(VllmError, lambda each=resource: each.create(file=_silence()))
        raised(VllmError, lambda each=resource: each.stream(file=_silence()))


def _silence() -> bytes:
    """A recording of no sound: a WAV file with one second of zeros, 8 kHz, 8 bits."""
    samples = bytes([128]) * 8000
    form = b"fmt \x10\0\0\0\1\0\1\0@\x1f\0\0@\x1f\0\0\1\0\x08\0"
    data = b"data" + len(samples).to_bytes(4, "little") + samples
    return b"RIFF" + (4 + len(form) + len(data)).to_bytes(4, "little") + b"WAVE" + form + data
