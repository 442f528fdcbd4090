"""What is cut off, failed or given up never passes for a whole answer."""

from __future__ import annotations

import contextlib
import json
from functools import partial
from typing import Any, Dict, List

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
from ..servers import Connection, WireServer, answering

# Short, because it is cut at each of its bytes.
SHORT: List[Any] = [
    {"choices": [{"text": "é"}]},
    {"choices": [{"text": "b"}], "usage": None},
    {"choices": [{"text": "c", "finish_reason": "stop"}]},
    {"choices": [], "usage": USAGE},
    "[DONE]",
]
SHORT_HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
SHORT_UNCHUNKED = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"


class Cutter:
    """A server that ends each connection after as many bytes as the request says."""

    def __init__(self, response: bytes, *, reset: bool = False) -> None:
        self.response = response
        self.reset = reset

    def __call__(self, connection: Connection) -> None:
        request = connection.receive()
        assert request is not None
        connection.send(self.response[: int(request.headers["x-cut"])])
        if self.reset:
            connection.reset()


def _texts(body: bytes) -> str:
    """The text of the events that are whole in this part of a body."""
    text = ""
    for event in body.split(b"\n\n")[:-1]:
        if event != b"data: [DONE]":
            text += "".join(one["text"] for one in json.loads(event[6:])["choices"])
    return text


@pytest.mark.parametrize("head", [SHORT_HEAD, SHORT_UNCHUNKED], ids=["chunked", "unchunked"])
def test_a_stream_cut_anywhere_is_an_error_with_what_had_arrived(head: bytes) -> None:
    """Cut after any byte before the end of [DONE], a stream raises with exactly its text so far."""
    response = stream_bytes(*SHORT, head=head)
    with (
        WireServer(Cutter(response)) as server,
        VllmClient(server.base_url, max_retries=0) as client,
    ):
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
def test_a_stream_reset_anywhere_is_an_error(head: bytes) -> None:
    """The same with TCP resets, of which nobody knows how much of the data they destroy."""
    response = stream_bytes(*SHORT, head=head)
    whole = response.index(b"data: [DONE]\n\n") + len(b"data: [DONE]\n\n")
    with (
        WireServer(Cutter(response, reset=True)) as server,
        VllmClient(server.base_url, max_retries=0) as client,
    ):
        for cut in range(0, whole, 3):
            with (
                pytest.raises(VllmError),
                client.completions.stream(prompt="x", extra_headers={"x-cut": str(cut)}) as stream,
            ):
                list(stream)


def test_an_answer_cut_anywhere_is_an_error() -> None:
    """Cut after any byte, an answer that is not streamed raises an error of ours."""
    response = json_bytes(answer())
    with (
        WireServer(Cutter(response)) as server,
        VllmClient(server.base_url, max_retries=0) as client,
    ):
        for cut in range(len(response)):
            with pytest.raises(VllmError):
                client.completions.create(prompt="x", extra_headers={"x-cut": str(cut)})
        client.completions.create(prompt="x", extra_headers={"x-cut": str(len(response))})


