"""Records the requests that the server receives, and lets tests wait for them without sleeping."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Callable, overload

from ._wire.json_types import Json

__all__ = ["Headers", "RecordedRequest", "Recorder", "RequestLog", "Run"]


class Headers(Mapping[str, str]):
    """HTTP headers. A look-up ignores the case of the name; iteration yields the names as sent.

    If a header is repeated, the last one counts.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._pairs = {name.lower(): (name, value) for name, value in pairs}

    def __getitem__(self, name: str) -> str:
        return self._pairs[name.lower()][1]

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._pairs.values())

    def __len__(self) -> int:
        return len(self._pairs)

    def __repr__(self) -> str:
        return f"Headers({dict(self)!r})"


@dataclass(frozen=True)
class RecordedRequest:
    """One request as the server received it.

    Attributes:
        method: The HTTP method.
        path: The path, without the query.
        query: The query, without the ``?``.
        headers: The headers.
        body: The body, as bytes.
    """

    method: str
    path: str
    query: str
    headers: Headers
    body: bytes

    @property
    def json(self) -> Json:
        """The decoded body, or None if the body is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class RequestLog(Sequence[RecordedRequest]):
    """All requests received so far, in order of arrival. The server appends to it."""

    def __init__(self) -> None:
        self._requests: list[RecordedRequest] = []

    @overload
    def __getitem__(self, index: int) -> RecordedRequest: ...
    @overload
    def __getitem__(self, index: slice) -> list[RecordedRequest]: ...
    def __getitem__(self, index: int | slice) -> RecordedRequest | list[RecordedRequest]:
        return self._requests[index]

    def __len__(self) -> int:
        return len(self._requests)

    def __repr__(self) -> str:
        return repr(self._requests)

    def clear(self) -> None:
        """Forget all requests received so far."""
        self._requests.clear()

    def append(self, request: RecordedRequest) -> None:
        """Add a request. The server calls this; tests need not."""
        self._requests.append(request)


class Recorder:
    """Counts requests, tokens and aborts, and wakes the threads that wait for a change."""

    def __init__(self) -> None:
        self.requests = RequestLog()
        self.running = 0
        self.aborted = 0
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self.finish_reasons: Counter[str] = Counter()
        self._changed = threading.Condition()

    def record_request(self, request: RecordedRequest) -> None:
        """Add a received request to ``requests``."""
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()

    def start_run(
        self, prompt_tokens: int, finish_reasons: Sequence[str], generation_tokens: int
    ) -> Run:
        """Count a request as running.

        Args:
            prompt_tokens: The number of tokens of its prompts.
            finish_reasons: The finish reason of each choice, counted if the request finishes.
            generation_tokens: The number of tokens of all choices, counted if the request finishes.

        Returns:
            The run, which must be finished or aborted later.
        """
        with self._changed:
            self.running += 1
            self.prompt_tokens += prompt_tokens
        return Run(self, finish_reasons, generation_tokens)

    def end_run(
        self, finish_reasons: Iterable[str], generation_tokens: int, *, aborted: bool = False
    ) -> None:
        """Count a request as ended.

        Args:
            finish_reasons: The finish reason of each choice.
            generation_tokens: The number of tokens of all choices.
            aborted: Whether the client closed the connection before the end.
        """
        with self._changed:
            self.running -= 1
            self.aborted += aborted
            self.generation_tokens += generation_tokens
            self.finish_reasons.update(finish_reasons)
            self._changed.notify_all()

    def wait(self, ready: Callable[[], bool], timeout: float) -> bool:
        """Wait until ``ready()`` is true, for at most ``timeout`` seconds.

        Returns:
            Whether ``ready()`` is true.
        """
        with self._changed:
            return self._changed.wait_for(ready, timeout)


class Run:
    """A request in progress. Only the first call of ``finish()`` or ``abort()`` counts."""

    def __init__(
        self, recorder: Recorder, finish_reasons: Sequence[str], generation_tokens: int
    ) -> None:
        self._recorder = recorder
        self._finish_reasons = finish_reasons
        self._generation_tokens = generation_tokens
        self._ended = False

    def finish(self, *, was_aborted: bool = False) -> None:
        """Count the request as finished: all tokens were generated, or the server aborted it."""
        if was_aborted:
            self._end(["abort"] * len(self._finish_reasons), 0)
        self._end(self._finish_reasons, self._generation_tokens)

    def abort(self) -> None:
        """Count the request as aborted: the client closed the connection before the end."""
        # vLLM's engine counts each choice as a request of its own.
        self._end(["abort"] * max(1, len(self._finish_reasons)), 0, aborted=True)

    def _end(
        self, finish_reasons: Sequence[str], generation_tokens: int, *, aborted: bool = False
    ) -> None:
        if not self._ended:
            self._ended = True
            self._recorder.end_run(finish_reasons, generation_tokens, aborted=aborted)
