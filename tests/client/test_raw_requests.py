"""``client.request()``: any route of the server, with plain JSON."""

from __future__ import annotations

import asyncio
import email
import email.message
import functools
import io
import json
from pathlib import Path
from typing import Any, Dict

import pytest

from vllm_client import (
    AsyncVllmClient,
    BadRequestError,
    InternalServerError,
    InvalidStreamError,
    NotFoundError,
    ServerSentEvent,
    StreamConsumedError,
    StreamInterruptedError,
    VllmClient,
)
from vllm_client._http import attempts

from ..recorded import STREAM_HEAD, answer, json_bytes
from ..servers import FINE, Request, Serve, Stall, WireServer, break_off, numbered, replying
from ..threads import Running

KEY = "sk-very-secret-0123456789"

PATHS = [
    ("/v1/models", "/gateway/v1/models"),
    ("/health", "/gateway/health"),
    ("models", "/gateway/v1/models"),
    ("completions?a=http://x", "/gateway/v1/completions?a=http://x"),
    ("", "/gateway/v1/"),
]


@pytest.mark.parametrize(("path", "arrives"), PATHS)
def test_request_path(path: str, arrives: str) -> None:
    """A path with a slash is relative to server_url, any other to base_url."""
    with WireServer(replying(FINE)) as server, VllmClient(f"{server.url}/gateway/v1") as client:
        client.request("get", path)
    assert (server.requests[0].method, server.requests[0].path) == ("GET", arrives)


def test_requests_of_one_path_keep_their_queries_apart(serve: Serve) -> None:
    """A query belongs to one call: neither the next query nor its absence repeats it."""
    served = serve(FINE)
    for params in ({"a": "1"}, {"a": "2"}, None, {"a": "3"}):
        served.client.request("GET", "/pause", params=params)
    sent = [request.path for request in served.requests]
    assert sent == ["/pause?a=1", "/pause?a=2", "/pause", "/pause?a=3"]


@pytest.mark.parametrize("path", ["http://elsewhere/v1/models", "HTTPS://x", "://x"])
def test_request_to_another_address_is_refused(path: str) -> None:
    """An address instead of a path is refused, so that the key reaches one server only."""
    with (
        VllmClient("host", api_key=KEY) as client,
        pytest.raises(ValueError, match="not an address"),
    ):
        client.request("GET", path)


def test_request_sends_its_arguments(serve: Serve) -> None:
    """JSON, query and headers are sent; the response is returned unchanged."""
    served = serve(numbered, api_key=KEY)
    response = served.client.request(
        "post",
        "/pooling",
        json={"a": ["é", None]},
        params={"q": "1 2"},
        extra_headers={"X-A": "1"},
        timeout=5,
    )
    assert response.json()["id"] == "cmpl-1"
    assert response.headers["x-request-id"] == "r1"
    assert response.status_code == 200
    request = served.requests[0]
    assert (request.method, request.path) == ("POST", "/pooling?q=1+2")
    assert (request.json, request.headers["x-a"]) == ({"a": ["é", None]}, "1")
    assert request.headers["content-type"] == "application/json"
    assert request.headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("value", [{}, [], 0, False, ""])
def test_request_sends_an_empty_value(serve: Serve, value: Any) -> None:
    """Every JSON value but None is sent as a body."""
    served = serve(FINE)
    served.client.request("POST", "x", json=value)
    assert json.loads(served.requests[0].body) == value


def test_request_without_a_body(serve: Serve) -> None:
    """A request without JSON has neither a body nor a Content-Type."""
    served = serve(FINE)
    served.client.request("GET", "/health")
    assert served.requests[0].body == b""
    assert "content-type" not in served.requests[0].headers


def test_request_raises_for_an_error_status(serve: Serve) -> None:
    """An error status raises the same error as elsewhere."""
    client = serve(json_bytes({"detail": "Not Found"}, "404 Not Found")).client
    request = functools.partial(client.request, "GET", "/nowhere")
    with pytest.raises(NotFoundError, match="404: Not Found"):
        request()


