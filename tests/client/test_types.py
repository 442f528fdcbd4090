"""The classes of responses: how they are read from JSON, compared, printed and pickled."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any, Dict

import attrs
import pytest

from vllm_client import Completion, CompletionChoice, Usage

from ..recorded import CAPTURES, body_of, capture

FULL: Dict[str, Any] = {
    "id": "cmpl-1",
    "object": "text_completion",
    "created": 17,
    "model": "m",
    "choices": [
        {
            "index": 1,
            "text": "b",
            "logprobs": {"tokens": ["b"]},
            "finish_reason": "stop",
            "stop_reason": "x",
            "token_ids": [2],
            "prompt_token_ids": [3],
            "prompt_logprobs": [None, {"4": {"logprob": -1.0}}],
            "routed_experts": None,
            "weight_versions": [{"version": "w", "start": 0, "end": 1}],
        },
        {"index": 0, "text": "a", "finish_reason": "length"},
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    "system_fingerprint": "f",
}


def test_completion() -> None:
    """Every field is read; choices are sorted by index."""
    answer = Completion.from_raw(copy.deepcopy(FULL))
    assert (answer.id, answer.model, answer.created) == ("cmpl-1", "m", 17)
    assert answer.usage == Usage(1, 2, 3)
    assert answer.choices == [
        CompletionChoice(0, "a", "length"),
        CompletionChoice(
            1,
            "b",
            "stop",
            "x",
            {"tokens": ["b"]},
            [2],
            [3],
            [None, {"4": {"logprob": -1.0}}],
            [{"version": "w", "start": 0, "end": 1}],
        ),
    ]
    assert answer.raw == FULL


def test_shortcuts_are_those_of_choice_0() -> None:
    """`text` and `finish_reason` are those of choice 0, wherever it is in the list."""
    answer = Completion.from_raw(copy.deepcopy(FULL))
    assert (answer.text, answer.finish_reason) == ("a", "length")
    only_second = Completion("", "", 0, [CompletionChoice(1, "b", "stop")])
    assert (only_second.text, only_second.finish_reason) == ("", None)


def test_missing_fields() -> None:
    """A response that has only a text can be read."""
    answer = Completion.from_raw({"choices": [{"text": "a"}]})
    assert answer == Completion("", "", 0, [CompletionChoice(0, "a")])
    nothing = Completion.from_raw({"id": None, "model": None, "created": None, "choices": []})
    assert nothing == Completion("", "", 0, [])


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"choices": None},
        {"choices": [{}]},
        {"choices": [{"text": None}]},
        {"choices": [{"text": 5}]},
        {"choices": ["a"]},
        {"choices": [], "usage": "many"},
        [],
        None,
    ],
)
def test_another_shape(raw: Any) -> None:
    """Any other shape raises one of the three documented errors."""
    with pytest.raises((KeyError, TypeError, AttributeError)):
        Completion.from_raw(raw)


@pytest.mark.parametrize(
    ("raw", "usage"),
    [
        (None, None),
        ({}, Usage()),
        ({"prompt_tokens": 5, "completion_tokens": None}, Usage(5)),
        (
            {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "more": 4},
            Usage(1, 2, 3),
        ),
        ({"prompt_tokens_details": {"cached_tokens": 4}}, Usage(0, 0, 0, {"cached_tokens": 4})),
        ({"completion_tokens_details": {"a": 4}}, Usage(0, 0, 0, None, {"a": 4})),
    ],
)
def test_usage(raw: Any, usage: Any) -> None:
    """Missing counts are 0, and missing details are None."""
    assert Usage.from_raw(raw) == usage


def test_equality() -> None:
    """Responses compare by their fields; ``raw`` is ignored."""
    one, two = Completion.from_raw(FULL), Completion.from_raw({**FULL, "extension": 1})
    assert one == two
    assert one != Completion.from_raw({**FULL, "id": "cmpl-2"})


def test_repr_shows_no_raw() -> None:
    """The repr of a response does not show ``raw``."""
    assert "system_fingerprint" not in repr(Completion.from_raw(FULL))
    assert "text='a'" in repr(Completion.from_raw(FULL))


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickles(protocol: int) -> None:
    """A response can be pickled."""
    answer = Completion.from_raw(FULL)
    back = pickle.loads(pickle.dumps(answer, protocol))
    assert back == answer
    assert back.raw == FULL


@pytest.mark.parametrize("kind", [Completion, CompletionChoice, Usage])
def test_slots(kind: Any) -> None:
    """The classes have no __dict__, so setting an unknown attribute is an error."""
    assert "__dict__" not in dir(kind)
    assert attrs.has(kind)


def test_asdict_is_json() -> None:
    """attrs.asdict() of a response can be written as JSON."""
    found = attrs.asdict(Completion.from_raw(FULL))
    assert json.loads(json.dumps(found)) == found
    assert found["usage"]["type"] == "usage"


ANSWERS = [
    name
    for name in sorted(path.name[: -len(".response.http")] for path in CAPTURES.glob("*.http"))
    if name.startswith(("completion", "b_completion", "f_lora_completion"))
    and b'"object":"text_completion"' in body_of(capture(name)[1])[:200]
    and b"data: " not in body_of(capture(name)[1])[:10]
]


def test_there_are_captures() -> None:
    """There are enough captured responses."""
    assert len(ANSWERS) > 25


@pytest.mark.parametrize("name", ANSWERS)
def test_captured_answer(name: str) -> None:
    """Every field of a captured response is an attribute with the same value."""
    raw = json.loads(body_of(capture(name)[1]))
    answer = Completion.from_raw(raw)
    assert (answer.id, answer.model, answer.created) == (raw["id"], raw["model"], raw["created"])
    assert len(answer.choices) == len(raw["choices"])
    for choice, one in zip(answer.choices, raw["choices"]):
        for field in attrs.fields(CompletionChoice):
            assert getattr(choice, field.name) == one.get(field.name), field.name
    assert answer.usage is not None
    for field in attrs.fields(Usage):
        if field.init:
            assert getattr(answer.usage, field.name) == raw["usage"].get(field.name)
    assert answer.raw is raw


def test_token_logprobs() -> None:
    """token_logprobs lists the log-probabilities token by token."""
    choice = Completion.from_raw(copy.deepcopy(FULL)).choices[1]
    assert [token.token for token in choice.token_logprobs] == ["b"]
    assert CompletionChoice(0, "a").token_logprobs == []
