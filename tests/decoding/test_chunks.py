"""Decoding: from chunks to events, and from bodies to responses, whatever the server sends."""

from __future__ import annotations

import contextlib
import copy
import json
from typing import Any, Dict, Iterator, List, Optional, Tuple, Type

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vllm_client import (
    Completion,
    FinishReason,
    GenerationAbortedError,
    InvalidResponseError,
    InvalidStreamError,
    ServerStreamError,
    Text,
    Usage,
)
from vllm_client._decoding.answers import aborted_error, decoded_answer
from vllm_client._decoding.chat import ChatDecoder
from vllm_client._decoding.completion import CompletionDecoder

from ..recorded import CAPTURES, body_of, capture, captures_of, chunk, data_of


def decoded(*chunks: Any, expected: int = 1) -> Tuple[CompletionDecoder, List[Any]]:
    """A decoder that has decoded these chunks, and the events."""
    decoder = CompletionDecoder(expected)
    return decoder, [event for data in chunks for event in decoder.decode(json.dumps(data))]


STREAMS = [name for name, _, streamed in captures_of("/v1/completions") if streamed]


def events_of(name: str) -> Tuple[CompletionDecoder, List[Any]]:
    """A decoder that has decoded a captured stream, and the events, with errors among them."""
    decoder = CompletionDecoder(1)
    events: List[Any] = []
    for data in data_of(name):
        if '"error"' in data:
            with pytest.raises(ServerStreamError) as caught:
                decoder.decode(data)
            events.append(caught.value)
        else:
            events += decoder.decode(data)
    return decoder, events


def test_there_are_captured_streams() -> None:
    """There are enough captured streams."""
    assert len(STREAMS) > 15


@pytest.mark.parametrize("name", STREAMS)
def test_captured_stream(name: str) -> None:
    """Every chunk of a captured stream is decoded to its events, in order."""
    expected: List[Any] = []
    for data in data_of(name):
        value = json.loads(data)
        if "error" in value:
            expected.append(value["error"]["code"])
        for choice in value.get("choices", ()):
            if choice["text"] or choice.get("logprobs") or choice.get("token_ids"):
                expected.append((choice["index"], choice["text"], choice.get("token_ids")))
            if choice["finish_reason"]:
                expected.append((choice["index"], choice["finish_reason"]))
    seen: List[Any] = []
    for event in events_of(name)[1]:
        if isinstance(event, Text):
            seen.append((event.index, event.text, event.token_ids))
        elif isinstance(event, FinishReason):
            seen.append((event.index, event.reason))
        else:
            seen.append(event.code)
    assert seen == expected
    assert seen


def asked(name: str) -> str:
    """The request of a capture as text, without the fields that only concern streaming."""
    request = capture(name)[0]
    body = request.get("body")
    if request["path"] != "/v1/completions" or not isinstance(body, dict):
        return name
    apart = {"stream", "stream_options", "stream_interval", "request_id"}
    return json.dumps({key: value for key, value in body.items() if key not in apart})


def pairs() -> Iterator[Any]:
    """Captured streams, each with the captured response to the same request without streaming."""
    whole: Dict[str, str] = {}
    for path in sorted(CAPTURES.glob("*.response.http")):
        name = path.name[: -len(".response.http")]
        head = path.read_bytes()[:600]
        if b" 200 OK" in head and b"application/json" in head:
            whole.setdefault(asked(name), name)
    for name in STREAMS:
        # Aborted responses do not end at the same token.
        if asked(name) in whole and '"abort"' not in data_of(name)[-1] and "engine" not in name:
            yield name, whole[asked(name)]


PAIRS = list(pairs())


