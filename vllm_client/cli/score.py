"""``vllm-client score``: how well texts match a query."""

from __future__ import annotations

import argparse

from ..client import VllmClient
from ._input import inputs
from ._options import request_params
from ._output import print_json, print_row

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command to its parser."""
    parser.add_argument("query")
    parser.add_argument(
        "documents", nargs="*", metavar="DOCUMENT", help="default: the lines of standard input"
    )
    parser.add_argument("--json", action="store_true", help="a JSON object a line")
    parser.set_defaults(run=run)


def run(client: VllmClient, arguments: argparse.Namespace) -> int:
    """Run the command. Returns the exit status."""
    documents = inputs(arguments.documents)
    # The names that servers of every version know.
    response = client.score.create(
        text_1=arguments.query, text_2=documents, **request_params(arguments)
    )
    for document, item in zip(documents, response.data):
        if arguments.json:
            print_json({"index": item.index, "score": item.score})
        else:
            print_row(f"{item.score:.4f}", document)
    return 0
