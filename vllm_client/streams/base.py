"""What all streams have in common: one reader, one end, and what happens when it is dropped."""

from __future__ import annotations

import contextlib
import re
import warnings
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    ClassVar,
    Generic,
    Iterator,
    Literal,
    NoReturn,
    Optional,
    Protocol,
    Type,
    TypeVar,
    cast,
)

import requests

from .._decoding.answers import aborted_error
from .._decoding.sse import EventSource
from .._error_bodies import decoded_or_text, error_in_success, message_in
from .._habits import STREAM_HABITS, habits
from .._http.response import OpenResponse
from .._shown import Brief, Items, figure, shown
from .._tracebacks import shorten_interrupt
from ..events import Error
from ..exceptions import (
    InvalidStreamError,
    StreamConsumedError,
    StreamInterruptedError,
    VllmError,
)
from ..timings import Timings
from ..types._answer import Answer
from ..types._parsed import parse_choices
from ..types.shared import Usage

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["OnError", "Stream", "StreamDecoder", "check_event_stream"]

E = TypeVar("E")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
OnError = Literal["raise", "event"]

_LARGEST_DOCUMENT = 65536
"""Bytes; a longer document that was sent instead of a stream is cut."""


class StreamDecoder(Protocol[R_co]):
    """What a stream needs to know of the decoder that its ``_body`` uses.

    Attributes:
        aborted: Whether the server gave up the generation.
        complete: Whether the stream has ended as it should. Written by ``_body``.
    """

    aborted: bool
    complete: bool

    @property
    def usage(self) -> Optional[Usage]:
        """The latest token counts that arrived."""
        raise NotImplementedError

    def snapshot(self) -> R_co:
        """What has arrived, in the shape of a response that is not streamed."""
        raise NotImplementedError


ReadBody = Callable[[EventSource, OpenResponse, Any, Timings], Iterator[Any]]


@habits(**STREAM_HABITS)
@shown
class Stream(Generic[E, R]):
    """A streamed response: iterate over it once, inside ``with``.

    It ends without an error only if the response is complete: every choice that was asked for has
    its finish reason, the server sent ``[DONE]``, and it sent no error frame. An error that is
    raised while the stream is read carries in ``partial`` what arrived before.

    Leaving the ``with`` block, whether by ``break``, an exception or Ctrl-C, closes the
    connection, and the server stops generating. A stream that is read to its end releases its
    connection for the next request.

    Attributes:
        response: The ``requests.Response``. The stream reads its body.
        timings: When the chunks arrived.

    Raises, while it is read:
        ServerStreamError: The server reported an error inside the stream.
        StreamInterruptedError: The stream ended before the response was complete.
        InvalidStreamError: The response is not a stream of chunks.
        GenerationAbortedError: The server aborted the generation.
        APITimeoutError: The server was silent for too long, or the call exceeded its total timeout.
        StreamConsumedError: The stream was closed, perhaps by another thread.
    """

    _text_event: ClassVar[str]
    """The ``type`` of the events whose text is part of the response."""

    def __init__(
        self,
        opened: OpenResponse,
        decoder: StreamDecoder[R],
        timings: Timings,
        on_error: OnError,
        answer_type: Optional[type] = None,
    ) -> None:
        self.response: requests.Response = opened.response
        self.timings = timings
        self._opened = opened
        self._decoder = decoder
        self._events = _events(opened, decoder, timings, type(self)._body)
        self._on_error = on_error
        self._answer_type = answer_type
        self._failure: Optional[VllmError] = None
        self._closed = False

    @staticmethod
    def _body(
        source: EventSource, opened: OpenResponse, decoder: Any, timings: Timings
    ) -> Iterator[Any]:
        """The events of a body. Raises VllmError unless it is complete."""
        raise NotImplementedError

    @property
    def request_id(self) -> Optional[str]:
        """The ``x-request-id`` of the response, if the server sends one."""
        return self._opened.request_id

    @property
    def snapshot(self) -> R:
        """What has arrived so far, in the shape of a complete response."""
        snapshot = self._decoder.snapshot()
        if isinstance(snapshot, Answer):
            snapshot._set_timings(self.timings)
        return snapshot

    def _shown_items(self) -> Items:
        yield "", Brief(self._state)
        timings = self.timings
        yield "", Brief(f"{timings.chunks} chunk{'' if timings.chunks == 1 else 's'}")
        if timings.ttft is not None:
            yield "", Brief(f"ttft {figure(timings.ttft, 2)} s")
        if timings.ended is not None:
            yield "", Brief(f"{figure(timings.duration, 2)} s")
        if timings.ended is not None and timings.output_tokens_per_second is not None:
            yield "", Brief(f"{figure(timings.output_tokens_per_second)} tokens/s")

    @property
    def _state(self) -> str:
        if self._decoder.complete:
            return "complete"
        if self._failure is not None:
            return type(self._failure).__name__
        return "open" if self._opened.is_open and not self._is_cancelled else "closed"

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> E:
        if self._on_error == "raise":
            return self._advance()
        if self._failure is not None:
            raise StopIteration
        try:
            return self._advance()
        except VllmError as error:
            self._failure = error  # Yielded once; the next call raises StopIteration.
            return cast("E", Error(error))  # A member of both unions of events.

    def _advance(self) -> E:
        if self._closed:
            raise self._failure or self._consumed()
        try:
            event: E = next(self._events)
        except StopIteration:
            # A failure or Ctrl-C ends the generator as the end of the response does.
            if self._decoder.complete:
                raise
            failure = self._failure or self._consumed()
            raise failure from failure.__cause__
        except VllmError as error:
            self._failure = error
            raise
        except KeyboardInterrupt as interrupt:
            shorten_interrupt(interrupt)
            raise
        except ValueError:
            # All that a generator raises when two threads run it.
            raise StreamConsumedError(
                "another thread reads this stream: iterate over it in one thread",
                partial=self.snapshot,
            ) from None
        return event

    @property
    def _at_end(self) -> bool:
        return self._decoder.complete or self._failure is not None

    @property
    def _is_cancelled(self) -> bool:
        return self._opened.call.reason is not None

    def _consumed(self) -> StreamConsumedError:
        return StreamConsumedError(
            "the stream is closed; stream.snapshot holds what arrived before",
            partial=self.snapshot,
        )

    def collect(self) -> R:
        """Read to the end; returns what ``create()`` would have returned.

        Raises:
            VllmError: The response is not complete: this reading or an earlier one failed.
            InvalidAnswerError: The response is complete, but its text does not fit the class that
                ``response_format`` named.
        """
        self._read_to_end()
        whole = self.snapshot
        if self._answer_type is not None:
            parse_choices(whole, self._answer_type)
        return whole

    def _read_to_end(self) -> None:
        while not self._decoder.complete:
            with contextlib.suppress(StopIteration):  # Raised only once it is complete.
                self._advance()

    def text_deltas(self, index: int = 0) -> Iterator[str]:
        """Only the texts of choice ``index``; in chat those of the content, not of the reasoning.

        Raises:
            VllmError: As when the stream is read itself, also with ``on_error="event"``.
        """
        while True:
            try:
                event: Any = self._advance()
            except StopIteration:
                return
            text = self._text_of(event, index)
            if text:
                yield text

    def _text_of(self, event: Any, index: int) -> str:
        """The text of an event, if it is part of the text of this choice; else an empty one."""
        is_text = event.type == self._text_event and event.index == index
        text: str = event.text if is_text else ""
        return text

    def collect_text(self) -> str:
        """Read to the end; returns the whole text of choice 0, whatever its form.

        Raises:
            VllmError: The response is not complete: this reading or an earlier one failed.
        """
        self._read_to_end()
        whole: Any = self.snapshot  # Every response with text has .text.
        text: str = whole.text
        return text

    def close(self) -> None:
        """Close the connection, and the server stops generating. May be called again.

        Any thread may call it: a read that is blocked in another thread ends at once.
        """
        self._closed = True
        self._opened.call.cancel()
        self.timings.end(self._decoder.usage)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()

    def __reduce_ex__(self, _: object) -> NoReturn:
        # The response of requests would read its whole body to be copied.
        raise TypeError(
            f"a {type(self).__name__} cannot be copied or pickled, but its snapshot can"
        )

    def __del__(self) -> None:
        opened: Optional[OpenResponse] = getattr(self, "_opened", None)
        if opened is not None and opened.is_open:
            self.close()  # First: a filter may turn the warning into an error.
            opened.close()  # close() reaches it through a weak reference, which may be dead.
            warnings.warn(
                f"{type(self).__name__} was dropped before its end: use `with`, or close() it",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )


