"""SSE: from bytes to SSE events, compared with a parser that follows the standard literally."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import sys
from typing import Any, Callable, Iterable, List, Tuple

import pytest
import sseclient
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vllm_client import InvalidStreamError
from vllm_client._decoding import sse_fields
from vllm_client._decoding.sse import EventSource, EventSplitter

from ..recorded import cut, single_bytes

Event = Tuple[str, str]


def reference(body: bytes) -> List[Event]:
    """Name and data of the events, by the section of the HTML standard on event streams."""
    text = body.decode("utf-8").removeprefix("\ufeff")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    events, name, data = [], "", []
    for line in lines[:-1]:  # A line without a line end is ignored.
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if "\n".join(data):  # We skip events with empty data.
                events.append((name or "message", "\n".join(data)))
            name, data = "", []
        elif field == "data":
            data.append(value)
        elif field == "event":
            name = value
    return events


def parsed(pieces: Iterable[bytes], **options: Any) -> List[Event]:
    """Name and data of the events that arrive in these pieces."""
    waiting = iter(pieces)
    source = EventSource(lambda: next(waiting, b""), **options)
    return [(event.event, event.data) for event in source if event.data]


LINES = st.lists(
    st.sampled_from(
        [b"data: a", b"data:b", b"data", b"data:", b"data: ", b": c", b"event: e", b"id: 1",
         b"x: y", b"data: \xc3\xa9\xe2\x80\xa8", b"data: \xff", b"retry: 5", b" data: z", b":",
         b"event"]
    ),
    max_size=5,
)  # fmt: skip


@given(st.lists(st.lists(LINES.map(b"\n".join), max_size=4), max_size=4))
@settings(max_examples=300)
def test_the_shortcut_reads_the_fields_that_sseclient_reads(arrivals: List[List[bytes]]) -> None:
    """The faster way yields the fields that sseclient-py yields by itself."""

    def read(enabled: bool) -> Any:
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(sse_fields, "ENABLED", enabled)
            got = []
            try:
                got.extend(vars(event) for event in sse_fields.fields_of(arrivals))
            except UnicodeDecodeError:
                got.append({"error": "no UTF-8"})
            return got

    assert read(True) == read(False)


BODIES = [
    b"data: a\n\ndata: b\n\n",
    b"data: a\r\n\r\ndata: b\r\n\r\n",
    b"data: a\r\rdata: b\r\r",
    b"data: a\r\n\ndata: b\n\r\ndata: c\r\r\ndata: d\n\rdata: e\r\n\r",
    b"\xef\xbb\xbfdata: a\n\ndata: b\n\n",
    b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n",
    b"\xef\xbb\xbf\r\ndata: a\r\n\r\n",
    b"\n\n\ndata: a\n\n\n\n\ndata: b\n\n",
    b": keep-alive\n\ndata: a\n: in the middle\ndata: b\n\n: \n\n",
    b"retry: 100\n\nretry: 5\nid: 7\n\ndata: a\n\n",
    b"data\n\ndata:\n\ndata: \n\ndata: a\n\n",
    b"data:\ndata:\n\ndata\ndata: b\ndata\n\n",
    b"data: a\ndata:b\ndata:  c\n\n",
    'data: {"a": "\u2028\u2029\u0085\x0b\x0c\x1c\x1d\x1e"}\n\n'.encode(),
    "data: ñ€😀\n\ndata: é\r\r".encode(),
    b"event: error\ndata: a\n\nevent: ping\ndata: b\n\nevent:\ndata: c\n\ndata: d\n\n",
    b"event: a\nevent: b\ndata: c\n\n",
    b"data: whole\n\ndata: without an end\n",
    b"data: whole\r\n\r\ndata: without an end\r\n",
    b"data: whole\n\ndata: without an end",
    b"other: x\ndata: a\ndatax: b\n\n",
    b" data: a\n\n data\n\n:\n\ndata : b\n\n",
    b"data: a: b :c\n\n",
    b"\r\n\r\ndata: a\r\n\r\n",
    b"\r\rdata: a\r\r",
    b"data: a\r\n\r\n\r\ndata: b\r\n\r\n",
    b"\xef\xbb",
    b"",
]


@pytest.mark.parametrize("body", BODIES)
def test_the_events_are_those_of_the_specification(body: bytes) -> None:
    """In one piece, in single bytes and in any two pieces, the events are the same."""
    try:
        expected = reference(body)
    except UnicodeDecodeError:
        expected = []  # The body is half a byte order mark.
    assert parsed([body]) == expected
    assert parsed(single_bytes(body)) == expected
    for at in range(len(body)):
        assert parsed(cut(body, [at])) == expected


PIECES = st.lists(
    st.sampled_from(
        [
            *(b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r", b"\r\n\r\n", b":", b" ", b"data", b"data:"),
            *(b"data: x", b"event: e", b"event", b"id: 1", b"retry: 1", b": c", b"[DONE]", b"{"),
            *(
                "\u2028".encode(),
                "\u0085".encode(),
                "é".encode(),
                b"\x0b",
                b"\x00",
                b"\xef\xbb\xbf",
            ),
        ]
    ),
    max_size=40,
)


@given(PIECES, st.lists(st.integers(0, 500), max_size=12))
@settings(max_examples=400)
@example([b"data: x", b"\r", b"\r", b"\n", b"data: x", b"\n\n"], [9, 8])
def test_any_lines_in_any_pieces(pieces: List[bytes], cuts: List[int]) -> None:
    """Whatever the lines and the cuts, the events are those of the reference."""
    body = b"".join(pieces)
    assert parsed(cut(body, cuts)) == reference(body)


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=6))
@settings(max_examples=200)
def test_any_bytes_are_events_or_our_error(body: bytes, cuts: List[int]) -> None:
    """Any bytes yield the events of the reference or an InvalidStreamError."""
    try:
        expected = reference(body)
    except UnicodeDecodeError:
        with contextlib.suppress(InvalidStreamError):  # Bad bytes outside events may be ignored.
            parsed(cut(body, cuts))
    else:
        assert parsed(cut(body, cuts)) == expected


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("line", [b"data: {\xff}", b": \xff", b"data: \xc3"])
def test_invalid_utf8_is_an_error(line: bytes, end: bytes) -> None:
    """Events before invalid UTF-8 are yielded, then InvalidStreamError is raised."""
    waiting = [line + end * 2, b"data: a" + end * 2]
    source = iter(EventSource(lambda: waiting.pop() if waiting else b""))
    assert next(source).data == "a"
    with pytest.raises(InvalidStreamError, match="UTF-8"):
        next(source)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name", ["", "event: error"])
def test_large_events_of_many_lines_mean_the_same_json(end: str, name: str) -> None:
    """JSON on many lines is the same JSON, whatever lines are between them."""
    value = {f"key{number}": [number, "é\u2028"] for number in range(400)}
    lines = json.dumps(value, ensure_ascii=False, indent=1).split("\n")
    mixed = [": aside", "id: 3", "data", *(f"data:{line}" for line in lines), name, "dat: x"]
    body = (end.join(line for line in mixed if line) + end * 2).encode()
    ((named, data),) = parsed(cut(body, range(0, len(body), 999)))
    assert named == ("error" if name else "message")
    assert json.loads(data) == value
    assert data.split("\t") == ["", *(line.removeprefix(" ") for line in lines)]


@pytest.mark.parametrize("size", [3000, 9000])
def test_many_comments_are_no_event(size: int) -> None:
    """Lines without data are no event, however many there are."""
    assert parsed([b": x\n" * size + b"\n" + b"data: a\n\n"]) == [("message", "a")]


def work(task: Callable[[], Any]) -> int:
    """The number of calls of functions, C and Python, in a task."""
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        task()
    finally:
        sys.setprofile(None)
    return calls


class Counting(bytearray):
    """A bytearray that counts the bytes it searches and copies."""

    touched = 0

    def find(self, sub: Any, start: Any = 0, *rest: Any) -> int:
        Counting.touched += len(self) - start
        return super().find(sub, start, *rest)

    def __getitem__(self, key: Any) -> Any:
        got = super().__getitem__(key)
        if isinstance(key, slice):
            Counting.touched += len(got)
        return got


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_the_time_a_large_event_takes_is_linear(end: bytes) -> None:
    """Each byte of a large event is searched a constant number of times."""

    def touched(size: int) -> int:
        splitter = EventSplitter()
        splitter.feed(b"data: " + end[:0])
        splitter._incomplete = Counting(splitter._incomplete)
        Counting.touched = 0
        # A line end in each read makes the splitter search for the end of the event.
        piece = b"x" * (1024 - len(end)) + end
        for _ in range(size >> 10):
            assert splitter.feed(piece) == []
            assert isinstance(splitter._incomplete, Counting)
        return Counting.touched

    small, large = touched(1 << 18), touched(1 << 22)
    assert large < 20 * small
    assert large < 3 << 22


def test_a_large_event_in_small_reads_takes_few_calls() -> None:
    """A large event in small reads takes a number of calls in line with the reads."""
    data = json.dumps({"text": "x" * (4 << 20)}).encode()
    body = b"data: " + data + b"\n\n"
    pieces = cut(body, range(0, len(body), 1024))
    calls = work(lambda: parsed(pieces))
    assert calls < 20 * len(pieces)
    assert parsed(pieces) == [("message", data.decode())]


def test_an_event_of_a_hundred_thousand_lines_takes_few_calls() -> None:
    """An event of many lines takes few calls: sseclient-py never splits them."""
    lines = 100_000
    body = b"data: [\n" + b"data: 1,\n" * lines + b"data: 2]\n\n"
    events: List[Event] = []
    assert work(lambda: events.extend(parsed(cut(body, range(0, len(body), 4096))))) < 5 * lines
    ((_, data),) = events
    assert json.loads(data) == [1] * lines + [2]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r"])
def test_an_event_beyond_the_limit_is_an_error(end: bytes) -> None:
    """An event larger than the limit is an error."""
    events = [b"data: a\n\n", b"data: " + b"x" * 50 + end, *[b"data: " + b"x" * 50 + end] * 2]
    waiting = iter(events)
    source = iter(EventSource(lambda: next(waiting, b""), largest=110))
    assert next(source).data == "a"
    with pytest.raises(InvalidStreamError, match="larger than 110 bytes"):
        next(source)


def test_a_line_feed_that_arrives_late_belongs_to_its_line_end() -> None:
    """A CR LF that is cut in two is one line end, so the next event begins behind it."""
    splitter = EventSplitter()
    assert splitter.feed(b"data: a\r\n\r") == [b"data: a"]
    assert splitter.feed(b"\n: b\r\n\r\ndata: c\r\r") == [b": b", b"data: c"]
    assert splitter.feed(b"data: d\n\n") == [b"data: d"]
    assert splitter.rest == b""


def test_many_events_together_are_not_one_large_event() -> None:
    """The limit applies to one event, not to one read."""
    assert len(parsed([b"data: a\n\n" * 1000], largest=110)) == 1000


def test_the_time_of_arrival_is_that_of_the_bytes() -> None:
    """Events that arrive in one read have the same time of arrival."""
    waiting = iter([b"data: a\n\ndata: b\n\n", b"data: c\n\n"])
    source = EventSource(lambda: next(waiting, b""))
    assert source.arrived == 0.0
    first, second, third = [source.arrived for _ in source]
    assert 0.0 < first == second < third


def test_the_time_of_arrival_is_taken_before_the_bytes_are_split() -> None:
    """Bytes that are refused have arrived as well."""
    source = EventSource(lambda: b"x" * 200, largest=100)
    with pytest.raises(InvalidStreamError):
        next(iter(source))
    assert source.arrived > 0.0


def test_another_sseclient_is_an_import_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """If `sseclient` is not sseclient-py, the import error names what to uninstall."""
    monkeypatch.setattr(sseclient, "SSEClient", object)
    spec = importlib.util.spec_from_file_location("vllm_client._fields_again", sse_fields.__file__)
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(ImportError, match="pip uninstall sseclient"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