@pytest.mark.parametrize(("stream", "whole"), PAIRS)
def test_chunks_add_up_to_the_response(stream: str, whole: str) -> None:
    """The chunks of a stream add up to the choices of the response without streaming."""
    decoder, events = events_of(stream)
    answer = Completion.from_raw(json.loads(body_of(capture(whole)[1])))
    snapshot = decoder.snapshot()
    for streamed, choice in zip(snapshot.choices, answer.choices):
        if "echo" in stream:  # With echo the server adds them to streams only.
            streamed.prompt_token_ids = choice.prompt_token_ids
    assert snapshot.choices == answer.choices
    assert snapshot.model == answer.model
    assert set(CompletionDecoder(1).snapshot().raw) <= set(answer.raw)
    assert answer.usage is not None
    assert decoder.usage is None or counts(decoder.usage) == counts(answer.usage)
    for choice in answer.choices:
        texts = (event for event in events if event.type == "text")
        own = [event.text for event in texts if event.index == choice.index]
        assert "".join(own) == choice.text


def counts(usage: Usage) -> Tuple[int, int, int]:
    return usage.prompt_tokens, usage.completion_tokens, usage.total_tokens


def test_pairs_cover_what_matters() -> None:
    """The pairs include several choices, echo, log-probabilities and token ids."""
    kinds = {"n2", "echo", "logprobs", "token_ids", "usage"}
    assert {kind for kind in kinds if any(kind in stream for stream, _ in PAIRS)} == kinds


def test_text_before_finish_reason() -> None:
    """A chunk with text and a finish reason yields two events in that order."""
    _, events = decoded(chunk("end", finish="stop", stop_reason=13))
    assert events == [Text("end"), FinishReason("stop", 0, 13)]


@pytest.mark.parametrize(
    "more",
    [
        {"text": "a"},
        {"logprobs": {"tokens": [""]}},
        {"logprobs": {}},
        {"token_ids": [7]},
        {"text": None, "token_ids": [7]},
    ],
)
def test_text_event_for_any_content(more: Dict[str, Any]) -> None:
    """Text, log-probabilities or token ids alone yield a Text event."""
    _, events = decoded(chunk(**{"text": "", **more}))
    text, logprobs, ids = more.get("text") or "", more.get("logprobs"), more.get("token_ids")
    assert events == [Text(text, 0, logprobs, ids)]


@pytest.mark.parametrize(
    "data",
    [
        chunk(""),
        chunk("", token_ids=[]),
        {"choices": []},
        {"choices": None},
        {},
        {"choices": [{"index": 0}]},
        {"choices": [{"index": 0, "text": None, "finish_reason": None}]},
        {"error": None, "choices": []},
        {"choices": [{}]},
    ],
)
def test_no_event_without_content(data: Any) -> None:
    """A chunk without content yields no event and is no error."""
    decoder, events = decoded(data)
    assert events == []
    assert decoder.chunk_had_choices is bool(data.get("choices"))


def test_index_defaults_to_the_first_choice() -> None:
    """A choice without an index is choice 0."""
    assert decoded({"choices": [{"text": "a"}]})[1] == [Text("a", 0)]


def test_interleaved_choices() -> None:
    """Choices may arrive in any order, in one chunk or in several."""
    both = {"choices": [chunk("c", index=1)["choices"][0], chunk("d", index=0)["choices"][0]]}
    decoder, events = decoded(
        chunk("a", index=1),
        chunk("b", index=0),
        both,
        chunk("", index=1, finish="stop"),
        chunk("e", index=0, finish="length"),
        expected=2,
    )
    assert [(event.type, event.index) for event in events] == [
        ("text", 1),
        ("text", 0),
        ("text", 1),
        ("text", 0),
        ("finish_reason", 1),
        ("text", 0),
        ("finish_reason", 0),
    ]
    choices = decoder.snapshot().choices
    assert [(choice.index, choice.text) for choice in choices] == [(0, "bde"), (1, "ac")]
    assert [choice.finish_reason for choice in choices] == ["length", "stop"]


