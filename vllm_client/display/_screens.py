"""Answers in a terminal: with rich live and in colour, without it as plain text."""

from __future__ import annotations

import contextlib
from typing import List, Protocol, Sequence, TextIO

from .._visible import visible
from ._answers import Piece
from ._cards import figures
from ._reading import Frame
from ._rich import RichScreen
from ._words import counted

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
    if file.isatty():
        with contextlib.suppress(ImportError):  # rich is optional.
            return RichScreen(file, markdown)
    return PlainScreen(file)


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

    def draw(self, frames: Sequence[Frame]) -> float:
        """Print what is new."""
        while self._done < len(frames):
            frame = frames[self._done]
            text = _plain(frame)
            self._write(text[self._printed :])
            self._printed = len(text)
            if not frame.ended:
                break
            self._write(_end(frame, text))
            self._done, self._printed = self._done + 1, 0
        return 0.0

    def close(self, frames: Sequence[Frame]) -> None:
        """Print the rest."""
        self.draw(frames)

    def _write(self, text: str) -> None:
        if text:
            self._file.write(visible(text) if self._file.isatty() else text)
            self._file.flush()


def _plain(frame: Frame) -> str:
    """What may be printed of an answer: it only ever grows.

    A choice waits for the end of the one before it, and everything but text for its own end.
    """
    lines: List[str] = [f"--- {frame.title} ---\n"] if frame.title else []
    for number, shown in enumerate(frame.choices):
        whole = frame.ended or shown.finish_reason is not None
        if shown.index != number and not frame.ended:
            break
        if shown.index:
            lines.append(f"{_line_end(lines)}--- choice {shown.index} ---\n")
        for piece in shown.pieces:
            over = whole or piece is not shown.pieces[-1]
            if piece.kind == "text":
                lines.append(piece.text)
            elif over:
                lines.append(_line_end(lines) + _noted(piece))
        if not whole:
            break
    return "".join(lines)


def _noted(piece: Piece) -> str:
    if piece.kind == "call":
        return f"{piece.name}({piece.text})\n"
    return f"({counted(len(piece.text.split()), 'word')} of thinking)\n"


def _end(frame: Frame, text: str) -> str:
    fault = "" if frame.fault is None else f"! {frame.fault}\n"
    return f"{_line_end([text])}{fault}[{figures(frame)}]\n"


def _line_end(lines: Sequence[str]) -> str:
    printed = next((line for line in reversed(lines) if line), "\n")
    return "" if printed.endswith("\n") else "\n"
