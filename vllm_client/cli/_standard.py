"""The standard input and outputs of the process."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Iterator, TextIO

from ._terminal import is_terminal

__all__ = ["input_bytes", "input_line", "input_text", "standard_files"]


@contextlib.contextmanager
def standard_files() -> Iterator[None]:
    """Inside, all three exist, and the outputs accept any text."""
    with contextlib.ExitStack() as stack:
        # In this order: a new file takes the lowest free descriptor, and no socket takes these.
        for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
            if getattr(sys, name) is None:  # Closed by the shell, or there is no console.
                nothing = stack.enter_context(open(os.devnull, mode, encoding="utf-8"))
                setattr(sys, name, nothing)
                stack.callback(setattr, sys, name, None)
        outputs = (sys.stdout, sys.stderr)
        for file in outputs:
            if isinstance(file, io.TextIOWrapper):  # A replacement may accept any text.
                file.reconfigure(errors="backslashreplace")
            stack.callback(_drop_unwritten, file)
        yield


def _drop_unwritten(file: TextIO) -> None:
    """Forget text that cannot be written: Python would report it when it exits."""
    try:
        file.flush()
    except OSError:
        with open(os.devnull, "w", encoding="utf-8") as nothing:
            os.dup2(nothing.fileno(), file.fileno())


def input_text() -> str:
    """The rest of the standard input. See :func:`input_line` for its encoding.

    Raises:
        ValueError: It is no text.
    """
    return sys.stdin.read() if _is_text() else _decoded(input_bytes())


def input_line() -> str:
    """The next line of the standard input, with its end; empty at the end of the input.

    A pipe or file is read as UTF-8, as all files are; what is not UTF-8, in the encoding of the
    locale, such as cp1252 on Windows.

    Raises:
        ValueError: It is no text.
    """
    return sys.stdin.readline() if _is_text() else _decoded(sys.stdin.buffer.readline())


def input_bytes() -> bytes:
    """The rest of the standard input, undecoded."""
    return sys.stdin.buffer.read()


def _is_text() -> bool:
    return is_terminal(sys.stdin) or not hasattr(sys.stdin, "buffer")


def _decoded(data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        encoding = sys.stdin.encoding
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError as error:
            raise ValueError(f"the standard input is no text in UTF-8: {error}") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")
