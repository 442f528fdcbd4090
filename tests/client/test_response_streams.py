"""The streams of ``client.responses``: their events, and when a response is complete."""

from __future__ import annotations

import asyncio
import json
import pickle
from typing import Any, Dict, List

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vllm_client import (
    APIConnectionError,
    AsyncStream,
    AsyncVllmClient,
    Error,
    GenerationAbortedError,
    InvalidStreamError,
    Response,
    ResponseContentPart,
    ResponseDone,
    ResponseItem,
    ResponseOther,
    ResponseProgress,
    ResponseReasoningDelta,
    ResponseReasoningDone,
    ResponseRefusalDelta,
    ResponseRefusalDone,
    ResponseTextDelta,
    ResponseTextDone,
    ResponseToolCall,
    ResponseToolCallDelta,
    ServerStreamError,
    StreamConsumedError,
    StreamInterruptedError,
    Usage,
    VllmError,
)

from ..recorded import (
    LAST_CHUNK,
    STREAM_HEAD,
    UNCHUNKED_HEAD,
    body_of,
    capture,
    chunked,
    cut,
    json_bytes,
    single_bytes,
)
from ..responses import (
    call,
    call_events,
    created,
    ended,
    event,
    message,
    named,
    reasoning,
    reasoning_events,
    response,
    response_stream,
    text_events,
)
from ..servers import Replay, Serve, Stall, break_off, in_pieces, reset
from ..threads import WAIT

CAPTURE = capture("responses_stream")[1]
BLOCKS = [block + b"\n\n" for block in body_of(CAPTURE).split(b"\n\n")[:-1]]
WHOLE_TEXT = "\ufffd\ufffd retur:tur"
ARGUMENTS = '{"city": "Rome"}'
# A response with items of all kinds.
MIXED = [
    created(),
    *reasoning_events("Hm."),
    *text_events("Hello", 1),
    *call_events(ARGUMENTS, 1, 2),
    ended(reasoning("Hm."), message("Hello"), call(ARGUMENTS)),
]


def events_of(serve: Serve, *events: Any) -> List[Any]:
    """The events of a stream that is complete."""
    with serve(response_stream(*events)).client.responses.stream(input="x") as stream:
        return list(stream)


def failure_of(serve: Serve, *events: Any) -> VllmError:
    """The error of a stream."""
    served = serve(response_stream(*events), max_retries=0)
    with served.client.responses.stream(input="x") as stream:
        with pytest.raises(VllmError) as caught:
            list(stream)
        assert caught.value.partial == stream.snapshot
    return caught.value


def decoded_plainly() -> List[Dict[str, Any]]:
    """The data of the captured stream."""
    return [json.loads(block.partition(b"data: ")[2]) for block in BLOCKS]


def test_the_captured_stream(serve: Serve) -> None:
    """A captured stream yields its events with the server's types, also byte by byte."""
    sender = Replay()
    client = serve(handler=sender).client
    for pieces in ([CAPTURE], single_bytes(CAPTURE)):
        sender.pieces = pieces
        with client.responses.stream(input="Say hi") as stream:
            events = list(stream)
        assert [one.raw for one in events] == decoded_plainly()  # type: ignore[union-attr]
        assert [one.type for one in events] == [each["type"] for each in decoded_plainly()]
        assert [type(one) for one in events] == [
            ResponseProgress,
            ResponseProgress,
            ResponseItem,
            ResponseContentPart,
            ResponseTextDelta,
            ResponseTextDelta,
            ResponseTextDone,
            ResponseContentPart,
            ResponseItem,
            ResponseDone,
        ]
        whole = stream.snapshot
        assert (whole.status, whole.incomplete_reason) == ("incomplete", "max_output_tokens")
        assert whole == stream.collect() == events[-1].response  # type: ignore[union-attr]
        assert stream.collect_text() == whole.text == WHOLE_TEXT
        assert (stream.timings.chunks, stream.timings.output_tokens) == (2, 4)