# A function, not a method, and without the stream among its variables: a reference cycle would
# keep a dropped stream, and so its generation, alive until the next garbage collection.
def _events(
    opened: OpenResponse, decoder: StreamDecoder[Any], timings: Timings, read_body: ReadBody
) -> Iterator[Any]:
    source = EventSource(opened.read1, opened.timeout.read)
    try:
        with opened.redacting():
            try:
                yield from read_body(source, opened, decoder, timings)
            except VllmError as error:
                raise _with_partial(error, decoder) from error.__cause__
    finally:
        timings.end(decoder.usage)
        opened.close()


def _with_partial(error: VllmError, decoder: StreamDecoder[Any]) -> VllmError:
    if decoder.aborted and isinstance(error, StreamInterruptedError):
        # A server that shuts down may close the connection before it sends [DONE].
        error = aborted_error(None)
    error.partial = decoder.snapshot()
    return error


def check_event_stream(opened: OpenResponse) -> None:
    """Refuse a response that cannot be a stream.

    Raises:
        InvalidStreamError: It is a document.
    """
    content_type = opened.response.headers.get("content-type", "").lower()
    if "json" in content_type or "html" in content_type:
        with opened.redacting():
            _check_beginning(opened, content_type)


# What the first line of an event stream begins with, after a byte order mark and line ends.
_SSE_BEGINNINGS = (b"data:", b"event:", b"id:", b"retry:", b":")
_BOM = re.compile(rb"\A(?:\xef(?:\xbb\xbf?)?)?[\r\n]*")


def _check_beginning(opened: OpenResponse, content_type: str) -> None:
    # Some gateways label a stream as JSON, so the first bytes decide. They may arrive one by one.
    document = b""
    for data in iter(opened.read1, b""):
        document += data
        beginning = _BOM.sub(b"", document)
        if beginning.startswith(_SSE_BEGINNINGS):
            opened.unread(document)
            return
        if not any(each.startswith(beginning) for each in _SSE_BEGINNINGS):
            break
    with contextlib.suppress(VllmError):  # What arrived before the connection broke will do.
        while len(document) < _LARGEST_DOCUMENT:
            data = opened.read1()
            if not data:
                break
            document += data
    opened.close()
    text = document.decode("utf-8", "replace")
    reported = error_in_success(document, opened.response.headers)
    if reported is not None:
        raise reported
    message = message_in(decoded_or_text(text)) or f"it begins {text[:200]!r}"
    raise InvalidStreamError(
        f"the server answered with {content_type}, not with a stream: {message}"
    )
