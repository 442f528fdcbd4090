"""Chat: captured traffic, events of tool calls and reasoning, and the collected response."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Tuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vllm_client
from vllm_client import (
    ChatCompletion,
    Content,
    Done,
    FinishReason,
    GenerationAbortedError,
    InvalidResponseError,
    InvalidStreamError,
    Reasoning,
    StreamInterruptedError,
    ToolCall,
    ToolCallDelta,
    VllmClient,
)

from ..recorded import (
    HELLO,
    body_of,
    capture,
    captures_of,
    cut,
    data_of,
    delta,
    single_bytes,
    stream_bytes,
)
from ..servers import Replay, Serve

ALL = list(captures_of("/v1/chat/completions"))
STREAMS = [name for name, _, streamed in ALL if streamed]
ANSWERS = [name for name, status, streamed in ALL if status == 200 and not streamed]
ERRORS = [name for name, status, _ in ALL if status >= 400]


def _asked(name: str) -> Dict[str, Any]:
    body = capture(name)[0]["body"]
    return {key: value for key, value in body.items() if key not in {"stream", "stream_options"}}


PAIRS = [(one, two) for one in ANSWERS for two in STREAMS if _asked(one) == _asked(two)]


def test_there_are_captures_to_replay() -> None:
    """The selection finds enough captures."""
    assert len(STREAMS) >= 13
    assert len(ANSWERS) >= 20
    assert len(ERRORS) >= 10
    assert len(PAIRS) >= 8


@pytest.fixture
def replay(serve: Serve) -> Tuple[Replay, VllmClient]:
    """A server that replays captures, and its client."""
    sender = Replay()
    return sender, serve(handler=sender, max_retries=0).client


def _expected(name: str) -> List[Tuple[Any, ...]]:
    """The events in the deltas, decoded plainly; without complete tool calls and usage."""
    events: List[Tuple[Any, ...]] = []
    kind = {}
    for data in data_of(name):
        decoded = json.loads(data)
        for choice in decoded["choices"]:
            index, delta = choice["index"], choice["delta"]
            tokens = choice.get("logprobs"), choice.get("token_ids")
            if delta.get("reasoning"):
                kind[index] = "reasoning"
            elif delta.get("content"):
                kind[index] = "content"
            text = delta.get("reasoning") or delta.get("content") or ""
            calls = delta.get("tool_calls") or []
            if text or (tokens != (None, None) and not calls):
                events.append((kind.get(index, "content"), index, text, *tokens, decoded))
            for call in calls:
                function = call.get("function", {})
                events.append(
                    (
                        "tool_call_delta",
                        index,
                        call["index"],
                        call.get("id"),
                        function.get("name"),
                        function.get("arguments", ""),
                        decoded,
                    )
                )
            if choice["finish_reason"]:
                events.append(("finish_reason", index, choice["finish_reason"], decoded))
    return events


def _as_tuple(event: Any) -> Tuple[Any, ...]:
    if event.type == "finish_reason":
        return (event.type, event.index, event.reason, event.chunk)
    if event.type == "tool_call_delta":
        call = event.call_index, event.id, event.name, event.arguments
        return (event.type, event.index, *call, event.chunk)
    return (event.type, event.index, event.text, event.logprobs, event.token_ids, event.chunk)


def _check(client: VllmClient, name: str) -> None:
    body = dict(_asked(name))
    with client.chat.completions.stream(messages=body.pop("messages"), extra_body=body) as stream:
        events = list(stream)
    assert events[-1] == Done()
    deltas = [event for event in events if event.type not in {"tool_call", "usage", "done"}]
    assert [_as_tuple(event) for event in deltas] == _expected(name)


@pytest.mark.parametrize("name", STREAMS)
def test_stream_captures(name: str, replay: Tuple[Replay, VllmClient]) -> None:
    """Every captured stream yields the events of its deltas, also byte by byte."""
    sender, client = replay
    whole = capture(name)[1]
    for pieces in ([whole], single_bytes(whole)):
        sender.pieces = pieces
        _check(client, name)


@given(data=st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_stream_captures_in_random_pieces(
    data: st.DataObject, replay: Tuple[Replay, VllmClient]
) -> None:
    """However the bytes of a captured stream are cut, its events are the same."""
    sender, client = replay
    name = data.draw(st.sampled_from(STREAMS))
    whole = capture(name)[1]
    places = data.draw(st.sets(st.integers(1, len(whole) - 1), max_size=30))
    sender.pieces = cut(whole, places)
    _check(client, name)


def _without_ids(answer: ChatCompletion) -> Any:
    """A response without what differs each time, such as the ids of tool calls."""
    return [
        (
            choice.index,
            choice.message.content,
            choice.message.reasoning,
            [(call.name, call.arguments) for call in choice.message.tool_calls],
            choice.finish_reason,
            choice.stop_reason,
            choice.logprobs,
            choice.token_ids,
        )
        for choice in answer.choices
    ]


@pytest.mark.parametrize(("answer", "streamed"), PAIRS)
def test_deltas_add_up(answer: str, streamed: str, replay: Tuple[Replay, VllmClient]) -> None:
    """For a request captured both ways, collect() returns the same as create()."""
    sender, client = replay
    body = dict(_asked(answer))
    messages = body.pop("messages")
    sender.pieces = [capture(answer)[1]]
    whole = client.chat.completions.create(messages=messages, extra_body=body)
    sender.pieces = [capture(streamed)[1]]
    with client.chat.completions.stream(messages=messages, extra_body=body) as stream:
        put_together = stream.collect()
    assert _without_ids(put_together) == _without_ids(whole)
    assert put_together.model == whole.model


@pytest.mark.parametrize("name", ANSWERS)
def test_answer_captures(name: str, replay: Tuple[Replay, VllmClient]) -> None:
    """Every captured response is read completely: messages, reasons, usage, raw JSON."""
    sender, client = replay
    sender.pieces = [capture(name)[1]]
    raw = json.loads(body_of(capture(name)[1]))
    body = dict(_asked(name))
    answer = client.chat.completions.create(messages=body.pop("messages"), extra_body=body)
    assert answer.raw == raw
    assert answer.id == raw["id"]
    assert answer.usage is not None
    assert answer.usage.total_tokens == raw["usage"]["total_tokens"]
    for choice, expected in zip(answer.choices, raw["choices"]):
        message = expected["message"]
        assert choice.message.content == message["content"]
        assert choice.message.reasoning == message["reasoning"]
        assert [call.raw() for call in choice.message.tool_calls] == message.get("tool_calls", [])
        assert choice.finish_reason == expected["finish_reason"]


@pytest.mark.parametrize("name", ERRORS)
def test_error_captures(name: str, replay: Tuple[Replay, VllmClient]) -> None:
    """Every captured error raises with the server's message, streamed or not."""
    sender, client = replay
    response = capture(name)[1]
    sender.pieces = [response]
    for call in (client.chat.completions.create, client.chat.completions.stream):
        with pytest.raises(vllm_client.APIStatusError) as raised:
            call(messages=HELLO)
        body = json.loads(body_of(response))
        message = body.get("detail") or body["error"]["message"]
        assert raised.value.message.startswith(message.strip())


