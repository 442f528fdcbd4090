"""What arrived at the server, and how to wait for it without sleeping."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable, overload

__all__ = ["Headers", "RecordedRequest", "Recorder", "RequestLog"]


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

    def began(self, prompt_tokens: int) -> None:
        """Count a request as running."""
        with self._changed:
            self.running += 1
            self.prompt_tokens += prompt_tokens

    def ended(self, finish_reasons: Iterable[str], tokens: int, *, gone: bool) -> None:
        """Count a request as ended; `gone` says that its client did not wait for the end."""
        with self._changed:
            self.running -= 1
            self.aborted += gone
            self.generation_tokens += tokens
            self.finish_reasons.update(finish_reasons)
            self._changed.notify_all()

    def wait(self, ready: Callable[[], bool], timeout: float) -> bool:
        """Wait until `ready()` holds; return whether it does, after `timeout` seconds at most."""
        with self._changed:
            return self._changed.wait_for(ready, timeout)
