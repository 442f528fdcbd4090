"""Bytes of a body → the data of each server-sent event, as soon as the event is whole.

The format is that of https://html.spec.whatwg.org/multipage/server-sent-events.html. sseclient-py
reads the fields of an event; where an event ends is found here, because what is beyond one whole
event sseclient-py gets wrong: it loses the first event after a byte order mark, takes quadratic
time for events in many pieces, and hands on an unterminated tail as if it were an event.
"""

from __future__ import annotations

import re
from time import perf_counter
from typing import Any, Callable, Iterator, List

from ..exceptions import InvalidStreamError
from .sse_fields import fields_of

LARGEST_EVENT = 64 << 20
"""Bytes; more without an end is not an answer, and would fill the memory."""

_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\r|\n")
# Two line ends in a row. A CR LF is one of them, also where its CR alone would match.
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n?|\n)")
_LONG_EVENT = 4096
_LF, _CR = b"\n\r"  # As numbers, which a search finds without a detour.


class EventSplitter:
    """Cuts a body into whole events, in time linear in its size however it is cut up.

    Lines may end in LF, CR or CR LF, also mixed and split between reads. Events are given without
    the blank lines that end them.
    """

    def __init__(self, largest: int = LARGEST_EVENT) -> None:
        self._largest = largest
        self._tail = bytearray()
        self._looked = 0
        self._begun = False
        self._has_cr = False
        self._after_cr = False
        self._between = False  # Events, with no byte of the next.

    def feed(self, data: bytes) -> List[bytes]:
        """The events that are whole now.

        Raises:
            InvalidStreamError: An event is larger than any answer.
        """
        if self._between and len(data) < _LONG_EVENT:
            # One event of one line alone: how they come while a model is at work.
            event = data.removesuffix(b"\n\n")
            if len(event) == len(data) - 2 and _LF not in event and _CR not in event:
                return [event]
        events = self._cut(data)
        if len(self._tail) > self._largest:
            raise InvalidStreamError(
                f"an event of the stream is larger than {self._largest} bytes and has no end"
            )
        if events and max(map(len, events)) >= _LONG_EVENT:
            return [each if len(each) < _LONG_EVENT else _few_lines(each) for each in events]
        return events

    def _cut(self, data: bytes) -> List[bytes]:
        if not self._begun:
            data = self._without_bom(data)
        if self._after_cr and data:
            # The CR that ended the last event may be the first half of a CR LF.
            self._after_cr = False
            data = data[1:] if data[:1] == b"\n" else data
        self._has_cr = self._has_cr or _CR in data
        events = self._by_any(data) if self._has_cr else self._by_lf(data)
        self._between = self._begun and not (self._tail or self._after_cr)
        return events

    def _by_lf(self, data: bytes) -> List[bytes]:
        # What a vLLM server sends: LF only, and mostly whole events.
        if self._tail:
            self._tail += data
            if self._tail.find(b"\n\n", self._looked) < 0:
                self._looked = len(self._tail) - 1
                return []
            data = bytes(self._tail)
        events = data.split(b"\n\n")
        tail = events.pop()
        if tail or self._tail:
            self._tail = bytearray(tail)
        self._looked = max(len(tail) - 1, 0)
        return events

    def _by_any(self, data: bytes) -> List[bytes]:
        tail = self._tail
        tail += data
        events, start = [], 0
        for blank in _BLANK_LINE.finditer(bytes(tail[self._looked :])):
            end = self._looked + blank.start()
            events.append(bytes(tail[start:end]))
            start = self._looked + blank.end()
        self._after_cr = start == len(tail) > 0 and tail.endswith(b"\r")
        del tail[:start]
        self._has_cr = bool(tail)
        # The first line end of a blank line, two bytes at the most, may be here already.
        self._looked = max(len(tail) - 2, 0)
        return events

    def _without_bom(self, data: bytes) -> bytes:
        head = bytes(self._tail) + data
        if len(head) < len(_BOM) and _BOM.startswith(head):
            self._tail = bytearray(head)  # It may come in pieces.
            return b""
        self._begun = True
        self._tail.clear()
        return head.removeprefix(_BOM)


class EventSource:
    """The events of a body: iterates over sseclient events, of which some may have no data.

    ``arrived`` is when the bytes that ended the latest event were read, by ``perf_counter``.
    """

    def __init__(self, read1: Callable[[], bytes], largest: int = LARGEST_EVENT) -> None:
        self.arrived = 0.0
        self._read1 = read1
        self._splitter = EventSplitter(largest)

    def __iter__(self) -> Iterator[Any]:
        """Raises InvalidStreamError for what is not UTF-8, and whatever ``read1`` raises."""
        try:
            yield from fields_of(self._arrivals())
        except UnicodeDecodeError as error:
            raise InvalidStreamError(f"the stream is not UTF-8: {error}") from error

    def _arrivals(self) -> Iterator[List[bytes]]:
        while True:
            data = self._read1()
            if not data:
                return  # What is left has no end, so it is no event.
            self.arrived = perf_counter()
            events = self._splitter.feed(data)
            if events:
                yield events


def _few_lines(event: bytes) -> bytes:
    # sseclient-py takes quadratic time for an event of many lines. Their data belongs together
    # with line ends; a tab means the same to JSON: a space between tokens, an error in a string.
    lines = _LINE_END.split(event)
    data = [line[5:] for line in lines if line[:5] == b"data:" or line == b"data"]
    if len(data) < 2 and len(lines) < 8:
        return event
    named = [line for line in lines if line[:6] == b"event:"][-1:]
    joined = b"\t".join(part[1:] if part[:1] == b" " else part for part in data)
    return b"\n".join([*named, b"data: " + joined]) if data else b":"
