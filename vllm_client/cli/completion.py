"""``vllm-client completion``: what a shell needs to complete commands and options."""

from __future__ import annotations

import argparse
import functools
from typing import Callable, Dict, Iterator, List

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
    cases = "\n".join(line for command in commands for line in _bash_cases(command))
    names = " ".join(command.name for command in commands)
    # Where COMPREPLY stays empty, readline completes file names (`-o default`), with their blanks.
    return f"""\
_vllm_client() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
  local command=${{COMP_WORDS[1]}} flags='' values='' words=''
  COMPREPLY=()
  # --option=value is three words.
  if [ "$word" = = ]; then
    word=''
  elif [ "$before" = = ]; then
    before=${{COMP_WORDS[COMP_CWORD-2]}}
  fi
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W '{names} --help --version' -- "$word"))
    return
  fi
  case $command in
{cases}
  esac
  case $word in
    -*) words=$flags ;;
  esac
  case " $values " in
    *" $before "*) compopt +o default 2>/dev/null; words='' ;;
  esac
{_bash_choices(commands)}
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _vllm_client vllm-client"""


def _bash_cases(command: Command) -> Iterator[str]:
    flags = [flag for each in command.arguments for flag in each.flags]
    values = [
        flag
        for each in command.arguments
        for flag in each.flags
        if each.metavar and each.nargs is None and not each.is_path
    ]
    words = [word for each in command.arguments if not each.flags for word in each.choices]
    own = f" words='{' '.join(words)}'" if words else ""
    yield f"    {command.name}) flags='{' '.join(flags)}' values='{' '.join(values)}'{own} ;;"


def _bash_choices(commands: List[Command]) -> str:
    cases = [
        f"    '{command.name} {flag}') words='{' '.join(each.choices)}' ;;"
        for command in commands
        for each in command.arguments
        if each.choices
        for flag in each.flags
    ]
    return "\n".join(['  case "$command $before" in', *cases, "  esac"])


def _zsh(commands: List[Command]) -> str:
    described = " ".join(_quoted(f"{each.name}:{each.words}") for each in commands)
    cases = "\n".join(
        f"    {command.name}) _arguments {' '.join(_zsh_specs(command))} ;;" for command in commands
    )
    return f"""\
#compdef vllm-client
_vllm-client() {{
  local -a commands
  if (( CURRENT == 2 )); then
    commands=({described})
    _describe command commands
    compadd -- --help --version
    return
  fi
  local command=$words[2]
  shift words
  (( CURRENT-- ))
  case $command in
{cases}
  esac
}}
if [ "$funcstack[1]" = _vllm-client ]; then
  _vllm-client "$@"  # The shell has just loaded this file, to complete a line.
else
  compdef _vllm-client vllm-client
fi"""


def _zsh_specs(command: Command) -> Iterator[str]:
    for argument in command.arguments:
        if argument.flags:
            yield from _zsh_option(argument)
        else:
            kind = {"*": "*:", "?": "::"}.get(argument.nargs or "", ":")
            yield _quoted(f"{kind}{argument.metavar}:{_zsh_action(argument)}")


def _zsh_option(argument: Argument) -> Iterator[str]:
    words = argument.words.replace("[", r"\[").replace("]", r"\]")
    value = f":{argument.metavar}:{_zsh_action(argument)}" if argument.metavar else ""
    optional = ":" if value and argument.nargs == "?" else ""
    others = "*" if argument.repeats else f"({' '.join(argument.flags)})"
    for flag in argument.flags:
        yield _quoted(f"{others}{flag}[{words}]{optional}{value}")


def _zsh_action(argument: Argument) -> str:
    if argument.choices:
        return f"({' '.join(argument.choices)})"
    # A message about a text would stand beside the options that begin as the word does.
    return "_files" if argument.is_path else "{true}"


def _fish(commands: List[Command]) -> str:
    lines = [
        "function __vllm_client_runs",
        "  set -l words (commandline -opc)",
        '  test "$words[2]" = $argv[1]',
        "end",
        "complete -c vllm-client -n __fish_use_subcommand -f",
        "complete -c vllm-client -n __fish_use_subcommand -l help -d 'show the help'",
        "complete -c vllm-client -n __fish_use_subcommand -l version -d 'show the version'",
    ]
    for command in commands:
        lines.append(
            f"complete -c vllm-client -n __fish_use_subcommand -a {command.name} "
            f"-d {_fish_quoted(command.words)}"
        )
        lines += _fish_lines(command)
    return "\n".join(lines)


def _fish_lines(command: Command) -> Iterator[str]:
    start = f"complete -c vllm-client -n '__vllm_client_runs {command.name}'"
    if not any(each.is_path for each in command.arguments if not each.flags):
        yield f"{start} -f"
    for argument in command.arguments:
        parts = [f"-l {f[2:]}" if f.startswith("--") else f"-s {f[1:]}" for f in argument.flags]
        if argument.choices:
            parts.append(f"-a {_fish_quoted(' '.join(argument.choices))}")
        if argument.flags and argument.metavar and argument.nargs is None:
            parts.append("-rF" if argument.is_path else "-x")
        if parts:
            yield " ".join([start, *parts, f"-d {_fish_quoted(argument.words)}"])


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


_SHELLS: Dict[str, Callable[[List[Command]], str]] = {"bash": _bash, "fish": _fish, "zsh": _zsh}
