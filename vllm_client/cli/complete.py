"""``vllm-client complete``: continue a prompt."""

from __future__ import annotations

import argparse

from ..client import VllmClient
from ._input import read_prompt
from ._options import request_params
from ._output import print_stream

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command to its parser."""
    parser.add_argument(
        "prompt", nargs="?", help="the standard input, if any, is appended; - or nothing: it alone"
    )
    parser.set_defaults(run=run, max_tokens=256)


def run(client: VllmClient, arguments: argparse.Namespace) -> int:
    """Run the command. Returns the exit status."""
    prompt = read_prompt(arguments.prompt)
    with client.completions.stream(prompt=prompt, **request_params(arguments)) as stream:
        print_stream(stream)
    return 0
