"""``/v1/embeddings``, ``/pooling``, ``/classify``, ``/score`` and ``/rerank``.

A real server has one kind of model, and so only some of these routes; this one has all.
"""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .._engine.engine import Engine
from .._engine.vectors import DIMENSIONS, class_probabilities, embed, pack, similarity
from .._wire.json_types import Json, JsonObject
from .._wire.refusals import RefusalError, field_error, parameter_error, validation_error
from .._wire.replies import EventStream, Reply, json_reply
from .._wire.request_fields import RequestFields, decode_body, read_fields
from ..recorded import RecordedRequest
from .checks import check_context, check_model
from .messages import chat_prompt, check_messages, message_text

__all__ = ["classify", "embeddings", "pooling", "rerank", "score"]

_CLASSES = ("question", "statement")
_CHOICES: Mapping[str, Sequence[str]] = {
    "encoding_format": ("float", "base64", "bytes", "bytes_only"),
    "embed_dtype": ("float32", "float16", "bfloat16", "fp8_e4m3", "fp8_e5m2"),
    "endianness": ("native", "little", "big"),
}
_PAIRS = (
    ("data_1", "data_2"),
    ("queries", "documents"),
    ("queries", "items"),
    ("text_1", "text_2"),
)
# vLLM lists one error for each of its request classes that does not fit.
_NO_INPUTS = ("input", "messages", "messages", "messages", "input", "messages", "input")


def embeddings(engine: Engine, request: RecordedRequest) -> Reply | EventStream:
    """Return the response of ``POST /v1/embeddings``.

    Raises:
        RefusalError: vLLM refuses such a request.
    """
    fields = _read(engine, request)
    return _vectors_reply(fields, _inputs(engine, fields), _Head.of(engine, fields, "embd"))


def pooling(engine: Engine, request: RecordedRequest) -> Reply | EventStream:
    """Return the response of ``POST /pooling``, which has the same vectors.

    Raises:
        RefusalError: vLLM refuses such a request.
    """
    fields = _read(engine, request)
    task = fields.get("task", "embed")
    if task != "embed":
        message = f"Try switching the model's pooling_task via --pooler-config.task {task}."
        raise parameter_error(message, "task")
    return _vectors_reply(fields, _inputs(engine, fields), _Head.of(engine, fields, "pooling"))


def classify(engine: Engine, request: RecordedRequest) -> Reply:
    """Return the response of ``POST /classify``.

    Raises:
        RefusalError: vLLM refuses such a request.
    """
    fields = _read(engine, request)
    inputs = _inputs(engine, fields)
    data = []
    for index, each in enumerate(inputs):
        probs = class_probabilities(embed(each.text), _CLASSES)
        label = _CLASSES[probs.index(max(probs))]
        data.append({"index": index, "label": label, "probs": probs, "num_classes": len(probs)})
    head = _Head.of(engine, fields, "classify")
    return json_reply({**head.fields(), "data": data, "usage": _usage(inputs)})


def score(engine: Engine, request: RecordedRequest) -> Reply:
    """Return the response of ``POST /score``.

    Raises:
        RefusalError: vLLM refuses such a request.
    """
    fields = _read(engine, request)
    left, right = (_sides(engine, fields[name]) for name in _pair(fields))
    if len(left) not in (1, len(right)):
        raise RefusalError("Input lengths must be either 1:1, 1:N or N:N")
    pairs = zip(left * len(right) if len(left) == 1 else left, right)
    data = [
        {"index": index, "object": "score", "score": _score(*pair)}
        for index, pair in enumerate(pairs)
    ]
    head = _Head.of(engine, fields, "score")
    return json_reply({**head.fields(), "data": data, "usage": _usage([*left, *right])})


def rerank(engine: Engine, request: RecordedRequest) -> Reply:
    """Return the response of ``POST /rerank``.

    Raises:
        RefusalError: vLLM refuses such a request.
    """
    fields = _read(engine, request)
    missing = [name for name in ("query", "documents") if name not in fields]
    if missing:
        raise _missing(fields, missing)
    (query,) = _sides(engine, fields["query"])
    documents = _sides(engine, fields["documents"])
    scores = [_score(query, each) for each in documents]
    order = sorted(range(len(documents)), key=lambda index: scores[index], reverse=True)
    results = [
        {
            "index": index,
            "document": {"text": documents[index].text, "multi_modal": None},
            "relevance_score": scores[index],
        }
        for index in order
    ]
    head = _Head.of(engine, fields, "score")
    tokens = sum(each.tokens for each in [query, *documents])
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    top = results[: fields.get("top_n") or None]
    return json_reply({"id": head.id, "model": head.model, "usage": usage, "results": top})


class _Input(NamedTuple):
    """One input: its text, and how many tokens it has."""

    text: str
    tokens: int


class _Head(NamedTuple):
    """The members before the data."""

    id: str
    created: int
    model: str

    @classmethod
    def of(cls, engine: Engine, fields: RequestFields, prefix: str) -> _Head:
        id_ = fields.get("request_id") or uuid.uuid4().hex[:16]
        return cls(f"{prefix}-{id_}", int(time.time()), fields.get("model") or engine.models[0])

    def fields(self) -> JsonObject:
        return {"id": self.id, "object": "list", "created": self.created, "model": self.model}


