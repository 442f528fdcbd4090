"""``vllm-client completion``: what a shell needs to complete commands and options."""

from __future__ import annotations

import argparse
import functools
from typing import Callable, Dict, List

from ._description import Argument, Command, commands_of

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser, program: argparse.ArgumentParser) -> None:
    """Add the arguments of this command to its parser; ``program`` is what is completed."""
    parser.add_argument("shell", choices=sorted(_SHELLS))
    parser.set_defaults(run_alone=functools.partial(run, program))


def run(program: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    """Run the command. Returns the exit status."""
    print(_SHELLS[arguments.shell](commands_of(program)))
    return 0


def _bash(commands: List[Command]) -> str:
    cases = "\n".join(
        f"    {command.name}) words='{' '.join(_words(command))}' ;;" for command in commands
    )
    names = " ".join(command.name for command in commands)
    return f"""\
_vllm_client() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} words=''
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W '{names} --help --version' -- "$word"))
    return
  fi
  case ${{COMP_WORDS[1]}} in
{cases}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$word"))
  case $word in
    -*) ;;
    *) COMPREPLY+=($(compgen -f -- "$word")) ;;
  esac
}}
complete -o filenames -F _vllm_client vllm-client"""


def _words(command: Command) -> List[str]:
    return [word for each in command.arguments for word in (*each.flags, *each.choices)]


def _zsh(commands: List[Command]) -> str:
    described = " ".join(_quoted(f"{each.name}:{each.words}") for each in commands)
    cases = "\n".join(
        f"    {command.name}) _arguments {' '.join(map(_zsh_spec, command.arguments))} ;;"
        for command in commands
    )
    return f"""\
#compdef vllm-client
_vllm_client() {{
  local -a commands
  if (( CURRENT == 2 )); then
    commands=({described})
    _describe command commands
    return
  fi
  local command=$words[2]
  shift words
  (( CURRENT-- ))
  case $command in
{cases}
  esac
}}
compdef _vllm_client vllm-client"""


def _zsh_spec(argument: Argument) -> str:
    action = f"({' '.join(argument.choices)})" if argument.choices else "_files"
    value = f":{argument.metavar}:{action}" if argument.metavar else ""
    if not argument.flags:
        return _quoted(f"*{value}")
    words = argument.words.replace("[", "(").replace("]", ")").replace(":", "")
    return " ".join(_quoted(f"{flag}[{words}]{value}") for flag in argument.flags)


def _fish(commands: List[Command]) -> str:
    lines = []
    for command in commands:
        lines.append(
            f"complete -c vllm-client -n __fish_use_subcommand -f -a {command.name} "
            f"-d {_fish_quoted(command.words)}"
        )
        lines += [_fish_line(command, argument) for argument in command.arguments]
    return "\n".join(lines)


def _fish_line(command: Command, argument: Argument) -> str:
    parts = [f"complete -c vllm-client -n '__fish_seen_subcommand_from {command.name}'"]
    parts += [f"-l {f[2:]}" if f.startswith("--") else f"-s {f[1:]}" for f in argument.flags]
    if argument.choices:
        parts.append(f"-a {_fish_quoted(' '.join(argument.choices))}")
    if argument.metavar and argument.flags:
        parts.append("-r" if argument.is_path else "-x")
    return " ".join([*parts, f"-d {_fish_quoted(argument.words)}"])


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


_SHELLS: Dict[str, Callable[[List[Command]], str]] = {"bash": _bash, "fish": _fish, "zsh": _zsh}
