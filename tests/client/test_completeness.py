"""Completeness: a response that is cut off or failed never passes for a complete one."""

from __future__ import annotations

import contextlib
import json
from functools import partial
from typing import Any, Callable, Dict, List

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vllm_client
from vllm_client import (
    Done,
    Error,
    FinishReason,
    GenerationAbortedError,
    InvalidStreamError,
    ServerStreamError,
    StreamInterruptedError,
    Text,
    VllmClient,
    VllmError,
)

from ..recorded import (
    UNCHUNKED_HEAD,
    USAGE,
    WHOLE,
    answer,
    chunk,
    dechunked,
    json_bytes,
    stream_bytes,
    text_in,
)
from ..servers import Connection, Reply, Serve, WireServer, break_off, reset, send_reply

# The data of a short stream, which is cut at each of its bytes.
SHORT: List[Any] = [
    {"choices": [{"text": "é"}]},
    {"choices": [{"text": "b"}], "usage": None},
    {"choices": [{"text": "c", "finish_reason": "stop"}]},
    {"choices": [], "usage": USAGE},
    "[DONE]",
]
SHORT_HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
SHORT_UNCHUNKED = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"


def cutting(response: bytes, end: Callable[[bytes], Reply] = break_off) -> Reply:
    """A reply that ends the connection after as many bytes as the header x-cut of the request."""

    def reply(connection: Connection) -> None:
        send_reply(connection, end(response[: int(connection.request.headers["x-cut"])]))

    return reply


def _texts(body: bytes) -> str:
    """The text of the complete events in the beginning of a body."""
    text = ""
    for event in body.split(b"\n\n")[:-1]:
        if event != b"data: [DONE]":
            text += "".join(one["text"] for one in json.loads(event[6:])["choices"])
    return text


@pytest.mark.parametrize("head", [SHORT_HEAD, SHORT_UNCHUNKED], ids=["chunked", "unchunked"])
def test_a_stream_cut_anywhere_is_an_error(serve: Serve, head: bytes) -> None:
    """A stream cut after any byte before the end of [DONE] raises with its text so far."""
    response = stream_bytes(*SHORT, head=head)
    client = serve(cutting(response), max_retries=0).client
    # Where the body ends with the connection, the blank line at the very end may be missing.
    done = b"data: [DONE]" if head == SHORT_UNCHUNKED else b"data: [DONE]\n\n"
    for cut in range(len(response)):
        body = response[len(head) : cut]
        arrived = dechunked(body) if b"chunked" in head else body
        ask = partial(client.completions.stream, prompt="x", extra_headers={"x-cut": str(cut)})
        if cut <= len(b"HTTP/1.1 20"):  # Not yet a status.
            with pytest.raises(vllm_client.APIConnectionError):
                ask()
        elif b"data: [DONE]\n\n" in arrived or arrived.endswith((done, done + b"\n")):
            with ask() as stream:
                assert list(stream)[-1] == Done()
        else:
            with ask() as stream, pytest.raises(StreamInterruptedError) as raised:
                list(stream)
            assert text_in(raised.value.partial) == _texts(arrived)
            assert raised.value.is_retryable


@pytest.mark.parametrize("head", [SHORT_HEAD, SHORT_UNCHUNKED], ids=["chunked", "unchunked"])
def test_a_stream_reset_anywhere_is_an_error(serve: Serve, head: bytes) -> None:
    """A stream that is reset after any byte raises; a reset may destroy data that was sent."""
    response = stream_bytes(*SHORT, head=head)
    whole = response.index(b"data: [DONE]\n\n") + len(b"data: [DONE]\n\n")
    client = serve(cutting(response, reset), max_retries=0).client
    for cut in range(0, whole, 3):
        with (
            pytest.raises(VllmError),
            client.completions.stream(prompt="x", extra_headers={"x-cut": str(cut)}) as stream,
        ):
            list(stream)


def test_a_response_cut_anywhere_is_an_error(serve: Serve) -> None:
    """A response that is not streamed raises a VllmError when cut after any byte."""
    response = json_bytes(answer())
    client = serve(cutting(response), max_retries=0).client
    for cut in range(len(response)):
        with pytest.raises(VllmError):
            client.completions.create(prompt="x", extra_headers={"x-cut": str(cut)})
    client.completions.create(prompt="x", extra_headers={"x-cut": str(len(response))})


def test_a_body_shorter_than_its_length_is_a_connection_error(serve: Serve) -> None:
    """A body shorter than its content-length is an APIConnectionError."""
    response = json_bytes(answer())
    served = serve(break_off(response[:-1]))
    with pytest.raises(vllm_client.APIConnectionError, match="middle of the response"):
        served.client.completions.create(prompt="x")
    assert len(served.requests) == 1


