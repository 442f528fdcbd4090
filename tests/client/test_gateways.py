"""Streams that gateways and other servers bend: nothing is lost, nothing incomplete passes."""

from __future__ import annotations

import json
import threading
from typing import Any, List, Tuple

import pytest

from vllm_client import (
    ChatCompletion,
    CompletionStream,
    Done,
    FinishReason,
    InvalidResponseError,
    InvalidStreamError,
    ServerStreamError,
    StreamInterruptedError,
    Text,
    ToolCall,
    VllmClient,
    VllmError,
)

from ..recorded import STREAM_HEAD, WHOLE, answer, chunk, json_bytes, stream_bytes
from ..servers import WireServer, replying

ASK: Any = [{"role": "user", "content": "?"}]


def delta(content: Any = None, finish: Any = None, **more: Any) -> Any:
    """A chunk as /v1/chat/completions sends it."""
    calls = more.pop("tool_calls", None)
    members = {"content": content, "tool_calls": calls}
    choice = {
        "index": 0,
        "delta": {name: value for name, value in members.items() if value is not None},
        "finish_reason": finish,
    }
    return {"id": "chatcmpl-1", "created": 1, "model": "m", "choices": [choice], **more}


def piece(arguments: Any, **more: Any) -> Any:
    """A piece of a tool call."""
    name = more.pop("name", None)
    return {**more, "function": {"arguments": arguments, **({"name": name} if name else {})}}


def read_chat(*chunks: Any) -> Tuple[List[Any], ChatCompletion]:
    """The events of a chat stream with these chunks, and what they add up to."""
    body = stream_bytes(*chunks, "[DONE]")
    with WireServer(replying(body)) as server, VllmClient(server.base_url) as client:
        with client.chat.completions.stream(messages=ASK) as stream:
            return list(stream), stream.snapshot


def read(response: bytes) -> Tuple[List[Any], CompletionStream]:
    """The events of a completion stream whose response has these bytes, and the stream."""
    with WireServer(replying(response)) as server, VllmClient(server.base_url) as client:
        with client.completions.stream(prompt="x") as stream:
            return list(stream), stream


@pytest.mark.parametrize("frame", ["null", "{}", "[]", '""'])
def test_a_frame_without_content_is_passed_over(frame: str) -> None:
    """A keep-alive in the form of an empty JSON value neither ends the stream nor adds an event."""
    events, _ = read(stream_bytes(chunk("Hel"), frame, *WHOLE[1:]))
    assert [event.text for event in events if event.type == "text"] == ["Hel", "lo"]
    assert events[-1] == Done()


def test_an_empty_finish_reason_is_none() -> None:
    """It gives no event, and a stream with no other finish reason is incomplete."""
    events, completion = read_chat(delta("Hel", ""), delta("lo", ""), delta(None, "stop"))
    assert [event.reason for event in events if event.type == "finish_reason"] == ["stop"]
    assert completion.text == "Hello"
    with pytest.raises(StreamInterruptedError) as raised:
        read_chat(delta("Hel", ""))
    assert raised.value.partial.text == "Hel"


def test_later_chunks_do_not_blank_earlier_members() -> None:
    """Empty and null members outside the choices replace nothing; other values do, also false."""
    blank = {"id": "", "model": None, "created": 0, "prompt_token_ids": None, "choices": []}
    _, completion = read_chat(
        {**delta("Hello", "stop", prompt_token_ids=[1, 2]), "more": True},
        blank,
        {"choices": [], "kind": "late", "more": False},
    )
    assert (completion.id, completion.model, completion.created) == ("chatcmpl-1", "m", 1)
    assert completion.raw["prompt_token_ids"] == [1, 2]
    assert completion.raw["kind"] == "late"
    assert completion.raw["more"] is False


def test_a_repeated_finish_does_not_blank_the_stop_reason() -> None:
    """A second finish of the same choice without a stop reason keeps the first."""
    first = chunk("", finish="stop", stop_reason=0)
    _, stream = read(stream_bytes(chunk("a"), first, chunk("", finish="stop"), "[DONE]"))
    assert stream.snapshot.choices[0].stop_reason == 0


