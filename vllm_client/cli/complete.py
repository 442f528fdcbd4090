"""``vllm-client complete``: continue a prompt."""

from __future__ import annotations

import argparse
import sys
from typing import Any, Dict

from ..client import VllmClient
from ..streams import CompletionStream
from ..types.logprobs import TokenLogprob
from ._input import read_prompt
from ._options import read_text, request_params
from ._output import notes_on, print_json, print_stats, print_stream, shown_on
from ._terminal import note
from ._tokens import TokenPrinter

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command to its parser."""
    parser.add_argument(
        "prompt", nargs="?", help="the standard input, if any, is appended; - or nothing: it alone"
    )
    parser.add_argument("-n", type=int, default=1, metavar="N", help="N texts, each whole")
    parser.add_argument(
        "--system-file",
        metavar="FILE",
        help="a text that is put before the prompt, with a line end",
    )
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="the server's response, on a line")
    shape.add_argument(
        "--logprobs",
        action="store_true",
        help="each token coloured by its probability; in a pipe a line each, with "
        "--set logprobs=K also the alternatives",
    )
    parser.add_argument("--stats", action="store_true", help="print times and speed, on stderr")
    parser.set_defaults(run=run, max_tokens=256)


def run(client: VllmClient, arguments: argparse.Namespace) -> int:
    """Run the command. Returns the exit status."""
    prompt = read_prompt(arguments.prompt)
    if arguments.system_file:
        prompt = f"{read_text(arguments.system_file)}\n{prompt}"
    params: Dict[str, Any] = {"prompt": prompt, **request_params(arguments)}
    if arguments.n != 1:
        params["n"] = arguments.n
    if arguments.logprobs:
        params.setdefault("logprobs", 0)
    if arguments.json:
        print_json(client.completions.create(**params).raw)
        return 0
    with client.completions.stream(**params) as stream:
        _print(stream, arguments)
    if arguments.stats:
        print_stats(stream.timings)
    return 0


def _print(stream: CompletionStream, arguments: argparse.Namespace) -> None:
    if arguments.logprobs:
        _print_tokens(stream)
    elif arguments.n != 1:
        _print_texts(stream)
    else:
        print_stream(stream)


def _print_tokens(stream: CompletionStream) -> None:
    printer = TokenPrinter()
    try:
        for event in stream:
            if event.type == "text":
                for token in TokenLogprob.sequence(event.logprobs):
                    printer.write(token)
            for line in notes_on(event):
                note(line)
    finally:
        printer.end()


def _print_texts(stream: CompletionStream) -> None:
    """Print the texts one after the other, when all have arrived."""
    try:
        for event in stream:
            if event.type == "usage":
                for line in notes_on(event):
                    note(line)
    finally:
        choices = stream.snapshot.choices
        for number, choice in enumerate(choices, 1):
            print(f"--- {number} of {len(choices)} ({choice.finish_reason or 'incomplete'}) ---")
            print(shown_on(sys.stdout, choice.text))
