"""Answers in a terminal: with rich live and in colour, without it as plain text."""

from __future__ import annotations

import contextlib
from typing import Any, Protocol, Sequence, TextIO, cast

from .._visible import Pieces
from ._plain import end_of, growing_text
from ._reading import Frame
from ._rich import RichScreen

__all__ = ["PlainScreen", "Screen", "terminal_screen"]


class Screen(Protocol):
    """Where answers are drawn."""

    def draw(self, frames: Sequence[Frame]) -> float:
        """Draw all answers in place of the last drawing.

        Returns:
            The least number of seconds until the next drawing.
        """
        raise NotImplementedError

    def close(self, frames: Sequence[Frame]) -> None:
        """Draw for the last time."""
        raise NotImplementedError


def terminal_screen(file: TextIO, markdown: bool) -> Screen:
    """The screen for a terminal with rich; plain text if either is not there."""
    file = cast("TextIO", _Encodable(file))
    if file.isatty():
        with contextlib.suppress(ImportError):  # rich is optional.
            return RichScreen(file, markdown)
    return PlainScreen(file)


class _Encodable:
    """A file that takes every character, as an escape if its encoding has none for it."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, text: str) -> int:
        encoding = self._file.encoding or "utf-8"
        return self._file.write(text.encode(encoding, "backslashreplace").decode(encoding))


class PlainScreen:
    """Prints text as it arrives, one answer after the other.

    The first answer is live. What arrives of the next ones meanwhile follows at its end.

    Args:
        file: Control characters are made visible if it is a terminal.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._done = 0
        self._printed = 0
        self._pieces = Pieces()

    def draw(self, frames: Sequence[Frame]) -> float:
        """Print what is new."""
        while self._done < len(frames):
            frame = frames[self._done]
            text = growing_text(frame)
            self._write(text[self._printed :])
            self._printed = len(text)
            if not frame.ended:
                break
            self._write(end_of(frame, text))
            self._done, self._printed = self._done + 1, 0
        return 0.0

    def close(self, frames: Sequence[Frame]) -> None:
        """Print the rest."""
        self.draw(frames)

    def _write(self, text: str) -> None:
        if text:
            self._file.write(self._pieces.add(text) if self._file.isatty() else text)
            self._file.flush()
