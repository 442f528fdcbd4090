"""Scripts: what a test tells the server to send in place of, or in, a generated response."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypedDict, Union

from ._wire.json_types import Json

__all__ = ["GENERATING", "Script", "ScriptFields", "ScriptQueue", "build_script"]

GENERATING = (
    "/v1/completions",
    "/v1/chat/completions",
    "/v1/chat/completions/batch",
    "/v1/responses",
    "/inference/v1/generate",
)
"""The paths whose responses the server generates."""

_CONTENTS = ("text", "json", "body", "chunks")


class ScriptFields(TypedDict, total=False):
    """The keyword arguments of ``FakeServer.enqueue`` and ``FakeServer.always``."""

    text: str
    """The text of a completion, or the content of a chat message."""
    reasoning: str
    """The reasoning of a chat message, sent before its content."""
    tool_calls: Sequence[Mapping[str, Json]]
    """Tool calls, each as ``{"name": ..., "arguments": ...}``. The arguments are an object, or a
    string that is sent unchanged."""
    finish_reason: str
    """The finish reason of a scripted text; by default the one that vLLM would send."""
    json: Json
    """A complete body, sent as JSON whether or not the request asks for a stream."""
    body: Union[bytes, str]
    """A complete body, sent unchanged."""
    chunks: Sequence[Json]
    """The SSE events of a stream. A dict is sent as JSON data, a string as data unchanged. Bytes
    are sent unchanged and must contain their own ``data:`` and blank line."""
    done: bool
    """Whether ``[DONE]`` follows the chunks; by default it does."""
    error: str
    """The message of an error in vLLM's format. ``status`` sets its HTTP status, by default 500."""
    status: int
    """The HTTP status. Without any content, the response is an error."""
    headers: Mapping[str, str]
    """Additional response headers."""
    path: str
    """Use this script only for requests to this path."""
    cut_after: int
    """Close the connection after this many SSE events, in the middle of the body. A response that
    is not streamed is cut in the middle of its body."""
    clean: bool
    """With ``cut_after``: end the HTTP body correctly, but without ``[DONE]``."""
    stall_after: int
    """Send nothing more after this many SSE events, until the client closes the connection or the
    server closes. A response that is not streamed never begins."""
    error_after: int
    """After this many SSE events, send an error event and ``[DONE]`` in place of the rest. A
    response that is not streamed becomes an HTTP error, by default 500."""
    abort_after: int
    """Stop each choice after this many tokens, with the finish reason ``abort``."""
    drop: bool
    """Close the connection before the first byte of the response."""
    delay: float
    """Seconds to wait before each SSE event, or before a response that is not streamed."""


@dataclass(frozen=True)
class Script:
    """One scripted response, or the faults of a generated one. See ``ScriptFields``.

    Raises:
        ValueError: More than one of ``text``, ``json``, ``body`` and ``chunks`` is set.
        TypeError: A tool call is no dict with a name.
    """

    text: str | None = None
    reasoning: str | None = None
    tool_calls: Sequence[Mapping[str, Json]] = ()
    finish_reason: str | None = None
    json: Json = None
    body: bytes | str | None = None
    chunks: Sequence[Json] | None = None
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
        contents = [name for name in _CONTENTS if getattr(self, name) is not None]
        if len(contents) > 1:
            raise ValueError(
                f"a script must have at most one of {', '.join(_CONTENTS)}; got {contents}"
            )
        for call in self.tool_calls:
            if not isinstance(call, Mapping) or "name" not in call:
                raise TypeError(
                    f'a tool call must be a dict {{"name": …, "arguments": …}}, not {call!r}'
                )

    @property
    def generates(self) -> bool:
        """Whether text, reasoning or tool calls are set. Only generating routes can send them."""
        return self.text is not None or self.reasoning is not None or bool(self.tool_calls)

    @property
    def refuses(self) -> bool:
        """Whether the response is an HTTP error in vLLM's format, with nothing generated."""
        has_content = self.generates or self.json is not None or self.body is not None
        only_error = not has_content and self.chunks is None and self.error_after is None
        return only_error and (self.error is not None or self.status is not None)

    def fits(self, path: str) -> bool:
        """Return whether this script may be used for a request to ``path``."""
        if self.path is not None:
            return path == self.path
        return path in GENERATING or not self.generates


class ScriptQueue:
    """The enqueued scripts, in order, and the script for requests that none of them fits.

    Args:
        default: The script until ``set_always`` is called, and for paths that its script does
            not fit.
    """

    def __init__(self, default: Script) -> None:
        self._lock = threading.Lock()
        self._queue: deque[Script] = deque()
        self._default = default
        self._always = default

    def put(self, script: Script, times: int) -> None:
        """Add a script for ``times`` requests."""
        with self._lock:
            self._queue.extend([script] * times)

    def set_always(self, script: Script) -> None:
        """Set the script of requests that no enqueued script fits."""
        with self._lock:
            self._always = script

    def take(self, path: str) -> Script:
        """Return the first script that fits a request to ``path``, and remove it from the queue."""
        with self._lock:
            for script in self._queue:
                if script.fits(path):
                    self._queue.remove(script)
                    return script
            return self._always if self._always.fits(path) else self._default

    def __len__(self) -> int:
        with self._lock:
            return len(self._queue)


def build_script(default_delay: float, fields: ScriptFields) -> Script:
    """Return a script with these fields; without ``delay`` it has ``default_delay``."""
    return replace(Script(delay=default_delay), **fields)
