"""What the user types, or what comes from a pipe, as one text at a time."""

from __future__ import annotations

import contextlib
import re
import sys
import threading
from typing import Any, Iterable, Iterator, List, Optional, Protocol, TextIO

from ._history import History
from ._standard import input_bytes, input_line, input_text
from ._terminal import is_dumb, is_terminal, note

__all__ = [
    "LineReader",
    "inputs",
    "open_reader",
    "read_bytes",
    "read_input",
    "read_prompt",
    "texts",
]

_QUOTES = '"""'
_SILENCE = 2.0
"""Seconds after which the program tells that it waits for standard input."""
_PASTE_GAP = 0.05
"""Seconds within which the next line of a paste arrives; nobody types so fast."""

# Keys that no line editor has taken: CSI and SS3 sequences, other escapes, control characters.
_KEYS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1bO.|\x1b.?|[\x00-\x08\x0b-\x1f\x7f]")


def read_prompt(given: Optional[str]) -> str:
    """The prompt of the command line, with the standard input behind it if there is any.

    Args:
        given: The argument; None or ``-`` is the standard input alone.

    Raises:
        ValueError: There is no prompt at all.
    """
    if given is not None and given != "-":
        text = "" if is_terminal(sys.stdin) else read_input()
        return f"{given}\n{text}" if text else given
    text = read_input("the prompt")
    if not text:
        raise ValueError("there is no prompt: pass it as an argument, or pipe a text in")
    return text


def read_input(wanted: str = "the text") -> str:
    """The whole standard input. A note tells a person that it is awaited.

    Raises:
        ValueError: It is no text.
    """
    with _waiting(wanted):
        return input_text()


def read_bytes() -> bytes:
    """As :func:`read_input`, undecoded."""
    with _waiting("the text"):
        return input_bytes()


def inputs(given: List[str]) -> List[str]:
    """The texts of the command line; if there are none, the lines of the standard input."""
    if given:
        return given
    return [line for line in read_input("the texts, one a line").split("\n") if line.strip()]


@contextlib.contextmanager
def _waiting(wanted: str) -> Iterator[None]:
    if is_terminal(sys.stdin):
        note(f"type {wanted}, then Enter and Ctrl-D; or pass it as an argument")
    words = "waiting for the end of the standard input; < /dev/null means none"
    timer = threading.Timer(_SILENCE, note, [words])
    timer.daemon = True
    if is_terminal(sys.stderr) and not is_terminal(sys.stdin):
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


class LineReader(Protocol):
    """Reads the texts of a conversation."""

    def read(self, prompt: str) -> Optional[str]:
        """The next text; None at the end of the input."""
        raise NotImplementedError


def texts(reader: LineReader) -> Iterator[str]:
    """The texts of a conversation. Lines between two lines of three quotes are one text.

    Ctrl-C at the prompt of a terminal discards what was typed.
    """
    while True:
        try:
            text = _next_text(reader)
        except KeyboardInterrupt:
            if not is_terminal(sys.stdin):
                raise
            note("Ctrl-D or /exit ends the conversation", before="\n")
            continue
        if text is None:
            return
        if text.strip():
            yield text


def _next_text(reader: LineReader) -> Optional[str]:
    text = reader.read("> ")
    if text is None or not text.lstrip().startswith(_QUOTES):
        return text
    text = text.lstrip()[len(_QUOTES) :]
    while not text.rstrip().endswith(_QUOTES):
        line = reader.read("... ")
        if line is None:
            return text.strip("\n")
        text = f"{text}\n{line}"
    return text.rstrip()[: -len(_QUOTES)].strip("\n")


class LinesOfFile:
    """Lines that nobody types: each is a text."""

    def read(self, prompt: str) -> Optional[str]:  # noqa: ARG002 — nobody sees a prompt
        """The next line; None at the end of the input."""
        line = input_line()
        return line.rstrip("\n") if line else None


class TypedLines:
    """Lines from a terminal without a line editor.

    Lines that arrive at once are a paste, and one text. Keys that only a line editor understands,
    such as the arrows, are removed.
    """

    def __init__(self) -> None:
        self._ended = False

    def read(self, prompt: str) -> Optional[str]:
        """The next text; None after Ctrl-D."""
        if self._ended:
            return None
        line = self._line(prompt)
        text = line
        while line.endswith("\n") and _more_waits():
            line = self._line("")
            text += line
        # Ctrl-D behind a text ends the text, and with it the input.
        self._ended = not line.endswith("\n")
        if not text:
            print(file=_prompt_file())  # The shell's prompt begins on a line of its own.
            return None
        return without_keys(text.rstrip("\n"))

    def _line(self, prompt: str) -> str:
        print(prompt, end="", flush=True, file=_prompt_file())
        return sys.stdin.readline()


class EditedLines:
    """Lines from a terminal, edited with the ``readline`` of the standard library."""

    def __init__(self, readline: Any, history: History) -> None:
        self._history = history
        for text in history.load():
            readline.add_history(text)
        # libedit has no bracketed paste: there, lines that arrive at once are a paste.
        self._marks_pastes = "libedit" not in (readline.__doc__ or "") and not is_dumb()
        if self._marks_pastes:
            readline.parse_and_bind("set enable-bracketed-paste on")

    def read(self, prompt: str) -> Optional[str]:
        """The next text; None after Ctrl-D."""
        try:
            text = input(prompt)
            while not self._marks_pastes and _more_waits():
                text += f"\n{input()}"
        except EOFError:
            print()
            return None
        text = without_keys(text)
        if text.strip():
            self._history.add(text)
        return text


def without_keys(text: str) -> str:
    """The text without the codes of keys, such as ``ESC [ A`` for an arrow."""
    return _KEYS.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def open_reader(commands: Iterable[str] = ()) -> LineReader:
    """The best reader for this standard input.

    Args:
        commands: The names that Tab completes behind a slash.
    """
    if not is_terminal(sys.stdin):
        return LinesOfFile()
    if not is_terminal(sys.stdout):  # A line editor would draw into the file of the answers.
        return TypedLines()
    with contextlib.suppress(ImportError):
        if not is_dumb():
            from ._session import SessionReader  # noqa: PLC0415 — it needs the extra

            return SessionReader(History(), commands)
    try:
        import readline  # noqa: PLC0415 — only a conversation needs it
    except ImportError:
        return TypedLines()
    return EditedLines(readline, History())


def _prompt_file() -> TextIO:
    return sys.stdout if is_terminal(sys.stdout) else sys.stderr


def _more_waits() -> bool:
    """Whether another line has arrived already."""
    try:
        import select  # noqa: PLC0415 — on Windows it does not know terminals

        return bool(select.select([sys.stdin], [], [], _PASTE_GAP)[0])
    except (OSError, ValueError):
        return False