@given(data=st.data())
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_captured_stream_in_any_pieces(serve: Serve, data: st.DataObject) -> None:
    """However the captured stream is cut into pieces, its events are the same."""
    places = data.draw(st.sets(st.integers(1, len(CAPTURE) - 1), max_size=12))
    served = serve(in_pieces(cut(CAPTURE, places)))
    with served.client.responses.stream(input="x") as stream:
        assert [one.raw for one in stream] == decoded_plainly()  # type: ignore[union-attr]


def places_to_cut() -> List[int]:
    """Every boundary of an event in the captured body, and places around and between them."""
    ends = [len(b"".join(BLOCKS[:count])) for count in range(len(BLOCKS) + 1)]
    near = {end + step for end in ends for step in (-3, -2, -1, 0, 1, 8, 40)}
    return sorted(place for place in near if 0 <= place <= ends[-1])


@pytest.mark.parametrize("kind", ["closed", "chunks end", "chunks break off", "reset"])
def test_the_captured_stream_cut_anywhere(serve: Serve, kind: str) -> None:
    """A stream that ends before its last event is an error, with the text that has arrived."""
    body = b"".join(BLOCKS)
    last = body.rstrip(b"\n")
    for place in places_to_cut():
        part = body[:place]
        framed = STREAM_HEAD + (chunked(part) if part else b"")
        replies: Dict[str, Any] = {
            "closed": UNCHUNKED_HEAD + part,
            "chunks end": framed + LAST_CHUNK,
            "chunks break off": break_off(framed),
            "reset": reset(framed),
        }
        clean = kind in {"closed", "chunks end"}
        # Where the body ends in order, the blank line at the very end may be missing.
        complete = place == len(body) or (clean and place >= len(last))
        with serve(replies[kind], max_retries=0).client.responses.stream(input="x") as stream:
            if complete:
                assert stream.collect().text == WHOLE_TEXT
                continue
            with pytest.raises((StreamInterruptedError, APIConnectionError)) as caught:
                list(stream)
        if kind != "reset":  # A reset may discard what has arrived.
            arrived = decoded_plainly()[: part.count(b"\n\n")]
            assert isinstance(caught.value, StreamInterruptedError)
            assert caught.value.partial.text == "".join(one.get("delta", "") for one in arrived)
            assert caught.value.is_retryable


def test_request(serve: Serve) -> None:
    """stream() sends the fields and "stream"; the route has no stream_options."""
    served = serve(CAPTURE)
    sent = capture("responses_stream")[0]["body"]
    fields = {name: value for name, value in sent.items() if name != "stream"}
    with served.client.responses.stream(**fields) as stream:
        assert stream.collect_text() == WHOLE_TEXT
    assert served.requests[0].json == sent
    assert served.requests[0].headers["accept"] == "text/event-stream"
    with served.client.responses.create(stream=True, **fields) as stream:
        assert "".join(stream.text_deltas()) == WHOLE_TEXT
    assert served.requests[1].json == sent
    assert served.connections == 1  # Read to its end, a stream releases its connection.


def test_events_of_each_kind(serve: Serve) -> None:
    """Reasoning, text and calls have events of their own, with their place in the output."""
    events = events_of(serve, *MIXED)
    assert [one for one in events if isinstance(one, ResponseReasoningDelta)] == [
        ResponseReasoningDelta("Hm.", "rs_1")
    ]
    assert [one for one in events if isinstance(one, ResponseReasoningDone)] == [
        ResponseReasoningDone("Hm.", "rs_1")
    ]
    assert [one for one in events if isinstance(one, ResponseTextDelta)] == [
        ResponseTextDelta("He", "msg_1", 1),
        ResponseTextDelta("llo", "msg_1", 1),
    ]
    assert [one for one in events if isinstance(one, ResponseTextDone)] == [
        ResponseTextDone("Hello", "msg_1", 1)
    ]
    names = ("call_1", "temperature", "fc_1", 2)
    assert [one for one in events if isinstance(one, ResponseToolCallDelta)] == [
        ResponseToolCallDelta('{"city":', *names),
        ResponseToolCallDelta(' "Rome"}', *names),
    ]
    assert [one for one in events if isinstance(one, ResponseToolCall)] == [
        ResponseToolCall("call_1", "temperature", ARGUMENTS, "fc_1", 2)
    ]
    assert [one.raw for one in events] == MIXED
    assert pickle.loads(pickle.dumps(events)) == events