def test_unfinished_choices() -> None:
    """A requested choice is unfinished until its finish reason arrives."""
    decoder = CompletionDecoder(3)
    assert decoder.unfinished() == [0, 1, 2]
    for index, left in [(1, [0, 2]), (1, [0, 2]), (5, [0, 2]), (0, [2]), (2, [])]:
        decoder.decode(json.dumps(chunk("", index=index, finish="stop")))
        assert decoder.unfinished() == left


def test_latest_usage_is_kept() -> None:
    """The last usage is kept; chunks without usage, or with an empty one, do not change it."""
    first, last = (
        {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
        {
            "prompt_tokens": 3,
            "completion_tokens": 2,
            "total_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 1},
        },
    )
    decoder, events = decoded(
        {**chunk("a"), "usage": first},
        {"choices": [], "usage": last},
        {"choices": [], "usage": None},
        {**chunk("b"), "usage": {}},
        chunk("c"),
    )
    assert decoder.usage == Usage(3, 2, 5, {"cached_tokens": 1})
    assert decoder.snapshot().usage == decoder.usage
    assert [event.type for event in events] == ["text"] * 3


@pytest.mark.parametrize(("reason", "aborted"), [("abort", True), ("stop", False)])
def test_abort_is_noted(reason: str, aborted: bool) -> None:
    """An aborted choice is noted, even if another choice finishes afterwards."""
    decoder, events = decoded(
        chunk(finish=reason), chunk(index=1, finish="stop"), chunk("late", index=1)
    )
    assert decoder.aborted is aborted
    assert events[0] == FinishReason(reason)


def test_chunk_is_decoded_on_demand() -> None:
    """``chunk`` is the whole JSON of the event, unknown members included."""
    data = {**chunk("a", finish="stop", odd={"deep": [1, None, "é"]}), "extension": [1.5]}
    _, events = decoded(data)
    assert [event.chunk for event in events] == [data, data]
    assert events[0].chunk is events[0].chunk


ERROR = {"error": {"message": "no more", "type": "T", "param": None, "code": 503}}


@pytest.mark.parametrize(
    "frame",
    [
        ERROR,
        {**ERROR, "choices": []},
        {**ERROR, **chunk("x", finish="error")},
        {"error": "no more"},
        {"error": {"object": "error", "message": "no more", "code": "503"}},
    ],
)
def test_error_frame(frame: Any) -> None:
    """An error frame raises, and the text before it is kept."""
    decoder, _ = decoded(chunk("so far"))
    with pytest.raises(ServerStreamError, match="no more") as caught:
        decoder.decode(json.dumps(frame))
    assert caught.value.body == frame
    assert decoder.snapshot().text == "so far"
    assert not isinstance(frame["error"], dict) or caught.value.is_retryable


MISSHAPEN = [
    "",
    "nonsense",
    "{",
    "5",
    "true",
    '"text"',
    '"choices"',
    '["choices"]',
    "[" * 100_000,
    "9" * 5000,
    '{"choices": 5}',
    '{"choices": "abc"}',
    '{"choices": {"a": 1}}',
    '{"choices": [5]}',
    '{"choices": [[]]}',
    '{"choices": [{"index": "0", "text": "a"}]}',
    '{"choices": [{"index": [], "text": "a"}]}',
    '{"choices": [{"index": true, "text": "a"}]}',
    '{"choices": [{"index": 0.0, "text": "a"}]}',
    '{"choices": [{"text": 5}]}',
    '{"choices": [{"text": ["a"]}]}',
    '{"choices": [{"text": "a", "logprobs": 5}]}',
    '{"choices": [{"text": "a", "logprobs": []}]}',
    '{"choices": [{"text": "a", "logprobs": {"tokens": 5}}]}',
    '{"choices": [{"text": "a", "token_ids": 5}]}',
    '{"choices": [], "usage": 5}',
    '{"choices": [], "usage": [5]}',
    '{"choices": [], "usage": "many"}',
]


@pytest.mark.parametrize("data", MISSHAPEN)
def test_misshapen_chunk(data: str) -> None:
    """A malformed chunk raises an InvalidStreamError that shows it."""
    decoder, _ = decoded(chunk("so far"))
    with pytest.raises(InvalidStreamError, match="cannot be decoded") as caught:
        decoder.decode(data)
    assert repr(data)[1:50] in str(caught.value)
    assert len(str(caught.value)) < 2000
    assert decoder.snapshot().text.startswith("so far")
    decoder.decode(json.dumps(chunk(" and on")))
    assert decoder.snapshot().text.endswith(" and on")


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 5) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
CHUNKS: List[Dict[str, Any]] = [
    json.loads(data) for name in STREAMS for data in [*data_of(name)[:2], *data_of(name)[-2:]]
]
CHAT_CHUNKS: List[Dict[str, Any]] = [
    json.loads(data)
    for path in sorted(CAPTURES.glob("*chat*stream*.http")) + sorted(CAPTURES.glob("b_reas*.http"))
    for data in data_of(path.name[: -len(".response.http")])[:12]
]


