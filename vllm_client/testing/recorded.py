"""What arrived at the server, and how to wait for it without sleeping."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable, overload

__all__ = ["Headers", "RecordedRequest", "Recorder", "RequestLog", "Run"]


class Headers(Mapping[str, str]):
    """Headers by name in any case; iteration gives the names as sent, of repeated ones the last."""

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
    """One request as it arrived. `path` is without the query, which `query` holds."""

    method: str
    path: str
    query: str
    headers: Headers
    body: bytes

    @property
    def json(self) -> Any:
        """The decoded body, or None if it is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class RequestLog(Sequence[RecordedRequest]):
    """All requests so far, in order of arrival; it grows while the server runs."""

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
        """Forget what arrived so far."""
        self._requests.clear()

    def append(self, request: RecordedRequest) -> None:
        """Add a request; the server does."""
        self._requests.append(request)


class Recorder:
    """Counts what happens; whoever waits for it is woken at each change."""

    def __init__(self) -> None:
        self.requests = RequestLog()
        self.running = 0
        self.aborted = 0
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self.finish_reasons: Counter[str] = Counter()
        self._changed = threading.Condition()

    def arrived(self, request: RecordedRequest) -> None:
        """Note a request."""
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()

    def began(self, prompt_tokens: int, finish_reasons: Sequence[str], tokens: int) -> Run:
        """Count a request as running.

        Args:
            prompt_tokens: what its prompts count.
            finish_reasons: of its choices, if it comes to its end.
            tokens: what they have in all.
        """
        with self._changed:
            self.running += 1
            self.prompt_tokens += prompt_tokens
        return Run(self, finish_reasons, tokens)

    def ended(self, finish_reasons: Iterable[str], tokens: int, *, left: bool = False) -> None:
        """Count a request as ended; `left` says that its client did not wait for the end."""
        with self._changed:
            self.running -= 1
            self.aborted += left
            self.generation_tokens += tokens
            self.finish_reasons.update(finish_reasons)
            self._changed.notify_all()

    def wait(self, ready: Callable[[], bool], timeout: float) -> bool:
        """Wait until `ready()` holds; return whether it does, after `timeout` seconds at most."""
        with self._changed:
            return self._changed.wait_for(ready, timeout)


class Run:
    """A request that is being answered. Its end is counted once: what is said first holds."""

    def __init__(self, recorder: Recorder, finish_reasons: Sequence[str], tokens: int) -> None:
        self._recorder = recorder
        self._finish_reasons = finish_reasons
        self._tokens = tokens
        self._ended = False

    def finished(self) -> None:
        """All was generated."""
        self._end(self._finish_reasons, self._tokens)

    def left(self) -> None:
        """The client went away before."""
        # To the engine each choice is a request of its own.
        self._end(["abort"] * max(1, len(self._finish_reasons)), 0, left=True)

    def _end(self, finish_reasons: Sequence[str], tokens: int, *, left: bool = False) -> None:
        if not self._ended:
            self._ended = True
            self._recorder.ended(finish_reasons, tokens, left=left)
