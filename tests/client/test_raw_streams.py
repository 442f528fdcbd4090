"""``client.request(stream=True)``: the server-sent events of any route."""

from __future__ import annotations

import io
from typing import Any, List

import pytest
import requests
import requests.adapters
import urllib3

from vllm_client import (
    InvalidStreamError,
    NotFoundError,
    ServerSentEvent,
    StreamConsumedError,
    StreamInterruptedError,
    VllmClient,
)

from ..recorded import (
    STREAM_HEAD,
    UNCHUNKED_HEAD,
    beginning,
    json_bytes,
    stream_bytes,
)
from ..servers import Serve, Stall, break_off
from ..threads import Running

EVENTS = [ServerSentEvent("message", '{"a": 1}'), ServerSentEvent("message", "[DONE]")]
BOTH = stream_bytes('{"a": 1}', "[DONE]")


def opened(serve: Serve, *replies: Any, **settings: Any) -> Any:
    """The stream of the first of these replies."""
    return serve(*replies, **settings).client.request("POST", "/x", json={}, stream=True)


def test_events_are_yielded_as_they_are(serve: Serve) -> None:
    """Name and data of each event are those that the server sent; events without data are none."""
    body = b": hi\n\nevent: start\ndata: {}\n\nevent: ping\n\ndata:\n\ndata: a\ndata: b\nid: 5\n\n"
    served = serve(UNCHUNKED_HEAD + body)
    with served.client.request("POST", "/x", json={"q": 1}, stream=True) as stream:
        events = list(stream)
        assert list(stream) == []
        assert stream.collect() == stream.snapshot == events
    assert events == [ServerSentEvent("start", "{}"), ServerSentEvent("message", "a\nb")]
    assert events[0].json() == {}
    assert stream.timings.chunks == 2
    assert served.requests[0].json == {"q": 1}
    assert served.requests[0].headers["accept"] == "text/event-stream"


def test_collect_returns_all_events(serve: Serve) -> None:
    """collect() returns also those that were read before, and the connection is reused."""
    served = serve(BOTH)
    for _ in range(2):
        with served.client.request("POST", "/x", json={}, stream=True) as stream:
            assert next(stream) == EVENTS[0]
            assert stream.collect() == EVENTS
    assert served.connections == 1


def test_texts_are_the_data_of_events(serve: Serve) -> None:
    """text_deltas() yields the data of each event, collect_text() joins them by lines."""
    client = serve(BOTH).client
    with client.request("POST", "/x", json={}, stream=True) as stream:
        assert list(stream.text_deltas()) == ['{"a": 1}', "[DONE]"]
    with client.request("POST", "/x", json={}, stream=True) as stream:
        assert stream.collect_text() == '{"a": 1}\n[DONE]'


LENGTH_HEAD = UNCHUNKED_HEAD.replace(b"connection: close", b"content-length: 99")


@pytest.mark.parametrize("head", [STREAM_HEAD, LENGTH_HEAD], ids=["chunked", "length"])
def test_a_body_that_breaks_off_is_an_error(serve: Serve, head: bytes) -> None:
    """A body that is shorter than its framing says raises with the events so far."""
    with opened(serve, break_off(beginning('{"a": 1}', head=head))) as stream:
        with pytest.raises(StreamInterruptedError) as raised:
            list(stream)
        assert raised.value.partial == stream.snapshot == EVENTS[:1]
        with pytest.raises(StreamInterruptedError):
            stream.collect()


class Unchecked(requests.adapters.BaseAdapter):
    """An adapter whose responses do not check their own length."""

    def send(self, request: Any, **_: Any) -> requests.Response:
        response = requests.Response()
        response.status_code = 200
        response.request, response.url = request, request.url
        response.raw = urllib3.HTTPResponse(
            io.BytesIO(b"data: a\n\n"),
            headers={"content-length": "12"},
            preload_content=False,
            enforce_content_length=False,
        )
        return response

    def close(self) -> None:
        pass


def test_the_length_is_checked_whoever_reads_it() -> None:
    """A body of a user's session that is too short is an error, although its reader let it be."""
    session = requests.Session()
    session.mount("http://", Unchecked())
    with VllmClient("http://127.0.0.1:9", session=session) as client:
        with client.request("POST", "/x", json={}, stream=True) as stream:
            with pytest.raises(StreamInterruptedError, match="3 bytes before its length"):
                list(stream)
    assert stream.snapshot == [ServerSentEvent("message", "a")]


@pytest.mark.parametrize("data", ["nonsense", "[" * 100_000])
def test_data_that_is_no_json(serve: Serve, data: str) -> None:
    """json() raises an error of ours that shows the beginning of the data."""
    with opened(serve, stream_bytes(data)) as stream:
        (event,) = stream
    with pytest.raises(InvalidStreamError, match=r"is not JSON .*: '.{1,300}'$"):
        event.json()


def test_a_document_is_no_stream(serve: Serve) -> None:
    """A success with a JSON document raises with its message, an error status as elsewhere."""
    client = serve(json_bytes({"error": "no"}), json_bytes({}, "404 Not Found")).client
    with pytest.raises(InvalidStreamError, match="application/json, not with a stream: no"):
        client.request("POST", "/x", json={}, stream=True)
    with pytest.raises(NotFoundError):
        client.request("POST", "/x", json={}, stream=True)


def test_closing_ends_the_stream(serve: Serve) -> None:
    """close() in another thread wakes a blocked read, and reading on is an error."""
    stall = Stall(beginning('{"a": 1}'))
    stream = opened(serve, stall)
    assert next(stream) == EVENTS[0]
    reader = Running(lambda: next(stream))
    reader.wait_blocked()
    stream.close()
    error: Any = reader.error()
    assert type(error) is StreamConsumedError
    partial: List[ServerSentEvent] = error.partial
    assert partial == EVENTS[:1]
    assert stall.gone.wait()
    with pytest.raises(StreamConsumedError):
        stream.collect()