def test_request_that_cannot_be_json() -> None:
    """A body that is not JSON raises an error that names the member."""
    with VllmClient("host") as client, pytest.raises(TypeError, match=r"^a cannot be sent as JSON"):
        client.request("POST", "/x", json={"a": object()})


@pytest.mark.parametrize("data", [b"\x00\xff", "text é", bytearray(b"ab"), memoryview(b"ab")])
def test_request_with_data(serve: Serve, data: Any) -> None:
    """Bytes and text are sent as they are, with the content type that the caller names."""
    served = serve(FINE)
    served.client.request("POST", "/x", data=data, extra_headers={"Content-Type": "a/b"})
    request = served.requests[0]
    assert request.body == (data.encode() if isinstance(data, str) else bytes(data))
    assert request.headers["content-type"] == "a/b"
    assert request.headers["content-length"] == str(len(request.body))


def test_request_with_a_form(serve: Serve) -> None:
    """A dict is a form: a list repeats its field, None is left out."""
    served = serve(FINE)
    fields = {"a": "é&=", "b": [1, 2], "c": True, "d": False, "e": None, "f": 0.5}
    served.client.request("POST", "/x", data=fields)
    request = served.requests[0]
    assert request.body == b"a=%C3%A9%26%3D&b=1&b=2&c=true&d=false&f=0.5"
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"


def parts_of(request: Request) -> Dict[str, email.message.Message]:
    """The parts of a multipart form, by field."""
    head = f"content-type: {request.headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + request.body)
    parts = message.get_payload()
    assert isinstance(parts, list)
    return {str(each.get_param("name", header="content-disposition")): each for each in parts}


def test_request_with_files(serve: Serve, tmp_path: Path) -> None:
    """Files become a multipart form, with their names and content types and the other fields."""
    path = tmp_path / "speech.wav"
    path.write_bytes(b"RIFF\x00")
    served = serve(FINE)
    with path.open("rb") as file:
        files = {"file": file, "b": ("b.bin", b"\x01", "a/b"), "c": ("c.txt", "text"), "d": b"raw"}
        served.client.request("POST", "audio/x", files=files, data={"model": "m", "n": 2})
    parts = parts_of(served.requests[0])
    assert parts["file"].get_filename() == "speech.wav"
    assert parts["file"].get_payload(decode=True) == b"RIFF\x00"
    assert parts["b"].get_content_type() == "a/b"
    assert parts["c"].get_payload(decode=True) == b"text"
    assert (parts["d"].get_filename(), parts["d"].get_payload(decode=True)) == ("d", b"raw")
    assert parts["model"].get_payload() == "m"
    assert parts["n"].get_payload() == "2"
    assert parts["model"].get_filename() is None


def test_a_form_is_sent_again_whole(serve: Serve) -> None:
    """A retry sends the same form again, although its file has been read."""
    busy = json_bytes({"error": "busy"}, "503 Busy", "retry-after: 0\r\n")
    served = serve(busy, FINE)
    served.client.request("POST", "x", files={"file": io.BytesIO(b"audio")})
    first, second = served.requests
    assert first.body == second.body
    assert b"audio" in second.body


WRONG_BODIES = [
    ({"json": {}, "data": b""}, "one body"),
    ({"json": {}, "files": {}}, "one body"),
    ({"data": 5}, "bytes, text or a dict"),
    ({"data": b"x", "files": {"f": b""}}, "other fields of the form"),
    ({"files": {"f": 5}}, "content of file 'f' must be bytes"),
    ({"files": {"f": ("a",)}}, r"\(name, content"),
]


@pytest.mark.parametrize(("body", "message"), WRONG_BODIES)
def test_request_with_a_wrong_body(body: Any, message: str) -> None:
    """Two bodies at once, or one that cannot be sent, are refused."""
    with VllmClient("host") as client, pytest.raises(TypeError, match=message):
        client.request("POST", "/x", **body)


MESSAGES = [
    b'event: message_start\ndata: {"type":"message_start"}\n\n',
    b": keep-alive\n\n",
    b"data: plain\n\n",
    b"event: message_stop\ndata: {}\n\n",
]


def events_reply(*pieces: bytes) -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return STREAM_HEAD + body + b"0\r\n\r\n"


