"""What the next requests get instead of a generated answer."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict, Union

__all__ = ["GENERATING", "Script", "ScriptFields", "ScriptQueue", "script_from"]

GENERATING = ("/v1/completions", "/v1/chat/completions")
_CONTENTS = ("text", "json", "body", "chunks")


class ScriptFields(TypedDict, total=False):
    """The keywords of `FakeServer.enqueue` and `FakeServer.always`."""

    text: str
    """The text of a completion, or the content of a chat answer."""
    reasoning: str
    """The reasoning of a chat answer, before its content."""
    tool_calls: Sequence[Mapping[str, Any]]
    """Calls as `{"name": ..., "arguments": ...}`; arguments are an object or a JSON text."""
    finish_reason: str
    """Of a scripted text; by default what vLLM would say."""
    json: Any
    """A whole body, sent as JSON whatever was asked for."""
    body: Union[bytes, str]
    """A whole body, sent as it is."""
    chunks: Sequence[Any]
    """The events of a stream: dicts become JSON; strings the data of an event as they are; bytes
    are written as they are, framing and all."""
    done: bool
    """Whether `[DONE]` follows the chunks (by default it does)."""
    error: str
    """The message of an error in vLLM's shape, with `status` (500 unless given)."""
    status: int
    """The HTTP status; by itself an error."""
    headers: Mapping[str, str]
    """More headers for the response."""
    path: str
    """Only a request to this path gets the answer."""
    cut_after: int
    """Drop the connection after so many events; a whole answer is cut in the middle."""
    clean: bool
    """With `cut_after`: end the body properly, without `[DONE]`."""
    stall_after: int
    """Fall silent after so many events, until the client leaves or the server closes; a whole
    answer never begins."""
    error_after: int
    """Send an error frame and `[DONE]` after so many events, instead of the rest; a whole answer
    becomes a 500."""
    abort_after: int
    """Stop each choice after so many tokens, with the finish reason `abort`."""
    drop: bool
    """Close the connection before any byte of an answer."""
    delay: float
    """Seconds before each event, or before a whole answer."""


@dataclass(frozen=True)
class Script:
    """One scripted answer, or the faults of a generated one. The fields are `ScriptFields`."""

    text: str | None = None
    reasoning: str | None = None
    tool_calls: Sequence[Mapping[str, Any]] = ()
    finish_reason: str | None = None
    json: Any = None
    body: bytes | str | None = None
    chunks: Sequence[Any] | None = None
    done: bool = True
    error: str | None = None
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    path: str | None = None
    cut_after: int | None = None
    clean: bool = False
    stall_after: int | None = None
    error_after: int | None = None
    abort_after: int | None = None
    drop: bool = False
    delay: float = 0.0

    def __post_init__(self) -> None:
        given = [name for name in _CONTENTS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"an answer is one of {', '.join(_CONTENTS)}; got {given}")

    @property
    def generates(self) -> bool:
        """Whether text, reasoning or calls are given, which need a request for a completion."""
        return self.text is not None or self.reasoning is not None or bool(self.tool_calls)

    @property
    def refuses(self) -> bool:
        """Whether the answer is an error in vLLM's shape, before anything was generated."""
        content = self.generates or self.json is not None or self.body is not None
        plain = not content and self.chunks is None and self.error_after is None
        return plain and (self.error is not None or self.status is not None)

    def fits(self, path: str) -> bool:
        """Whether a request to `path` may get this answer."""
        if self.path is not None:
            return path == self.path
        return path in GENERATING or not self.generates


class ScriptQueue:
    """Answers in the order in which they were put in; each one is given out once."""

    def __init__(self, default: Script) -> None:
        self._lock = threading.Lock()
        self._queue: deque[Script] = deque()
        self._default = default
        self._standing = default

    def put(self, script: Script, times: int) -> None:
        """Add an answer, `times` over."""
        with self._lock:
            self._queue.extend([script] * times)

    def stand(self, script: Script) -> None:
        """Set the answer of requests for which the queue has none."""
        with self._lock:
            self._standing = script

    def take(self, path: str) -> Script:
        """Return the first answer that fits a request to `path`, and forget it."""
        with self._lock:
            for script in self._queue:
                if script.fits(path):
                    self._queue.remove(script)
                    return script
            return self._standing if self._standing.fits(path) else self._default

    def __len__(self) -> int:
        with self._lock:
            return len(self._queue)


def script_from(delay: float, fields: ScriptFields) -> Script:
    """Return a script of the given fields; `delay` is the server's own, where they give none."""
    return replace(Script(delay=delay), **fields)