def test_snapshots(serve: Serve) -> None:
    """At each event the snapshot is what has arrived, in the shape of a complete response."""
    with serve(response_stream(*MIXED)).client.responses.stream(input="x") as stream:
        seen: List[Response] = [stream.snapshot for _ in stream]
    assert [one.text for one in seen if one.text] == ["He", *["Hello"] * (len(MIXED) - 10)]
    assert [one.status for one in seen] == ["in_progress"] * (len(MIXED) - 1) + ["completed"]
    assert {one.id for one in seen} == {"resp_1"}
    # Before the last event the items are put together of their pieces.
    pieced, whole = seen[-2], seen[-1]
    assert pieced.output == whole.output
    assert (pieced.reasoning, pieced.tool_calls) == ("Hm.", whole.tool_calls)
    assert whole.usage == Usage(3, 4, 7)


def test_refusal(serve: Serve) -> None:
    """A refusal has events of its own and is no text."""
    at = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    part = {"type": "refusal", "refusal": ""}
    events = [
        created(),
        event("response.content_part.added", **at, part=part),
        event("response.refusal.delta", **at, delta="No"),
        event("response.refusal.done", **at, refusal="No."),
    ]
    got = events_of(serve, *events, ended())
    assert got[2:4] == [ResponseRefusalDelta("No", "msg_1"), ResponseRefusalDone("No.", "msg_1")]
    assert (got[-1].response.refusal, got[-1].response.text) == ("No.", "")


def test_log_probabilities(serve: Serve) -> None:
    """Log-probabilities are in the event of their text, and in the snapshot."""
    entries = [{"token": "H", "logprob": -0.5, "top_logprobs": []}]
    delta = event("response.output_text.delta", item_id="m", delta="H", logprobs=entries)
    error = failure_of(serve, created(), delta)
    assert error.partial.output[0]["content"][0]["logprobs"] == entries
    got = events_of(serve, created(), delta, ended())
    assert got[1] == ResponseTextDelta("H", "m", logprobs=entries)


def test_a_call_that_breaks_off_is_no_event(serve: Serve) -> None:
    """A call whose arguments are not whole JSON is never a ResponseToolCall."""
    for arguments in ('{"city": "Ro', ""):
        events = call_events(arguments, status="incomplete")
        end = ended(call(arguments, status="incomplete"), status="incomplete")
        got = events_of(serve, created(), *events, end)
        assert not [one for one in got if isinstance(one, ResponseToolCall)]
        assert got[4] == ResponseOther("response.function_call_arguments.done", events[3])
        assert got[-1].response.tool_calls[0].arguments == arguments


def test_a_call_without_arguments(serve: Serve) -> None:
    """A call that ended without arguments is an event once its item is complete."""
    got = events_of(serve, created(), *call_events(""), ended(call("")))
    assert got[-3] == ResponseToolCall("call_1", "temperature", "", "fc_1")
    assert isinstance(got[-2], ResponseItem)


def test_calls_are_told_apart_by_their_ids(serve: Serve) -> None:
    """Two calls at one index are two calls if their ids differ; each is an event once."""
    calls = [call("{}", 1), call('{"city": "Rome"}', 2)]
    events = [*call_events("{}", 1), *call_events('{"city": "Rome"}', 2)]
    got = events_of(serve, created(), *events, ended(*calls))
    found = [one for one in got if isinstance(one, ResponseToolCall)]
    assert [(one.id, one.arguments) for one in found] == [("call_1", "{}"), ("call_2", ARGUMENTS)]
    assert failure_of(serve, created(), *events).partial.output == calls


def test_pieces_with_other_ids(serve: Serve) -> None:
    """Pieces whose item_id is that of no item belong to the item at their index."""
    events = [{**one, "item_id": ""} if "item_id" in one else one for one in text_events("Hello")]
    error = failure_of(serve, created(), *events)
    assert error.partial.output == [message("Hello")]


