"""Captured traffic of a real server, replayed over a socket, against a decoding of its own."""

from __future__ import annotations

import json
from typing import Any, Dict, Iterator, List, Tuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vllm_client
from vllm_client import VllmClient
from vllm_client.params import REPLACED

from ..recorded import CAPTURES, body_of, capture, text_in
from ..servers import Connection, WireServer


def _names() -> Iterator[Tuple[str, int, bool]]:
    for file in sorted(CAPTURES.glob("*.request.json")):
        name = file.name[: -len(".request.json")]
        request, response = capture(name)
        if (request["method"], request["path"]) != ("POST", "/v1/completions"):
            continue
        head = response.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").partition(b"\r\n\r\n")[0]
        yield name, int(head.split()[1]), b"event-stream" in head


ALL = list(_names())
STREAMS = [name for name, status, streamed in ALL if streamed]
ANSWERS = [name for name, status, streamed in ALL if status == 200 and not streamed]
ERRORS = [name for name, status, _ in ALL if status >= 400]
ABORTED = {"dev_abort_stream", "shutdown_stream", "shutdown_completion"}


def test_there_are_captures_to_replay() -> None:
    """The selection finds what is in the folder."""
    assert len(STREAMS) >= 18
    assert len(ANSWERS) >= 45
    assert len(ERRORS) >= 40
    assert len(ABORTED & {*STREAMS, *ANSWERS}) == 3


class Replay:
    """A server that sends what it is told, in pieces."""

    def __init__(self) -> None:
        self.pieces: List[bytes] = []

    def __call__(self, connection: Connection) -> None:
        while connection.receive():
            for piece in self.pieces:
                connection.send(piece)
            if b"connection: close" in b"".join(self.pieces):
                return


@pytest.fixture
def replay() -> Iterator[Tuple[Replay, VllmClient]]:
    sender = Replay()
    with (
        WireServer(sender) as server,
        VllmClient(server.base_url, api_key="k", max_retries=0) as client,
    ):
        yield sender, client


def _sent(name: str) -> Dict[str, Any]:
    request, _ = capture(name)
    body = request.get("body") or json.loads(request["raw_body"])
    return {key: value for key, value in body.items() if key != "stream"}


def _expected(name: str) -> Tuple[List[Tuple[Any, ...]], Any]:
    """What the events say, decoded in the plainest way, and the error frame if there is one."""
    events: List[Tuple[Any, ...]] = []
    usage = None
    for block in body_of(capture(name)[1]).decode().split("\n\n"):
        if not block or block.startswith(":"):
            continue
        data = block[len("data: ") :]
        if data == "[DONE]":
            break
        decoded = json.loads(data)
        if "error" in decoded:
            return events, decoded["error"]
        usage = decoded.get("usage") or usage
        for choice in decoded["choices"]:
            if choice["text"] or choice["logprobs"] is not None or choice["token_ids"]:
                said = choice["text"], choice["logprobs"], choice["token_ids"]
                events.append(("text", choice["index"], *said, decoded))
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
        said = event.text, event.logprobs, event.token_ids
        return ("text", event.index, *said, event.chunk)
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
            got.extend(stream)  # What came before an error stays in the list.
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
def test_a_captured_stream_gives_its_events(name: str, replay: Tuple[Replay, VllmClient]) -> None:
    """Whole and byte by byte, a captured stream gives the events of an independent decoding."""
    sender, client = replay
    response = capture(name)[1]
    for pieces in [[response], [response[at : at + 1] for at in range(len(response))]]:
        sender.pieces = pieces
        _check_stream(client, name)


@pytest.mark.parametrize("name", STREAMS)
@given(data=st.data())
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_captured_stream_gives_its_events_in_any_pieces(
    name: str, replay: Tuple[Replay, VllmClient], data: st.DataObject
) -> None:
    """However the network cuts a captured stream up, its events are the same."""
    sender, client = replay
    response = capture(name)[1]
    cuts = sorted(data.draw(st.sets(st.integers(1, len(response) - 1), max_size=12)))
    sender.pieces = [response[start:end] for start, end in zip([0, *cuts], [*cuts, len(response)])]
    _check_stream(client, name)


@pytest.mark.parametrize("name", ANSWERS)
def test_a_captured_answer_gives_its_completion(
    name: str, replay: Tuple[Replay, VllmClient]
) -> None:
    """Whole and byte by byte, a captured answer gives a Completion that says the same."""
    sender, client = replay
    response = capture(name)[1]
    body = json.loads(response[response.rindex(b"\r\n\r\n") + 4 :])
    sent = {key: value for key, value in _sent(name).items() if key not in REPLACED}
    prompt = sent.pop("prompt")
    for pieces in [[response], [response[at : at + 1] for at in range(len(response))]]:
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
def test_a_captured_error_gives_the_right_class_and_fields(
    name: str, replay: Tuple[Replay, VllmClient]
) -> None:
    """A captured refusal is an error of its status with all that its body says."""
    sender, client = replay
    request, response = capture(name)
    head, _, body = response.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    said = json.loads(body)
    fields = said.get("error", said)
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
    assert error.body == said
    assert error.is_retryable is (status in {500, 503})
    with pytest.raises(vllm_client.APIStatusError) as streamed:
        client.completions.stream(prompt="x").close()
    assert streamed.value.status_code == status


def test_a_captured_redirect_is_an_error_that_names_its_target(
    replay: Tuple[Replay, VllmClient],
) -> None:
    """307, as a trailing slash earns it, is not followed."""
    sender, client = replay
    sender.pieces = [capture("error_trailing_slash")[1]]
    with pytest.raises(vllm_client.APIStatusError, match=r":8000/v1/completions") as raised:
        client.completions.create(prompt="x")
    assert raised.value.status_code == 307
