"""``vllm-client batch``: the rows of a file, each exactly once, to a file."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any, Dict, List, Tuple

from .._visible import visible
from ..client import VllmClient
from ..exceptions import BatchLockedError
from ._options import request_params
from ._output import print_error

if TYPE_CHECKING:
    from ..batch import BatchReport

__all__ = ["FAILED_ROWS", "LOCKED", "add_arguments", "run"]

FAILED_ROWS = 3
"""Exit status if the run has ended and some rows have no response."""
LOCKED = 75
"""Exit status if another process writes the file: EX_TEMPFAIL, "try again later"."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command to its parser."""
    parser.add_argument("input", metavar="IN", help="a file of rows, also .gz; - is standard input")
    parser.add_argument("output", metavar="OUT", help="the file to write, or to go on with")
    parser.add_argument(
        "--route", help="completions, chat, or a URL; default: each row tells its own"
    )
    parser.add_argument("--prompts", action="store_true", help="each line is a prompt, not JSON")
    parser.add_argument(
        "--max-concurrency", type=int, metavar="N", help="requests in flight at most; default: 256"
    )
    parser.add_argument(
        "--shard", type=_shard, default=(0, 1), metavar="K/N", help="every Nth row, from row K on"
    )
    parser.add_argument("--ordered", action="store_true", help="put OUT in the order of IN")
    parser.add_argument(
        "--retry-failed", action="store_true", help="also rows that failed for good before"
    )
    parser.add_argument("--progress", action="store_true", help="show how far the run is")
    parser.set_defaults(run=run)


def run(client: VllmClient, arguments: argparse.Namespace) -> int:
    """Run the command. Returns the exit status."""
    if arguments.output == "-":
        raise ValueError("OUT must be a file: a run that was killed goes on from it")
    try:
        report = client.batch.run(
            arguments.input,
            arguments.output,
            route=arguments.route,
            ordered=arguments.ordered,
            retry_failed=arguments.retry_failed,
            prompts=arguments.prompts,
            shard=arguments.shard,
            progress=arguments.progress,
            **_params(arguments),
        )
    except BatchLockedError as error:
        print_error(error)
        return LOCKED
    for line in _summary(report):
        print(visible(line), file=sys.stderr)
    return FAILED_ROWS if report.failed else 0


def _params(arguments: argparse.Namespace) -> Dict[str, Any]:
    params = request_params(arguments)
    if arguments.max_concurrency is not None:
        params["max_concurrency"] = arguments.max_concurrency
    return params


def _summary(report: BatchReport) -> List[str]:
    tokens = f"{report.output_throughput:.1f} output tokens/s"
    lines = [
        f"done {report.done}, failed {report.failed}, skipped {report.skipped} (finished before)",
        f"{report.duration:.1f} s, {report.request_throughput:.1f} rows/s, {tokens}",
    ]
    cut = report.finish_reasons.get("length", 0)
    if cut:
        lines.append(f"{cut} cut by max_tokens")
    if report.failed:
        lines.append(f"failed rows: {report.errors}")
    return lines


def _shard(text: str) -> Tuple[int, int]:
    """``3/8`` → ``(3, 8)``."""
    remainder, _, divisor = text.partition("/")
    if remainder.isdecimal() and divisor.isdecimal() and int(remainder) < int(divisor):
        return int(remainder), int(divisor)
    raise argparse.ArgumentTypeError(
        f"write K/N with K from 0 to N-1, such as 0/8 to 7/8, not {text!r}"
    )
