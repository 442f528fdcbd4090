"""Streams from socket to event: without delay, in order, with their times."""

from __future__ import annotations

import gzip
import json
import threading
import zlib
from typing import Any, Callable, List

import pytest

from vllm_client import (
    Done,
    FinishReason,
    StreamInterruptedError,
    Text,
    Timeout,
    __version__,
)

from ..recorded import (
    LAST_CHUNK,
    STREAM_HEAD,
    UNCHUNKED_HEAD,
    USAGE,
    WHOLE,
    answer,
    chunk,
    chunked,
    cut,
    event_bytes,
    json_bytes,
    stream_bytes,
)
from ..servers import Connection, Serve, either, in_pieces
from ..threads import WAIT

BOTH_FRAMINGS = pytest.mark.parametrize(
    ("head", "framed"), [(STREAM_HEAD, chunked), (UNCHUNKED_HEAD, bytes)], ids=["chunked", "not"]
)


def encoded(head: bytes, name: str) -> bytes:
    """The head with this content encoding."""
    return head.replace(b"\r\n\r\n", f"\r\ncontent-encoding: {name}\r\n\r\n".encode())


@BOTH_FRAMINGS
def test_an_event_is_yielded_before_the_next_is_sent(
    serve: Serve, head: bytes, framed: Callable[[bytes], bytes]
) -> None:
    """Each event is yielded before the server sends the next."""
    had = [threading.Event() for _ in range(5)]

    def one_by_one(connection: Connection) -> None:
        connection.send(head)
        for number, seen in enumerate(had):
            connection.send(framed(event_bytes(chunk(str(number)))))
            assert seen.wait(WAIT), f"event {number} is held back"
        connection.send(
            framed(event_bytes(chunk("", finish="stop"))) + framed(event_bytes("[DONE]"))
        )
        connection.send(framed(b""))
        connection.close()

    client = serve(one_by_one).client
    with client.completions.stream(prompt="x") as stream:
        for seen, event in zip(had, stream):
            assert event == Text(str(had.index(seen)))
            seen.set()
        assert [event.type for event in stream] == ["finish_reason", "done"]


@BOTH_FRAMINGS
def test_chunked_framing_causes_no_delay(
    serve: Serve, head: bytes, framed: Callable[[bytes], bytes]
) -> None:
    """Events are yielded at once, however chunked framing divides them."""
    had_two, had_three = threading.Event(), threading.Event()
    third = event_bytes(chunk("c"))

    def in_odd_pieces(connection: Connection) -> None:
        two = event_bytes(chunk("a")) + event_bytes(chunk("b"))
        connection.send(head + framed(two + third[:20]))
        assert had_two.wait(WAIT), "two events are held back"
        for byte in third[20:]:
            connection.send(framed(bytes([byte])))
        assert had_three.wait(WAIT), "the third event is held back"
        connection.send(framed(event_bytes(chunk("", finish="stop")) + event_bytes("[DONE]")))
        connection.send(framed(b""))
        connection.close()

    client = serve(in_odd_pieces).client
    with client.completions.stream(prompt="x") as stream:
        assert [next(stream), next(stream)] == [Text("a"), Text("b")]
        had_two.set()
        assert next(stream) == Text("c")
        had_three.set()
        assert stream.collect().text == "abc"


def test_carriage_returns_cause_no_delay(serve: Serve) -> None:
    """An SSE event that ends in CR CR is yielded without waiting for an LF."""
    had = threading.Event()

    def in_two_pieces(connection: Connection) -> None:
        connection.send(UNCHUNKED_HEAD + event_bytes(chunk("a")).replace(b"\n", b"\r"))
        assert had.wait(WAIT), "the event is held back"
        connection.send(b"\n" + event_bytes(chunk("b", finish="stop")) + event_bytes("[DONE]"))
        connection.close()

    client = serve(in_two_pieces).client
    with client.completions.stream(prompt="x") as stream:
        assert next(stream) == Text("a")
        had.set()
        assert stream.collect().text == "ab"


def test_the_request_of_a_stream(serve: Serve) -> None:
    """A streamed request has exactly this method, path, headers and body."""
    served = serve(stream_bytes(*WHOLE), api_key="sk-1", headers={"X-All": "1"})
    with served.client.completions.stream(
        model="m",
        prompt="ñ",
        max_tokens=None,
        extra_body={"new": 1},
        extra_headers={"X-One": "2"},
    ) as stream:
        stream.collect()
    (request,) = served.requests
    assert (request.method, request.path) == ("POST", "/v1/completions")
    assert request.headers.pop("host") == f"127.0.0.1:{served.server.port}"
    assert request.headers.pop("connection") == "keep-alive"
    assert request.headers == {
        "accept": "text/event-stream",
        "accept-encoding": "identity",
        "authorization": "Bearer sk-1",
        "content-length": str(len(request.body)),
        "content-type": "application/json",
        "user-agent": f"vllm-sync-client/{__version__}",
        "x-all": "1",
        "x-one": "2",
    }
    assert request.body.decode() == (
        '{"model":"m","prompt":"ñ","max_tokens":null,"new":1,'
        '"stream_options":{"include_usage":true},"stream":true}'
    )


