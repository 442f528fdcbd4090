"""Chunks with columns: the shortcut yields what the plain way yields, or leaves the chunk to it."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any, Dict, List

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_client import InvalidStreamError, Text
from vllm_client._decoding import columns, templates
from vllm_client._decoding.chat import ChatDecoder
from vllm_client._decoding.completion import CompletionDecoder
from vllm_client.types.shared import Usage

from ..recorded import chunk, data_of, delta
from .test_templates import TEXTS, check


@pytest.fixture(autouse=True)
def switched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switch the shortcut on, also under --plain."""
    monkeypatch.setattr(templates, "ENABLED", True)


def compact(data: Any, *, ascii_only: bool = False) -> str:
    return json.dumps(data, ensure_ascii=ascii_only, separators=(",", ":"))


NUMBERS = st.one_of(
    st.floats(-20, 0),
    st.integers(-3, 3),
    st.sampled_from([-9999.0, 1e300, 5e-324, -0.0, float("nan"), float("-inf"), 10**18, 10**40]),
)
TOKENS = st.text(max_size=4) | st.sampled_from(['"', "\\", "\n", '","tokens":["', "\ud800", "🐢"])
OFFSETS = st.integers(0, 99)
ODD = st.sampled_from([None, [], {}, 0, 1, "x", "", [None], {"x": 1}, [[1]], "1", [1.5], ["1"]])
"""Values that vLLM does not send there."""


def entries(top: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Entries of a chat's log-probabilities."""
    utf8 = st.lists(st.integers(0, 255), max_size=4) | st.none()
    return st.fixed_dictionaries({"token": TOKENS, "logprob": NUMBERS, "bytes": utf8, **top})


COMPLETION_LOGPROBS = st.fixed_dictionaries(
    {
        "text_offset": st.lists(OFFSETS, max_size=2),
        "token_logprobs": st.lists(NUMBERS, min_size=1, max_size=2),
        "tokens": st.lists(TOKENS, min_size=1, max_size=2),
        "top_logprobs": st.lists(
            st.dictionaries(TOKENS, NUMBERS, max_size=3) | st.none(), min_size=1, max_size=2
        ),
    }
)
CHAT_LOGPROBS = st.fixed_dictionaries(
    {"content": st.lists(entries({"top_logprobs": st.lists(entries({}), max_size=2)}), max_size=2)}
)
LOGPROBS = st.one_of(COMPLETION_LOGPROBS, CHAT_LOGPROBS, COMPLETION_LOGPROBS, CHAT_LOGPROBS, ODD)
TOKEN_IDS = st.lists(st.integers(0, 3) | NUMBERS, max_size=3) | ODD
USAGE = st.one_of(
    st.builds(
        lambda count: {
            "prompt_tokens": 5,
            "total_tokens": 5 + count,
            "completion_tokens": count,
            "completion_tokens_details": {"reasoning_tokens": count},
        },
        st.integers(0, 99) | st.sampled_from([10**17, 10**18, 10**40, -1, 1.5]),
    ),
    st.fixed_dictionaries({"prompt_tokens": ODD, "completion_tokens": st.integers(0, 9)}),
    ODD,
)


def made(route: str, names: List[str], text: str, values: Dict[str, Any]) -> Dict[str, Any]:
    """A chunk with these columns."""
    tokens = {name: values[name] for name in names if name != "usage"}
    data = chunk(text, **tokens) if route == "completion" else delta(content=text, **tokens)
    return {**data, "usage": values["usage"]} if "usage" in names else data


COLUMNS = {"logprobs": LOGPROBS, "token_ids": TOKEN_IDS, "usage": USAGE}
NAMES = st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, unique=True)
DECODERS: Dict[str, Any] = {"completion": CompletionDecoder, "chat": ChatDecoder}
ROUTES = pytest.mark.parametrize("route", DECODERS)


@ROUTES
@given(data=st.data())
@settings(max_examples=400)
def test_columns_are_the_same(route: str, data: st.DataObject) -> None:
    """Chunks with the same columns and any values yield the same both ways."""
    names = data.draw(NAMES)
    ascii_only = data.draw(st.booleans())
    rows = data.draw(st.lists(st.tuples(TEXTS, st.fixed_dictionaries(COLUMNS)), max_size=6))
    lines = [compact(made(route, names, *row), ascii_only=ascii_only) for row in rows]
    check(DECODERS[route], lines)


@given(texts=st.lists(st.tuples(TEXTS, st.booleans(), TOKEN_IDS), max_size=8))
@settings(max_examples=200)
def test_reasoning_and_content_are_the_same(texts: List[Any]) -> None:
    """Tokens of reasoning and of content in turn yield the same both ways."""
    names = {True: "reasoning", False: "content"}
    check(
        ChatDecoder,
        [compact(delta(**{names[kind]: text, "token_ids": ids})) for text, kind, ids in texts],
    )


