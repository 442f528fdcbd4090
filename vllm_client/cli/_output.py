"""What a command prints: the model's text to stdout, everything else to stderr."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from typing import List, Optional, Protocol, Set, TextIO, Union

from .._visible import Pieces, visible
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
from ..timings import Timings
from ._advice import in_options
from ._terminal import DIM, folded, is_terminal, note, painted

_BREAKS = re.compile(r"\r\n|[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]")

_ONLY_REASONING = (
    "the model wrote only reasoning, no answer: --thinking prints it; with a larger --max-tokens "
    "the answer may follow"
)


class TextPrinter(Protocol):
    """Prints a model's text."""

    def write(self, text: str) -> None:
        """Print the next piece of the text."""
        raise NotImplementedError

    def end_line(self) -> None:
        """End the line, if one has begun: something else is printed next."""
        raise NotImplementedError


def print_stream(
    stream: Union[CompletionStream, ChatCompletionStream],
    *,
    thinking: bool = False,
    texts: Optional[TextPrinter] = None,
) -> None:
    """Print a stream while it arrives, and notes on it at its end.

    Args:
        stream: Read to its end.
        thinking: Whether to print the reasoning too, to stderr. Otherwise a note tells if there is
            nothing else.
        texts: What prints the text; by default to stdout as it is.
    """
    seen: Set[str] = set()
    texts = texts or Printer(sys.stdout)
    reasoning = Printer(sys.stderr, DIM)
    notes: List[str] = []
    try:
        for event in stream:
            if isinstance(event, (Text, Content)):
                reasoning.end_line()
                texts.write(event.text)
            elif event.type == "reasoning" and thinking:
                texts.end_line()
                reasoning.write(event.text)
            if _shows_something(event):
                seen.add(event.type)
            notes += notes_on(event)
    finally:
        if seen == {"reasoning"} and not thinking:
            notes.append(_ONLY_REASONING)
        reasoning.end_line()
        texts.end_line()
        for line in notes:
            note(line)


def _shows_something(event: Union[CompletionStreamEvent, StreamEvent]) -> bool:
    if isinstance(event, (Text, Content, Reasoning)):
        return bool(event.text.strip())
    return isinstance(event, (ToolCall, ToolCallDelta))


def notes_on(event: Union[CompletionStreamEvent, StreamEvent]) -> List[str]:
    """What to tell about an event that is no text."""
    if event.type == "finish_reason":
        return [f"finish reason: {event.reason}"]
    if event.type == "tool_call":
        return [f"tool call: {event.name}({event.arguments})"]
    if event.type == "usage":
        counts = f"{event.prompt_tokens} prompt + {event.completion_tokens} completion"
        return [f"tokens: {counts} = {event.total_tokens}"]
    return []


class Printer:
    """Writes a model's text as it arrives; on a terminal, control characters are made visible."""

    def __init__(self, file: TextIO, style: str = "") -> None:
        self._file = file
        self._style = style
        self._is_terminal = is_terminal(file)
        self._at_line_start = True
        self._pieces = Pieces()

    def write(self, text: str) -> None:
        """Print the next piece of the text."""
        if self._is_terminal:
            text = self._pieces.add(text)
        if text:
            self._file.write(painted(text, self._style, self._file) if self._style else text)
            self._file.flush()
            self._at_line_start = text.endswith("\n")

    def end_line(self) -> None:
        """End the line, if one has begun."""
        held = self._pieces.end()
        if held:
            self._file.write(held)
            self._at_line_start = False
        if not self._at_line_start:
            self._file.write("\n")
            self._file.flush()
            self._at_line_start = True


def shown_on(file: TextIO, text: str) -> str:
    """The text as it is printed to this file."""
    return visible(text) if is_terminal(file) else text


def print_stats(timings: Timings) -> None:
    """Print the times of a stream to stderr."""
    first = "-" if timings.ttft is None else f"{timings.ttft:.3f} s"
    speed = timings.output_tokens_per_second
    note(
        f"first token {first}, whole {timings.duration:.3f} s, {timings.chunks} chunks, "
        f"{'-' if speed is None else f'{speed:.1f}'} tokens/s"
    )


def print_row(*cells: str) -> None:
    """Print a line of cells with tabs between them; line ends and tabs in a text become spaces."""
    shown = [_BREAKS.sub(" ", cell) for cell in cells]
    print("\t".join(shown_on(sys.stdout, cell) for cell in shown), flush=True)


def print_json(value: object) -> None:
    """Print a JSON value on a line. It has escapes instead of control characters."""
    print(json.dumps(value), flush=True)


def print_error(error: Exception) -> int:
    """Print an error. Returns the exit status 1."""
    with contextlib.suppress(OSError):  # It is the error that is printed.
        sys.stdout.flush()
    message = f"vllm-client: {visible(in_options(str(error)))}"
    print(folded(message, sys.stderr), file=sys.stderr)
    return 1