def test_the_request_of_create(serve: Serve) -> None:
    """A request that is not streamed has exactly this method, path, headers and body."""
    served = serve(json_bytes(answer()))
    served.client.completions.create(prompt=[1, 2], n=1)
    (request,) = served.requests
    assert (request.method, request.path) == ("POST", "/v1/completions")
    assert request.headers["accept"] == "application/json"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"] == f"vllm-sync-client/{__version__}"
    assert request.headers["content-length"] == str(len(request.body))
    assert "authorization" not in request.headers
    assert request.body == b'{"prompt":[1,2],"n":1}'


def test_collect(serve: Serve) -> None:
    """collect() returns the text, reasons, usage and tokens of all chunks."""
    events = [
        chunk("a", logprobs={"tokens": ["a"]}, token_ids=[1], prompt_token_ids=[9]),
        chunk("x", index=1),
        chunk("b", logprobs={"tokens": ["b"]}, token_ids=[2], finish="stop", stop_reason="!"),
        chunk("", index=1, finish="length"),
        {"id": "cmpl-1", "choices": [], "usage": USAGE},
        "[DONE]",
    ]
    client = serve(stream_bytes(*events)).client
    with client.completions.stream(prompt="x", n=2) as stream:
        completion = stream.collect()
        assert stream.collect() == completion == stream.snapshot
    first, second = completion.choices
    assert (first.text, first.finish_reason, first.stop_reason) == ("ab", "stop", "!")
    assert (first.token_ids, first.prompt_token_ids) == ([1, 2], [9])
    assert (second.text, second.finish_reason) == ("x", "length")
    assert (completion.id, completion.model, completion.usage.total_tokens) == ("cmpl-1", "m", 3)


def test_text_deltas_are_the_pieces_of_one_choice(serve: Serve) -> None:
    """text_deltas() yields the texts of one choice; collect_text() returns choice 0."""
    events = [
        chunk("a"),
        chunk("x", index=1),
        chunk("", token_ids=[1]),
        chunk("b", finish="stop"),
        chunk("y", index=1, finish="stop"),
        "[DONE]",
    ]
    client = serve(stream_bytes(*events)).client
    with client.completions.stream(prompt="x", n=2) as stream:
        assert list(stream.text_deltas()) == ["a", "b"]
    with client.completions.stream(prompt="x", n=2) as stream:
        assert list(stream.text_deltas(1)) == ["x", "y"]
    with client.completions.create(prompt="x", n=2, stream=True) as stream:
        assert stream.collect_text() == "ab"


def test_the_snapshot_grows_while_the_stream_is_read(serve: Serve) -> None:
    """The snapshot holds what has been read so far."""
    client = serve(stream_bytes(*WHOLE)).client
    with client.completions.stream(prompt="x") as stream:
        assert stream.snapshot.choices == []
        next(stream)
        assert stream.snapshot.text == "Hel"
        assert stream.snapshot.choices[0].finish_reason is None
        next(stream)
        assert stream.snapshot.text == "Hello"


def test_response_and_request_id(serve: Serve) -> None:
    """`response` is the one of requests, and `request_id` is its header or None."""
    head = STREAM_HEAD.replace(b"\r\n\r\n", b"\r\nX-Request-Id: abc\r\n\r\n")
    served = serve(stream_bytes(*WHOLE, head=head))
    with served.client.completions.stream(prompt="x") as stream:
        assert stream.request_id == "abc"
        assert stream.response.status_code == 200
    served = serve(stream_bytes(*WHOLE))
    with served.client.completions.stream(prompt="x") as stream:
        assert stream.request_id is None


def test_times_are_those_of_chunks_with_choices(serve: Serve) -> None:
    """Timings count chunks with choices only, and agree with each other."""
    client = serve(stream_bytes(*WHOLE)).client
    with client.completions.stream(prompt="x") as stream:
        timings = stream.timings
        assert (timings.ttft, timings.chunks, timings.output_tokens_per_second) == (None, 0, None)
        assert timings.inter_chunk_latencies == []
        before = timings.duration
        assert timings.duration > before
        stream.collect()
        assert timings.chunks == 3
        assert len(timings.inter_chunk_latencies) == 2
        assert min(timings.inter_chunk_latencies) >= 0
        assert 0 < timings.ttft <= timings.duration
        total = timings.ttft + sum(timings.inter_chunk_latencies)
        assert total <= timings.duration + 1e-9
        assert timings.duration == timings.duration
        assert timings.output_tokens == 2
        assert timings.output_tokens_per_second == pytest.approx(2 / timings.duration)