def _read(engine: Engine, request: RecordedRequest) -> RequestFields:
    fields = read_fields(decode_body(request.headers.get("Content-Type", ""), request.body))
    check_model(engine, fields)
    for name, choices in _CHOICES.items():
        value = fields.get(name, choices[0])
        if value not in choices:
            *others, last = map(repr, choices)
            expected = f"{', '.join(others)} or {last}"
            message, context = f"Input should be {expected}", {"expected": expected}
            loc, shown = f"body.{name}", str(value)
            raise validation_error([field_error("literal_error", loc, message, shown, context)])
    return fields


def _inputs(engine: Engine, fields: RequestFields) -> list[_Input]:
    if fields.get("dimensions") is not None:
        name, dimensions = fields.get("model") or engine.models[0], fields["dimensions"]
        raise RefusalError(
            f"Model '{name}' does not support Matryoshka embeddings; dimensions must be unset "
            f"(received dimensions={dimensions})."
        )
    texts = fields.get("messages", fields.get("input"))
    if texts is None:
        raise _missing(fields, _NO_INPUTS)
    if isinstance(texts, list) and texts and isinstance(texts[0], (list, str)):
        return [_input(engine, fields, each) for each in texts]
    return [_input(engine, fields, texts)]


def _input(engine: Engine, fields: RequestFields, value: Json) -> _Input:
    if isinstance(value, list) and any(isinstance(each, dict) for each in value):
        conversation = {"add_generation_prompt": False, **fields, "messages": value}
        check_messages(conversation)
        ids = chat_prompt(engine, conversation)
    else:
        ids = engine.tokenizer.encode(value) if isinstance(value, str) else list(value)
    return _checked(engine, ids, fields.get("truncate_prompt_tokens"))


def _checked(engine: Engine, ids: Sequence[int], truncate: int | None = None) -> _Input:
    if truncate is not None:
        ids = ids[: engine.max_model_len if truncate == -1 else truncate]
    if not ids:
        raise RefusalError("The decoder prompt cannot be empty")
    if not all(isinstance(id_, int) and 0 <= id_ < engine.tokenizer.vocab_size for id_ in ids):
        raise RefusalError(f"Token ids {list(ids)} are out of vocabulary")
    check_context(engine, len(ids))
    return _Input(engine.tokenizer.decode(ids), len(ids))


def _sides(engine: Engine, value: Json) -> list[_Input]:
    items = value if isinstance(value, list) else [value]
    if not items:
        raise RefusalError("At least one text element must be given")
    texts = [each if isinstance(each, str) else message_text(each) for each in items]
    return [_checked(engine, engine.tokenizer.encode(text)) for text in texts]


def _pair(fields: RequestFields) -> tuple[str, str]:
    for left, right in _PAIRS:
        if left in fields and right in fields:
            return left, right
    raise _missing(fields, [name for pair in _PAIRS for name in pair])


def _missing(fields: RequestFields, names: Sequence[str]) -> RefusalError:
    shown = f"<dict of {len(fields)} items>"
    return validation_error(
        [field_error("missing", f"body.{name}", "Field required", shown) for name in names]
    )


def _vectors_reply(
    fields: RequestFields, inputs: Sequence[_Input], head: _Head
) -> Reply | EventStream:
    vectors = [embed(each.text) for each in inputs]
    encoding = fields.get("encoding_format", "float")
    dtype, order = fields.get("embed_dtype", "float32"), fields.get("endianness", "native")
    if encoding.startswith("bytes"):
        parts = [pack(vector, dtype, order) for vector in vectors]
        described = None if encoding == "bytes_only" else _metadata(parts, dtype, order, head)
        return _binary(parts, described, _counts(inputs))
    member = "embedding" if head.id.startswith("embd-") else "data"
    kind = "embedding" if member == "embedding" else "pooling"
    data = []
    for index, vector in enumerate(vectors):
        value: Json = vector
        if encoding == "base64":
            value = base64.b64encode(pack(vector, dtype, order)).decode()
        data.append({"index": index, "object": kind, member: value})
    return json_reply({**head.fields(), "data": data, "usage": _usage(inputs)})


def _binary(
    parts: Sequence[bytes], metadata: JsonObject | None, counts: Mapping[str, int]
) -> EventStream:
    headers = {"content-type": "application/octet-stream"}
    if metadata is not None:
        headers = {"metadata": json.dumps({**metadata, "usage": counts}), **headers}
    return EventStream(parts, (), headers=headers)


def _metadata(parts: Sequence[bytes], dtype: str, order: str, head: _Head) -> JsonObject:
    items = []
    end = 0
    for index, part in enumerate(parts):
        start, end = end, end + len(part)
        kind = {"index": index, "embed_dtype": dtype, "endianness": order}
        items.append({**kind, "start": start, "end": end, "shape": [DIMENSIONS]})
    return {"id": head.id, "created": head.created, "model": head.model, "data": items}


def _score(left: _Input, right: _Input) -> float:
    return similarity(embed(left.text), embed(right.text))


def _counts(inputs: Sequence[_Input]) -> Mapping[str, int]:
    tokens = sum(each.tokens for each in inputs)
    return {"prompt_tokens": tokens, "total_tokens": tokens}


def _usage(inputs: Sequence[_Input]) -> JsonObject:
    details = {"prompt_tokens_details": None, "completion_tokens_details": None}
    return {**_counts(inputs), "completion_tokens": 0, **details}
