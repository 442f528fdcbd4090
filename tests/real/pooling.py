"""Checks of a pooling model: its methods, each field once, and all encodings of vectors."""

from __future__ import annotations

import itertools
import math
from typing import Any, Dict, List, Optional, Tuple

from vllm_client import AsyncVllmClient, NotFoundError, VllmClient
from vllm_client.params import RequestOptions, names
from vllm_client.params.pooling import (
    EmbeddingParams,
    PoolingParams,
    RerankParams,
    ScoreParams,
)

from .fields import known_refusal
from .routes import GENERATING, in_asyncio, method
from .samples import HELLO, Sample
from .servers import Server
from .table import check, raised

INPUT = ["One, two", "Weather in Paris"]
DIMENSIONS = 128
_SMALLEST = {"float32": 1e-6, "float16": 1e-2, "bfloat16": 1e-2, "fp8_e4m3": 0.1, "fp8_e5m2": 0.2}
"""How far a component of a unit vector may lie off in each type."""
_OPTIONS: Dict[str, Sample] = {
    "model": Sample("tiny", seen=lambda r: r.model == "tiny"),
    "user": Sample("someone"),
    "truncate_prompt_tokens": Sample(2),
    "truncation_side": Sample("left", {"truncate_prompt_tokens": 2}),
    "padding": Sample("do_not_pad"),
    "request_id": Sample("r-1"),
    "priority": Sample(0),
    "mm_processor_kwargs": Sample({"num_crops": 1}, refused="mm"),
    "cache_salt": Sample("salt"),
    "use_activation": Sample(True),
}
_INPUTS: Dict[str, Sample] = {
    **_OPTIONS,
    "input": Sample([[11, 12], [13]], seen=lambda r: r.usage.prompt_tokens == 3),
    "messages": Sample(HELLO, {"input": None}, lambda r: len(r.data) == 1),
    "add_special_tokens": Sample(False),
    "add_generation_prompt": Sample(True, {"input": None, "messages": HELLO}),
    "continue_final_message": Sample(
        True, {"input": None, "messages": HELLO, "add_generation_prompt": False}
    ),
    "chat_template": Sample(
        "{{ messages[0].content }}", {"input": None, "messages": HELLO}, refused="hat template"
    ),
    "chat_template_kwargs": Sample({"enable_thinking": False}, {"input": None, "messages": HELLO}),
    "media_io_kwargs": Sample(
        {"video": {"num_frames": 1}}, {"input": None, "messages": HELLO}, refused="mm"
    ),
    "encoding_format": Sample("float"),
    "embed_dtype": Sample("float16", {"encoding_format": "base64"}),
    "endianness": Sample("big", {"encoding_format": "bytes"}),
    "dimensions": Sample(8, refused="atryoshka"),
}
_SCORES: Dict[str, Sample] = {
    **_OPTIONS,
    "max_tokens_per_query": Sample(8),
    "max_tokens_per_doc": Sample(8),
    "instruction": Sample("Find the weather.", refused="nstruction"),
    "chat_template_kwargs": Sample({}),
}
_PAIR = {"queries": None, "documents": None}
SAMPLES: Dict[str, Tuple[type, Dict[str, Any], Dict[str, Sample]]] = {
    "embeddings": (
        EmbeddingParams,
        {"input": INPUT},
        {**_INPUTS, "late_chunking_params": Sample({"chunk_size": 8})},
    ),
    "pooling": (
        PoolingParams,
        {"input": INPUT},
        {
            **_INPUTS,
            "task": Sample("embed"),
            "dimensions": Sample(8, refused="dimensions is currently not supported"),
        },
    ),
    "score": (
        ScoreParams,
        {"queries": "One", "documents": INPUT},
        {
            **_SCORES,
            "queries": Sample(["One", "Paris"], seen=lambda r: len(r.data) == 2),
            "documents": Sample(["One"]),
            "items": Sample(["One"], {"documents": None}),
            "data_1": Sample("One", {**_PAIR, "data_2": "Two"}),
            "data_2": Sample("One", {**_PAIR, "data_1": "Two"}),
            "text_1": Sample("One", {**_PAIR, "text_2": "Two"}),
            "text_2": Sample("One", {**_PAIR, "text_1": "Two"}),
        },
    ),
    "rerank": (
        RerankParams,
        {"query": "One", "documents": INPUT},
        {
            **_SCORES,
            "query": Sample("Weather"),
            "documents": Sample(["One"], seen=lambda r: len(r.results) == 1),
            "top_n": Sample(1, seen=lambda r: len(r.results) == 1),
        },
    ),
}