def places(value: Any, path: Tuple[Any, ...] = ()) -> Iterator[Tuple[Any, ...]]:
    """Every place in a JSON value, as the keys that lead to it."""
    yield path
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


@st.composite
def mutated(draw: Any, chunks: List[Dict[str, Any]]) -> Any:
    """A captured chunk in which one or two members are replaced or deleted."""
    value = copy.deepcopy(draw(st.sampled_from(chunks)))
    for _ in range(draw(st.integers(1, 2))):
        *above, last = draw(st.sampled_from([path for path in places(value) if path] or [("x",)]))
        inner = value
        for key in above:
            inner = inner[key]
        if draw(st.booleans()) and last in inner:
            del inner[last]
        else:
            inner[last] = draw(JSON)
    return value


def is_usable(snapshot: Completion) -> bool:
    assert isinstance(snapshot, Completion)
    assert isinstance(snapshot.text, str)
    assert [choice.index for choice in snapshot.choices] == sorted(
        {choice.index for choice in snapshot.choices}
    )
    assert all(isinstance(choice.text, str) for choice in snapshot.choices)
    assert repr(snapshot)
    return snapshot == copy.deepcopy(snapshot)


def check_survives(values: List[Any]) -> None:
    decoder = CompletionDecoder(2)
    decoder.decode(json.dumps(chunk("so far", token_ids=[1], logprobs={"tokens": ["so far"]})))
    for value in values:
        with contextlib.suppress(InvalidStreamError, ServerStreamError):
            for event in decoder.decode(json.dumps(value)):
                # Compared as text: NaN is not equal to itself.
                assert repr(event.chunk) == repr(value)
        snapshot = decoder.snapshot()
        is_usable(snapshot)
        assert snapshot.text.startswith("so far")
        first = next(choice for choice in snapshot.choices if choice.index == 0)
        assert (first.token_ids or [])[:1] == [1]


@given(st.lists(JSON | st.fixed_dictionaries({"choices": JSON}), max_size=3))
@example([{"choices": [{"index": 0, "finish_reason": []}]}])
def test_any_json_is_survived(values: List[Any]) -> None:
    """Any JSON value raises only our errors, and the snapshot stays usable."""
    check_survives(values)


@given(st.lists(mutated(CHUNKS), min_size=1, max_size=3))
def test_any_mutation_is_survived(values: List[Any]) -> None:
    """A changed chunk raises only our errors, and the snapshot stays usable."""
    check_survives(values)


@given(st.lists(mutated(CHAT_CHUNKS), min_size=1, max_size=4))
def test_any_mutated_chat_is_survived(values: List[Any]) -> None:
    """A changed chat chunk raises only our errors, and the snapshot stays usable."""
    decoder = ChatDecoder(1)
    decoder.decode(json.dumps({"choices": [{"index": 0, "delta": {"content": "so far"}}]}))
    for value in values:
        with contextlib.suppress(InvalidStreamError, ServerStreamError):
            for event in decoder.decode(json.dumps(value)):
                assert event.type
        snapshot = decoder.snapshot()
        first = next(choice for choice in snapshot.choices if choice.index == 0)
        assert (first.message.content or "").startswith("so far")
        assert repr(snapshot)


