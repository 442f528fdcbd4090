"""``POST /inference/v1/generate``: a completion of token ids, in the form of that route."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from .._engine.engine import Engine
from .._wire.json_types import Json, JsonObject
from .._wire.refusals import RefusalError, field_error, validation_error
from .._wire.replies import DONE, EventStream, Reply, json_reply, sse_event
from .._wire.request_fields import RequestFields, decode_body, read_fields
from ..recorded import RecordedRequest
from ..script import Script
from .completions import complete

__all__ = ["generate"]

_OF_THE_REQUEST = ("model", "stream", "stream_options", "request_id", "priority")


def generate(engine: Engine, request: RecordedRequest, script: Script) -> Reply | EventStream:
    """Return the response to a request of token ids.

    Raises:
        RefusalError: vLLM refuses such a request.
    """
    fields = read_fields(decode_body(request.headers.get("Content-Type", ""), request.body))
    body = json.dumps(_completion_fields(engine, fields)).encode()
    reply = complete(engine, replace(request, body=body), script)
    shape = _Shape(text_mode=fields.get("output_mode") == "text")
    if isinstance(reply, Reply):
        with_prompt = bool(fields.get("return_token_ids"))
        return json_reply(shape.body(json.loads(reply.body), with_prompt), stats=reply.stats)
    events = [shape.event(event) for event in reply.events]
    return replace(reply, events=events, tail=[shape.event(event) for event in reply.tail])


def _completion_fields(engine: Engine, fields: RequestFields) -> JsonObject:
    """Return the body of a completion request for the same tokens."""
    names = ("token_ids", "sampling_params")
    missing = [name for name in names if name not in fields]
    shown = f"<dict of {len(fields)} items>"
    errors = [field_error("missing", f"body.{name}", "Field required", shown) for name in missing]
    if not errors and any(id_ < 0 for id_ in fields["token_ids"]):
        problem = ValueError("token_ids must not contain negative values")
        message, shown = f"Value error, {problem}", f"<list of {len(fields['token_ids'])} items>"
        errors = [field_error("value_error", "body.token_ids", message, shown, {"error": problem})]
    if errors:
        raise validation_error(errors)
    sampling = fields["sampling_params"]
    if fields.get("output_mode") == "text" and sampling.get("logprobs") is not None:
        raise RefusalError("This stand-in for vLLM has no logprobs with output_mode='text'")
    room = engine.max_model_len - len(fields["token_ids"])
    return {
        "max_tokens": max(room, 1),
        **sampling,
        **{name: fields[name] for name in _OF_THE_REQUEST if name in fields},
        "prompt": fields["token_ids"],
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
    }


class _Shape:
    """Gives the JSON of a completion the form of this route.

    Args:
        text_mode: Whether the request has ``output_mode="text"``.
    """

    def __init__(self, *, text_mode: bool) -> None:
        self._text_mode = text_mode
        self._lengths: dict[int, int] = {}

    def body(self, raw: Mapping[str, Json], with_prompt: bool) -> JsonObject:
        """Return the body of a response that is not streamed."""
        first = raw["choices"][0]
        absent = dict.fromkeys(("mm_placeholders", "metrics", "kv_transfer_params"))
        return {
            "request_id": _request_id(raw),
            "model": raw["model"],
            "created": raw["created"],
            "usage": raw["usage"],
            "prompt_logprobs": first["prompt_logprobs"],
            "prompt_token_id_logprobs": None,
            "prompt_token_ids": first["prompt_token_ids"] if with_prompt else None,
            **absent,
            "ec_transfer_params": None,
            **self._choices(raw),
        }

    def event(self, event: bytes) -> bytes:
        """Return an SSE event of a stream."""
        if event == DONE:
            return event
        raw = json.loads(event[len(b"data: ") :])
        head = {"request_id": _request_id(raw), "usage": raw.get("usage")}
        return sse_event({**head, **self._choices(raw)})

    def _choices(self, raw: Mapping[str, Json]) -> JsonObject:
        mode = "text" if self._text_mode else "tokens"
        return {"output_mode": mode, "choices": [self._choice(each) for each in raw["choices"]]}

    def _choice(self, raw: Mapping[str, Json]) -> JsonObject:
        index, ids = raw["index"], raw["token_ids"]
        end = self._lengths[index] = self._lengths.get(index, 0) + len(ids)
        finished = raw["finish_reason"] is not None
        versions = [{"version": "default", "start": 0, "end": end}] if finished else None
        return {
            "index": index,
            "finish_reason": raw["finish_reason"],
            "stop_reason": raw["stop_reason"],
            "token_ids": ids,
            "routed_experts": None,
            "sampling_mask": None,
            "weight_versions": versions,
            **({"text": raw["text"]} if self._text_mode else {}),
            "logprobs": _logprobs(raw["logprobs"]),
        }


def _request_id(raw: Mapping[str, Json]) -> str:
    return f"generate-tokens-{raw['id'].partition('-')[2]}"


def _logprobs(lists: Mapping[str, Json] | None) -> JsonObject | None:
    """Return the parallel lists of a completion as one object a token."""
    return lists and {"content": [_position(top) for top in lists["top_logprobs"]]}


def _position(top: dict[str, float]) -> JsonObject:
    # The first entry is the sampled token; the keys are "token_id:5".
    entries: list[JsonObject] = [
        {"token_id": _id_of(token), "logprob": logprob, "rank": None}
        for token, logprob in top.items()
    ]
    return {**entries[0], "top_logprobs": entries}


def _id_of(token: Json) -> int:
    return int(str(token).rpartition(":")[2])
