"""``vllm-client complete``: continue a prompt."""

from __future__ import annotations

import argparse
import sys

from ..client import VllmClient
from ._options import request_params
from ._output import print_stream

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command to its parser."""
    parser.add_argument("prompt", nargs="?", help="the prompt; - or nothing reads standard input")
    parser.set_defaults(run=run, max_tokens=256)


def run(client: VllmClient, arguments: argparse.Namespace) -> int:
    """Run the command. Returns the exit status."""
    prompt = arguments.prompt
    if prompt in {None, "-"}:
        prompt = sys.stdin.read()
    with client.completions.stream(prompt=prompt, **request_params(arguments)) as stream:
        print_stream(stream)
    return 0