def test_events_without_an_item(serve: Serve) -> None:
    """Pieces of an item that the server did not announce are kept as well."""
    at = {"item_id": "x", "output_index": 0}
    text = event("response.output_text.delta", item_id="m", output_index=1, delta="Hi")
    arguments = event("response.function_call_arguments.delta", **at, delta='{"a"')
    done = event("response.function_call_arguments.done", **at, arguments="{}")
    error = failure_of(serve, created(), text, arguments)
    assert error.partial.text == "Hi"
    assert [one.arguments for one in error.partial.tool_calls] == ['{"a"']
    # Nobody can call a function without a name.
    got = events_of(serve, created(), arguments, done, ended())
    assert got[2] == ResponseOther("response.function_call_arguments.done", done)
    got = events_of(serve, created(), {**done, "name": "f"}, ended())
    assert got[1] == ResponseToolCall("x", "f", "{}", "x")


def test_items_that_come_whole(serve: Serve) -> None:
    """A server may send an item complete, without its pieces."""
    items = [message("Hi"), call(ARGUMENTS)]
    events = [
        event("response.output_item.done", output_index=index, item=item)
        for index, item in enumerate(items)
    ]
    got = events_of(serve, created(), *events, ended())
    assert [type(one) for one in got[1:4]] == [ResponseItem, ResponseToolCall, ResponseItem]
    assert got[-1].response.output == items


def test_tools_of_the_server(serve: Serve) -> None:
    """Events of the server's own tools have no class; their pieces are in the snapshot."""
    at = {"item_id": "t", "output_index": 0}
    for kind, item_type, member in (
        ("response.mcp_call_arguments", "mcp_call", "arguments"),
        ("response.custom_tool_call_input", "custom_tool_call", "input"),
        ("response.code_interpreter_call_code", "code_interpreter_call", "code"),
    ):
        delta = event(f"{kind}.delta", **at, delta="1 +")
        error = failure_of(serve, created(), delta, delta)
        assert error.partial.output == [
            {"id": "t", "type": item_type, "status": "in_progress", member: "1 +1 +"}
        ]
        got = events_of(serve, created(), delta, event(f"{kind}.done", **at), ended())
        assert got[1] == ResponseOther(f"{kind}.delta", delta)
        assert got[2] == ResponseOther(f"{kind}.done", event(f"{kind}.done", **at))


def test_a_later_server(serve: Serve) -> None:
    """Unknown events, items, parts and fields are kept, and are not in the way."""
    new = event("response.output_text.annotation.added", output_index=0, annotation={})
    part = event("response.content_part.added", item_id="m", part={"type": "new"}, y=1)
    keepalive = event("keepalive", sequence_number=3)
    failed = event("response.new_call.failed", error={"message": "no such tool"})
    item = event("response.output_item.done", output_index=7, item={"x": 1})
    news = [new, part, keepalive, failed, item]
    got = events_of(serve, created(), *news, *text_events("Hi"), ended())
    assert got[1] == ResponseOther("response.output_text.annotation.added", new)
    assert got[2] == ResponseContentPart({"type": "new"}, "m", 0, 0, "response.content_part.added")
    assert got[3] == ResponseOther("keepalive", keepalive)
    assert got[4] == ResponseOther("response.new_call.failed", failed)
    assert got[5] == ResponseItem({"x": 1}, 7, "response.output_item.done")
    assert got[-1].response.text == "Hi"


def test_what_says_nothing(serve: Serve) -> None:
    """Comments, pings, null, {}, null members and [DONE] are not in the way."""
    extra = [
        b": keep-alive\n\n",
        b'event: ping\ndata: {"x": 1}\n\n',
        b"data: null\n\n",
        b"data: {}\n\n",
        b"data: [DONE]\n\n",
    ]
    null = event("response.output_text.delta", item_id="msg_1", delta=None, logprobs=None)
    end = event("response.completed", response={**response(), "output": None, "status": None})
    got = events_of(serve, created(), *extra, null, *text_events("Hello"), end, extra[-1])
    assert len(got) == 10
    assert (got[-1].response.text, got[-1].response.status) == ("Hello", "completed")
    # data without a type has that of its SSE event.
    plain = b'event: response.output_text.delta\ndata: {"delta": "Hi"}\n\n'
    assert events_of(serve, plain, ended())[0] == ResponseTextDelta("Hi")