def test_a_body_shorter_than_its_length_is_a_connection_error() -> None:
    """A body that ends before its content-length is retryable, not "no JSON"."""
    response = json_bytes(answer())
    with WireServer(Cutter(response)) as server, VllmClient(server.base_url) as client:
        with pytest.raises(vllm_client.APIConnectionError, match="middle of the response"):
            client.completions.create(prompt="x", extra_headers={"x-cut": str(len(response) - 1)})
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "framing",
    ["content-length: 9000000000000000", f"transfer-encoding: chunked\r\n\r\n{2**62:x}"],
)
def test_no_memory_is_set_aside_for_what_a_server_claims(framing: str) -> None:
    """A length beyond all memory is an answer cut off, not a MemoryError or an OverflowError."""
    response = f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{{".encode()
    with WireServer(Cutter(response)) as server, VllmClient(server.base_url) as client:
        with pytest.raises(vllm_client.APIConnectionError, match="middle of the response"):
            client.completions.create(prompt="x", extra_headers={"x-cut": str(len(response))})


def _read(*events: Any, **params: Any) -> Any:
    """The events that come out, and the error or None."""
    params = {"prompt": "x", **params}
    with (
        WireServer(answering(stream_bytes(*events))) as server,
        VllmClient(server.base_url) as client,
        client.completions.stream(**params) as stream,
    ):
        got: List[Any] = []
        error = None
        try:
            got.extend(stream)  # What came before an error stays in the list.
        except VllmError as raised:
            error = raised
        if error is not None:
            with pytest.raises(type(error)) as again:
                stream.collect()
            assert again.value is error
            with pytest.raises(type(error)):
                next(stream)
            return got, error
        with pytest.raises(StopIteration):
            next(stream)
        with pytest.raises(StopIteration):
            next(stream)
        return got, None


def test_a_whole_stream_ends_with_usage_and_done() -> None:
    """Text, finish reason, usage and Done come out of a whole stream, in that order."""
    got, error = _read(*WHOLE)
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
def test_an_end_that_is_none_interrupts(events: List[Any], text: str) -> None:
    """Without [DONE], or with it but without a finish reason, the answer is cut off."""
    _, error = _read(*events)
    assert type(error) is StreamInterruptedError
    assert text_in(error.partial) == text
    assert error.is_retryable


@pytest.mark.parametrize(
    "params",
    [{"n": 2}, {"prompt": ["a", "b"]}, {"extra_body": {"n": 2}}, {"prompt": [[1, 2], [3]]}],
    ids=["n", "prompts", "extra_body", "token ids"],
)
def test_every_choice_that_was_asked_for_has_to_finish(params: Dict[str, Any]) -> None:
    """One of two choices without its finish reason is a cut answer; both make it whole."""
    first = [chunk("a", finish="stop"), chunk("b", index=1)]
    _, error = _read(*first, "[DONE]", **params)
    assert type(error) is StreamInterruptedError
    assert "choice 1" in str(error)
    assert (text_in(error.partial), text_in(error.partial, 1)) == ("a", "b")
    got, error = _read(*first, chunk("", index=1, finish="length"), "[DONE]", **params)
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
    before: List[Any], frame: Any, code: Any, retryable: bool
) -> None:
    """An error frame first, in the middle or after the end of the text is the server's error."""
    got, error = _read(*before, frame, "[DONE]")
    assert type(error) is ServerStreamError
    assert "no room" in str(error)
    assert (error.code, error.is_retryable, error.body) == (code, retryable, frame)
    assert text_in(error.partial) == "".join(e.text for e in got if e.type == "text")
    assert len(got) == sum(2 if one["choices"][0]["finish_reason"] else 1 for one in before)


@pytest.mark.parametrize("named", ["event: error\ndata: {}\n\n", "data: {}\nevent: error\n\n"])
@pytest.mark.parametrize("said", ['{"error": {"message": "gone", "code": 502}}', "gone"])
def test_an_event_named_error_fails_the_stream(named: str, said: str) -> None:
    """A gateway's error event is an error whatever its data looks like."""
    body = b"data: " + json.dumps(chunk("Hel")).encode() + b"\n\n" + named.format(said).encode()
    body += b"data: [DONE]\n\n"
    with (
        WireServer(_once(UNCHUNKED_HEAD + body)) as server,
        VllmClient(server.base_url) as client,
        client.completions.stream(prompt="x") as stream,
    ):
        with pytest.raises(ServerStreamError, match="gone") as raised:
            stream.collect()
    assert text_in(raised.value.partial) == "Hel"


def _once(response: bytes) -> Any:
    def handler(connection: Connection) -> None:
        connection.receive()
        connection.send(response)

    return handler


def test_an_event_named_ping_is_passed_over() -> None:
    """A gateway's ping is no chunk; another name says nothing about the data."""
    events = stream_bytes(*WHOLE, head=UNCHUNKED_HEAD).removeprefix(UNCHUNKED_HEAD)
    body = b"event: ping\ndata: {}\n\n" + events.replace(b"data: {", b"event: chunk\ndata: {")
    with (
        WireServer(_once(UNCHUNKED_HEAD + body)) as server,
        VllmClient(server.base_url) as client,
        client.completions.stream(prompt="x") as stream,
    ):
        assert stream.collect().text == "Hello"
        assert stream.timings.chunks == 3


@pytest.mark.parametrize("rest", [["[DONE]"], []], ids=["with [DONE]", "cut"])
def test_abort_is_given_and_then_raised(rest: List[str]) -> None:
    """The finish reason "abort" is an event first, then an error, also if [DONE] is missing."""
    got, error = _read(chunk("Hel"), chunk("lo", finish="abort"), *rest)
    assert got == [Text("Hel"), Text("lo"), FinishReason("abort")]
    assert type(error) is GenerationAbortedError
    assert error.is_retryable
    assert text_in(error.partial) == "Hello"
    assert error.partial.choices[0].finish_reason == "abort"


def test_abort_with_usage_gives_the_usage() -> None:
    """What an aborted answer has cost is known before the error."""
    got, error = _read(chunk("x", finish="abort"), {"choices": [], "usage": USAGE}, "[DONE]")
    assert [event.type for event in got] == ["text", "finish_reason", "usage"]
    assert type(error) is GenerationAbortedError


def test_create_raises_for_abort_too() -> None:
    """An answer that was given up is no answer."""
    with (
        WireServer(answering(json_bytes(answer("Hel", "abort")))) as server,
        VllmClient(server.base_url) as client,
        pytest.raises(GenerationAbortedError) as raised,
    ):
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
def test_what_is_no_chunk_is_an_error_of_ours(data: str) -> None:
    """JSON of another shape, or none, raises with what had arrived."""
    got, error = _read(chunk("Hel"), data, chunk("", finish="stop"), "[DONE]")
    assert isinstance(error, (InvalidStreamError, ServerStreamError))
    assert got[0] == Text("Hel")
    assert text_in(error.partial).startswith("Hel")


@pytest.mark.parametrize("kind", ["application/json", "text/html; charset=utf-8"])
def test_a_document_is_not_a_stream(kind: str) -> None:
    """A 200 with a document is refused at once, in the words of the document."""
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n"
    body = b'{"error": {"message": "the gateway is asleep"}}'
    with WireServer(_once(head.encode() + body)) as server, VllmClient(server.base_url) as client:
        with pytest.raises(InvalidStreamError, match="gateway is asleep"):
            client.completions.stream(prompt="x")


@pytest.mark.parametrize("body", [b"", b"hello", b"{}", b"[]", b"7", b'{"choices": 5}', b"\xff"])
def test_a_success_that_is_no_completion_is_an_error(body: bytes) -> None:
    """A 200 with something else in it is an InvalidResponseError."""
    with WireServer(answering(json_bytes(body))) as server, VllmClient(server.base_url) as client:
        with pytest.raises(vllm_client.InvalidResponseError):
            client.completions.create(prompt="x")


def test_invalid_utf8_in_a_stream_is_an_error_with_what_had_arrived() -> None:
    """Bytes that are no UTF-8 raise InvalidStreamError, not UnicodeDecodeError."""
    body = b"data: " + json.dumps(chunk("Hel")).encode() + b"\n\ndata: {\xff}\n\n"
    with (
        WireServer(_once(UNCHUNKED_HEAD + body)) as server,
        VllmClient(server.base_url) as client,
        client.completions.stream(prompt="x") as stream,
    ):
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
def test_on_error_event_gives_the_error_as_the_last_event(events: List[Any], kind: type) -> None:
    """Where an exception would be raised, on_error="event" gives one Error event and ends."""
    with (
        WireServer(answering(stream_bytes(*events))) as server,
        VllmClient(server.base_url) as client,
        client.completions.stream(prompt="x", on_error="event") as stream,
    ):
        *before, last = list(stream)
        assert isinstance(last, Error)
        assert type(last.error) is kind
        assert text_in(last.error.partial) == "Hel"
        assert before[0] == Text("Hel")
        assert not any(event.type in {"error", "done"} for event in before)
        assert list(stream) == []
        with pytest.raises(kind):
            stream.collect()


def test_on_error_event_ends_after_close_too() -> None:
    """A loop over a closed stream gets one Error event, not one for ever."""
    with (
        WireServer(answering(stream_bytes(*WHOLE))) as server,
        VllmClient(server.base_url) as client,
    ):
        with client.completions.stream(prompt="x", on_error="event") as stream:
            assert next(stream) == Text("Hel")
        first = next(stream)
        assert first.type == "error"
        assert isinstance(first.error, vllm_client.StreamConsumedError)
        assert text_in(first.error.partial) == "Hel"
        with pytest.raises(StopIteration):
            next(stream)


def test_text_deltas_raise_whatever_on_error_says() -> None:
    """Strings have no place for an error, so a cut is raised."""
    with (
        WireServer(answering(stream_bytes(chunk("Hel"), chunk("lo")))) as server,
        VllmClient(server.base_url) as client,
        client.completions.stream(prompt="x", on_error="event") as stream,
    ):
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
    reset=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_nothing_but_our_errors_escapes(answers: List[bytes], reset: bool) -> None:
    """Whatever a peer sends, create() and stream() raise a VllmError or nothing."""
    waiting = [one for one in answers for _ in range(2)]

    def garbage(connection: Connection) -> None:
        connection.receive()
        connection.send(waiting.pop() if waiting else b"")
        if reset:
            connection.reset()

    with WireServer(garbage) as server, VllmClient(server.base_url, max_retries=0) as client:
        for _ in answers:
            with contextlib.suppress(VllmError):
                client.completions.create(prompt="x")
            with contextlib.suppress(VllmError), client.completions.stream(prompt="x") as stream:
                list(stream)
