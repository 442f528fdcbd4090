"""``vllm-client complete``: continue a prompt."""

from __future__ import annotations

import argparse
import sys
from typing import Any, Dict, Optional

from .._request import expected_choices, split
from ..client import VllmClient
from ..exceptions import VllmError
from ..params import CompletionParams
from ..streams import CompletionStream
from ..types import Completion
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
        _print_json(client, params)
        return 0
    is_one = expected_choices(split("stream", {**params}, CompletionParams)[0]) == 1
    with client.completions.stream(**params) as stream:
        _print(stream, is_one=is_one, logprobs=arguments.logprobs)
    if arguments.stats:
        print_stats(stream.timings)
    return 0


def _print_json(client: VllmClient, params: Dict[str, Any]) -> None:
    try:
        completion = client.completions.create(**params)
    except VllmError as error:
        if isinstance(error.partial, Completion):  # Its finish reason is in it; the status is 1.
            print_json(error.partial.raw)
        raise
    print_json(completion.raw)


def _print(stream: CompletionStream, *, is_one: bool, logprobs: bool) -> None:
    if is_one and not logprobs:
        print_stream(stream)
        return
    tokens = TokenPrinter() if logprobs else None
    try:
        if is_one and tokens:
            _print_tokens(stream, tokens)
        else:
            _print_texts(stream, tokens)
    finally:
        if tokens:
            tokens.end()


def _print_tokens(stream: CompletionStream, tokens: TokenPrinter) -> None:
    """Print the tokens of the only text as they arrive."""
    try:
        for event in stream:
            if event.type == "text":
                tokens.write(event.text, TokenLogprob.sequence(event.logprobs))
            for line in notes_on(event):
                note(line)
    finally:
        tokens.end_text()


def _print_texts(stream: CompletionStream, tokens: Optional[TokenPrinter]) -> None:
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
            if tokens:
                tokens.write(choice.text, choice.token_logprobs)
                tokens.end_text()
            else:
                print(shown_on(sys.stdout, choice.text))