LOGPROBS_OF = {
    "completion": {
        "text_offset": [3],
        "token_logprobs": [-0.5],
        "tokens": ["a\n"],
        "top_logprobs": [{"a\n": -0.5, '"': -1e-05}],
    },
    "chat": {
        "content": [
            {
                "token": "é",
                "logprob": -0.5,
                "bytes": [195, 169],
                "top_logprobs": [{"token": "", "logprob": -9999.0, "bytes": []}],
            }
        ]
    },
}
USAGE_NOW = {"prompt_tokens": 5, "total_tokens": 7, "completion_tokens_details": None}


def whole(route: str, text: str, token_id: int) -> Dict[str, Any]:
    """A chunk with all columns."""
    values = {"logprobs": LOGPROBS_OF[route], "token_ids": [token_id], "usage": USAGE_NOW}
    return made(route, sorted(COLUMNS), text, values)


@ROUTES
@given(data=st.data())
@settings(max_examples=500)
def test_damaged_columns_are_the_same(route: str, data: st.DataObject) -> None:
    """A chunk that is cut or changed at any place is not mistaken for a known one."""
    good = compact(whole(route, "Hello", 17))
    at = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(at, min(len(good), at + 9)) | st.just(len(good)))
    new = data.draw(
        st.text('"\\{}[]:,a0١²-.eE\n\t ', max_size=4)
        | st.sampled_from(["NaN", "-Infinity", "null", "01", "1" * 5000, "\\u00e9", '"a":1,"a":2'])
    )
    check(DECODERS[route], [good, good[:at] + new + good[end:], good])


@given(data=st.data())
@settings(max_examples=300)
def test_moved_keys_are_the_same(data: st.DataObject) -> None:
    """The order of keys, second keys, and keys at other places make no difference."""
    lines = []
    for text, token_id in (("a", 1), ("b", 2), ("c", 3)):
        line = whole("completion", text, token_id)
        line["choices"][0] = dict(data.draw(st.permutations(list(line["choices"][0].items()))))
        line = dict(data.draw(st.permutations(list(line.items()))))
        lines.append(compact(line))
    extra = data.draw(
        st.sampled_from(
            ['"usage":{"x":1},', '"token_ids":[9],', '"text":"b",', '"x":{"logprobs":{"x":[]}},',
             '"token\\u005fids":[9],', '"x\\"token_ids":[9],', '"choices":[],']
        )
    )  # fmt: skip
    place = data.draw(st.sampled_from(["{", '{"index":0,', '"choices":[{', ',"usage":{']))
    check(CompletionDecoder, lines)
    check(CompletionDecoder, [line.replace(place, place + extra, 1) for line in lines])


@ROUTES
@pytest.mark.parametrize("names", [["logprobs"], ["token_ids"], ["usage"], sorted(COLUMNS)])
def test_the_second_chunk_matches(route: str, names: List[str]) -> None:
    """Chunks with columns are parsed once; the next ones match, with their own values."""
    decoder = DECODERS[route](1)
    values: Dict[str, Any] = {
        "logprobs": LOGPROBS_OF[route], "token_ids": [4], "usage": {**USAGE_NOW, "total_tokens": 6}
    }  # fmt: skip
    decoder.decode(compact(made(route, names, "a", values)))
    assert decoder.usage == Usage.from_raw(values["usage"] if "usage" in names else None)
    values.update(token_ids=[5], usage=USAGE_NOW)
    line = compact(made(route, names, "b", values))
    event = decoder.match(line)
    assert event is not None
    assert decoder.usage == Usage.from_raw(USAGE_NOW if "usage" in names else None)
    assert decoder.usage is decoder.usage
    assert event.token_ids == ([5] if "token_ids" in names else None)
    assert event.logprobs == (LOGPROBS_OF[route] if "logprobs" in names else None)
    assert (event.text, event.index, event.chunk) == ("b", 0, json.loads(line))
    check(DECODERS[route], [line, line, line])


@pytest.mark.parametrize(
    ("name", "decoder"),
    [
        ("completion_return_token_ids_stream", CompletionDecoder),
        ("completion_logprobs_stream", CompletionDecoder),
        ("completion_stream_continuous_usage", CompletionDecoder),
        ("chat_logprobs_stream", ChatDecoder),
        ("chat_stream_continuous_usage", ChatDecoder),
        ("b_reasoning_token_ids_stream", ChatDecoder),
    ],
)
def test_captured_columns_match(name: str, decoder: Any) -> None:
    """Of each captured stream with columns, a chunk in the middle matches."""
    reader, matched = decoder(1), 0
    for line in data_of(name):
        if reader.match(line) is None:
            reader.decode(line)
        else:
            matched += 1
    assert matched