def test_parallel_lists_of_log_probabilities_stay_parallel() -> None:
    """A list that some chunks leave out is padded, so that its entries fit the tokens."""
    lists = {"tokens": ["a"], "token_logprobs": [-1.0]}
    both = {**lists, "top_logprobs": [{"a": -1.0}]}
    chunks = [chunk("a", logprobs=lists), chunk("a", logprobs=both), chunk("a", logprobs=lists)]
    _, stream = read(stream_bytes(*chunks, chunk("", finish="stop"), "[DONE]"))
    assert stream.snapshot.choices[0].logprobs == {
        "tokens": ["a"] * 3,
        "token_logprobs": [-1.0] * 3,
        "top_logprobs": [None, {"a": -1.0}, None],
    }


@pytest.mark.parametrize(
    "index", [{"index": 0}, {}, {"index": None}, {"index": "0"}, {"index": -1}]
)
def test_a_new_id_opens_a_new_call(index: Any) -> None:
    """Calls that share an index, or have none, are told apart by their ids."""
    events, completion = read_chat(
        delta(tool_calls=[piece('{"b"', id="a", name="add", **index)]),
        delta(tool_calls=[piece(": 2}", **index)]),
        delta(tool_calls=[piece('{"c": 3}', id="b", name="look", **index)]),
        delta(None, "tool_calls"),
    )
    calls = [ToolCall("a", "add", '{"b": 2}'), ToolCall("b", "look", '{"c": 3}')]
    assert completion.tool_calls == calls
    assert [event for event in events if event.type == "tool_call"] == calls
    deltas = [event.call_index for event in events if event.type == "tool_call_delta"]
    assert deltas == [0, 0, 1]


def test_pieces_without_an_id_belong_to_the_call_of_their_index() -> None:
    """Pieces of two calls that alternate are told apart by the index, as vLLM sends it."""
    _, completion = read_chat(
        delta(tool_calls=[piece('{"b"', index=0, id="a", name="add")]),
        delta(tool_calls=[piece('{"c"', index=1, id="b", name="look")]),
        delta(tool_calls=[piece(": 2}", index=0)]),
        delta(tool_calls=[piece(": 3}", index=1)]),
        delta(None, "tool_calls"),
    )
    assert completion.tool_calls == [
        ToolCall("a", "add", '{"b": 2}'),
        ToolCall("b", "look", '{"c": 3}'),
    ]


def test_an_id_that_is_known_continues_its_call() -> None:
    """Pieces of two calls under one index alternate without being mixed."""
    _, completion = read_chat(
        delta(tool_calls=[piece('{"b"', index=0, id="a", name="add")]),
        delta(tool_calls=[piece('{"c"', index=0, id="b", name="look")]),
        delta(tool_calls=[piece(": 2}", index=0, id="a")]),
        delta(tool_calls=[piece(": 3}", index=0, id="b")]),
        delta(None, "tool_calls"),
    )
    assert [call.arguments for call in completion.tool_calls] == ['{"b": 2}', '{"c": 3}']


@pytest.mark.parametrize("reason", ["tool_calls", "stop", "length"])
def test_a_call_with_half_its_arguments_is_no_event(reason: str) -> None:
    """Whatever the finish reason, a call that was cut off stays in the snapshot alone."""
    events, completion = read_chat(
        delta(tool_calls=[piece('{"city": "Par', index=0, id="a", name="weather")]),
        delta(None, reason),
    )
    assert [event for event in events if event.type == "tool_call"] == []
    assert completion.tool_calls[0].arguments == '{"city": "Par'


def test_a_call_without_arguments_is_complete() -> None:
    """A function without parameters may be called with no text at all."""
    events, _ = read_chat(
        delta(tool_calls=[piece("", index=0, id="a", name="now")]), delta(None, "tool_calls")
    )
    assert [event.parse_args() for event in events if event.type == "tool_call"] == [{}]