def test_parts_that_end_empty(serve: Serve) -> None:
    """An empty text at the end of a part does not replace the pieces that have arrived."""
    events = [dict(one) for one in text_events("Hello")[:-1]]
    events[-1] = {**events[-1], "part": {"type": "output_text", "text": None}}
    events[-2] = {**events[-2], "text": ""}
    error = failure_of(serve, created(), *events)
    assert error.partial.text == "Hello"


@pytest.mark.parametrize(
    ("frame", "code", "text"),
    [
        (event("error", code="server_error", message="It broke"), "server_error", "It broke"),
        (b'event: error\ndata: {"message": "It broke", "code": 503}\n\n', 503, "It broke"),
        (b"event: error\ndata: {}\n\n", None, "without a message"),
        (b'data: {"error": {"message": "It broke", "code": 500}}\n\n', 500, "It broke"),
        (b'data: {"object": "error", "type": "X", "message": "It broke"}\n\n', None, "It broke"),
        (b'data: {"detail": "It broke"}\n\n', None, "It broke"),
        (
            event("response.failed", response=response(error={"code": 500, "message": "It broke"})),
            500,
            "It broke",
        ),
        (event("response.failed", response=None), None, "without a message"),
        (
            event("response.completed", response=response(status="failed", error={"code": "x"})),
            "x",
            "without a message",
        ),
    ],
)
def test_errors_of_the_server(serve: Serve, frame: Any, code: Any, text: str) -> None:
    """An error, of any shape, raises with its code and with what has arrived."""
    error = failure_of(serve, created(), *text_events("Hello")[:3], frame, b"data: [DONE]\n\n")
    assert isinstance(error, ServerStreamError)
    assert error.code == code
    assert text in str(error)
    assert error.is_retryable == (code in {500, 503})
    assert error.partial.text == "He"


def test_an_error_at_the_end_of_the_body(serve: Serve) -> None:
    """A JSON error without data: or without a blank line after it raises as any other."""
    for end in (
        b'{"error": {"message": "It broke", "code": 502}}',
        b'data: {"detail": "It broke"}',
    ):
        error = failure_of(serve, created(), end)
        assert isinstance(error, ServerStreamError)
        assert "It broke" in str(error)


@pytest.mark.parametrize(
    "end",
    [
        ended(message("Hello"), status="cancelled"),
        event("response.completed", response=response(message("Hello"), status="cancelled")),
        event("response.cancelled", response=response(message("Hello"), status="in_progress")),
    ],
)
def test_an_aborted_generation(serve: Serve, end: Any) -> None:
    """A response that the server cancelled is no complete one."""
    error = failure_of(serve, created(), *text_events("Hello"), end)
    assert isinstance(error, GenerationAbortedError)
    assert error.partial.text == "Hello"


@pytest.mark.parametrize(
    "bad",
    [
        b"data: {\n\n",
        b"data: [1]\n\n",
        b'data: {"type": 3}\n\n',
        event("response.created"),
        event("response.created", response={**response(), "usage": 3}),
        event("response.completed"),
        event("response.completed", response={**response(), "output": {"a": 1}}),
        event("response.output_item.added", item=3),
        event("response.output_item.added", item={"type": "function_call"}),
        event("response.output_item.added", item=message("x"), output_index=-1),
        event("response.output_item.added", item=message("x"), output_index="0"),
        event("response.content_part.added", part={}),
        event("response.content_part.added", part={"type": "output_text", "text": 3}),
        event("response.output_text.delta", delta=3),
        event("response.output_text.delta", delta="x", item_id=3),
        event("response.output_text.delta", delta="x", content_index=None, logprobs=3),
        event("response.output_text.done", text=3),
        event("response.function_call_arguments.delta", delta=3),
        event("response.function_call_arguments.done", arguments=3),
        event("response.function_call_arguments.done", arguments="{}", name=3),
    ],
)
def test_what_cannot_be_decoded(serve: Serve, bad: Any) -> None:
    """An event of another shape is an InvalidStreamError, and the snapshot stays readable."""
    error = failure_of(serve, created(), *text_events("Hello"), bad, ended())
    assert isinstance(error, InvalidStreamError)
    assert "cannot be decoded" in str(error)
    assert error.partial.text == "Hello"


