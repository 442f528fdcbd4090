"""JSON by orjson: the same values as the standard library, or the text is left to it."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from types import SimpleNamespace
from typing import Any, List

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_client._decoding import fast_json


@pytest.fixture(autouse=True)
def switched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switch orjson on, also under --plain."""
    monkeypatch.setattr(fast_json, "ENABLED", True)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**64), 2**64)
    | st.floats()
    | st.text()
    | st.sampled_from(["\ud800", "\u2028", "\x00"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


def outcome(loads: Any, text: Any) -> Any:
    """The value with its types, or the class of the error."""
    try:
        return repr(loads(text))
    except (ValueError, RecursionError) as error:
        return type(error)


def check(text: str) -> None:
    """Check that the outcome is that of the standard library, with and without orjson."""
    expected = outcome(json.loads, text)
    assert outcome(fast_json.loads, text) == expected
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(fast_json, "_orjson_loads", None)
        assert outcome(fast_json.loads, text) == expected
        if text.isascii():
            assert outcome(fast_json.loads, text.encode()) == expected


@given(value=VALUES, ascii_only=st.booleans())
@settings(max_examples=500)
def test_any_value(value: Any, ascii_only: bool) -> None:
    """Every value that json can write is read as the standard library reads it."""
    check(json.dumps(value, ensure_ascii=ascii_only))


@given(text=st.text('{}[]:,"\\u0123456789deDE+-. \n\tnulltruefaseNI\ud83d', max_size=20))
@settings(max_examples=500)
def test_any_text(text: str) -> None:
    """Any text is read or refused as by the standard library."""
    check(text)


@pytest.mark.parametrize(
    "text",
    ["-0", "-0.0", "[-0]", "1e400", "NaN", "-Infinity", "18446744073709551616", '"\\ud800"',
     "9223372036854775808", "-9223372036854775809", '{"a":1,"a":2}', "[" * 1000 + "]" * 1000,
     "[" * 100000, "0.1234567890123456789012", "\ufeff1", ""],
)  # fmt: skip
def test_odd_texts(text: str) -> None:
    """Where orjson and json differ, the standard library reads the text."""
    assert outcome(fast_json.loads, text) == outcome(json.loads, text)
    assert outcome(fast_json.loads, text.encode()) == outcome(json.loads, text.encode())


def test_without_orjson(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without orjson, or with it switched off, the standard library reads."""
    monkeypatch.setattr(fast_json, "_orjson_loads", None)
    assert fast_json.loads('{"a": [1]}') == {"a": [1]}
    monkeypatch.setattr(fast_json, "_orjson_loads", pytest.fail)
    monkeypatch.setattr(fast_json, "ENABLED", False)
    assert math.isnan(fast_json.loads("NaN"))


def test_a_fast_reader_is_used_where_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that orjson refuses is read by the standard library."""
    seen = []

    def fast(text: bytes) -> Any:
        seen.append(text)
        if text == b"1":
            return "fast"
        raise ValueError

    monkeypatch.setattr(fast_json, "_orjson_loads", fast)
    assert (fast_json.loads("1"), fast_json.loads("2")) == ("fast", 2)
    assert seen == [b"1", b"2"]


NUMBERS = st.from_regex(
    r"-?(0|[1-9][0-9]{0,22})(\.[0-9]{1,22})?([eE][+-]?[0-9]{1,2})?", fullmatch=True
)


@given(numbers=st.lists(NUMBERS, min_size=1, max_size=3), space=st.sampled_from(["", " ", "\n"]))
@settings(max_examples=1000)
def test_any_number(numbers: List[str], space: str) -> None:
    """Numbers of any length are read as by the standard library."""
    check(numbers[0] + space)
    check("[" + f"{space},".join(numbers) + space + "]")


def test_long_fractions_are_not_odd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Orjson reads long fractions and ordinary integers."""
    monkeypatch.setattr(fast_json, "_orjson_loads", lambda data: "fast")
    for text in ('{"a":[-0.0001234567890123456789,-12]}', "[-9999.0,123456789012345678,-0.5]"):
        assert fast_json.loads(text) == "fast"
    for text in ("[1234567890123456789]", "-1234567890123456789", "[-0]"):
        assert fast_json.loads(text) == json.loads(text)


def test_where_orjson_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module works without orjson."""
    monkeypatch.setitem(sys.modules, "orjson", None)
    spec = importlib.util.spec_from_file_location(
        "vllm_client._decoding.plain_json", fast_json.__file__
    )
    assert spec is not None
    assert spec.loader is not None
    plain = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plain)
    assert plain.loads("[1]") == [1]
    assert plain._orjson_loads is None


@pytest.mark.parametrize(("version", "used"), [("3.9.14", False), ("3.9.15", True), ("4.0", True)])
def test_orjson_that_crashes_is_not_used(
    monkeypatch: pytest.MonkeyPatch, version: str, used: bool
) -> None:
    """Versions that deeply nested JSON crashes are left alone."""
    found = SimpleNamespace(__version__=version, loads=json.loads)
    monkeypatch.setitem(sys.modules, "orjson", found)
    assert (fast_json._safe_orjson() is json.loads) is used
