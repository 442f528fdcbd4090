"""The commands of a conversation: lines that begin with a slash. The model never sees them."""

from __future__ import annotations

import difflib
from typing import Callable, Dict, NamedTuple

from ._conversation import Conversation
from ._terminal import note

__all__ = ["COMMANDS", "EndOfConversation", "run_command"]


class EndOfConversation(Exception):  # noqa: N818 — it is no error
    """The user has ended the conversation."""


class Command(NamedTuple):
    """A command: what ``/help`` prints, and what it does."""

    usage: str
    words: str
    run: Callable[[Conversation, str], None]


def run_command(conversation: Conversation, line: str) -> None:
    """Run the command of a line such as ``/help``.

    Raises:
        EndOfConversation: It is ``/exit``.
        ValueError: There is no such command, or its argument is wrong.
    """
    name, _, argument = line[1:].partition(" ")
    command = COMMANDS.get(name)
    if command is None:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean /{near[0]}?" if near else "/help lists the commands"
        raise ValueError(
            f"/{name} is no command, and was not sent: {hint} "
            "(a space before the slash makes it a question)"
        )
    command.run(conversation, argument.strip())


def _help(_: Conversation, __: str) -> None:
    width = max(len(command.usage) for command in COMMANDS.values())
    for command in COMMANDS.values():
        print(f"{command.usage:{width}}  {command.words}")
    print('Lines between two lines of """ are one question.')
    print("Ctrl-C stops the answer; Ctrl-D on an empty line ends the conversation.")


def _exit(_: Conversation, __: str) -> None:
    raise EndOfConversation


def _clear(conversation: Conversation, _: str) -> None:
    conversation.clear()
    note("a new conversation begins")


COMMANDS: Dict[str, Command] = {
    "help": Command("/help", "this list", _help),
    "clear": Command("/clear", "begin a new conversation", _clear),
    "exit": Command("/exit", "end", _exit),
}
"""The commands by name, in the order of ``/help``."""
