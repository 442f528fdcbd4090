"""``vllm-client chat``: a conversation."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress

from ..client import VllmClient
from ..exceptions import VllmError
from ._commands import COMMANDS, EndOfConversation, run_command
from ._conversation import Conversation
from ._input import open_reader, texts
from ._output import print_error
from ._terminal import is_terminal, note

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command to its parser."""
    system = parser.add_mutually_exclusive_group()
    system.add_argument("--system", metavar="TEXT", help="how the model should behave")
    system.add_argument("--system-file", metavar="FILE", help="the same, from a file")
    parser.add_argument(
        *("--image", "-i"),
        action="append",
        default=[],
        metavar="FILE",
        help="an image for the first question; may be repeated",
    )
    parser.add_argument("--plain", action="store_true", help="print Markdown as it is")
    parser.add_argument("--stats", action="store_true", help="print times and speed, on stderr")
    parser.add_argument("--thinking", action="store_true", help="print the reasoning, on stderr")
    parser.set_defaults(run=run)


def run(client: VllmClient, arguments: argparse.Namespace) -> int:
    """Run the command. Returns the exit status."""
    conversation = Conversation(client, arguments)
    if is_terminal(sys.stdin):
        note("/help lists the commands; Ctrl-D ends")
    status = 0
    with suppress(EndOfConversation):
        for text in texts(open_reader(COMMANDS)):
            status = _said(conversation, text) or status
    return 0 if is_terminal(sys.stdin) else status


def _said(conversation: Conversation, text: str) -> int:
    """Do what a line asks for. Returns the exit status of a failure, else 0.

    Ctrl-C at a terminal ends what it asks for, not the program.
    """
    try:
        if text.startswith("/"):
            run_command(conversation, text)
        else:
            conversation.ask(text.strip())
    except BrokenPipeError:  # Nobody reads the answers: it ends the program.
        raise
    except (VllmError, TypeError, ValueError, OSError) as error:
        return print_error(error)
    except KeyboardInterrupt:
        if not is_terminal(sys.stdin):
            raise
        note("stopped")
    return 0
