"""``vllm-client man``: the manual page."""

from __future__ import annotations

import argparse
import functools
from typing import Iterator

from .._version import __version__
from ._description import Argument, Command, commands_of

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser, program: argparse.ArgumentParser) -> None:
    """Add the arguments of this command to its parser; ``program`` is what is described."""
    parser.set_defaults(run_alone=functools.partial(run, program))


def run(program: argparse.ArgumentParser, _: argparse.Namespace) -> int:
    """Run the command. Returns the exit status."""
    print("\n".join(_page(program)))
    return 0


# Names of environment variables and exit statuses, each with its meaning.
_ENVIRONMENT = {
    "VLLM_BASE_URL": "The address of the server, unless --base-url is given.",
    "VLLM_API_KEY": "The key of the server, unless --api-key is given.",
    "HTTP_PROXY, HTTPS_PROXY, NO_PROXY": "The proxies, as for most programs.",
    "REQUESTS_CA_BUNDLE": "A file with the certificates to trust instead of the usual ones.",
    "NO_COLOR": "If it is not empty, nothing is coloured.",
    "XDG_STATE_HOME": "Where the history of chat is kept; by default in ~/.local/state.",
}
_STATUSES = {
    "0": "The response is complete.",
    "1": "An error; what arrived has been printed.",
    "2": "The command line is wrong.",
    "3": "batch, bench: some rows or requests failed.",
    "75": "batch: another process writes the output.",
    "130": "Ctrl-C.",
}


def _page(program: argparse.ArgumentParser) -> Iterator[str]:
    yield f'.TH VLLM-CLIENT 1 "" "vllm-sync-client {__version__}"'
    # No word is broken or stretched: options are copied.
    yield from (".nh", ".ad l")
    yield ".SH NAME"
    yield r"vllm\-client \- use a vLLM server from the command line"
    yield ".SH SYNOPSIS"
    yield ".B vllm-client"
    yield r"\fICOMMAND\fR [\fIOPTION\fR ...]"
    yield ".SH COMMANDS"
    for command in commands_of(program):
        yield from _section(command)
    for title, terms in (("ENVIRONMENT", _ENVIRONMENT), ("EXIT STATUS", _STATUSES)):
        yield f".SH {title}"
        for term, words in terms.items():
            yield from _term(rf"\fB{_escaped(term)}\fR", words)


def _section(command: Command) -> Iterator[str]:
    yield f".SS {_escaped(command.name)}"
    yield _escaped(f"{command.words[:1].upper()}{command.words[1:]}.")
    yield ".PP"
    yield _escaped(command.usage)
    for argument in command.arguments:
        yield from _term(_name(argument), argument.words)
    yield from (".PP", ".nf")
    yield from map(_escaped, command.examples.splitlines())
    yield ".fi"


def _name(argument: Argument) -> str:
    flags = ", ".join(rf"\fB{_escaped(flag)}\fR" for flag in argument.flags)
    return rf"{flags} \fI{_escaped(argument.metavar)}\fR".strip()


def _term(name: str, words: str) -> Iterator[str]:
    yield from (".TP", name, _escaped(words))


def _escaped(text: str) -> str:
    """The text as roff shows it; a point or a quote at its beginning is no request."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{escaped}" if escaped[:1] in {".", "'"} else escaped
