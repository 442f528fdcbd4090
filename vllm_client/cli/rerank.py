"""``vllm-client rerank``: texts in the order in which they match a query."""

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
    parser.add_argument("--top-n", type=int, default=0, metavar="N", help="print only the best N")
    parser.add_argument("--json", action="store_true", help="a JSON object a line")
    parser.set_defaults(run=run)


def run(client: VllmClient, arguments: argparse.Namespace) -> int:
    """Run the command. Returns the exit status."""
    if arguments.top_n < 0:
        raise ValueError(f"--top-n must be 0 or more, not {arguments.top_n}")
    documents = inputs(arguments.documents)
    response = client.rerank.create(
        query=arguments.query,
        documents=documents,
        top_n=arguments.top_n,
        **request_params(arguments),
    )
    for result in response.results:
        if arguments.json:
            print_json({"index": result.index, "relevance_score": result.relevance_score})
        else:
            print_row(f"{result.relevance_score:.4f}", documents[result.index])
    return 0