def piece(number: int, arguments: Any = None, *, id: Any = None, name: Any = None) -> Any:  # noqa: A002
    """A delta of a tool call."""
    function = {"name": name, "arguments": arguments}
    call = {"index": number, "id": id, "function": {k: v for k, v in function.items() if v}}
    return {key: value for key, value in call.items() if value is not None}


@pytest.fixture
def opened(serve: Serve) -> Any:
    """A function that reads a stream of these events: its events, snapshot, and error or None."""

    def read(*events: Any, **params: Any) -> Any:
        client = serve(stream_bytes(*events)).client
        with client.chat.completions.stream(messages=HELLO, **params) as stream:
            try:
                return list(stream), stream.snapshot, None
            except vllm_client.VllmError as error:
                return [], stream.snapshot, error

    return read


def calls(events: List[Any]) -> List[ToolCall]:
    """The tool calls among the events."""
    return [event for event in events if event.type == "tool_call"]


def test_a_call_is_yielded_once_complete(opened: Any) -> None:
    """A tool call is yielded when the next one begins or its choice ends."""
    events, answer, _ = opened(
        delta(tool_calls=[piece(0, id="a", name="f")]),
        delta(tool_calls=[piece(0, '{"x"')]),
        delta(tool_calls=[piece(0, ": 1}")]),
        delta(tool_calls=[piece(1, "{}", id="b", name="g")]),
        delta(finish="tool_calls"),
        "[DONE]",
    )
    assert events == [
        ToolCallDelta(0, "a", "f", ""),
        ToolCallDelta(0, None, None, '{"x"'),
        ToolCallDelta(0, None, None, ": 1}"),
        ToolCall("a", "f", '{"x": 1}'),
        ToolCallDelta(1, "b", "g", "{}"),
        ToolCall("b", "g", "{}"),
        FinishReason("tool_calls"),
        Done(),
    ]
    assert answer.tool_calls == calls(events)
    assert answer.content is None