@pytest.mark.parametrize(
    "framing",
    ["content-length: 9000000000000000", f"transfer-encoding: chunked\r\n\r\n{2**62:x}"],
)
def test_a_huge_claimed_length_allocates_nothing(serve: Serve, framing: str) -> None:
    """A huge claimed length is an APIConnectionError, not a MemoryError or OverflowError."""
    response = f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{{".encode()
    client = serve(break_off(response)).client
    with pytest.raises(vllm_client.APIConnectionError, match="middle of the response"):
        client.completions.create(prompt="x")


@pytest.fixture
def read(serve: Serve) -> Any:
    """A function that reads a stream of these events: its events, and its error or None."""

    def events_and_error(*events: Any, **params: Any) -> Any:
        params = {"prompt": "x", **params}
        got: List[Any] = []
        error = None
        with serve(stream_bytes(*events)).client.completions.stream(**params) as stream:
            try:
                got.extend(stream)  # Events before an error stay in the list.
                ends: Any = StopIteration
            except VllmError as raised:
                error, ends = raised, type(raised)
            if error is not None:
                with pytest.raises(ends) as again:
                    stream.collect()
                assert again.value is error
            for _ in range(2):
                with pytest.raises(ends):
                    next(stream)
            return got, error

    return events_and_error


def test_a_complete_stream(read: Any) -> None:
    """A complete stream yields text, finish reason, usage and Done, in that order."""
    got, error = read(*WHOLE)
    assert error is None
    assert got[:3] == [Text("Hel"), Text("lo"), FinishReason("stop")]
    assert [event.type for event in got[3:]] == ["usage", "done"]
    assert got[3].total_tokens == 3


@pytest.mark.parametrize(
    ("events", "text"),
    [
        ([], ""),
        ([chunk("Hel")], "Hel"),
        ([chunk("Hel"), chunk("lo", finish="stop")], "Hello"),
        ([chunk("Hel"), "[DONE]"], "Hel"),
        (["[DONE]"], ""),
        ([{"choices": [], "usage": USAGE}, "[DONE]"], ""),
    ],
    ids=["empty", "no end", "no [DONE]", "no finish reason", "only [DONE]", "only usage"],
)
def test_an_incomplete_stream_is_an_error(read: Any, events: List[Any], text: str) -> None:
    """A stream without [DONE], or without a finish reason, raises StreamInterruptedError."""
    _, error = read(*events)
    assert type(error) is StreamInterruptedError
    assert text_in(error.partial) == text
    assert error.is_retryable


@pytest.mark.parametrize(
    "params",
    [{"n": 2}, {"prompt": ["a", "b"]}, {"extra_body": {"n": 2}}, {"prompt": [[1, 2], [3]]}],
    ids=["n", "prompts", "extra_body", "token ids"],
)
def test_every_requested_choice_must_finish(read: Any, params: Dict[str, Any]) -> None:
    """A stream is complete only if every requested choice has its finish reason."""
    first = [chunk("a", finish="stop"), chunk("b", index=1)]
    _, error = read(*first, "[DONE]", **params)
    assert type(error) is StreamInterruptedError
    assert "choice 1" in str(error)
    assert (text_in(error.partial), text_in(error.partial, 1)) == ("a", "b")
    got, error = read(*first, chunk("", index=1, finish="length"), "[DONE]", **params)
    assert error is None
    assert got[-1] == Done()


FRAME = {"message": "no room", "type": "Service Unavailable", "param": None, "code": 503}


@pytest.mark.parametrize("before", [[], [chunk("Hel")], [chunk("Hel", finish="stop")]])
@pytest.mark.parametrize(
    ("frame", "code", "retryable"),
    [
        ({"error": FRAME}, 503, True),
        ({"error": {**FRAME, "code": "400"}}, 400, False),
        ({"error": "no room"}, None, False),
        ({"error": {"object": "error", **FRAME}}, 503, True),
        ({"error": FRAME, "choices": []}, 503, True),
    ],
)
def test_an_error_frame_anywhere_fails_the_stream(
    read: Any, before: List[Any], frame: Any, code: Any, retryable: bool
) -> None:
    """An error frame at any place in the stream raises ServerStreamError."""
    got, error = read(*before, frame, "[DONE]")
    assert type(error) is ServerStreamError
    assert "no room" in str(error)
    assert (error.code, error.is_retryable, error.body) == (code, retryable, frame)
    assert text_in(error.partial) == "".join(e.text for e in got if e.type == "text")
    assert len(got) == sum(2 if one["choices"][0]["finish_reason"] else 1 for one in before)


@pytest.mark.parametrize("named", ["event: error\ndata: {}\n\n", "data: {}\nevent: error\n\n"])
@pytest.mark.parametrize("data", ['{"error": {"message": "gone", "code": 502}}', "gone"])
def test_an_event_named_error_fails_the_stream(serve: Serve, named: str, data: str) -> None:
    """An SSE event named error raises ServerStreamError, whatever its data."""
    body = b"data: " + json.dumps(chunk("Hel")).encode() + b"\n\n" + named.format(data).encode()
    body += b"data: [DONE]\n\n"
    client = serve(UNCHUNKED_HEAD + body).client
    with client.completions.stream(prompt="x") as stream:
        with pytest.raises(ServerStreamError, match="gone") as raised:
            stream.collect()
    assert text_in(raised.value.partial) == "Hel"


@pytest.mark.parametrize("data", ["{}", "2026-11-26 12:00", "[DONE]", "null"])
def test_an_event_named_ping_is_skipped(serve: Serve, data: str) -> None:
    """An SSE event named ping is skipped, whatever its data; any other name is ignored."""
    events = stream_bytes(*WHOLE, head=UNCHUNKED_HEAD).removeprefix(UNCHUNKED_HEAD)
    ping = f"event: ping\ndata: {data}\n\n".encode()
    body = ping + events.replace(b"data: {", b"event: chunk\ndata: {")
    client = serve(UNCHUNKED_HEAD + body).client
    with client.completions.stream(prompt="x") as stream:
        assert stream.collect().text == "Hello"
        assert stream.timings.chunks == 3


@pytest.mark.parametrize("rest", [["[DONE]"], []], ids=["with [DONE]", "cut"])
def test_abort_is_yielded_and_then_raised(read: Any, rest: List[str]) -> None:
    """The finish reason "abort" is yielded and then raised, also without [DONE]."""
    got, error = read(chunk("Hel"), chunk("lo", finish="abort"), *rest)
    assert got == [Text("Hel"), Text("lo"), FinishReason("abort")]
    assert type(error) is GenerationAbortedError
    assert error.is_retryable
    assert text_in(error.partial) == "Hello"
    assert error.partial.choices[0].finish_reason == "abort"


def test_abort_with_usage(read: Any) -> None:
    """The usage of an aborted response is yielded before the error."""
    got, error = read(chunk("x", finish="abort"), {"choices": [], "usage": USAGE}, "[DONE]")
    assert [event.type for event in got] == ["text", "finish_reason", "usage"]
    assert type(error) is GenerationAbortedError


def test_create_raises_for_abort_too(serve: Serve) -> None:
    """create() raises GenerationAbortedError for an aborted response."""
    client = serve(json_bytes(answer("Hel", "abort"))).client
    with pytest.raises(GenerationAbortedError) as raised:
        client.completions.create(prompt="x")
    assert raised.value.partial.text == "Hel"


NOT_CHUNKS = [
    "no JSON",
    '"choices"',
    "7",
    "NaN",
    '{"choices": 5}',
    '{"choices": [5]}',
    '{"choices": ["choices"]}',
    '{"choices": {"a": 1}}',
    '{"choices": [{"text": 5}]}',
    '{"choices": [{"index": "1", "text": "a"}]}',
    '{"choices": [{"index": true, "text": "a"}]}',
    '{"choices": [{"index": [], "text": "a"}]}',
    '{"choices": [{"text": "a", "logprobs": 5}]}',
    '{"choices": [{"text": "a", "logprobs": {"tokens": 5}}]}',
    '{"choices": [{"text": "a", "token_ids": 5}]}',
    '{"choices": [], "usage": 5}',
    '{"error": {"code": [1], "message": {"a": 1}}}',
    '{"error": [1]}',
    "[" * 100000,
    "9" * 5000,
    '{"choices": [{"text": "a", "finish_reason": {}}]}',
]


@pytest.mark.parametrize("data", NOT_CHUNKS, ids=[data[:48] for data in NOT_CHUNKS])
def test_a_malformed_chunk_is_an_error(read: Any, data: str) -> None:
    """Data that is not a chunk raises a VllmError with the text so far."""
    got, error = read(chunk("Hel"), data, chunk("", finish="stop"), "[DONE]")
    assert isinstance(error, (InvalidStreamError, ServerStreamError))
    assert got[0] == Text("Hel")
    assert text_in(error.partial).startswith("Hel")


@pytest.mark.parametrize("kind", ["application/json", "text/html; charset=utf-8"])
def test_a_document_is_not_a_stream(serve: Serve, kind: str) -> None:
    """A success with a document instead of a stream raises with the document's message."""
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n"
    body = b'{"error": {"message": "the gateway is asleep"}}'
    client = serve(head.encode() + body).client
    with pytest.raises(InvalidStreamError, match="gateway is asleep"):
        client.completions.stream(prompt="x")


@pytest.mark.parametrize("body", [b"", b"hello", b"{}", b"[]", b"7", b'{"choices": 5}', b"\xff"])
def test_a_success_without_a_completion_is_an_error(serve: Serve, body: bytes) -> None:
    """A success with any other body is an InvalidResponseError."""
    client = serve(json_bytes(body)).client
    with pytest.raises(vllm_client.InvalidResponseError):
        client.completions.create(prompt="x")


def test_invalid_utf8_in_a_stream_is_an_error(serve: Serve) -> None:
    """Invalid UTF-8 raises InvalidStreamError with the text so far."""
    body = b"data: " + json.dumps(chunk("Hel")).encode() + b"\n\ndata: {\xff}\n\n"
    client = serve(UNCHUNKED_HEAD + body).client
    with client.completions.stream(prompt="x") as stream:
        with pytest.raises(InvalidStreamError, match="UTF-8") as raised:
            list(stream)
    assert text_in(raised.value.partial) == "Hel"


@pytest.mark.parametrize(
    ("events", "kind"),
    [
        ([chunk("Hel")], StreamInterruptedError),
        ([chunk("Hel"), {"error": FRAME}], ServerStreamError),
        ([chunk("Hel"), "nonsense"], InvalidStreamError),
        ([chunk("Hel", finish="abort"), "[DONE]"], GenerationAbortedError),
    ],
)
def test_on_error_event_yields_the_error(serve: Serve, events: List[Any], kind: type) -> None:
    """With on_error="event" the error is yielded as the last event."""
    client = serve(stream_bytes(*events)).client
    with client.completions.stream(prompt="x", on_error="event") as stream:
        *before, last = list(stream)
        assert isinstance(last, Error)
        assert type(last.error) is kind
        assert text_in(last.error.partial) == "Hel"
        assert before[0] == Text("Hel")
        assert not any(event.type in {"error", "done"} for event in before)
        assert list(stream) == []
        with pytest.raises(kind):
            stream.collect()


def test_on_error_event_ends_after_close_too(serve: Serve) -> None:
    """With on_error="event" a closed stream yields one Error event and ends."""
    client = serve(stream_bytes(*WHOLE)).client
    with client.completions.stream(prompt="x", on_error="event") as stream:
        assert next(stream) == Text("Hel")
    first = next(stream)
    assert first.type == "error"
    assert isinstance(first.error, vllm_client.StreamConsumedError)
    assert text_in(first.error.partial) == "Hel"
    with pytest.raises(StopIteration):
        next(stream)


def test_text_deltas_raise_with_on_error_event(serve: Serve) -> None:
    """text_deltas() raises also with on_error="event"."""
    client = serve(stream_bytes(chunk("Hel"), chunk("lo"))).client
    with client.completions.stream(prompt="x", on_error="event") as stream:
        texts: List[str] = []
        with pytest.raises(StreamInterruptedError):
            texts.extend(stream.text_deltas())
        assert texts == ["Hel", "lo"]


HEADS = st.sampled_from(
    [
        b"",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: deflate\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 103 Early\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nlocation: http://[\r\n\r\n",
        b"HTTP/1.1 400 Bad\r\ncontent-encoding: gzip\r\n\r\n",
        b"HTTP/1.1 503 \xff\r\nretry-after: 99999999999999999999999\r\n\r\n",
        b"HTTP/1.1 999 What\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 2000 What\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nset-cookie: \xff=\x00\r\ncontent-type: \xff\xfe\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    ]
)
BODIES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            b"5\r\ndata:\r\n0\r\n\r\n",
            b"-5\r\ndata: {}\n\n\r\n0\r\n\r\n",
            b"ffffffffffffffffffffff\r\ndata",
            b"zz\r\n",
            b"2\r\nab0\r\n\r\n",
            b'data: {"choices": [{"text": "a"}]}\n\n',
            b'event: error\ndata: {"error": {"code": [1]}}\n\n',
            b"data: [DONE]\n\n",
            b'{"choices": [{}]}',
            b'{"error": 5}',
            b"\x1f\x8b\x08\x00garbage",
        ]
    ),
)


@given(
    answers=st.lists(
        st.one_of(st.binary(max_size=80), st.builds(bytes.__add__, HEADS, BODIES)),
        min_size=25,
        max_size=25,
    ),
    resets=st.booleans(),
)
@settings(max_examples=25)
def test_only_our_errors_are_raised(answers: List[bytes], resets: bool) -> None:
    """Whatever a server sends, create() and stream() raise only VllmError."""
    waiting = [response for response in answers for _ in range(2)]

    def garbage(connection: Connection) -> None:
        connection.receive()
        connection.send(waiting.pop() if waiting else b"")
        if resets:
            connection.reset()

    with WireServer(garbage) as server, VllmClient(server.base_url, max_retries=0) as client:
        for _ in answers:
            with contextlib.suppress(VllmError):
                client.completions.create(prompt="x")
            with contextlib.suppress(VllmError), client.completions.stream(prompt="x") as stream:
                list(stream)