def late(line: str = "") -> Any:
    """An event whose log-probabilities are not decoded yet."""
    decoder = CompletionDecoder(1)
    line = line or compact(chunk("b", logprobs=LOGPROBS_OF["completion"]))
    decoder.decode(line)
    return decoder.match(line)


def test_undecoded_logprobs_are_like_others() -> None:
    """Comparison, repr, pickle, copy and assignment do not show that they were not decoded."""
    expected = Text("b", 0, LOGPROBS_OF["completion"])
    assert late() == expected
    assert repr(late()) == repr(expected)
    assert pickle.loads(pickle.dumps(late())) == expected
    assert copy.copy(late()) == copy.deepcopy(late()) == expected
    event = late()
    assert event.logprobs is event.logprobs
    event = late()
    event.logprobs = None
    assert event == Text("b")


def test_other_attributes_are_not_invented() -> None:
    """An unknown attribute raises the usual error, and a deleted one does too."""
    with pytest.raises(AttributeError, match="object has no attribute 'logprob'"):
        _ = late().logprob
    event = Text("b")
    del event.logprobs
    with pytest.raises(AttributeError, match="_logprobs_json"):
        _ = event.logprobs


def test_an_event_can_be_changed_without_the_snapshot() -> None:
    """What a program does to the lists of an event does not reach the snapshot."""
    decoder = CompletionDecoder(1)
    values = {"logprobs": LOGPROBS_OF["completion"], "token_ids": [4]}
    line = compact(chunk("b", **values))
    decoder.decode(line)
    event: Any = decoder.match(line)
    event.token_ids.append(5)
    event.logprobs["tokens"].append("x")
    again: Any = decoder.match(line)
    assert (again.token_ids, again.logprobs["tokens"]) == ([4], ["a\n"])
    choice = decoder.snapshot().choices[0]
    assert choice.token_ids == [4, 4, 4]
    assert choice.logprobs is not None
    assert choice.logprobs["tokens"] == ["a\n", "a\n", "a\n"]


def test_a_snapshot_between_chunks() -> None:
    """Each snapshot has the log-probabilities so far, whichever way they came."""
    decoder = CompletionDecoder(1)
    line = compact(chunk("b", logprobs=LOGPROBS_OF["completion"]))
    for count in range(1, 4):
        if decoder.match(line) is None:
            decoder.decode(line)
        logprobs = decoder.snapshot().choices[0].logprobs
        assert logprobs is not None
        assert logprobs["text_offset"] == [3] * count


def test_remembered_ids_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ids of single tokens are remembered, but not without limit."""
    monkeypatch.setattr(columns, "_MOST_IDS", 2)
    ids = columns._TokenIds()
    for number in range(5):
        assert ids[str(number)] == (number,)
        assert len(ids) <= 2
    assert ids["1,2"] == (1, 2)
    assert "1,2" not in ids


WHOLE_COMPLETION, WHOLE_CHAT = (compact(whole(route, "a", 17)) for route in DECODERS)
NOT_JSON = [
    ("17", "017"), ("17", "١"), ("17", "1,2],[3"), ("17", ""), ("17", "²"), ("17", "1" * 5000),
    ("[3]", "[03]"), ("[3]", "[" + "1" * 5000 + "]"), ("[3]", "[3,]"), ("-0.5", "-.5"),
    ("-0.5", "-0."), ("-0.5", "-00.5"), ("-0.5", "+0.5"), ("a\\n", "a\n"), ("a\\n", "a\\x"),
    ("a\\n", "a\\u12"), (":7", ":07"), (":7", ":" + "1" * 5000), (":7", ":-7"), ("}]}]", "}]]"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new"), NOT_JSON)
def test_columns_that_are_not_json_are_refused(old: str, new: str) -> None:
    """What is no JSON in a column is the same error as without the shortcut, or the same value."""
    for route, line in (("completion", WHOLE_COMPLETION), ("chat", WHOLE_CHAT)):
        check(DECODERS[route], [line, line.replace(old, new), line])


@pytest.mark.parametrize("old", ['"tokens":', "-0.5", "[17]", '"total_tokens":7'])
def test_a_broken_column_raises_at_once(old: str) -> None:
    """A chunk whose column is not valid JSON raises before its text is passed on."""
    decoder = CompletionDecoder(1)
    decoder.decode(WHOLE_COMPLETION)
    broken = WHOLE_COMPLETION.replace(old, old + "!")
    assert decoder.match(broken) is None
    with pytest.raises(InvalidStreamError):
        decoder.decode(broken)
    assert decoder.snapshot().text == "a"
