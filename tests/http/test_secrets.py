"""Secrets: the key appears in no error and in no repr, even if the server repeats it."""

from __future__ import annotations

import json
import logging
import pickle
from typing import Any

import pytest

from vllm_client import VllmError

from ..recorded import STREAM_HEAD, chunk, json_bytes, stream_bytes
from ..servers import Serve

KEY = 'sk-"quoted\\secret'


def everything(error: BaseException) -> str:
    """All text of an error that a program could show or store."""
    shown = [str(error), repr(error), repr(error.args), repr(vars(error)), str(error.__cause__)]
    return "\n".join([*shown, repr(pickle.dumps(error)), json.dumps(shown)])


def head(status: str, headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: 0\r\n{headers}\r\n".encode()


ANSWERS = {
    "error body": json_bytes({"error": {"message": f"bad key {KEY}", "x": [KEY]}}, "401 No"),
    "text body": json_bytes(f"what is {KEY}?".encode(), "400 No"),
    "reason": head(f"400 {KEY}"),
    "location": head("307 Go", f"location: http://other/?key={KEY}\r\n"),
    "request id": head("400 No", f"x-request-id: {KEY}\r\n"),
    "another document": json_bytes({"seen": {KEY: [KEY]}}),
    "no document": json_bytes(KEY.encode()),
    "frame": stream_bytes({"error": {"message": KEY, "type": KEY}}, "[DONE]"),
    "bad chunk": stream_bytes(f"{{ {KEY}"),
    "good chunk, then a frame": stream_bytes(chunk("x"), {"error": KEY}),
    "deep": json_bytes(b'{"error":' * 400 + json.dumps(KEY).encode() + b"}" * 400, "400 No"),
}


@pytest.mark.parametrize("where", ANSWERS)
@pytest.mark.parametrize("given", ["api_key", "headers"])
@pytest.mark.parametrize("streamed", [True, False])
def test_no_error_shows_the_key(
    serve: Serve, where: str, given: str, streamed: bool, caplog: Any
) -> None:
    """A key that the server repeats is removed from message, body, pickle and log."""
    caplog.set_level(logging.DEBUG)
    settings: Any = {"api_key": KEY}
    if given == "headers":
        settings = {"headers": {"Authorization": f"Bearer {KEY}"}}
    served = serve(ANSWERS[where], max_retries=0, **settings)
    with pytest.raises(VllmError) as raised:
        list(served.client.completions.create(prompt="x", stream=streamed))
    assert KEY not in repr(served.client) + repr(served.client._transport)
    for spelt in (KEY, json.dumps(KEY)[1:-1], repr(KEY)[1:-1]):
        assert spelt not in everything(raised.value)
    assert served.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in caplog.text


def test_deep_parts_of_a_body_are_removed(serve: Serve) -> None:
    """A body is searched for the key to a certain depth; what is deeper is removed."""
    body = b'{"error":{"message":"no"},"x":' + b"[" * 200 + b"]" * 200 + b"}"
    client = serve(json_bytes(body, "400 No"), api_key=KEY).client
    with pytest.raises(VllmError) as raised:
        client.completions.create(prompt="x")
    assert raised.value.message == "no"
    depth, value = 0, vars(raised.value)["body"]["x"]
    while value:
        depth, value = depth + 1, value[0]
    assert depth < 60
    assert value is None


def test_short_keys_are_not_removed(serve: Serve) -> None:
    """A short key such as EMPTY is not removed from the server's message."""
    answer = json_bytes({"error": {"message": "the prompt is EMPTY"}}, "400 No")
    client = serve(answer, api_key="EMPTY").client
    with pytest.raises(VllmError, match="the prompt is EMPTY"):
        client.completions.create(prompt="x")


def test_the_text_of_the_model_stays(serve: Serve) -> None:
    """The text of the model is kept in the error, even if it contains the key."""
    answer = stream_bytes(chunk(f"the key {KEY}"), {"error": "x"}, head=STREAM_HEAD)
    client = serve(answer, api_key=KEY).client
    with client.completions.stream(prompt="x") as stream:
        with pytest.raises(VllmError) as raised:
            stream.collect()
    assert raised.value.partial.text == f"the key {KEY}"