def test_a_document_is_no_stream(serve: Serve) -> None:
    """A document in place of a stream is an InvalidStreamError."""
    served = serve(json_bytes(response(message("Hi"))))
    with pytest.raises(InvalidStreamError, match="not with a stream"):
        served.client.responses.stream(input="x")


def test_text_deltas(serve: Serve) -> None:
    """text_deltas() yields the text, and nothing of other indexes than 0; errors raise."""
    served = serve(response_stream(*MIXED))
    with served.client.responses.stream(input="x") as stream:
        assert list(stream.text_deltas()) == ["He", "llo"]
    with served.client.responses.stream(input="x") as stream:
        assert list(stream.text_deltas(1)) == []
    served = serve(response_stream(*MIXED[:-1]))
    with served.client.responses.stream(input="x", on_error="event") as stream:
        with pytest.raises(StreamInterruptedError):
            list(stream.text_deltas())


def test_errors_as_events(serve: Serve) -> None:
    """With on_error="event" the last event of a broken stream is an Error."""
    served = serve(response_stream(*MIXED[:-1]))
    with served.client.responses.stream(input="x", on_error="event") as stream:
        events = list(stream)
    assert len(events) == len(MIXED)
    last = events[-1]
    assert isinstance(last, Error)
    assert isinstance(last.error, StreamInterruptedError)
    assert last.error.partial.text == "Hello"


def test_close(serve: Serve) -> None:
    """close() ends the connection, and the stream cannot be read on."""
    stall = Stall(response_stream(*MIXED[:9]).removesuffix(LAST_CHUNK))
    stream = serve(stall).client.responses.stream(input="x")
    assert isinstance(next(stream), ResponseProgress)
    assert stall.reached.wait()
    stream.close()
    with pytest.raises(StreamConsumedError):
        next(stream)
    assert stall.gone.wait()


def test_async(serve: Serve) -> None:
    """The asynchronous twins return and yield the same."""
    served = serve(
        response_stream(*MIXED),
        response_stream(*MIXED),
        json_bytes(response(message("Hi"))),
        json_bytes(response(message("Hi"))),
        json_bytes(response(status="cancelled")),
    )

    async def main() -> None:
        async with AsyncVllmClient(served.base_url) as client:
            async with client.responses.stream(input="x") as stream:
                assert [one.raw async for one in stream] == MIXED  # type: ignore[union-attr]
                assert stream.snapshot.text == "Hello"
            again: Any = await client.responses.create(input="x", stream=True)
            assert isinstance(again, AsyncStream)
            assert await again.collect_text() == "Hello"
            assert (await client.responses.create(input="x")).text == "Hi"
            assert (await client.responses.retrieve("resp_1")).text == "Hi"
            assert (await client.responses.cancel("resp_1")).status == "cancelled"

    asyncio.run(asyncio.wait_for(main(), WAIT))
    assert [request.path for request in served.requests[3:]] == [
        "/v1/responses/resp_1",
        "/v1/responses/resp_1/cancel",
    ]


def test_many_events_of_one_arrival(serve: Serve) -> None:
    """Events that arrive together are told apart."""
    body = STREAM_HEAD + chunked(b"".join(map(named, MIXED))) + LAST_CHUNK
    with serve(body).client.responses.stream(input="x") as stream:
        assert [one.raw for one in stream] == MIXED  # type: ignore[union-attr]