@method("embeddings.create", "pooling")
def _(client: VllmClient) -> None:
    response = client.embeddings.create(input=INPUT)
    assert [each.index for each in response.data] == [0, 1]
    for each in response.data:
        assert len(each.embedding) == DIMENSIONS
        assert math.isclose(sum(value * value for value in each.embedding), 1, abs_tol=0.01)
    parts = client.embeddings.create(input=INPUT * 5, batch_size=3)
    assert len(parts.data) == 10
    for number, each in enumerate(parts.data):
        _close(each.embedding, response.data[number % 2].embedding, 0.01)


@in_asyncio("embeddings.create", "pooling")
async def _(client: AsyncVllmClient) -> None:
    assert len((await client.embeddings.create(input=INPUT)).data) == 2


@method("pooling.create", "pooling")
def _(client: VllmClient) -> None:
    vectors = client.embeddings.create(input=INPUT).data
    for each, vector in zip(client.pooling.create(input=INPUT).data, vectors):
        _close(each.data, vector.embedding, 0.01)


@method("classify.create", "pooling")
def _(client: VllmClient) -> str:
    raised(NotFoundError, lambda: client.classify.create(input=INPUT))
    return "not served: the model embeds"


@method("score.create", "pooling")
def _(client: VllmClient) -> None:
    scores = client.score.create(queries="One, two", documents=INPUT).data
    assert math.isclose(scores[0].score, 1, abs_tol=0.01)
    assert scores[1].score < scores[0].score


@method("rerank.create", "pooling")
def _(client: VllmClient) -> None:
    results = client.rerank.create(query="Weather in Paris", documents=INPUT).results
    assert [(each.index, each.document.text) for each in results] == [(1, INPUT[1]), (0, INPUT[0])]


@method("batch.embeddings", "pooling")
def _(client: VllmClient) -> None:
    single = client.embeddings.create(input=INPUT).data
    with client.batch.embeddings(INPUT * 10) as rows:
        found = list(rows)
    assert [(row.index, row.ok) for row in found] == [(number, True) for number in range(20)]
    for row in found:
        _close(row.response.data[0].embedding, single[row.index % 2].embedding, 0.01)


@method("batch.score", "pooling")
def _(client: VllmClient) -> None:
    pairs = [{"queries": "One, two", "documents": text} for text in INPUT * 5]
    with client.batch.score(pairs) as rows:
        scores = [row.response.data[0].score for row in rows]
    assert len(scores) == 10
    assert min(scores[0::2]) > max(scores[1::2])


@method("batch.rerank", "pooling")
def _(client: VllmClient) -> None:
    with client.batch.rerank([{"query": text, "documents": INPUT} for text in INPUT * 5]) as rows:
        best = [row.response.results[0].index for row in rows]
    assert best == [0, 1] * 5


@method("embeddings.create, not served", *GENERATING)
def _(client: VllmClient) -> None:
    raised(NotFoundError, lambda: client.embeddings.create(input=INPUT))


def _close(one: List[float], other: List[float], tolerance: float) -> None:
    assert len(one) == len(other)
    worst = max(abs(left - right) for left, right in zip(one, other))
    assert worst <= tolerance, f"a component differs by {worst}"


def _register_encoding(encoding: str, dtype: str, endianness: str) -> None:
    @check("encodings of vectors", f"{encoding}, {dtype}, {endianness}", "pooling")
    def run(server: Server) -> None:
        with server.client() as client:
            exact = client.embeddings.create(input=INPUT, encoding_format="float").data
            how: Dict[str, Any] = {"embed_dtype": dtype, "endianness": endianness}
            found = client.embeddings.create(input=INPUT, encoding_format=encoding, **how).data  # type: ignore[arg-type]
        for each, vector in zip(found, exact):
            _close(each.embedding, vector.embedding, _SMALLEST[dtype])


def _register(route: str, base: Dict[str, Any], name: str, sample: Optional[Sample]) -> None:
    @check(f"fields of {route}", name, "pooling")
    def run(server: Server) -> None:
        assert sample is not None, "tests/real/pooling.py has no value for this field"
        fields = {**base, **sample.beside, name: sample.value}
        given = {key: value for key, value in fields.items() if value is not None}
        with server.client() as client, known_refusal(sample):
            resource: Any = getattr(client, route)
            response = resource.create(**given)
            assert sample.seen is None or sample.seen(response), "no effect"


for _encoding, _dtype, _order in itertools.product(
    ("base64", "bytes", "bytes_only"), _SMALLEST, ("native", "little", "big")
):
    _register_encoding(_encoding, _dtype, _order)
for _route, (_params, _base, _samples) in SAMPLES.items():
    for _name in names(_params):
        if _name not in names(RequestOptions):
            _register(_route, _base, _name, _samples.get(_name))
