"""Bytes of a body → SSE events, each as soon as it is complete.

The format is that of https://html.spec.whatwg.org/multipage/server-sent-events.html. sseclient-py
reads the fields of an event. Where an event ends is found here, because sseclient-py makes mistakes
beyond a single complete event: it loses the first event after a byte order mark, takes quadratic
time for events in many pieces, and returns an unterminated tail as if it were an event.
"""

from __future__ import annotations

import re
from time import perf_counter
from typing import Callable, Iterator, List, Optional

import sseclient

from ..exceptions import APITimeoutError, InvalidStreamError
from .sse_fields import fields_of

LARGEST_EVENT = 64 << 20
"""Bytes; more without the end of an event is no completion, and would fill the memory."""

_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\r|\n")
# Two line ends in a row. A CR LF is one of them, also where its CR alone would match.
# https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n?|\n)")
_LONG_EVENT = 4096
_KEEP_ALIVES = (b":", b"event: ping", b"event:ping")
_DATA_AFTER_COMMENT = re.compile(rb"\A:.*[\r\n]data", re.DOTALL)
DONE = "[done]"
PINGS = frozenset({"", "ping", "pong", "heartbeat", "keepalive", "keep-alive", "keep_alive"})
"""What gateways name, or write into, an event that says nothing; in lower case."""
_LONGEST_WORD = 32
_LF, _CR = b"\n\r"  # ints: `int in bytes` is faster than `bytes in bytes`.


def _is_keep_alive(event: bytes) -> bool:
    says_nothing = not event.strip(b"\r\n") or event.startswith(_KEEP_ALIVES)
    return says_nothing and not _DATA_AFTER_COMMENT.match(event)


def word_in(data: str) -> str:
    """Data that is one word, such as ``DONE``: in lower case, without quotes and spaces around it.

    Longer data is returned unchanged.
    """
    return data.strip('" \t\n').lower() if len(data) <= _LONGEST_WORD else data


class EventSplitter:
    """Cuts a body into complete events, in time linear in its size however it is cut up.

    Lines may end in LF, CR or CR LF, also mixed and split between reads. Events are returned
    without the blank lines that end them.
    """

    def __init__(self, largest: int = LARGEST_EVENT) -> None:
        self._largest = largest
        # The beginning of an event whose end has not arrived.
        self._incomplete = bytearray()
        # Bytes of _incomplete that hold no end of an event, so the next search starts there.
        self._searched = 0
        # The first three bytes have arrived, and a byte order mark among them was removed.
        self._past_bom = False
        # A CR is in _incomplete, so the general search is needed.
        self._has_cr = False
        # The last event ended in a CR; an LF that follows belongs to it.
        self._after_cr = False
        # The last arrival ended exactly with an event, which allows the fast path.
        self._at_event_start = False

    def feed(self, data: bytes) -> List[bytes]:
        """The events that are complete now.

        Raises:
            InvalidStreamError: An event is larger than any completion.
        """
        if self._at_event_start and len(data) < _LONG_EVENT:
            # Hot path, measured, see docs/performance.md: exactly one single-line event, as sent
            # during generation. _split() does the same for any arrival.
            event = data.removesuffix(b"\n\n")
            if len(event) == len(data) - 2 and _LF not in event and _CR not in event:
                return [event]
        events = self._split(data)
        if len(self._incomplete) > self._largest:
            raise InvalidStreamError(
                f"an event of the stream is larger than {self._largest} bytes and has no end"
            )
        if events and max(map(len, events)) >= _LONG_EVENT:
            return [each if len(each) < _LONG_EVENT else _joined_lines(each) for each in events]
        return events

    @property
    def rest(self) -> bytes:
        """The bytes after the last complete event."""
        return bytes(self._incomplete)

    @property
    def holds_no_data(self) -> bool:
        """Whether the bytes after the last complete event are comments or line ends alone."""
        rest = bytes(self._incomplete[:_LONG_EVENT]).strip(b"\r\n")
        return not rest or (rest[:1] == b":" and _is_keep_alive(rest))

    def _split(self, data: bytes) -> List[bytes]:
        if not self._past_bom:
            data = self._without_bom(data)
        if self._after_cr and data:
            # The CR that ended the last event may be the first half of a CR LF.
            self._after_cr = False
            data = data[1:] if data[:1] == b"\n" else data
        self._has_cr = self._has_cr or _CR in data
        events = self._split_at_any(data) if self._has_cr else self._split_at_lf(data)
        self._at_event_start = self._past_bom and not (self._incomplete or self._after_cr)
        return events

    def _split_at_lf(self, data: bytes) -> List[bytes]:
        # What a vLLM server sends: LF only, and mostly complete events.
        if self._incomplete:
            self._incomplete += data
            if self._incomplete.find(b"\n\n", self._searched) < 0:
                self._searched = len(self._incomplete) - 1
                return []
            data = bytes(self._incomplete)
        events = data.split(b"\n\n")
        rest = events.pop()
        if rest or self._incomplete:
            self._incomplete = bytearray(rest)
        self._searched = max(len(rest) - 1, 0)
        return events

    def _split_at_any(self, data: bytes) -> List[bytes]:
        buffer = self._incomplete
        buffer += data
        events, start = [], 0
        for blank in _BLANK_LINE.finditer(bytes(buffer[self._searched :])):
            end = self._searched + blank.start()
            events.append(bytes(buffer[start:end]))
            start = self._searched + blank.end()
        self._after_cr = start == len(buffer) > 0 and buffer.endswith(b"\r")
        del buffer[:start]
        self._has_cr = bool(buffer)
        # The first line end of a blank line, at most two bytes, may have arrived already.
        self._searched = max(len(buffer) - 2, 0)
        return events

    def _without_bom(self, data: bytes) -> bytes:
        head = bytes(self._incomplete) + data
        if len(head) < len(_BOM) and _BOM.startswith(head):
            self._incomplete = bytearray(head)  # The mark may arrive in pieces.
            return b""
        self._past_bom = True
        self._incomplete.clear()
        return head.removeprefix(_BOM)