def test_deep_usage_details_are_survived() -> None:
    """Deeply nested usage details do not break the snapshot."""
    details: Any = {}
    for _ in range(600):
        details = {"a": details}
    decoder, _ = decoded({**chunk("a"), "usage": {"prompt_tokens_details": details}})
    assert decoder.snapshot().text == "a"


def read(raw: Any) -> Completion:
    return decoded_answer(json.dumps(raw).encode(), Completion.from_raw)


def test_response() -> None:
    """A response that is not streamed is decoded, and its raw JSON is kept."""
    raw = json.loads(body_of(capture("completion_return_token_ids")[1]))
    answer = read(raw)
    assert answer.raw == raw
    assert answer.text == raw["choices"][0]["text"]
    assert answer.choices[0].token_ids == raw["choices"][0]["token_ids"]
    assert answer.usage == Usage.from_raw(raw["usage"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON"),
        (b"<html>hello</html>", "not JSON.*hello"),
        (b"\xff\xfe\xfa", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"detail": "gone fishing"}', "gone fishing"),
        (b'{"error": {"message": "gone fishing"}}', "gone fishing"),
        (b"[]", "not the shape"),
        (b"null", "not the shape"),
        ('{"détail": 5}'.encode(), "not the shape.*détail"),
        (b"{}", "KeyError"),
        (b'{"choices": null}', "TypeError"),
        (b'{"choices": 5}', "TypeError"),
        (b'{"choices": [5]}', "TypeError"),
        (b'{"choices": [{"index": 0}]}', "KeyError"),
        (b'{"choices": [{"text": null, "finish_reason": "stop"}]}', "TypeError"),
        (b'{"choices": [{"text": "x", "finish_reason": "stop"}], "usage": 5}', "AttributeError"),
    ],
)
def test_another_body(content: bytes, message: str) -> None:
    """Any other body raises an InvalidResponseError that shows it."""
    with pytest.raises(InvalidResponseError, match=message) as caught:
        decoded_answer(content, Completion.from_raw)
    assert len(str(caught.value)) < 2000
    assert caught.value.body is not None or content == b"null"


@given(JSON | st.fixed_dictionaries({"choices": JSON, "usage": JSON}))
def test_any_document_is_survived(raw: Any) -> None:
    """Any JSON document is decoded or raises our errors only."""
    try:
        answer = read(raw)
    except (InvalidResponseError, GenerationAbortedError):
        return
    assert isinstance(answer, Completion)
    assert len(answer.choices) == sum(choice is not None for choice in raw["choices"])


@pytest.mark.parametrize("at", [0, 1])
def test_aborted_response(at: int) -> None:
    """A response with an aborted choice raises, and `partial` holds the response."""
    raw = chunk("a", finish="stop")
    raw["choices"].append(chunk("b", index=1, finish="stop")["choices"][0])
    raw["choices"][at]["finish_reason"] = "abort"
    with pytest.raises(GenerationAbortedError, match="aborted the generation") as caught:
        read(raw)
    assert caught.value.partial == Completion.from_raw(raw)
    assert [choice.text for choice in caught.value.partial.choices] == ["a", "b"]


@pytest.mark.parametrize("partial", [None, "anything"])
def test_aborted_error(partial: Optional[str]) -> None:
    """The error holds the given partial response."""
    error = aborted_error(partial)
    kind: Type[Exception] = GenerationAbortedError
    assert (type(error), error.partial, error.is_retryable) == (kind, partial, True)


def test_a_body_without_choices_is_read_if_none_are_expected() -> None:
    """Routes whose responses have no choices use the same function."""
    assert decoded_answer(b'{"data": [1]}', lambda raw: raw["data"]) == [1]