def test_interleaved_calls_do_not_mix(opened: Any) -> None:
    """Interleaved deltas are added to their own call, which is yielded at its end."""
    events, answer, _ = opened(
        delta(tool_calls=[piece(0, '{"a', id="a", name="f"), piece(1, '{"b', id="b", name="g")]),
        delta(1, tool_calls=[piece(0, '{"c', id="c", name="h")]),
        delta(tool_calls=[piece(1, '": 2}'), piece(0, '": 1}')]),
        delta(1, tool_calls=[piece(0, '": 3}')]),
        delta(1, finish="tool_calls"),
        delta(finish="tool_calls"),
        "[DONE]",
        n=2,
    )
    assert calls(events) == [
        ToolCall("c", "h", '{"c": 3}', 1),
        ToolCall("a", "f", '{"a": 1}'),
        ToolCall("b", "g", '{"b": 2}'),
    ]
    assert answer.choices[1].message.tool_calls == [ToolCall("c", "h", '{"c": 3}', 1)]


@pytest.mark.parametrize("reason", ["length", "repetition"])
def test_a_call_cut_off_is_not_yielded(opened: Any, reason: str) -> None:
    """An open call of a choice that is cut off is in the snapshot and is no event."""
    events, answer, _ = opened(
        delta(tool_calls=[piece(0, '{"x": 1', id="a", name="f")]), delta(finish=reason), "[DONE]"
    )
    assert calls(events) == []
    assert answer.tool_calls == [ToolCall("a", "f", '{"x": 1')]


def test_a_call_of_an_interrupted_stream_is_not_yielded(opened: Any) -> None:
    """A stream that breaks off yields no call, and keeps it in `partial`."""
    _, answer, error = opened(delta(tool_calls=[piece(0, '{"x": 1}', id="a", name="f")]))
    assert isinstance(error, StreamInterruptedError)
    assert error.partial.tool_calls == [ToolCall("a", "f", '{"x": 1}')]
    assert answer.tool_calls == error.partial.tool_calls


def test_an_aborted_call_is_not_yielded(opened: Any) -> None:
    """The finish reason "abort" raises an error whose `partial` holds the call."""
    _, _, error = opened(
        delta(tool_calls=[piece(0, "{", id="a", name="f")]), delta(finish="abort"), "[DONE]"
    )
    assert isinstance(error, GenerationAbortedError)
    assert error.partial.tool_calls[0].arguments == "{"


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_reasoning_under_both_names(opened: Any, field: str) -> None:
    """`reasoning` and the older `reasoning_content` are the same event."""
    events, answer, _ = opened(
        delta(role="assistant", content=""),
        delta(**{field: "hm"}),
        delta(content="yes", finish="stop"),
        "[DONE]",
    )
    assert events == [Reasoning("hm"), Content("yes"), FinishReason("stop"), Done()]
    assert (answer.reasoning, answer.content, answer.text) == ("hm", "yes", "yes")