@pytest.mark.parametrize("route", ["completions", "any"])
def test_chunks_that_arrive_together_have_one_time(serve: Serve, route: str) -> None:
    """Decoding a chunk does not delay the time of those that arrived with it, nor of the end."""
    events = [e if isinstance(e, str) else json.dumps(e, separators=(",", ":")) for e in WHOLE]
    together = chunked(b"".join(map(event_bytes, events)))
    client = serve(STREAM_HEAD + together + LAST_CHUNK).client
    if route == "completions":
        stream: Any = client.completions.stream(prompt="x")
    else:
        stream = client.request("POST", "completions", stream=True)
    with stream:
        stream.collect()
    assert len(stream.timings.stamps) == (3 if route == "completions" else 5)
    assert len(set(stream.timings.stamps)) == 1
    if route == "completions":
        assert stream.timings.ended == stream.timings.stamps[0]


@pytest.mark.parametrize("events", [WHOLE[:1], [*WHOLE[:1], "nonsense"]])
def test_the_clock_stops_at_a_failure(serve: Serve, events: List[Any]) -> None:
    """A stream that fails has a fixed duration, and no rate without usage."""
    client = serve(stream_bytes(*events)).client
    with client.completions.stream(prompt="x", on_error="event") as stream:
        assert list(stream)[-1].type == "error"
        assert stream.timings.duration == stream.timings.duration
        assert stream.timings.output_tokens_per_second is None


@pytest.mark.parametrize(
    ("name", "packed"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("x-gzip", gzip.compress)],
)
def test_compressed_responses_are_decompressed(
    serve: Serve, name: str, packed: Callable[[bytes], bytes]
) -> None:
    """Responses that a proxy has compressed are decompressed, streamed or not."""
    body = packed(json.dumps(answer("zipped")).encode())
    whole = json_bytes(body, headers=f"content-encoding: {name}\r\n")
    events = packed(b"".join(event_bytes(event) for event in WHOLE))
    pieces = [chunked(piece) for piece in cut(events, range(0, len(events), 7))]
    served = serve(either(in_pieces([encoded(STREAM_HEAD, name), *pieces, LAST_CHUNK]), whole))
    assert served.client.completions.create(prompt="x").text == "zipped"
    with served.client.completions.stream(prompt="x") as stream:
        assert list(stream)[-1] == Done()
        assert stream.snapshot.text == "Hello"
    assert served.connections == 1


def test_compressed_events_are_not_delayed(serve: Serve) -> None:
    """An event that is compressed and flushed is yielded at once."""
    had = threading.Event()
    packer = zlib.compressobj(wbits=31)

    def flushed(*events: Any) -> bytes:
        data = b"".join(packer.compress(event_bytes(event)) for event in events)
        return data + packer.flush(zlib.Z_SYNC_FLUSH)

    def one_by_one(connection: Connection) -> None:
        connection.send(encoded(STREAM_HEAD, "gzip"))
        connection.send_chunk(flushed(chunk("a")))
        assert had.wait(WAIT), "the event is held back"
        connection.send_chunk(flushed(chunk("b", finish="stop"), "[DONE]") + packer.flush())
        connection.end_chunks()

    client = serve(one_by_one).client
    with client.completions.stream(prompt="x") as stream:
        assert next(stream) == Text("a")
        had.set()
        assert stream.collect().text == "ab"


@pytest.mark.parametrize("length", [5, 30, 60])
def test_compressed_streams_that_are_cut_are_errors(serve: Serve, length: int) -> None:
    """A compressed stream that is cut off raises StreamInterruptedError."""
    events = gzip.compress(b"".join(event_bytes(event) for event in WHOLE))
    assert length < len(events)
    client = serve(encoded(UNCHUNKED_HEAD, "gzip") + events[:length]).client
    with client.completions.stream(prompt="x") as stream, pytest.raises(StreamInterruptedError):
        stream.collect()


def test_a_stream_that_is_not_read_has_sent_its_request(serve: Serve) -> None:
    """stream() sends its request at once, before the first event is read."""
    served = serve(stream_bytes(*WHOLE), timeout=Timeout(read=WAIT))
    with served.client.completions.stream(prompt="x") as stream:
        assert len(served.requests) == 1
        assert iter(stream) is stream
        assert list(stream)[2] == FinishReason("stop")