class EventSource:
    """The SSE events of a body, as sseclient events. Some may have no data.

    Args:
        read1: Returns the bytes that have arrived.
        silence: Seconds without an event that has data, once there was one; None for no limit.
            Before that, keep-alive comments show that a request waits in the queue. Afterwards
            they show only that a gateway is alive, perhaps in front of a dead engine.
        largest: Bytes of an event.

    Attributes:
        arrived: When the bytes that ended the latest event were read, by ``perf_counter``.
        last_event: The bytes of the latest complete event, whatever its fields.
    """

    def __init__(
        self,
        read1: Callable[[], bytes],
        silence: Optional[float] = None,
        largest: int = LARGEST_EVENT,
    ) -> None:
        self.arrived = 0.0
        self._silence = silence
        self._last_data = 0.0
        self.last_event = b""
        self._read1 = read1
        self._splitter = EventSplitter(largest)

    def __iter__(self) -> Iterator[sseclient.Event]:
        """Raises InvalidStreamError if the body is not UTF-8, and whatever ``read1`` raises."""
        try:
            yield from fields_of(self._arrivals())
        except UnicodeDecodeError as error:
            raise InvalidStreamError(f"the stream is not UTF-8: {error}") from error

    def _is_silent(self) -> bool:
        limit, last = self._silence, self._last_data
        return limit is not None and last > 0 and self.arrived - last > limit

    def _silent(self) -> APITimeoutError:
        return APITimeoutError(
            f"no event arrived for {self._silence} s, only keep-alive comments; "
            "Timeout(read=…) allows a longer wait"
        )

    def unparsed_end(self) -> str:
        """What a body ends with that may be no SSE event.

        The bytes after the last complete event, or else that event: a gateway may end its body
        without a blank line, or with a JSON document that has no ``data:`` before it.
        """
        return (self._splitter.rest or self.last_event).decode("utf-8", "replace").strip()

    def _arrivals(self) -> Iterator[List[bytes]]:
        while True:
            data = self._read1()
            if not data:
                return  # An event without its end is discarded, as the standard requires.
            self.arrived = perf_counter()
            events = self._splitter.feed(data)
            if events:
                self.last_event = last = events[-1]
                # Nearly every event fails the first tests, which cost no call of ours.
                is_odd = not last or last.startswith(_KEEP_ALIVES)
                if is_odd and all(map(_is_keep_alive, events)):
                    if self._is_silent():
                        raise self._silent()
                else:
                    self._last_data = self.arrived
                yield events
            elif self._last_data and self._is_silent() and self._splitter.holds_no_data:
                raise self._silent()  # Comments may come without blank lines.


def _joined_lines(event: bytes) -> bytes:
    # sseclient-py takes quadratic time for an event of many lines, whose data are to be joined
    # with line ends. Join them with tabs here: to JSON, a tab means the same as a line end. It is
    # white space between tokens and an error inside a string.
    lines = _LINE_END.split(event)
    data = [line[5:] for line in lines if line[:5] == b"data:" or line == b"data"]
    if len(data) < 2 and len(lines) < 8:
        return event
    named = [line for line in lines if line[:6] == b"event:"][-1:]
    joined = b"\t".join(part[1:] if part[:1] == b" " else part for part in data)
    return b"\n".join([*named, b"data: " + joined]) if data else b":"