def test_reasoning_with_both_names_is_read_once(opened: Any) -> None:
    """If a server sends both names, as vLLM 0.11.2 to 0.14 do, one event is yielded."""
    events, _, _ = opened(
        delta(reasoning="hm", reasoning_content="hm"), delta(finish="stop"), "[DONE]"
    )
    assert events[0] == Reasoning("hm")
    assert events[1] == FinishReason("stop")


def test_tokens_without_text_belong_to_the_text_before(opened: Any) -> None:
    """Tokens without text belong to the kind of text before them."""
    events, answer, _ = opened(
        delta(token_ids=[1]),
        delta(reasoning="a", token_ids=[2]),
        delta(token_ids=[3]),
        delta(reasoning="b", content="c", token_ids=[4, 5]),
        delta(token_ids=[6], finish="stop"),
        "[DONE]",
    )
    assert events[:-2] == [
        Content("", token_ids=[1]),
        Reasoning("a", token_ids=[2]),
        Reasoning("", token_ids=[3]),
        Reasoning("b"),
        Content("c", token_ids=[4, 5]),
        Content("", token_ids=[6]),
    ]
    assert answer.choices[0].token_ids == [1, 2, 3, 4, 5, 6]


def test_tokens_of_calls_are_in_the_chunk(opened: Any) -> None:
    """Token ids of tool calls are in the chunk and the collected response, in no event."""
    events, answer, _ = opened(
        delta(tool_calls=[piece(0, "{}", id="a", name="f")], token_ids=[7]),
        delta(finish="tool_calls"),
        "[DONE]",
    )
    assert events[0].chunk["choices"][0]["token_ids"] == [7]
    assert not [event for event in events if event.type == "content"]
    assert answer.choices[0].token_ids == [7]


@pytest.mark.parametrize(
    "bad",
    [
        {"choices": [{"index": 0, "delta": {"content": 5}}]},
        {"choices": [{"index": 0, "delta": {"reasoning": ["x"]}}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": "0"}]}}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": 7}}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": [{"function": {"arguments": {}}}]}}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": [{"function": {"arguments": 5}}]}}]},
        {"choices": [{"index": 0, "delta": "x"}]},
        {"choices": [{"index": -1, "delta": {"content": "x"}}]},
        {"choices": [{"index": 0, "finish_reason": 5}]},
    ],
)
def test_misshapen_chunks(opened: Any, bad: Any) -> None:
    """A malformed chunk raises and keeps the text before it."""
    _, answer, error = opened(delta(content="so far"), bad)
    assert isinstance(error, (InvalidStreamError, StreamInterruptedError))
    assert answer.content == "so far"


def test_text_deltas_are_the_answer_only(serve: Serve) -> None:
    """text_deltas() omits reasoning, other choices and empty texts."""
    chunks = [
        delta(reasoning="hm"),
        delta(content="a"),
        delta(1, content="b", finish="stop"),
        delta(content="c", finish="stop"),
        "[DONE]",
    ]
    client = serve(stream_bytes(*chunks)).client
    for index, expected in ((0, ["a", "c"]), (1, ["b"])):
        with client.chat.completions.stream(messages=HELLO, n=2) as stream:
            assert list(stream.text_deltas(index)) == expected
    with client.chat.completions.stream(messages=HELLO, n=2) as stream:
        assert stream.collect_text() == "ac"


