"""``vllm-client chat``: a conversation."""

from __future__ import annotations

import argparse
import sys
from typing import Iterator, List

from ..client import VllmClient
from ..exceptions import VllmError
from ..types import ChatCompletion
from ..types.messages import Message
from ._options import request_params
from ._output import print_error, print_stream

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command to its parser."""
    parser.add_argument("--system", metavar="TEXT", help="how the model should behave")
    parser.add_argument("--thinking", action="store_true", help="print the reasoning, on stderr")
    parser.set_defaults(run=run)


def run(client: VllmClient, arguments: argparse.Namespace) -> int:
    """Run the command. Returns the exit status."""
    history: List[Message] = []
    if arguments.system:
        history.append({"role": "system", "content": arguments.system})
    status = 0
    for line in _lines():
        question: Message = {"role": "user", "content": line}
        try:
            answer = _answer(client, [*history, question], arguments)
        except VllmError as error:
            # The conversation continues as if the question had not been asked.
            status = print_error(error)
        else:
            history += [question, answer]
    return status


def _lines() -> Iterator[str]:
    """The lines that the user types, until ``/exit`` or the end of the input."""
    is_terminal = sys.stdin.isatty()
    while True:
        if is_terminal:
            print("> ", end="", flush=True)
        try:
            line = sys.stdin.readline()
        except KeyboardInterrupt:
            if not is_terminal:
                raise
            print()
            continue
        if not line or line.strip() == "/exit":
            return
        if line.strip():
            yield line.strip()


def _answer(client: VllmClient, messages: List[Message], arguments: argparse.Namespace) -> Message:
    """The model's next message, printed while it arrives."""
    answer = ChatCompletion("", "", 0, [])
    params = request_params(arguments)
    try:
        with client.chat.completions.stream(messages=messages, **params) as stream:
            try:
                print_stream(stream, thinking=arguments.thinking)
            finally:
                answer = stream.snapshot
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            raise
        # Ctrl-C ends the answer, not the program. What arrived is part of the conversation.
        print("stopped", file=sys.stderr)
    return {**answer.assistant_message(), "content": answer.text}
