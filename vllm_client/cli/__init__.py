"""``vllm-client``: use a vLLM server from the command line."""

from __future__ import annotations

import sys
from typing import Optional, Sequence

from ..exceptions import VllmError
from ._options import open_client
from ._output import print_error
from ._parser import build_parser
from ._standard import standard_files

__all__ = ["INTERRUPTED", "main"]

INTERRUPTED = 130
"""Exit status after Ctrl-C, the same as in shells."""


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the program.

    Args:
        argv: The arguments, without the program's name; the default is those of the process.

    Returns:
        The exit status: 0 only for complete responses, 1 after an error, 130 after Ctrl-C; of
        ``batch`` also 3 if some rows failed, and 75 if another process writes the file. The text
        that arrived has been printed in every case.
    """
    with standard_files():
        try:
            return _status(argv)
        except OSError:  # Nobody reads what the program prints, or it cannot be written.
            return 1


def _status(argv: Optional[Sequence[str]]) -> int:
    try:
        try:
            return _run(argv)
        finally:
            sys.stdout.flush()  # Later, the disk that is full could not be reported.
    except BrokenPipeError:
        return 1
    except (VllmError, TypeError, ValueError, OSError) as error:
        return print_error(error)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return INTERRUPTED


def _run(argv: Optional[Sequence[str]]) -> int:
    arguments = build_parser().parse_args(argv)
    if "run_alone" in arguments:  # It needs no client.
        return int(arguments.run_alone(arguments))
    with open_client(arguments) as client:
        return int(arguments.run(client, arguments))
