"""Streams that gateways and other servers bend: nothing is lost, nothing incomplete passes."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from typing import Any, Iterator, List, Tuple

import pytest

from vllm_client import (
    ChatCompletion,
    CompletionStream,
    Done,
    FinishReason,
    GenerationAbortedError,
    InvalidResponseError,
    InvalidStreamError,
    RateLimitError,
    ServerStreamError,
    ServiceUnavailableError,
    StreamInterruptedError,
    Text,
    TokenLogprob,
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


def replying_client(body: Any) -> Any:
    """A context with a client whose server answers with this document."""

    @contextlib.contextmanager
    def context() -> Iterator[VllmClient]:
        with WireServer(replying(json_bytes(body))) as server:
            with VllmClient(server.base_url, max_retries=0) as client:
                yield client

    return context()


def created(body: Any) -> Any:
    """The completion in a whole response with this document."""
    with replying_client(body) as client:
        return client.completions.create(prompt="x")


@pytest.mark.parametrize(
    "frame",
    [
        *("null", "{}", "[]", '""', " ", "\t", "ping", "keep-alive", "Heartbeat"),
        *('{"message": null}', '{"detail": ""}', '{"errors": []}', '{"type": "ping"}'),
        *('{"choices": [null]}', '{"choices": [{"index": null, "text": null}]}'),
    ],
)
def test_a_frame_without_content_is_passed_over(frame: str) -> None:
    """A keep-alive in the form of an empty JSON value neither ends the stream nor adds an event."""
    events, _ = read(stream_bytes(chunk("Hel"), frame, *WHOLE[1:]))
    assert [event.text for event in events if event.type == "text"] == ["Hel", "lo"]
    assert events[-1] == Done()


@pytest.mark.parametrize("name", ["heartbeat", "keepalive", "keep-alive", "PING"])
def test_a_named_keep_alive_is_passed_over(name: str) -> None:
    """Whatever it carries, an event of such a name is no chunk."""
    ping = f"event: {name}\ndata: 12:00\n\n".encode()
    body = stream_bytes(chunk("Hel")).removesuffix(b"0\r\n\r\n")
    framed = b"%x\r\n%s\r\n" % (len(ping), ping)
    _, stream = read(body + framed + stream_bytes(*WHOLE[1:]).partition(b"\r\n\r\n")[2])
    assert stream.snapshot.text == "Hello"


@pytest.mark.parametrize("empty", ["", " ", "null", "None"])
def test_an_empty_finish_reason_is_none(empty: str) -> None:
    """It gives no event, and a response with no other finish reason is incomplete."""
    events, completion = read_chat(delta("Hel", empty), delta("lo", empty), delta(None, "stop"))
    assert [event.reason for event in events if event.type == "finish_reason"] == ["stop"]
    assert completion.text == "Hello"
    with pytest.raises(StreamInterruptedError) as raised:
        read_chat(delta("Hel", empty))
    assert raised.value.partial.text == "Hel"
    with pytest.raises(InvalidResponseError, match="no finish reason"):
        created({**answer(), "choices": [{"index": 0, "text": "a", "finish_reason": empty}]})


@pytest.mark.parametrize(
    "done",
    [
        *("data: [DONE] ", "data:  [DONE]", "data: [DONE]\t", 'data: "[DONE]"', "data: [done]"),
        *("data: [DONE]\ndata:", "id: 1\nevent: done\ndata: [DONE]"),
    ],
)
@pytest.mark.parametrize("ending", ["\n\n", "\n", ""])
def test_other_spellings_of_done(done: str, ending: str) -> None:
    """Spaces, quotes and further lines around it do not make a complete stream incomplete."""
    events = "".join(f"data: {json.dumps(each)}\n\n" for each in WHOLE[:-1])
    body = f"{events}{done}{ending}".encode()
    response = STREAM_HEAD + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    assert read(response)[0][-1] == Done()


@pytest.mark.parametrize("place", ["choice", "top"])
def test_an_error_beside_choices_is_no_success(place: str) -> None:
    """Neither a stream nor a whole response passes as complete; the text before it is kept."""
    error = {"error": {"message": "provider down", "code": 502}}
    choice = {"index": 0, "text": "", "finish_reason": "error"}
    in_choice = place == "choice"
    frame = {"choices": [{**choice, **error}]} if in_choice else {"choices": [choice], **error}
    with pytest.raises(ServerStreamError, match="provider down") as streamed:
        read(stream_bytes(chunk("Hel"), frame, "[DONE]"))
    assert (streamed.value.code, streamed.value.partial.text) == (502, "Hel")
    frame["choices"][0].update(text="Hel", finish_reason="stop")
    with pytest.raises(InvalidResponseError, match="provider down") as raised:
        created({**answer(), **frame})
    assert raised.value.is_retryable
    assert raised.value.partial.text == "Hel"


def test_the_finish_reason_error_is_no_success() -> None:
    """A choice that the server gave up is aborted, in a stream and in a whole response."""
    with pytest.raises(GenerationAbortedError) as streamed:
        read(stream_bytes(chunk("Hel"), chunk("", finish="error"), "[DONE]"))
    assert streamed.value.partial.text == "Hel"
    with pytest.raises(GenerationAbortedError) as raised:
        created({**answer(), "choices": [{"index": 0, "text": "Hel", "finish_reason": "error"}]})
    assert raised.value.partial.text == "Hel"


def test_an_error_body_with_empty_choices_has_the_class_of_its_code() -> None:
    """Gateways fill the members of a response also where they report an error."""
    with pytest.raises(RateLimitError, match="slow down"):
        created({"choices": [], "error": {"message": "slow down", "code": 429}})


@pytest.mark.parametrize(
    ("data", "message"), [("", "without a message"), ("<title>Bad gateway</title>", "Bad gateway")]
)
def test_an_error_event_that_is_no_json_is_an_error(data: str, message: str) -> None:
    """An empty one too, and of a page the visible text is the message."""
    event = f"event: error\ndata: {data}\n\n".encode()
    body = b"%x\r\n%s\r\n" % (len(event), event)
    beginning = stream_bytes(chunk("Hel")).removesuffix(b"0\r\n\r\n")
    with pytest.raises(ServerStreamError, match=message):
        read(beginning + body + stream_bytes(*WHOLE[1:]).partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize("done", [["[DONE]"], []])
def test_a_frame_that_is_unknown_is_quoted_if_the_stream_is_incomplete(done: Any) -> None:
    """It may be the reason, in words of a gateway that this client does not know."""
    with pytest.raises(StreamInterruptedError, match="quota is used up"):
        read(stream_bytes(chunk("Hel"), {"code": 7, "reason": "quota is used up"}, *done))


def test_null_members_of_a_whole_response_say_nothing() -> None:
    """A null index is 0, and a null choice, call or usage is none."""
    call = {"id": "a", "function": {"name": None, "arguments": ["x"]}}
    message = {"content": ["Hel", None, {"type": "text", "text": None}, {"text": "lo"}]}
    choice = {"index": None, "finish_reason": "stop"}
    message["tool_calls"] = [None, call]
    with replying_client({"choices": [{**choice, "message": message}, None], "usage": []}) as chat:
        whole = chat.chat.completions.create(messages=ASK)
    assert (whole.text, whole.usage) == ("Hello", None)
    assert whole.tool_calls == [ToolCall("a", "", '["x"]')]
    _, streamed = read_chat(
        delta({"type": "text", "text": "Hi"}, tool_calls=[None]), delta("", "stop")
    )
    assert streamed.text == "Hi"


def test_null_members_of_log_probabilities_say_nothing() -> None:
    """The list of tokens is empty, or lacks the null ones."""
    assert TokenLogprob.sequence({"tokens": None, "content": None}) == []
    entry = {"token": "a", "logprob": -1.0}
    assert TokenLogprob.sequence({"content": [None, entry]}) == [TokenLogprob("a", -1.0)]


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


def test_a_message_instead_of_a_delta_is_read() -> None:
    """It is not lost if a gateway sends all in one chunk, nor doubled if it repeats all at last."""
    call = {"id": "a", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": "Hello", "tool_calls": [call]}
    whole = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    for before in ([], [delta("Hello", tool_calls=[{"index": 0, **call}])]):
        events, completion = read_chat(*before, whole)
        assert (completion.text, completion.tool_calls) == ("Hello", [ToolCall("a", "f", "{}")])
        assert [event.text for event in events if event.type == "content"] == ["Hello"]


def test_a_refusal_is_kept() -> None:
    """Its pieces are those of the message."""
    chunks = [delta("", None), delta("", "stop")]
    chunks[0]["choices"][0]["delta"]["refusal"] = "I can"
    chunks[1]["choices"][0]["delta"]["refusal"] = "not"
    assert read_chat(*chunks)[1].message.refusal == "I cannot"


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


def test_a_name_after_complete_arguments_opens_a_new_call() -> None:
    """Servers that send neither ids nor indexes begin a call with its name."""
    pieces = [("add", ""), (None, '{"b": 2}'), ("look", ""), (None, '{"c"'), (None, ": 3}")]
    for blank in ({}, {"id": ""}, {"id": None, "index": 0}):
        _, completion = read_chat(
            *(delta(tool_calls=[piece(text, name=name, **blank)]) for name, text in pieces),
            delta(tool_calls=[piece('{"c": 4}', name="look", **blank)]),
            delta(None, "tool_calls"),
        )
        calls = [("add", '{"b": 2}'), ("look", '{"c": 3}'), ("look", '{"c": 4}')]
        assert [(call.name, call.arguments) for call in completion.tool_calls] == calls


def test_a_new_id_with_every_piece_does_not_divide_a_call() -> None:
    """Only a piece with a name begins a call while the arguments are incomplete."""
    events, completion = read_chat(
        delta(tool_calls=[piece('{"b"', index=0, id="a", name="add")]),
        delta(tool_calls=[piece(": ", index=0, id="b")]),
        delta(tool_calls=[piece("2}", index=0, id="c")]),
        delta(None, "tool_calls"),
    )
    assert completion.tool_calls == [ToolCall("a", "add", '{"b": 2}')]
    assert [event.id for event in events if event.type == "tool_call"] == ["a"]


@pytest.mark.parametrize("named", [{}, {"id": "a", "name": "add"}, {"name": "add"}])
def test_a_repeated_call_is_one_call(named: Any) -> None:
    """Some servers end with a chunk that has the whole call again."""
    events, completion = read_chat(
        delta(tool_calls=[piece('{"b"', index=0, id="a", name="add")]),
        delta(tool_calls=[piece(": 2}", index=0)]),
        delta(tool_calls=[piece('{"b": 2}', index=0, **named)], finish="tool_calls"),
    )
    assert completion.tool_calls == [ToolCall("a", "add", '{"b": 2}')]
    assert [event.arguments for event in events if event.type == "tool_call"] == ['{"b": 2}']


@pytest.mark.parametrize("empty", ["{}", {}])
def test_an_empty_object_before_arguments_is_none(empty: Any) -> None:
    """It stands for arguments that have not arrived, and stays if there are none."""
    begin = delta(tool_calls=[piece(empty, index=0, id="a", name="add")])
    _, completion = read_chat(
        begin, delta(tool_calls=[piece('{"b": 2}', index=0)]), delta(None, "tool_calls")
    )
    assert completion.tool_calls == [ToolCall("a", "add", '{"b": 2}')]
    _, completion = read_chat(begin, delta(None, "tool_calls"))
    assert completion.tool_calls == [ToolCall("a", "add", "{}")]


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


@pytest.mark.parametrize(("reason", "given"), [("tool_calls", ["a"]), ("length", [])])
def test_a_call_after_the_finish_reason_is_an_event(reason: str, given: List[str]) -> None:
    """At the end of a complete stream, unless the finish reason tells that it may be cut off."""
    call = piece("{}", index=0, id="a", name="now")
    events, _ = read_chat(delta(None, reason), delta(tool_calls=[call]))
    assert [event.id for event in events if event.type == "tool_call"] == given
    assert events[-1] == Done()


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


@pytest.mark.parametrize("beginning", [b"", b"\xef\xbb\xbf\r\n", b": hello\n\n"])
def test_a_stream_with_a_wrong_label_may_arrive_byte_by_byte(beginning: bytes) -> None:
    """The client waits for as many bytes as it takes to tell a stream from a document."""
    body = beginning + stream_bytes(*WHOLE, head=b"")
    framed = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    head = STREAM_HEAD.replace(b"text/event-stream; charset=utf-8", b"application/json")
    with WireServer(replying(in_steps(head, framed))) as server:
        with VllmClient(server.base_url) as client:
            assert client.completions.stream(prompt="x").collect_text() == "Hello"


def in_steps(head: bytes, framed: bytes) -> Any:
    """A reply that sends the HTTP chunks of one byte in packets of their own at first."""

    def reply(connection: Any) -> None:
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.send(head)
        for at in range(0, 60, 6):
            connection.send(framed[at : at + 6])
        connection.send(framed[60:])

    return reply


def test_an_error_document_instead_of_a_stream_has_the_class_of_its_code() -> None:
    """As it has instead of a whole response."""
    body = json_bytes({"error": {"message": "queue is full", "code": 503}})
    with pytest.raises(ServiceUnavailableError, match="queue is full"):
        read(body)


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


@pytest.mark.parametrize("body", [b"", b"da", b"\xef\xbb"])
def test_a_document_that_ends_before_it_tells_what_it_is(body: bytes) -> None:
    """The beginning of an SSE event is no stream if nothing follows."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    with (
        WireServer(replying(head % len(body) + body)) as server,
        VllmClient(server.base_url) as client,
    ):
        with pytest.raises(InvalidStreamError, match="not with a stream"):
            client.completions.stream(prompt="x")
