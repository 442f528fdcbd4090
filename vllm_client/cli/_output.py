"""What a command prints: the model's text to stdout, everything else to stderr."""

from __future__ import annotations

import json
import re
import sys
from typing import List, Set, TextIO, Union

from ..events import (
    CompletionStreamEvent,
    Content,
    Reasoning,
    StreamEvent,
    Text,
    ToolCall,
    ToolCallDelta,
)
from ..streams import ChatCompletionStream, CompletionStream

# C0 and C1 control characters except tab and line feed, those that have no width, and those that
# change the direction of writing.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]"
)

_ONLY_REASONING = (
    "the model wrote only reasoning, no answer: --thinking prints it; with a larger --max-tokens "
    "the answer may follow"
)


def print_stream(
    stream: Union[CompletionStream, ChatCompletionStream], *, thinking: bool = False
) -> None:
    """Print a stream while it arrives, and notes on it at its end.

    Args:
        stream: Read to its end.
        thinking: Whether to print the reasoning too, to stderr. Otherwise a note tells if there is
            nothing else.
    """
    seen: Set[str] = set()
    texts = _Printer(sys.stdout)
    reasoning = _Printer(sys.stderr)
    notes: List[str] = []
    try:
        for event in stream:
            if isinstance(event, (Text, Content)):
                reasoning.end_line()
                texts.write(event.text)
            elif event.type == "reasoning" and thinking:
                reasoning.write(event.text)
            if _shows_something(event):
                seen.add(event.type)
            notes += _notes(event)
    finally:
        if seen == {"reasoning"} and not thinking:
            notes.append(_ONLY_REASONING)
        reasoning.end_line()
        texts.end_line()
        for note in notes:
            print(visible(note), file=sys.stderr)


def _shows_something(event: Union[CompletionStreamEvent, StreamEvent]) -> bool:
    if isinstance(event, (Text, Content, Reasoning)):
        return bool(event.text.strip())
    return isinstance(event, (ToolCall, ToolCallDelta))


def _notes(event: Union[CompletionStreamEvent, StreamEvent]) -> List[str]:
    if event.type == "finish_reason":
        return [f"finish reason: {event.reason}"]
    if event.type == "tool_call":
        return [f"tool call: {event.name}({event.arguments})"]
    if event.type == "usage":
        counts = f"{event.prompt_tokens} prompt + {event.completion_tokens} completion"
        return [f"tokens: {counts} = {event.total_tokens}"]
    return []


class _Printer:
    """Writes a model's text as it arrives; on a terminal, control characters are made visible."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._is_terminal = file.isatty()
        self._at_line_start = True

    def write(self, text: str) -> None:
        if text:
            self._file.write(visible(text) if self._is_terminal else text)
            self._file.flush()
            self._at_line_start = text.endswith("\n")

    def end_line(self) -> None:
        if not self._at_line_start:
            self.write("\n")


def print_row(*cells: str) -> None:
    """Print a line of cells with tabs between them; each text stays in its line."""
    shown = [" ".join(cell.split()) for cell in cells]
    print("\t".join(map(visible, shown) if sys.stdout.isatty() else shown))


def print_json(value: object) -> None:
    """Print a JSON value on a line. It has escapes instead of control characters."""
    print(json.dumps(value))


def visible(text: str) -> str:
    """The text with its control characters as escapes, which no terminal executes."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def print_error(error: Exception) -> int:
    """Print an error. Returns the exit status 1."""
    sys.stdout.flush()
    print(f"vllm-client: {visible(_in_options(str(error)))}", file=sys.stderr)
    return 1


_OPTIONS = {
    "pass api_key=… or": "pass --api-key KEY or",
    "use it as base_url": "use it as --base-url",
    "pass credentials as api_key=… or headers=…": "pass the key with --api-key",
}
"""Advice of the library, and the same in the words of the command line."""


def _in_options(message: str) -> str:
    for advice, words in _OPTIONS.items():
        message = message.replace(advice, words)
    return message
