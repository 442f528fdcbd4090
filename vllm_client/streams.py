"""The streams that a program reads: iterators of events with an end that can be trusted."""

from __future__ import annotations

import warnings
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    Iterator,
    Literal,
    Optional,
    Tuple,
    Type,
    TypeVar,
    Union,
    cast,
)

import requests

from ._decoding.chunks import Decoder, aborted_error
from ._decoding.sse import EventSource
from ._error_bodies import decoded_or_text, frame_error, message_in
from ._http.redaction import hide
from ._http.response import Exchange
from .events import CompletionStreamEvent, Done, Error, StreamEvent
from .exceptions import (
    InvalidStreamError,
    StreamConsumedError,
    StreamInterruptedError,
    VllmError,
)
from .timings import Timings
from .types.completion import Completion

if TYPE_CHECKING:
    from typing_extensions import Self

    from .types.chat import ChatCompletion

E = TypeVar("E")
R = TypeVar("R", bound="Union[Completion, ChatCompletion]")
OnError = Literal["raise", "event"]

LARGEST_DOCUMENT = 65536


class Stream(Generic[E, R]):
    """A streamed answer: iterate over it once, inside ``with``.

    It ends without an error only if the answer is whole: every choice that was asked for has its
    finish reason, ``[DONE]`` came, and no error frame did. Whatever is raised while it is read
    carries in ``partial`` what had arrived.

    Leaving ``with``, by ``break``, an exception or Ctrl-C too, closes the connection, upon which
    the server stops generating. Read to its end, a stream gives its connection back for the next
    request.

    Attributes:
        response: The ``requests.Response``; its body is read by the stream.
        timings: When the pieces arrived.

    Raises, while it is read:
        ServerStreamError: The server reported an error inside the stream.
        StreamInterruptedError: The stream ended before the answer was whole.
        InvalidStreamError: What came is not a stream of completion chunks.
        GenerationAbortedError: The server gave up the generation.
        APITimeoutError: It was silent for too long, or the call took too long altogether.
        StreamConsumedError: It was closed, perhaps by another thread.
    """

    shown: ClassVar[str]
    """The tag of the events whose text is the answer's."""

    def __init__(
        self, exchange: Exchange, decoder: Decoder[E, R], timings: Timings, on_error: OnError
    ) -> None:
        self.response: requests.Response = exchange.response
        self.timings = timings
        self._exchange = exchange
        self._decoder = decoder
        self._events = _events(exchange, decoder, timings)
        self._on_error = on_error
        self._failure: Optional[VllmError] = None
        self._closed = False

    @property
    def request_id(self) -> Optional[str]:
        """The ``x-request-id`` of the answer, if the server sends one."""
        return self._exchange.request_id

    @property
    def snapshot(self) -> R:
        """What has arrived so far, in the shape of the whole answer."""
        return self._decoder.snapshot()

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
            self._failure = error  # Given once: the next step is the end.
            return cast("E", Error(error))  # A member of every union.

    def _advance(self) -> E:
        if self._closed:
            raise self._failure or self._consumed()
        try:
            event: E = next(self._events)
        except StopIteration:
            # A failure or Ctrl-C ends the generator as the end of the answer does.
            if self._exchange.whole:
                raise
            failure = self._failure or self._consumed()
            raise failure from failure.__cause__
        except VllmError as error:
            self._failure = error
            raise
        return event

    def _consumed(self) -> StreamConsumedError:
        return StreamConsumedError(
            "the stream was closed; what had arrived is in stream.snapshot", partial=self.snapshot
        )

    def collect(self) -> R:
        """Read to the end; the answer that ``create()`` would have given.

        Raises:
            VllmError: The answer did not become whole, in this reading or one before.
        """
        while not self._exchange.whole:
            self._advance()
        return self.snapshot

    def text_deltas(self, index: int = 0) -> Iterator[str]:
        """Only the pieces of text of one choice; in chat those of the answer, not the thinking.

        Raises:
            VllmError: As when the stream is read itself, also with ``on_error="event"``.
        """
        while True:
            try:
                event: Any = self._advance()
            except StopIteration:
                return
            if event.type == self.shown and event.index == index and event.text:
                yield event.text

    def collect_text(self) -> str:
        """Read to the end; the whole text of choice 0. Raises as :meth:`collect` does."""
        return self.collect().text

    def close(self) -> None:
        """Close the connection, upon which the server stops generating. May be repeated.

        Safe from another thread: a read that is blocked there ends at once.
        """
        self._closed = True
        self._exchange.call.stop()
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

    def __del__(self) -> None:
        exchange: Optional[Exchange] = getattr(self, "_exchange", None)
        if exchange is not None and exchange.is_open:
            self.close()  # First: warnings may be errors.
            warnings.warn(
                f"{type(self).__name__} was dropped before its end: use `with`, or close() it",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )


