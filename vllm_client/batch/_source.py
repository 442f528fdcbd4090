"""Files of rows: lines of JSON or of plain text, compressed or not, or standard input."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import json
import sys
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Iterator, Union, cast

from ..exceptions import BatchInputError
from ._rows import BLANK


def rows_of_file(path: Union[str, Path], *, prompts: bool = False) -> Iterator[Any]:
    """The rows of a file, read line by line.

    A line that is no JSON, or no UTF-8, comes as the error, so that it is one failed row and not
    the end. An empty line is no row.

    Args:
        path: ``-`` is standard input; a name that ends in ``.gz`` is decompressed.
        prompts: Whether each line is a prompt as it stands, and not JSON.

    Raises:
        BatchInputError: The file cannot be decompressed.
        OSError: It cannot be read.
    """
    for line in _lines(path):
        if line.isspace():
            yield BLANK
        else:
            text = line.rstrip(b"\r\n")
            yield _prompt(text) if prompts else _decoded(text)


def _lines(path: Union[str, Path]) -> Iterator[bytes]:
    try:
        with _opened(path) as file:
            for first in file:
                yield first.removeprefix(codecs.BOM_UTF8) or b"\n"
                break
            yield from file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BatchInputError(f"{path} is no whole file of gzip: {error}") from error


def check_readable(path: Union[str, Path]) -> None:
    """Raise now what opening a file would raise later. A pipe can be opened once, so it is not.

    Raises:
        OSError: The file cannot be read.
    """
    if str(path) != "-" and not Path(path).is_fifo():
        with open(path, "rb"):
            pass


def count_rows(path: Union[str, Path]) -> int:
    """How many lines a file has that are not empty; 0 if only reading it would tell.

    That is so for standard input, for compressed files, and for pipes, which can be read once.
    """
    if str(path) == "-" or str(path).endswith(".gz") or not Path(path).is_file():
        return 0
    with open(path, "rb") as file:
        return sum(1 for line in file if not line.isspace())


def _prompt(text: bytes) -> Any:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        return BatchInputError(f"it is not UTF-8 ({error})")


def _decoded(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        return BatchInputError(f"it is not JSON ({error})")


@contextlib.contextmanager
def _opened(path: Union[str, Path]) -> Iterator[BinaryIO]:
    if str(path) == "-":
        yield sys.stdin.buffer
        return
    opened = gzip.open if str(path).endswith(".gz") else open
    with cast("BinaryIO", opened(path, "rb")) as file:
        yield file