def test_request_of_a_stream(serve: Serve) -> None:
    """A stream yields each event with its name and data, and nothing for comments."""
    served = serve(events_reply(*MESSAGES))
    with served.client.request("POST", "messages", json={"stream": True}, stream=True) as stream:
        first = next(stream)
        assert (first.event, first.json()) == ("message_start", {"type": "message_start"})
        rest = list(stream)
    assert rest == [ServerSentEvent("message", "plain"), ServerSentEvent("message_stop", "{}")]
    assert stream.snapshot == [first, *rest]
    assert stream.timings.chunks == 3
    request = served.requests[0]
    assert (request.path, request.json) == ("/v1/messages", {"stream": True})
    assert request.headers["accept"] == "text/event-stream"
    with pytest.raises(InvalidStreamError, match="not JSON"):
        rest[0].json()


def test_texts_of_a_raw_stream(serve: Serve) -> None:
    """The texts of a stream without a method are the data of its events."""
    served = serve(events_reply(*MESSAGES))
    request = functools.partial(served.client.request, "POST", "x", stream=True)
    with request() as stream:
        assert list(stream.text_deltas()) == ['{"type":"message_start"}', "plain", "{}"]
    with request() as stream:
        assert stream.collect_text() == '{"type":"message_start"}\nplain\n{}'


def test_raw_stream_that_breaks_off(serve: Serve) -> None:
    """A body that ends before its last chunk, or its length, raises; the events so far stay."""
    body = b"data: 1\n\n"
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
    cut = [
        STREAM_HEAD + b"%x\r\n%s\r\n" % (len(body), body),
        head + b"connection: close\r\ncontent-length: 50\r\n\r\n" + body,
    ]
    for reply in cut:
        served = serve(break_off(reply))
        with served.client.request("POST", "x", stream=True) as stream:
            with pytest.raises(StreamInterruptedError) as raised:
                list(stream)
            assert raised.value.partial == [ServerSentEvent("message", "1")]


def test_raw_stream_that_is_a_document(serve: Serve) -> None:
    """A JSON document instead of a stream raises."""
    served = serve(json_bytes({"a": 1}))
    with pytest.raises(InvalidStreamError, match="not with a stream"):
        served.client.request("POST", "x", stream=True)


def test_closing_a_raw_stream_ends_a_blocked_read(serve: Serve) -> None:
    """close() in another thread ends a read that waits."""
    stall = Stall(STREAM_HEAD + b"9\r\ndata: 1\n\n\r\n")
    served = serve(stall)
    with served.client.request("POST", "x", stream=True) as stream:
        next(stream)
        reader = Running(lambda: next(stream))
        stream.close()
        assert isinstance(reader.error(), StreamConsumedError)


def test_error_in_a_success_is_retried(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error body with status 200 is the error of its code, and retried as that."""
    monkeypatch.setattr(attempts, "FIRST_PAUSE", 0.001)
    dead = json_bytes({"error": {"message": "dead", "type": "x", "param": None, "code": 500}})
    served = serve(dead, json_bytes(answer("fine")))
    assert served.client.completions.create(prompt="x").text == "fine"
    assert len(served.requests) == 2
    served = serve(dead, max_retries=1)
    with pytest.raises(InternalServerError, match=r"500: dead .*after 2 attempts"):
        served.client.request("POST", "completions", json={})


def test_bad_request_in_a_success_is_not_retried(serve: Serve) -> None:
    """An error body with status 200 and the code 400 raises at once."""
    served = serve(json_bytes({"error": {"message": "no", "code": 400}}))
    with pytest.raises(BadRequestError, match="no"):
        served.client.completions.create(prompt="x")
    assert len(served.requests) == 1


def test_async_raw_stream(serve: Serve) -> None:
    """The asynchronous twin yields the same events."""
    base_url = serve(events_reply(*MESSAGES)).base_url

    async def main() -> Any:
        async with AsyncVllmClient(base_url) as client:
            stream = await client.request("POST", "x", stream=True)
            async with stream:
                return [text async for text in stream.text_deltas()]

    assert asyncio.run(main()) == ['{"type":"message_start"}', "plain", "{}"]
