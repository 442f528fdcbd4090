"""``vllm-client doctor``: why it does not work, and what to do."""

from __future__ import annotations

import argparse
import sys

from ..client import VllmClient
from ._checks import Finding, findings
from ._output import print_json, shown_on
from ._terminal import painted

__all__ = ["add_arguments", "run"]

_STYLES = {"ok": "32", "warning": "33", "failed": "1;31", "skipped": "2"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command to its parser."""
    parser.add_argument(
        "--idle",
        type=float,
        metavar="S",
        help="also wait about S seconds for a response that comes late, as behind a long queue",
    )
    parser.add_argument("--json", action="store_true", help="a JSON object a line for each check")
    parser.set_defaults(run=run)


def run(client: VllmClient, arguments: argparse.Namespace) -> int:
    """Run the command. Returns the exit status: 1 if a check failed."""
    status = 0
    for found in findings(arguments, client):
        if arguments.json:
            print_json(found._asdict())
        else:
            _print(found)
        status = status or int(found.state == "failed")
    return status


def _print(found: Finding) -> None:
    state = painted(f"{found.state:7}", _STYLES[found.state], sys.stdout)
    print(f"{state} {found.check}: {shown_on(sys.stdout, found.words)}", flush=True)
    if found.advice:
        print(f"        -> {shown_on(sys.stdout, found.advice)}", flush=True)
