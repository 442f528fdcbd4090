"""Captured traffic of a real server, replayed over a socket and compared with a plain decoding."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Tuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vllm_client
from vllm_client import VllmClient
from vllm_client.params import REPLACED

from ..recorded import capture, captures_of, cut, data_of, single_bytes, text_in
from ..servers import Replay, Serve

ALL = list(captures_of("/v1/completions"))
STREAMS = [name for name, status, streamed in ALL if streamed]
ANSWERS = [name for name, status, streamed in ALL if status == 200 and not streamed]
ERRORS = [name for name, status, _ in ALL if status >= 400]
ABORTED = {"dev_abort_stream", "shutdown_stream", "shutdown_completion"}


def test_there_are_captures_to_replay() -> None:
    """The selection finds enough captures."""
    assert len(STREAMS) >= 18
    assert len(ANSWERS) >= 45
    assert len(ERRORS) >= 40
    assert len(ABORTED & {*STREAMS, *ANSWERS}) == 3


@pytest.fixture
def replay(serve: Serve) -> Tuple[Replay, VllmClient]:
    """A server that replays captures, and its client."""
    sender = Replay()
    return sender, serve(handler=sender, api_key="k", max_retries=0).client


def _sent(name: str) -> Dict[str, Any]:
    request, _ = capture(name)
    body = request.get("body") or json.loads(request["raw_body"])
    return {key: value for key, value in body.items() if key != "stream"}


def _expected(name: str) -> Tuple[List[Tuple[Any, ...]], Any]:
    """The events of a captured stream, decoded plainly, and its error frame or None."""
    events: List[Tuple[Any, ...]] = []
    usage = None
    for data in data_of(name):
        decoded = json.loads(data)
        if "error" in decoded:
            return events, decoded["error"]
        usage = decoded.get("usage") or usage
        for choice in decoded["choices"]:
            if choice["text"] or choice["logprobs"] is not None or choice["token_ids"]:
                content = choice["text"], choice["logprobs"], choice["token_ids"]
                events.append(("text", choice["index"], *content, decoded))
            if choice["finish_reason"] is not None:
                reason = choice["finish_reason"], choice["stop_reason"]
                events.append(("finish_reason", choice["index"], *reason, decoded))
    if usage:
        events.append(
            (
                "usage",
                usage["prompt_tokens"],
                usage["completion_tokens"],
                usage["total_tokens"],
                usage.get("prompt_tokens_details"),
            )
        )
    return events, None


def _as_tuple(event: Any) -> Tuple[Any, ...]:
    if event.type == "text":
        content = event.text, event.logprobs, event.token_ids
        return ("text", event.index, *content, event.chunk)
    if event.type == "finish_reason":
        return ("finish_reason", event.index, event.reason, event.stop_reason, event.chunk)
    counts = event.prompt_tokens, event.completion_tokens, event.total_tokens
    return ("usage", *counts, event.prompt_tokens_details)


def _check_stream(client: VllmClient, name: str) -> None:
    sent = _sent(name)
    events, frame = _expected(name)
    got = []
    error = None
    with client.completions.stream(prompt=sent.pop("prompt"), extra_body=sent) as stream:
        try:
            got.extend(stream)  # Events before an error stay in the list.
        except vllm_client.VllmError as raised:
            error = raised
        texts = [(event.index, event.text) for event in got if event.type == "text"]
        for index in {index for index, _ in texts}:
            joined = "".join(text for at, text in texts if at == index)
            assert text_in(stream.snapshot, index) == joined
    if frame is not None:
        assert isinstance(error, vllm_client.ServerStreamError)
        assert (error.code, error.error_type, error.param) == (
            frame["code"],
            frame["type"],
            frame["param"],
        )
        assert frame["message"] in str(error)
        assert error.body == {"error": frame}
    elif name in ABORTED:
        assert isinstance(error, vllm_client.GenerationAbortedError)
        assert text_in(error.partial) == "".join(text for _, text in texts)
    else:
        assert error is None
        assert got.pop() == vllm_client.Done()
    assert [_as_tuple(event) for event in got] == events


@pytest.mark.parametrize("name", STREAMS)
def test_a_captured_stream(name: str, replay: Tuple[Replay, VllmClient]) -> None:
    """A captured stream yields the events of the plain decoding, also byte by byte."""
    sender, client = replay
    response = capture(name)[1]
    for pieces in [[response], single_bytes(response)]:
        sender.pieces = pieces
        _check_stream(client, name)


@pytest.mark.parametrize("name", STREAMS)
@given(data=st.data())
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_captured_stream_in_any_pieces(
    name: str, replay: Tuple[Replay, VllmClient], data: st.DataObject
) -> None:
    """However a captured stream is cut, its events are the same."""
    sender, client = replay
    response = capture(name)[1]
    places = data.draw(st.sets(st.integers(1, len(response) - 1), max_size=12))
    sender.pieces = cut(response, places)
    _check_stream(client, name)


@pytest.mark.parametrize("name", ANSWERS)
def test_a_captured_response(name: str, replay: Tuple[Replay, VllmClient]) -> None:
    """A captured response is read completely, also byte by byte."""
    sender, client = replay
    response = capture(name)[1]
    body = json.loads(response[response.rindex(b"\r\n\r\n") + 4 :])
    sent = {key: value for key, value in _sent(name).items() if key not in REPLACED}
    prompt = sent.pop("prompt")
    for pieces in [[response], single_bytes(response)]:
        sender.pieces = pieces
        if name in ABORTED:
            with pytest.raises(vllm_client.GenerationAbortedError) as raised:
                client.completions.create(prompt=prompt, extra_body=sent)
            completion = raised.value.partial
        else:
            completion = client.completions.create(prompt=prompt, extra_body=sent)
        assert completion.raw == body
        assert (completion.id, completion.model, completion.created) == (
            body["id"],
            body["model"],
            body["created"],
        )
        assert completion.text == body["choices"][0]["text"]
        assert [
            (choice.index, choice.text, choice.finish_reason) for choice in completion.choices
        ] == [
            (choice["index"], choice["text"], choice["finish_reason"]) for choice in body["choices"]
        ]
        assert completion.usage.total_tokens == body["usage"]["total_tokens"]


_CLASSES = {
    400: vllm_client.BadRequestError,
    401: vllm_client.AuthenticationError,
    404: vllm_client.NotFoundError,
    405: vllm_client.APIStatusError,
    500: vllm_client.InternalServerError,
    503: vllm_client.ServiceUnavailableError,
}
_TOO_LONG = {
    "completion_prompt_fills_context",
    "completion_prompt_fills_context_stream",
    "error_prompt_too_long",
    "error_prompt_too_long_stream",
    "error_prompt_plus_max_tokens_too_long",
}
_NO_MODEL = {"error_unknown_model", "f_lora_completion_gone"}


@pytest.mark.parametrize("name", ERRORS)
def test_a_captured_error(name: str, replay: Tuple[Replay, VllmClient]) -> None:
    """A captured error raises the class of its status, with all fields."""
    sender, client = replay
    request, response = capture(name)
    head, _, body = response.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    decoded = json.loads(body)
    fields = decoded.get("error", decoded)
    fields = fields if isinstance(fields, dict) else {"message": fields}
    expected = _CLASSES[status]
    if name in _TOO_LONG:
        expected = vllm_client.ContextLengthError
    elif name in _NO_MODEL:
        expected = vllm_client.ModelNotFoundError
    sender.pieces = [response]
    with pytest.raises(vllm_client.APIStatusError) as raised:
        client.request("POST", "completions", json=request.get("body"))
    error = raised.value
    assert type(error) is expected
    assert error.status_code == status
    assert (fields.get("message") or fields.get("detail")).strip() in error.message
    assert error.param == fields.get("param")
    assert error.error_type == fields.get("type")
    assert error.code == fields.get("code")
    assert error.body == decoded
    assert error.is_retryable is (status in {500, 503})
    with pytest.raises(vllm_client.APIStatusError) as streamed:
        client.completions.stream(prompt="x").close()
    assert streamed.value.status_code == status


def test_a_captured_redirect(
    replay: Tuple[Replay, VllmClient],
) -> None:
    """The redirect for a trailing slash is an error that names its target."""
    sender, client = replay
    sender.pieces = [capture("error_trailing_slash")[1]]
    with pytest.raises(vllm_client.APIStatusError, match=r":8000/v1/completions") as raised:
        client.completions.create(prompt="x")
    assert raised.value.status_code == 307
