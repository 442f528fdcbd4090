"""Answers as plain text."""

from __future__ import annotations

from typing import List, Sequence

from ._answers import Piece
from ._reading import Frame
from ._words import counted

__all__ = ["end_of", "figures", "growing_text", "plain_text"]


def plain_text(frame: Frame) -> str:
    """An answer as far as it has arrived, with its figures."""
    text = growing_text(frame)
    return text + end_of(frame, text)


def growing_text(frame: Frame) -> str:
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
            if piece.kind == "text":
                lines.append(piece.text)
            elif whole or not may_grow(piece):
                lines.append(_line_end(lines) + _noted(piece))
            else:
                break
        if not whole:
            break
    return "".join(lines)


def may_grow(piece: Piece) -> bool:
    """Whether more may arrive: of one call also after the beginning of the next."""
    return piece.is_growing or piece.kind == "call"


def end_of(frame: Frame, text: str) -> str:
    """The lines below an answer."""
    fault = "" if frame.fault is None else f"! {frame.fault}\n"
    line = f"[{figures(frame)}]\n" if frame.figures else ""
    return f"{_line_end([text])}{fault}{line}"


def figures(frame: Frame) -> str:
    """The line below an answer: how it ended, counts and speed."""
    reasons = [shown.finish_reason for shown in frame.choices]
    if len(reasons) != 1 or not reasons[0] or not frame.ended:
        return frame.figures
    return f"{reasons[0]} · {frame.figures}"


def _noted(piece: Piece) -> str:
    if piece.kind == "call":
        return f"{piece.name}({piece.text})\n"
    return f"({counted(len(piece.text.split()), 'word')} of thinking)\n"


def _line_end(lines: Sequence[str]) -> str:
    printed = next((line for line in reversed(lines) if line), "\n")
    return "" if printed.endswith("\n") else "\n"
