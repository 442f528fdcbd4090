"""The checks against real servers (``tests/real``): they see differences, and cover every field."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional

import pytest

from vllm_client import ChatCompletion, Completion

from ..real import __main__ as real
from ..real import compare, samples, table
from ..real.servers import KINDS, Server


def completion(**more: Any) -> Completion:
    choice = {"index": 0, "text": "Hello", "finish_reason": "stop", **more}
    return Completion.from_raw({"id": "1", "model": "m", "created": 1, "choices": [choice]})


def chat(content: Optional[str], arguments: str = "") -> ChatCompletion:
    message: Dict[str, Any] = {"content": content}
    if arguments:
        call = {"id": "c", "function": {"name": "f", "arguments": arguments}}
        message["tool_calls"] = [call]
    return ChatCompletion.from_raw({"choices": [{"index": 0, "message": message}]})


def without_calls() -> ChatCompletion:
    return ChatCompletion.from_raw(
        {"choices": [{"index": 0, "message": {"content": "a", "tool_calls": []}}]}
    )


@pytest.mark.parametrize(
    "more",
    [
        {"text": "Hello!"},
        {"finish_reason": None},
        {"logprobs": {"token_logprobs": [-1.0]}},
        {"token_ids": [1]},
        {"a_field_of_a_later_version": 1},
        {"prompt_token_ids": [1]},
    ],
)
def test_a_difference_is_seen(more: Dict[str, Any]) -> None:
    """Whatever a stream lacks, or has too much, is a difference."""
    for one, other in [({}, more), (more, {})]:
        with pytest.raises(table.UnknownDifferenceError):
            compare.compare({"prompt": "x"}, completion(**one), completion(**other))


def test_equal_responses_pass() -> None:
    """Ids, times and differences of less than 0.001 between log-probabilities do not count."""
    one, other = ({"logprobs": {"token_logprobs": [-1.0 + more]}} for more in (0, 1e-5))
    whole, streamed = completion(**one), completion(**other)
    streamed.raw.update(id="2", created=2, metrics={"queue_time_ms": 1})
    compare.compare({}, whole, streamed)


@pytest.mark.parametrize(
    ("fields", "whole", "streamed"),
    [
        ({"echo": True}, completion(), completion(prompt_token_ids=[1])),
        ({"tool_choice": "required"}, chat("", '{"a": 1}'), chat("", '{"a":\n1}')),
        ({"tool_choice": "required"}, chat("f {"), chat("", "{")),
        ({}, chat(None), chat("")),
        ({}, without_calls(), chat("a")),
        ({}, chat("ab"), chat("a</think>b<|endoftext|>")),
        ({"tools": [{}]}, chat("a <tool_call>b"), chat("a")),
    ],
)
def test_what_the_server_causes_is_known(fields: Any, whole: Any, streamed: Any) -> None:
    """A difference that vLLM itself makes is named."""
    with pytest.raises(table.KnownBehaviourError):
        compare.compare(fields, whole, streamed)


@pytest.mark.parametrize(
    ("fields", "whole", "streamed"),
    [
        ({}, completion(), completion(prompt_token_ids=[1])),
        ({"tool_choice": "required"}, chat("", '{"a": 1}'), chat("", '{"a": 2}')),
        ({"tool_choice": "auto"}, chat("", '{"a": 1}'), chat("", '{"a":\n1}')),
        ({"tool_choice": "required"}, chat("f {"), chat("", "{}")),
        ({}, chat("ab"), chat("")),
        ({}, chat("ab"), chat("a</think>")),
        ({"tools": [{}]}, chat("a b<tool_call>"), chat("a")),
        ({}, chat("<tool_call>b"), chat(None)),
    ],
)
def test_no_rule_hides_a_fault(fields: Any, whole: Any, streamed: Any) -> None:
    """What resembles a known difference, and is none, is a difference."""
    with pytest.raises(table.UnknownDifferenceError):
        compare.compare(fields, whole, streamed)


@pytest.mark.parametrize("route", samples.SAMPLES)
def test_every_field_has_a_sample(route: str) -> None:
    """The checks have a value for each field of the route, and for no other name."""
    fields = samples.fields_of(route)
    assert [name for name, sample in fields.items() if sample is None] == []
    assert samples.SAMPLES[route].keys() - fields.keys() == set()


def test_the_table_is_complete() -> None:
    """Each name stands once for a kind of server, each kind has checks, and pairs abound."""
    kinds = {kind.name for kind in KINDS}
    rows = [(kind, each.group, each.name) for each in table.CHECKS for kind in each.kinds]
    assert len(rows) == len({*rows})
    assert {kind for kind, _, _ in rows} == kinds
    pairs = [row for row in rows if row[1].startswith("stream and whole")]
    assert min(sum(row[0] == kind for row in pairs) for kind in kinds - {"pooling"}) >= 69


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (None, table.PASSED),
        (table.KnownBehaviourError("as ever"), table.KNOWN),
        (table.UnknownDifferenceError("text"), table.DIFFERS),
        (AssertionError("no text"), table.FAILED),
    ],
)
def test_a_check_becomes_a_row(error: Optional[Exception], result: str) -> None:
    """The result of a check, and what it raised, is in its row and on the page."""

    def run(_: Server) -> None:
        if error is not None:
            raise error

    each = table.Check(("plain",), "group", "the name", run)
    row = table.result_of(each, Server(KINDS[0], real.Paths(Path(), Path(), Path())))
    assert row.result == result
    assert str(error or "") in row.remark
    page = table.markdown([row], {"vLLM": "1.2.3"})
    for text in ("the name", "1.2.3", row.remark):
        assert text in page
    assert page.count("the name") == (1 if error is None else 2)
