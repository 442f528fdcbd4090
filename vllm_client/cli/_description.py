"""The parser as data: what completion and the manual page are written from."""

from __future__ import annotations

import argparse
from typing import Any, List, Mapping, NamedTuple, Optional, Sequence

__all__ = ["Argument", "Command", "commands_of"]

_PATHS = {"FILE", "IN", "OUT"}


class Argument(NamedTuple):
    """An option or a positional argument.

    Attributes:
        flags: Such as ``["-n"]``; empty for a positional argument.
        metavar: The name of its value; empty if it takes none.
        words: Its help.
        choices: The only values; empty if any will do.
        nargs: How many values it takes, as argparse writes it: None for one, ``"?"`` or ``"*"``.
        repeats: Whether the option may be given again.
    """

    flags: Sequence[str]
    metavar: str
    words: str
    choices: Sequence[str]
    nargs: Optional[str]
    repeats: bool

    @property
    def is_path(self) -> bool:
        """Whether its value is the path of a file."""
        return self.metavar in _PATHS


class Command(NamedTuple):
    """A command: its name, its help in a few words, its usage, arguments and examples."""

    name: str
    words: str
    usage: str
    arguments: List[Argument]
    examples: str


def commands_of(parser: argparse.ArgumentParser) -> List[Command]:
    """The commands of a parser, in their order."""
    # argparse has no public way to ask a parser what it parses.
    group: Any = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    words: Mapping[str, str] = {each.dest: each.help or "" for each in group._choices_actions}
    return [
        Command(
            name,
            words[name],
            " ".join(command.format_usage().split()[1:]),
            [_argument(action) for action in command._actions],
            command.epilog or "",
        )
        for name, command in group.choices.items()
    ]


def _argument(action: argparse.Action) -> Argument:
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    takes_value = action.nargs != 0
    return Argument(
        action.option_strings,
        metavar if takes_value else "",
        (action.help or "").replace("%%", "%"),
        [str(choice) for choice in action.choices or ()],
        action.nargs if isinstance(action.nargs, str) else None,
        isinstance(action, argparse._AppendAction),
    )
