"""The event classes: tags, comparison, repr, pickling and pattern matching."""

from __future__ import annotations

import copy
import json
import pickle
import sys
from typing import Any, Dict, List, Tuple, get_args

import attrs
import pytest

from vllm_client import (
    CompletionStreamEvent,
    Done,
    Error,
    FinishReason,
    StreamInterruptedError,
    Text,
    Usage,
)

CHUNK = {"id": "cmpl-1", "choices": [{"text": "é", "extension": [1, None]}]}
RAW = json.dumps(CHUNK)
FAILURE = StreamInterruptedError("cut off")


def held(data: Any) -> Any:
    """A chunk as the decoder stores it: the JSON text."""
    return json.dumps(data)


def every_event() -> List[Any]:
    return [
        Text("é", 1, {"tokens": ["é"]}, [5], held(CHUNK)),
        FinishReason("stop", 1, 13, held(CHUNK)),
        Usage(1, 2, 3, {"cached_tokens": 0}, {"reasoning_tokens": 0}),
        Done(),
        Error(FAILURE),
    ]


EVENTS = every_event()
IDS = [event.type for event in EVENTS]
each = pytest.mark.parametrize("event", EVENTS, ids=IDS)


def test_union_is_complete() -> None:
    """The union has exactly these classes, each with a tag of its own."""
    assert set(get_args(CompletionStreamEvent)) == {type(event) for event in EVENTS}
    assert IDS == ["text", "finish_reason", "usage", "done", "error"]


FIELDS: List[Tuple[type, Tuple[str, ...]]] = [
    (Text, ("text", "index", "logprobs", "token_ids", "chunk")),
    (FinishReason, ("reason", "index", "stop_reason", "chunk")),
    (
        Usage,
        (
            "prompt_tokens",
            "completion_tokens",
            "total_tokens",
            "prompt_tokens_details",
            "completion_tokens_details",
        ),
    ),
    (Done, ()),
    (Error, ("error",)),
]


def positional(kind: Any) -> Tuple[str, ...]:
    return tuple(field.name for field in attrs.fields(kind) if field.init)


@pytest.mark.parametrize(("kind", "names"), FIELDS)
def test_positional_fields(kind: Any, names: Tuple[str, ...]) -> None:
    """Positional arguments and patterns use the fields in this order, without the tag."""
    assert positional(kind) == names
    if sys.version_info >= (3, 10):
        assert kind.__match_args__ == names
    values = [Usage(), *range(len(names))][: len(names)]
    event = kind(*values)
    assert [getattr(event, name) for name in names] == values
    with pytest.raises(TypeError):
        kind(*values, "one too many")
    with pytest.raises(TypeError):
        kind(*values, type="text")


MATCHING = """
def describe(event):
    match event:
        case Text("end", index=1):
            return "the end"
        case Text(text, index, logprobs, token_ids, chunk):
            return [text, index, logprobs, token_ids, chunk]
        case FinishReason(reason, index, stop_reason, chunk):
            return [reason, index, stop_reason, chunk]
        case Usage(prompt_tokens, completion_tokens, total_tokens):
            return [prompt_tokens, completion_tokens, total_tokens]
        case Done():
            return "done"
        case Error(error):
            return error
"""


@pytest.mark.skipif(sys.version_info < (3, 10), reason="match needs Python 3.10")
def test_match() -> None:
    """``match`` matches every event by position, by name and by value."""
    space: Dict[str, Any] = dict(globals())
    exec(compile(MATCHING, "<match>", "exec"), space)  # Python 3.9 cannot even parse it.
    assert [space["describe"](event) for event in every_event()] == [
        ["é", 1, {"tokens": ["é"]}, [5], CHUNK],
        ["stop", 1, 13, CHUNK],
        [1, 2, 3],
        "done",
        FAILURE,
    ]
    assert space["describe"](Text("end", 1)) == "the end"


@each
def test_equality(event: Any) -> None:
    """Events compare by their fields; ``chunk`` is ignored."""
    same = copy.copy(event)
    if hasattr(event, "chunk"):
        same = attrs.evolve(event, chunk={"another": "chunk"})
    assert event == same
    assert (event != same) is False
    assert event != object()
    others = [other for other in EVENTS if other == event]
    assert len(others) == 1


@pytest.mark.parametrize(
    "other", [Text("b"), Text("a", 1), Text("a", 0, {}), Text("a", 0, None, [1]), FinishReason("a")]
)
def test_inequality(other: Any) -> None:
    """Events with another field or of another class are not equal."""
    assert Text("a") != other


def test_repr_is_short() -> None:
    """The repr of an event does not show the chunk."""
    assert repr(EVENTS[0]) == "Text(text='é', index=1, logprobs=<1 token>, token_ids=[5])"
    assert repr(EVENTS[1]) == "FinishReason(reason='stop', index=1, stop_reason=13)"
    assert repr(Done()) == "Done()"
    assert repr(EVENTS[4]) == "Error(error=StreamInterruptedError('cut off'))"
    assert repr(Usage(1, 2, 3)).startswith("Usage(prompt_tokens=1, completion_tokens=2, total_")


@each
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickles(event: Any, protocol: int) -> None:
    """Events can be pickled, chunk and tag included."""
    check_same(pickle.loads(pickle.dumps(event, protocol)), event)


@each
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copies(event: Any, copied: Any) -> None:
    """Events can be copied, chunk and tag included."""
    check_same(copied(event), event)


def check_same(back: Any, event: Any) -> None:
    assert back is not event
    assert (type(back), back.type) == (type(event), event.type)
    if isinstance(event, Error):
        assert str(back.error) == str(event.error)
    else:
        assert back == event
    if hasattr(event, "chunk"):
        assert back.chunk == event.chunk == CHUNK


@pytest.mark.parametrize("event", every_event()[:2], ids=IDS[:2])
def test_lazy_chunk(event: Any) -> None:
    """``chunk`` is decoded once, on first use."""
    again = event.chunk
    assert again == CHUNK
    assert event.chunk is again


@pytest.mark.parametrize("kind", [Text, FinishReason])
@pytest.mark.parametrize("chunk", [None, {}, {"a": 1}])
def test_chunk_that_is_already_decoded(kind: Any, chunk: Any) -> None:
    """A chunk that is already decoded stays as it is, and None stays None."""
    assert kind("x", chunk=chunk).chunk is chunk
    event = kind("x")
    event.chunk = chunk
    assert event.chunk is chunk


@each
def test_asdict(event: Any) -> None:
    """attrs.asdict() returns every field, the tag and the decoded chunk."""
    found = attrs.asdict(event)
    assert found["type"] == event.type
    assert set(found) == {*positional(type(event)), "type"}
    if "chunk" in found:
        assert found["chunk"] == CHUNK
    if not isinstance(event, Error):
        assert json.loads(json.dumps(found)) == found


@each
def test_slots(event: Any) -> None:
    """Events have no __dict__, so setting an unknown attribute is an error."""
    assert not hasattr(event, "__dict__")
    with pytest.raises(AttributeError):
        event.tpye = "text"


@pytest.mark.parametrize("kind", [Text, FinishReason])
def test_chunk_is_documented(kind: Any) -> None:
    """help() describes ``chunk``."""
    assert "decoded JSON chunk" in kind.chunk.__doc__


def test_unused_chunk_stays_text() -> None:
    """A chunk is not decoded before its first use, so invalid JSON there is harmless."""
    broken: Any = "{"
    event = Text("a", chunk=broken)
    assert (event.text, repr(event)) == (
        "a",
        "Text(text='a')",
    )
    with pytest.raises(ValueError, match="Expecting"):
        _ = event.chunk
