"""Checks of ``client.responses``: its methods, and each of its fields once, whole and streamed."""

from __future__ import annotations

import time
from typing import Any, Dict, Optional

from vllm_client import AsyncVllmClient, BadRequestError, NotFoundError, VllmClient
from vllm_client.params import RequestOptions, names
from vllm_client.params.responses import ResponseParams

from .fields import known_refusal
from .routes import GENERATING, in_asyncio, method
from .samples import NO_THINKING, TOKENS, Sample
from .servers import Server
from .table import UnknownDifferenceError, check, raised

ASK: Dict[str, Any] = {"input": "Say hi", "max_output_tokens": 6, "seed": 1}
TOOL = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
_MESSAGE = {"role": "user", "content": "Say hi"}


@method("responses.create", *GENERATING)
def _(client: VllmClient) -> None:
    response = client.responses.create(**ASK)
    assert response.status == "incomplete"
    assert response.text or response.reasoning


@method("responses.stream", *GENERATING)
def _(client: VllmClient) -> None:
    with client.responses.stream(**ASK) as stream:
        types = [event.type for event in stream]
    assert types[0] == "response.created"
    assert types[-1] in {"response.completed", "response.incomplete"}


@in_asyncio("responses.create", *GENERATING)
async def _(client: AsyncVllmClient) -> None:
    assert (await client.responses.create(**ASK)).status == "incomplete"


@in_asyncio("responses.stream", *GENERATING)
async def _(client: AsyncVllmClient) -> None:
    async with client.responses.stream(**ASK) as stream:
        assert (await stream.collect()).status == "incomplete"


@method("responses.retrieve", "parsers")
def _(client: VllmClient) -> None:
    made = client.responses.create(**ASK)
    assert client.responses.retrieve(made.id).text == made.text


@method("responses.retrieve of an unknown id", *GENERATING)
def _(client: VllmClient) -> None:
    raised(NotFoundError, lambda: client.responses.retrieve("resp_none"))


@method("responses.cancel", "parsers")
def _(client: VllmClient) -> None:
    client.server.pause(mode="keep")  # The response must not end before it is cancelled.
    try:
        made = client.responses.create(**ASK, background=True)
        assert client.responses.cancel(made.id).status == "cancelled"
    finally:
        client.server.resume()
    whole = client.responses.create(**ASK)
    raised(BadRequestError, lambda: client.responses.cancel(whole.id))


@method("responses.create in the background", "parsers")
def _(client: VllmClient) -> None:
    made = client.responses.create(**ASK, background=True)
    until = time.monotonic() + 20
    while client.responses.retrieve(made.id).status in {"queued", "in_progress"}:
        assert time.monotonic() < until, "the response does not end"
        time.sleep(0.1)
    assert client.responses.retrieve(made.id).status == "incomplete"


