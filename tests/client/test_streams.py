"""Streams from socket to event: live, in order, with their times."""

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
    VllmClient,
    __version__,
)

from ..recorded import (
    STREAM_HEAD,
    UNCHUNKED_HEAD,
    USAGE,
    WHOLE,
    answer,
    chunk,
    json_bytes,
    stream_bytes,
)
from ..servers import Connection, WireServer, answering
from ..threads import WAIT


def _event(data: Any) -> bytes:
    return f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode()


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _plain(data: bytes) -> bytes:
    return data


@pytest.mark.parametrize(
    ("head", "framed"), [(STREAM_HEAD, _chunked), (UNCHUNKED_HEAD, _plain)], ids=["chunked", "not"]
)
def test_an_event_is_in_the_readers_hands_before_the_next_is_sent(
    head: bytes, framed: Callable[[bytes], bytes]
) -> None:
    """The server sends an event only once the reader has the one before."""
    had = [threading.Event() for _ in range(5)]

    def handler(connection: Connection) -> None:
        assert connection.receive()
        connection.send(head)
        for number, seen in enumerate(had):
            connection.send(framed(_event(chunk(str(number)))))
            assert seen.wait(WAIT), f"event {number} is held back"
        connection.send(framed(_event(chunk("", finish="stop"))) + framed(_event("[DONE]")))
        if framed is _chunked:
            connection.end_chunks()

    with WireServer(handler) as server, VllmClient(server.base_url) as client:
        with client.completions.stream(prompt="x") as stream:
            for seen, event in zip(had, stream):
                assert event == Text(str(had.index(seen)))
                seen.set()
            assert [event.type for event in stream] == ["finish_reason", "done"]


@pytest.mark.parametrize(
    ("head", "framed"), [(STREAM_HEAD, _chunked), (UNCHUNKED_HEAD, _plain)], ids=["chunked", "not"]
)
def test_events_that_share_a_chunk_or_span_chunks_are_live(
    head: bytes, framed: Callable[[bytes], bytes]
) -> None:
    """Two events and half of a third in one chunk: two are given before the rest is sent."""
    had_two, had_three = threading.Event(), threading.Event()
    third = _event(chunk("c"))

    def handler(connection: Connection) -> None:
        assert connection.receive()
        two = _event(chunk("a")) + _event(chunk("b"))
        connection.send(head + framed(two + third[:20]))
        assert had_two.wait(WAIT), "two events are held back"
        for byte in third[20:]:
            connection.send(framed(bytes([byte])))
        assert had_three.wait(WAIT), "the third event is held back"
        connection.send(framed(_event(chunk("", finish="stop")) + _event("[DONE]")))
        if framed is _chunked:
            connection.end_chunks()

    with WireServer(handler) as server, VllmClient(server.base_url) as client:
        with client.completions.stream(prompt="x") as stream:
            assert [next(stream), next(stream)] == [Text("a"), Text("b")]
            had_two.set()
            assert next(stream) == Text("c")
            had_three.set()
            assert stream.collect().text == "abc"


def test_carriage_returns_are_live_too() -> None:
    """An event that ends in CR CR is given without waiting for a LF."""
    had = threading.Event()

    def handler(connection: Connection) -> None:
        assert connection.receive()
        connection.send(UNCHUNKED_HEAD + _event(chunk("a")).replace(b"\n", b"\r"))
        assert had.wait(WAIT), "the event is held back"
        connection.send(b"\n" + _event(chunk("b", finish="stop")) + _event("[DONE]"))

    with WireServer(handler) as server, VllmClient(server.base_url) as client:
        with client.completions.stream(prompt="x") as stream:
            assert next(stream) == Text("a")
            had.set()
            assert stream.collect().text == "ab"


