"""What the next requests get instead of a generated answer."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Mapping, Optional, Sequence, TypedDict, Union

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Script", "ScriptFields", "ScriptQueue"]

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

    text: Optional[str] = None
    reasoning: Optional[str] = None
    tool_calls: Sequence[Mapping[str, Any]] = ()
    finish_reason: Optional[str] = None
    json: Any = None
    body: Union[bytes, str, None] = None
    chunks: Optional[Sequence[Any]] = None
    done: bool = True
    error: Optional[str] = None
    status: Optional[int] = None
    headers: Mapping[str, str] = field(default_factory=dict)
    path: Optional[str] = None
    cut_after: Optional[int] = None
    clean: bool = False
    stall_after: Optional[int] = None
    error_after: Optional[int] = None
    abort_after: Optional[int] = None
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

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: deque[Script] = deque()
        self._standing = Script()

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
            return self._standing if self._standing.fits(path) else Script()

    def __len__(self) -> int:
        with self._lock:
            return len(self._queue)


def script_from(delay: float, fields: ScriptFields) -> Script:
    """Return a script of the given fields; `delay` is the server's own, where they give none."""
    return replace(Script(delay=delay), **fields)