SAMPLES: Dict[str, Sample] = {
    "input": Sample([_MESSAGE, {"role": "assistant", "content": "Hi."}, _MESSAGE]),
    "model": Sample("tiny", seen=lambda r: r.model == "tiny"),
    "instructions": Sample("Be brief."),
    "max_output_tokens": Sample(3, seen=lambda r: r.usage.completion_tokens == 3),
    "max_tool_calls": Sample(1),
    "background": Sample(False),
    "store": Sample(False),
    "include": Sample(["message.output_text.logprobs"], {**NO_THINKING, "top_logprobs": 1}),
    "metadata": Sample({"a": "b"}, seen=lambda r: r.raw["metadata"] == {"a": "b"}),
    "reasoning": Sample({"effort": "low"}),
    "include_reasoning": Sample(False),
    "text": Sample(
        {"format": {"type": "json_schema", "name": "c", "schema": {"enum": ["Paris", "Oslo"]}}},
        NO_THINKING,
        lambda r: r.text in {'"Paris"', '"Oslo"'},
    ),
    "tools": Sample([TOOL], {"tool_choice": "none"}),
    "tool_choice": Sample("none", {"tools": [TOOL]}),
    "parallel_tool_calls": Sample(False),
    "temperature": Sample(0),
    "top_p": Sample(0.5),
    "top_k": Sample(5),
    "min_p": Sample(0.1),
    "top_logprobs": Sample(1, {**NO_THINKING, "include": ["message.output_text.logprobs"]}),
    "frequency_penalty": Sample(0.5),
    "presence_penalty": Sample(0.5),
    "repetition_penalty": Sample(1.2),
    "logit_bias": Sample({"40": 100.0}),
    "seed": Sample(-5),
    "stop": Sample([" ", "e"]),
    "stop_token_ids": Sample(list(TOKENS)),
    "include_stop_str_in_output": Sample(True, {"stop": ["e"]}),
    "ignore_eos": Sample(True, seen=lambda r: r.status == "incomplete"),
    "skip_special_tokens": Sample(False),
    "spaces_between_special_tokens": Sample(False),
    "truncation": Sample("auto"),
    "structured_outputs": Sample(
        {"choice": ["Paris", "Oslo"]}, NO_THINKING, lambda r: r.text in {"Paris", "Oslo"}
    ),
    "chat_template_kwargs": Sample({"enable_thinking": False}),
    "media_io_kwargs": Sample({"video": {"num_frames": 1}}, refused="mm"),
    "mm_processor_kwargs": Sample({"num_crops": 1}, refused="mm"),
    "enable_response_messages": Sample(True, seen=lambda r: bool(r.raw["input_messages"])),
    "priority": Sample(0),
    "request_id": Sample("resp_1"),
    "session_id": Sample("s-1"),
    "cache_salt": Sample("salt"),
    "vllm_xargs": Sample({"a": 1}),
    "kv_transfer_params": Sample({}),
    "ec_transfer_params": Sample({}),
    "watermarking": Sample(False),
    "service_tier": Sample("auto"),
    "user": Sample("someone"),
    "safety_identifier": Sample("someone"),
    "prompt_cache_key": Sample("key"),
    "prompt_cache_options": Sample({}),
    "prompt_cache_retention": Sample("24h"),
    "mm_payload": Sample("none"),
    "return_mm_kwargs": Sample(False),
}
_NOT_TRIED = {
    "previous_response_id": "the check of responses that follow each other has it",
    "previous_input_messages": "for models that write Harmony",
    "prompt": "for templates that the server does not have",
}


@method("responses.create after another response", "parsers")
def _(client: VllmClient) -> None:
    before = client.responses.create(**ASK)
    after = client.responses.create(**ASK, previous_response_id=before.id)
    assert after.usage.prompt_tokens > before.usage.prompt_tokens  # type: ignore[union-attr]


def _register(name: str, sample: Optional[Sample]) -> None:
    @check("fields of responses", name, "plain", "parsers")
    def run(server: Server) -> None:
        assert sample is not None, "tests/real/responses.py has no value for this field"
        fields = {**ASK, **sample.beside, name: sample.value}
        with server.client() as client, known_refusal(sample):
            _try(client, fields, sample)


def _try(client: VllmClient, fields: Dict[str, Any], sample: Sample) -> None:
    whole = client.responses.create(**fields)
    with client.responses.stream(**fields) as stream:
        streamed = stream.collect()
    for response in (whole, streamed):
        assert sample.seen is None or sample.seen(response), f"no effect in {response!r:.200}"
    for name in ("status", "text", "reasoning", "incomplete_reason"):
        one, other = getattr(whole, name), getattr(streamed, name)
        if one != other:
            raise UnknownDifferenceError(f"{name}: {one!r:.60} whole, {other!r:.60} streamed")


for _name in names(ResponseParams):
    if _name not in {*names(RequestOptions), *_NOT_TRIED}:
        _register(_name, SAMPLES.get(_name))