def test_what_leaves_the_client_for_a_stream() -> None:
    """Method, path, headers and body of a stream's request, exactly."""
    with (
        WireServer(answering(stream_bytes(*WHOLE))) as server,
        VllmClient(server.base_url, api_key="sk-1", headers={"X-All": "1"}) as client,
    ):
        with client.completions.stream(
            model="m",
            prompt="ñ",
            max_tokens=None,
            extra_body={"new": 1},
            extra_headers={"X-One": "2"},
        ) as stream:
            stream.collect()
        (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v1/completions")
    assert request.headers.pop("host") == f"127.0.0.1:{server.port}"
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


def test_what_leaves_the_client_for_an_answer() -> None:
    """Method, path, headers and body of a request that is not streamed, exactly."""
    with (
        WireServer(answering(json_bytes(answer()))) as server,
        VllmClient(server.base_url) as client,
    ):
        client.completions.create(prompt=[1, 2], n=1)
        (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v1/completions")
    assert request.headers["accept"] == "application/json"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"] == f"vllm-sync-client/{__version__}"
    assert request.headers["content-length"] == str(len(request.body))
    assert "authorization" not in request.headers
    assert request.body == b'{"prompt":[1,2],"n":1}'


def test_collect_gives_the_answer_of_create() -> None:
    """What the pieces add up to has the text, reasons and usage of the whole."""
    events = [
        chunk("a", logprobs={"tokens": ["a"]}, token_ids=[1], prompt_token_ids=[9]),
        chunk("x", index=1),
        chunk("b", logprobs={"tokens": ["b"]}, token_ids=[2], finish="stop", stop_reason="!"),
        chunk("", index=1, finish="length"),
        {"id": "cmpl-1", "choices": [], "usage": USAGE},
        "[DONE]",
    ]
    with (
        WireServer(answering(stream_bytes(*events))) as server,
        VllmClient(server.base_url) as client,
        client.completions.stream(prompt="x", n=2) as stream,
    ):
        completion = stream.collect()
        assert stream.collect() == completion == stream.snapshot
    first, second = completion.choices
    assert (first.text, first.finish_reason, first.stop_reason) == ("ab", "stop", "!")
    assert (first.token_ids, first.prompt_token_ids) == ([1, 2], [9])
    assert (second.text, second.finish_reason) == ("x", "length")
    assert (completion.id, completion.model, completion.usage.total_tokens) == ("cmpl-1", "m", 3)


def test_text_deltas_are_the_pieces_of_one_choice() -> None:
    """Only strings, only of the choice asked for; collect_text is that of choice 0."""
    events = [
        chunk("a"),
        chunk("x", index=1),
        chunk("", token_ids=[1]),
        chunk("b", finish="stop"),
        chunk("y", index=1, finish="stop"),
        "[DONE]",
    ]
    with (
        WireServer(answering(stream_bytes(*events))) as server,
        VllmClient(server.base_url) as client,
    ):
        with client.completions.stream(prompt="x", n=2) as stream:
            assert list(stream.text_deltas()) == ["a", "b"]
        with client.completions.stream(prompt="x", n=2) as stream:
            assert list(stream.text_deltas(1)) == ["x", "y"]
        with client.completions.create(prompt="x", n=2, stream=True) as stream:
            assert stream.collect_text() == "ab"


def test_the_snapshot_grows_while_the_stream_is_read() -> None:
    """It is what has arrived, finished or not."""
    with (
        WireServer(answering(stream_bytes(*WHOLE))) as server,
        VllmClient(server.base_url) as client,
        client.completions.stream(prompt="x") as stream,
    ):
        assert stream.snapshot.choices == []
        next(stream)
        assert stream.snapshot.text == "Hel"
        assert stream.snapshot.choices[0].finish_reason is None
        next(stream)
        assert stream.snapshot.text == "Hello"


def test_the_response_and_its_request_id_are_at_hand() -> None:
    """`response` is requests' own; `request_id` is the header, or None."""
    head = STREAM_HEAD.replace(b"\r\n\r\n", b"\r\nX-Request-Id: abc\r\n\r\n")
    with (
        WireServer(answering(stream_bytes(*WHOLE, head=head))) as server,
        VllmClient(server.base_url) as client,
        client.completions.stream(prompt="x") as stream,
    ):
        assert stream.request_id == "abc"
        assert stream.response.status_code == 200
    with (
        WireServer(answering(stream_bytes(*WHOLE))) as server,
        VllmClient(server.base_url) as client,
        client.completions.stream(prompt="x") as stream,
    ):
        assert stream.request_id is None


def test_times_are_those_of_chunks_with_choices() -> None:
    """Usage events and comments count for nothing; the figures fit each other."""
    with (
        WireServer(answering(stream_bytes(*WHOLE))) as server,
        VllmClient(server.base_url) as client,
        client.completions.stream(prompt="x") as stream,
    ):
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


@pytest.mark.parametrize("events", [WHOLE[:1], [*WHOLE[:1], "nonsense"]])
def test_the_clock_stops_at_a_failure(events: List[Any]) -> None:
    """A stream that fails has a duration that stays, and no rate without usage."""
    with (
        WireServer(answering(stream_bytes(*events))) as server,
        VllmClient(server.base_url) as client,
        client.completions.stream(prompt="x", on_error="event") as stream,
    ):
        assert list(stream)[-1].type == "error"
        assert stream.timings.duration == stream.timings.duration
        assert stream.timings.output_tokens_per_second is None


def _deflate(data: bytes) -> bytes:
    return zlib.compress(data)


@pytest.mark.parametrize(
    ("name", "packed"), [("gzip", gzip.compress), ("deflate", _deflate), ("x-gzip", gzip.compress)]
)
def test_compressed_answers_are_unpacked(name: str, packed: Callable[[bytes], bytes]) -> None:
    """A proxy that compresses unasked does no harm, to a stream neither."""
    body = packed(json.dumps(answer("zipped")).encode())
    events = packed(b"".join(_event(event) for event in WHOLE))

    def handler(connection: Connection) -> None:
        while True:
            request = connection.receive()
            if request is None:
                return
            extra = f"content-encoding: {name}\r\n"
            if not request.json.get("stream"):
                connection.send(json_bytes(body, headers=extra))
                continue
            connection.send(STREAM_HEAD.replace(b"\r\n\r\n", f"\r\n{extra}\r\n".encode()))
            for at in range(0, len(events), 7):
                connection.send_chunk(events[at : at + 7])
            connection.end_chunks()

    with WireServer(handler) as server, VllmClient(server.base_url) as client:
        assert client.completions.create(prompt="x").text == "zipped"
        with client.completions.stream(prompt="x") as stream:
            assert list(stream)[-1] == Done()
            assert stream.snapshot.text == "Hello"
        assert server.connections == 1


def test_compressed_events_are_live() -> None:
    """A peer that compresses and flushes each event gets it through at once."""
    had = threading.Event()
    packer = zlib.compressobj(wbits=31)

    def flushed(*events: Any) -> bytes:
        data = b"".join(packer.compress(_event(event)) for event in events)
        return data + packer.flush(zlib.Z_SYNC_FLUSH)

    def handler(connection: Connection) -> None:
        assert connection.receive()
        head = STREAM_HEAD.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n")
        connection.send(head)
        connection.send_chunk(flushed(chunk("a")))
        assert had.wait(WAIT), "the event is held back"
        connection.send_chunk(flushed(chunk("b", finish="stop"), "[DONE]") + packer.flush())
        connection.end_chunks()

    with WireServer(handler) as server, VllmClient(server.base_url) as client:
        with client.completions.stream(prompt="x") as stream:
            assert next(stream) == Text("a")
            had.set()
            assert stream.collect().text == "ab"


@pytest.mark.parametrize("cut", [5, 30, 60])
def test_compressed_streams_that_are_cut_are_errors(cut: int) -> None:
    """Half a gzip file is half an answer."""
    events = gzip.compress(b"".join(_event(event) for event in WHOLE))
    assert cut < len(events)
    head = UNCHUNKED_HEAD.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n")

    def handler(connection: Connection) -> None:
        connection.receive()
        connection.send(head + events[:cut])

    with WireServer(handler) as server, VllmClient(server.base_url) as client:
        with client.completions.stream(prompt="x") as stream, pytest.raises(StreamInterruptedError):
            stream.collect()


def test_a_stream_that_is_not_read_has_sent_its_request() -> None:
    """stream() sends at once; the answer waits for its reader."""
    with (
        WireServer(answering(stream_bytes(*WHOLE))) as server,
        VllmClient(server.base_url, timeout=Timeout(read=WAIT)) as client,
    ):
        with client.completions.stream(prompt="x") as stream:
            assert len(server.requests) == 1
            assert iter(stream) is stream
            assert list(stream)[2] == FinishReason("stop")