def test_arguments_that_are_an_object_become_their_text() -> None:
    """In a stream and in a whole response, with the same result."""
    call = {"id": "a", "type": "function", **piece({"x": "é"}, name="f")}
    events, streamed = read_chat(
        delta(tool_calls=[{"index": 0, **call}]), delta(None, "tool_calls")
    )
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    body = {**delta(), "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    with WireServer(replying(json_bytes(body))) as server, VllmClient(server.base_url) as client:
        whole = client.chat.completions.create(messages=ASK)
    assert streamed.tool_calls == whole.tool_calls == [ToolCall("a", "f", '{"x": "é"}')]
    assert [event.parse_args() for event in events if event.type == "tool_call"] == [{"x": "é"}]


def test_content_in_parts_becomes_text() -> None:
    """In a stream and in a whole response, with the same result."""
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    _, streamed = read_chat(delta(parts, "stop"))
    message = {"role": "assistant", "content": parts}
    body = {**delta(), "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    with WireServer(replying(json_bytes(body))) as server, VllmClient(server.base_url) as client:
        whole = client.chat.completions.create(messages=ASK)
    assert streamed.text == whole.text == "Hello"


ERRORS = [
    {"error": {"message": "no room", "code": 400}},
    {"error": "no room"},
    {"detail": "no room"},
    {"object": "error", "message": "no room", "code": 400},
]


@pytest.mark.parametrize("error", ERRORS, ids=str)
@pytest.mark.parametrize("ending", ["", "\n", "\n\n"])
@pytest.mark.parametrize("before", [(), (chunk("Hel"),)], ids=["alone", "after a chunk"])
def test_a_json_error_without_data_is_the_reason(error: Any, ending: str, before: Any) -> None:
    """An error that a gateway passes through as it is stands in the exception."""
    events = b"".join(f"data: {json.dumps(each)}\n\n".encode() for each in before)
    body = events + json.dumps(error).encode() + ending.encode()
    chunked = STREAM_HEAD + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    with pytest.raises(ServerStreamError, match="no room") as raised:
        read(chunked)
    assert raised.value.partial.text == ("Hel" if before else "")


@pytest.mark.parametrize("error", ERRORS, ids=str)
def test_an_error_frame_of_any_shape_is_an_error(error: Any) -> None:
    """The shapes that error bodies have outside streams are understood in frames too."""
    with pytest.raises(ServerStreamError, match="no room"):
        read(stream_bytes(chunk("Hel"), error, "[DONE]"))


@pytest.mark.parametrize("kind", ["application/json", "text/html"])
@pytest.mark.parametrize("beginning", [b"", b"\xef\xbb\xbf", b": hello\n\n", b"\n"])
def test_a_stream_with_a_wrong_label_is_read(kind: str, beginning: bytes) -> None:
    """The first bytes tell a stream from a document, not the content type."""
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n".encode()
    body = stream_bytes(*WHOLE, head=b"")
    with WireServer(lambda c: c.receive() and c.send(head + beginning + body)) as server:
        with VllmClient(server.base_url) as client:
            assert client.completions.stream(prompt="x").collect_text() == "Hello"


@pytest.mark.parametrize(
    ("finished", "complete"), [([chunk("a", finish="stop")], True), ([chunk("a")], False)]
)
@pytest.mark.parametrize("ending", ["", "\n"])
def test_done_without_its_blank_line(finished: Any, complete: bool, ending: str) -> None:
    """At the very end of a body it counts, but only if every choice is finished."""
    events = "".join(f"data: {json.dumps(each)}\n\n" for each in finished)
    body = f"{events}data: [DONE]{ending}".encode()
    response = STREAM_HEAD + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    if complete:
        assert read(response)[0] == [Text("a"), FinishReason("stop"), Done()]
    else:
        with pytest.raises(StreamInterruptedError):
            read(response)


def test_chunks_of_the_other_route_are_an_error() -> None:
    """Neither route reads the other's chunks as an empty success."""
    with pytest.raises(InvalidStreamError, match="/v1/chat/completions"):
        read(stream_bytes(delta("Hello", "stop"), "[DONE]"))
    with pytest.raises(InvalidStreamError, match="/v1/completions"):
        read_chat(chunk("Hello", finish="stop"))


@pytest.mark.parametrize(
    ("choices", "missing"),
    [
        ([], "choice 0, 1"),
        ([{"index": 0, "text": "a", "finish_reason": "stop"}], "choice 1"),
        (
            [
                {"index": 0, "text": "a", "finish_reason": ""},
                {"index": 1, "text": "b", "finish_reason": "stop"},
            ],
            "choice 0",
        ),
    ],
)
def test_create_wants_every_choice_finished(choices: Any, missing: str) -> None:
    """The rule of streams holds for whole responses; what arrived is in ``partial``."""
    body = {**answer(), "choices": choices}
    with WireServer(replying(json_bytes(body))) as server, VllmClient(server.base_url) as client:
        with pytest.raises(InvalidResponseError, match=f"{missing} has no finish reason") as raised:
            client.completions.create(prompt="x", n=2)
    assert [choice.text for choice in raised.value.partial.choices] == [
        choice["text"] for choice in choices
    ]


def test_a_withdrawn_field_in_extra_body_is_refused() -> None:
    """The server would ignore it silently, so the error names its replacement."""
    with VllmClient("http://localhost:9") as client:
        with pytest.raises(TypeError, match=r"guided_choice.*structured_outputs"):
            client.completions.create(prompt="x", extra_body={"guided_choice": ["a"]})


@pytest.mark.parametrize(
    "surroundings", ['"te\\u0078t": "b", ', '"text" : "b", ', '"id": "\\u0041", ']
)
def test_a_chunk_that_may_hold_its_text_twice_is_parsed_in_full(surroundings: str) -> None:
    """Json takes the last of two equal keys, however they are spelt; so does every chunk."""
    raw = '{"choices": [{"index": 0, "text":"%s", ' + surroundings + '"finish_reason": null}]}'
    lines = [raw % text for text in ("one", "two", "three")]
    expected = [json.loads(line)["choices"][0]["text"] for line in lines]
    events, _ = read(stream_bytes(*lines, chunk("", finish="stop"), "[DONE]"))
    assert [event.text for event in events if event.type == "text"] == expected


def test_an_error_of_a_gateway_is_never_a_success() -> None:
    """A body that is neither a stream nor an error is an error of ours too."""
    body = b"upstream is not there"
    with pytest.raises(VllmError):
        read(STREAM_HEAD + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))


def test_a_number_that_is_taken_is_not_given_twice() -> None:
    """A new call gets a free number, whatever numbers the server has used."""
    _, completion = read_chat(
        delta(tool_calls=[piece("{}", index=0, id="a", name="f")]),
        delta(tool_calls=[piece("{}", index=2, id="b", name="g")]),
        delta(tool_calls=[piece("{}", index=0, id="c", name="h")]),
        delta(None, "tool_calls"),
    )
    assert [call.id for call in completion.tool_calls] == ["a", "b", "c"]


@pytest.mark.parametrize("size", [10, 200_000])
def test_a_document_in_pieces_is_quoted(size: int) -> None:
    """Its first bytes are read, however they arrive, and the message is found in them."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n"
    body = json.dumps({"detail": "asleep", "padding": "x" * size}).encode()

    def handler(connection: Any) -> None:
        connection.receive()
        connection.send(head + body[:5])
        threading.Event().wait(0.05)
        connection.send(body[5:])

    with WireServer(handler) as server, VllmClient(server.base_url) as client:
        with pytest.raises(InvalidStreamError) as raised:
            client.completions.stream(prompt="x")
    assert ("asleep" if size == 10 else "it begins") in str(raised.value)