def test_the_request(serve: Serve) -> None:
    """Messages are sent unchanged, and usage is requested."""
    messages: Any = [
        {"role": "system", "content": "s", "name": "odd"},
        {"role": "critic", "content": [{"type": "unknown", "x": None}]},
    ]
    served = serve(stream_bytes(delta(content="x", finish="stop"), "[DONE]"))
    served.client.chat.completions.create(messages=messages, stream=True, top_k=3).close()
    assert served.requests[0].path == "/v1/chat/completions"
    assert served.requests[0].json == {
        "messages": messages,
        "top_k": 3,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize(
    ("params", "kind", "message"),
    [
        ({}, TypeError, "messages="),
        ({"messages": "hello"}, TypeError, "messages="),
        ({"messages": {"role": "user"}}, TypeError, "messages="),
        ({"messages": []}, ValueError, "empty list"),
        ({"messages": HELLO, "tools": []}, ValueError, "tools is an empty list"),
        ({"messages": HELLO, "prompt": "x"}, TypeError, "'prompt'"),
    ],
)
def test_refused_before_it_is_sent(params: Any, kind: Any, message: str) -> None:
    """Messages that the server would refuse raise before they are sent."""
    client = VllmClient("http://127.0.0.1:9")
    for call in (client.chat.completions.create, client.chat.completions.stream):
        with pytest.raises(kind, match=message):
            call(**params)


def test_history() -> None:
    """assistant_message() and result() are the next messages of the conversation."""
    call = ToolCall("id1", "look", '{"at": 1}')
    answer = ChatCompletion.from_raw(
        {
            "choices": [
                {
                    "index": 0,
                    "message": {
                        "role": "assistant",
                        "content": None,
                        "reasoning": "hm",
                        "tool_calls": [call.raw()],
                    },
                    "finish_reason": "tool_calls",
                }
            ]
        }
    )
    raw = {
        "id": "id1",
        "type": "function",
        "function": {"name": "look", "arguments": '{"at": 1}'},
    }
    assert answer.tool_calls == [call]
    assert answer.finish_reason == "tool_calls"
    message = {"role": "assistant", "content": None, "tool_calls": [raw]}
    assert answer.assistant_message() == message
    assert answer.assistant_message(reasoning=True) == {**message, "reasoning": "hm"}
    assert call.result({"seen": "ä"}) == {
        "role": "tool",
        "tool_call_id": "id1",
        "content": '{"seen": "ä"}',
    }
    assert call.result("text")["content"] == "text"


def test_the_prompt_of_a_response() -> None:
    """Token ids, log-probabilities and text of the prompt are attributes of the response."""
    raw = json.loads(body_of(capture("chat_return_token_ids")[1]))
    logprobs = [None, {"5": {"logprob": -1.0, "rank": 1, "decoded_token": "a"}}]
    answer = ChatCompletion.from_raw({**raw, "prompt_logprobs": logprobs, "prompt_text": "<s>hi"})
    assert raw["prompt_token_ids"]
    assert answer.prompt_token_ids == raw["prompt_token_ids"]
    assert answer.prompt_logprobs == logprobs
    assert answer.prompt_text == "<s>hi"
    plain = ChatCompletion.from_raw({"choices": []})
    assert (plain.prompt_token_ids, plain.prompt_logprobs, plain.prompt_text) == (None, None, None)


def test_collect_has_the_prompt(serve: Serve) -> None:
    """collect() has the prompt, which only the first chunk has."""
    first = {**delta(role="assistant", content=""), "prompt_token_ids": [1, 2], "prompt_text": "p"}
    bytes_ = stream_bytes(first, delta(content="a"), delta(finish="stop"), "[DONE]")
    client = serve(bytes_).client
    with client.chat.completions.stream(messages=HELLO, return_token_ids=True) as stream:
        answer = stream.collect()
    assert (answer.prompt_token_ids, answer.prompt_text, answer.text) == ([1, 2], "p", "a")


def test_collect_keeps_unknown_members_of_a_choice(opened: Any) -> None:
    """Unknown members of a choice are in the raw response; the weights' versions are typed."""
    spans = [{"version": "step-1", "start": 0, "end": 2}]
    last = delta(finish="stop")
    last["choices"][0] |= {"extension": [1], "weight_versions": spans, "message": "mine"}
    _, answer, _ = opened(delta(content="a"), last, "[DONE]")
    assert answer.raw["choices"][0]["extension"] == [1]
    assert answer.choices[0].weight_versions == spans
    assert answer.text == "a"


def test_excluded_reasoning_adds_up(replay: Tuple[Replay, VllmClient], serve: Serve) -> None:
    """Without the reasoning, collect() returns the content that create() returns."""
    sender, client = replay
    body = dict(_asked("b_reasoning_excluded"))
    messages = body.pop("messages")
    sender.pieces = [capture("b_reasoning_excluded")[1]]
    whole = client.chat.completions.create(messages=messages, extra_body=body)
    text = whole.content
    assert text
    role = delta(role="assistant", content="")
    events = role, delta(content=text[:3]), delta(content=text[3:], finish="length"), "[DONE]"
    with serve(stream_bytes(*events)).client.chat.completions.stream(
        messages=messages, extra_body=body
    ) as stream:
        assert stream.collect().content == text


@pytest.mark.parametrize(
    ("params", "content"),
    [
        ({"include_reasoning": False}, None),
        ({"extra_body": {"include_reasoning": False}}, None),
        ({"include_reasoning": True}, ""),
        ({}, ""),
        ({"include_reasoning": False, "tool_choice": "required"}, ""),
    ],
)
def test_content_of_excluded_reasoning_alone(opened: Any, params: Any, content: Any) -> None:
    """If everything was reasoning that the request excludes, the content is None, as in create().

    Without the field, an empty response has an empty content.
    """
    last = delta(finish="length")
    _, answer, _ = opened(delta(role="assistant", content=""), last, "[DONE]", **params)
    assert answer.content == content
    assert answer.reasoning is None


def test_an_empty_snapshot() -> None:
    """Before the first chunk every shortcut is empty."""
    answer = ChatCompletion.from_raw({"choices": []})
    assert (answer.content, answer.text, answer.reasoning, answer.tool_calls) == (
        None,
        "",
        None,
        [],
    )
    assert answer.finish_reason is None
    assert answer.assistant_message() == {"role": "assistant", "content": None}


def test_arguments() -> None:
    """parse_args() decodes the arguments; invalid JSON raises an error that shows it."""
    assert ToolCall("i", "f", '{"x": [1]}').parse_args() == {"x": [1]}
    assert ToolCall("i", "f", " ").parse_args() == {}
    with pytest.raises(InvalidResponseError, match='"x": 1') as raised:
        ToolCall("i", "f", '{"x": 1').parse_args()
    assert raised.value.body == '{"x": 1'


def test_token_logprobs_of_chat() -> None:
    """token_logprobs of chat lists the log-probabilities token by token."""
    raw = json.loads(body_of(capture("chat_logprobs")[1]))
    choice = ChatCompletion.from_raw(raw).choices[0]
    entries = raw["choices"][0]["logprobs"]["content"]
    assert [token.token for token in choice.token_logprobs] == [e["token"] for e in entries]
    first = choice.token_logprobs[0]
    assert (first.logprob, first.bytes) == (entries[0]["logprob"], entries[0]["bytes"])
    assert [top.token for top in first.top_logprobs] == [
        top["token"] for top in entries[0]["top_logprobs"]
    ]
    assert ChatCompletion.from_raw({"choices": []}).raw == {"choices": []}


def test_token_logprobs_of_completions() -> None:
    """token_logprobs of completions lists the log-probabilities token by token."""
    raw = json.loads(body_of(capture("completion_echo_logprobs")[1]))
    choice = vllm_client.Completion.from_raw(raw).choices[0]
    lists = raw["choices"][0]["logprobs"]
    tokens = choice.token_logprobs
    assert [token.token for token in tokens] == lists["tokens"]
    assert [token.logprob for token in tokens] == lists["token_logprobs"]
    assert [token.text_offset for token in tokens] == lists["text_offset"]
    assert tokens[0].logprob is None
    assert tokens[0].top_logprobs == []
    assert {top.token: top.logprob for top in tokens[1].top_logprobs} == lists["top_logprobs"][1]
    assert vllm_client.TokenLogprob.sequence(None) == []
    assert vllm_client.TokenLogprob.sequence({"content": None}) == []
