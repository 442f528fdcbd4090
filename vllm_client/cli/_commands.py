"""The commands of a conversation: lines that begin with a slash. The model never sees them."""

from __future__ import annotations

import difflib
import json
import os
import re
import shlex
import sys
import textwrap
from typing import Callable, Dict, NamedTuple

from ._conversation import Conversation
from ._fields import read_field
from ._output import print_row
from ._terminal import columns_of, note

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
    name, argument = re.findall(r"(?s)^/(\S*)(.*)", line)[0]
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
    columns = columns_of(sys.stdout) - 1
    width = max(len(command.usage) for command in COMMANDS.values())
    is_wide = columns > 3 * width
    hang = " " * (width + 2 if is_wide else 4)
    for command in COMMANDS.values():
        start = f"{command.usage:{width}}  " if is_wide else f"{command.usage}\n{hang}"
        print(start + f"\n{hang}".join(textwrap.wrap(command.words, columns - len(hang))))
    for sentence in _SENTENCES:
        print(textwrap.fill(sentence, columns))


_SENTENCES = (
    'Lines between two lines of """ are one question.',
    "Ctrl-C stops the answer; Ctrl-D on an empty line ends the conversation.",
)


def _exit(_: Conversation, __: str) -> None:
    raise EndOfConversation


def _clear(conversation: Conversation, _: str) -> None:
    conversation.clear()
    note("a new conversation begins")


def _model(conversation: Conversation, name: str) -> None:
    if name:
        conversation.params["model"] = name
        return
    chosen = conversation.params.get("model")
    for number, model in enumerate(conversation.client.models.list()):
        is_chosen = model.id == chosen or (chosen is None and number == 0)
        print_row("*" if is_chosen else " ", model.id)


def _system(conversation: Conversation, text: str) -> None:
    if text:
        conversation.system = None if text == "-" else text
    else:
        note(conversation.system or "there is no system message")


def _retry(conversation: Conversation, _: str) -> None:
    conversation.retry()


def _save(conversation: Conversation, path: str) -> None:
    if not path:
        raise ValueError("write /save FILE; a name that ends in .json is written as JSON")
    conversation.save(os.path.expanduser(path))
    note(f"saved {len(conversation.messages)} messages to {path}")


def _set(conversation: Conversation, text: str) -> None:
    params = conversation.params
    if "=" in text:
        conversation.set(*read_field(text))
    elif text:
        params.pop(text, None)
    else:
        for name, value in params.items():
            print_row(
                f"{name}={value if isinstance(value, str) else json.dumps(value, default=str)}"
            )


def _image(conversation: Conversation, paths: str) -> None:
    if not paths:
        raise ValueError("write /image FILE ...; the images are sent with the next question")
    # A terminal puts quotes or backslashes into a path that is dropped on it; Windows' need none.
    for path in shlex.split(paths, posix=os.name != "nt"):
        conversation.attach(os.path.expanduser(path))
    note("sent with the next question")


COMMANDS: Dict[str, Command] = {
    "help": Command("/help", "this list", _help),
    "model": Command("/model [NAME]", "use another model; without a name, the list", _model),
    "system": Command("/system [TEXT]", "how the model should behave; - removes it", _system),
    "set": Command("/set [FIELD=JSON]", "a request field; /set FIELD drops it", _set),
    "image": Command("/image FILE ...", "images for the next question", _image),
    "retry": Command("/retry", "ask the last question again", _retry),
    "save": Command("/save FILE", "write the conversation, as Markdown or .json", _save),
    "clear": Command("/clear", "begin a new conversation", _clear),
    "exit": Command("/exit", "end", _exit),
}
"""The commands by name, in the order of ``/help``."""