class CompletionStream(Stream[CompletionStreamEvent, Completion]):
    """The stream of ``client.completions.stream``: an iterator of ``CompletionStreamEvent``."""

    shown = "text"


class ChatCompletionStream(Stream[StreamEvent, "ChatCompletion"]):
    """The stream of ``client.chat.completions.stream``: an iterator of ``StreamEvent``."""

    shown = "content"


# Not a method, and without the stream among its variables: a cycle would keep a stream that was
# dropped, and so its generation, alive until the next garbage collection.
def _events(exchange: Exchange, decoder: Decoder[Any, Any], timings: Timings) -> Iterator[Any]:
    source = EventSource(exchange.read1)
    again, stamp = decoder.again, timings.stamps.append
    try:
        for message in source:
            data = message.data
            if not data or (message.event != "message" and _is_aside(message.event, data)):
                continue
            event = again(data)
            if event is not None:
                stamp(source.arrived)
                yield event
                continue
            if data == "[DONE]":
                timings.end(decoder.usage, source.arrived)
                break
            events = decoder.decode(data)
            if decoder.counts:
                stamp(source.arrived)
            yield from events
        else:
            raise StreamInterruptedError("the stream ended without [DONE]: the answer is cut off")
        yield from _ending(exchange, decoder)
    except VllmError as error:
        raise _with_partial(error, decoder, exchange.secrets) from error.__cause__
    finally:
        timings.end(decoder.usage)
        exchange.close()


def _ending(exchange: Exchange, decoder: Decoder[Any, Any]) -> Iterator[Any]:
    missing = decoder.unfinished()
    if missing:
        raise StreamInterruptedError(
            f"[DONE] came without a finish reason of choice {', '.join(map(str, missing))}: "
            "the answer is cut off"
        )
    exchange.drain()
    if decoder.usage is not None:
        yield decoder.usage
    if decoder.aborted:
        raise aborted_error(None)
    exchange.whole = True
    yield Done()


def _is_aside(name: str, data: str) -> bool:
    # vLLM names no events; gateways before it name their errors and their pings.
    if name == "error":
        raise frame_error(decoded_or_text(data))
    return name == "ping"


def _with_partial(
    error: VllmError, decoder: Decoder[Any, Any], secrets: Tuple[str, ...]
) -> VllmError:
    if decoder.aborted and isinstance(error, StreamInterruptedError):
        # A server that shuts down may not get as far as [DONE].
        error = aborted_error(None)
    error.partial = decoder.snapshot()
    hide(error, secrets)
    return error


def check_event_stream(exchange: Exchange) -> None:
    """Refuse an answer that cannot be a stream.

    Raises:
        InvalidStreamError: Its content type is that of a document.
    """
    kind = exchange.response.headers.get("content-type", "").lower()
    if "json" in kind or "html" in kind:
        text = exchange.beginning(LARGEST_DOCUMENT)
        exchange.close()
        said = message_in(decoded_or_text(text)) or f"it begins {text[:200]!r}"
        error = InvalidStreamError(f"the server answered with {kind}, not with a stream: {said}")
        hide(error, exchange.secrets)
        raise error
