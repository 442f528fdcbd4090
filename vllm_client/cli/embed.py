"""``vllm-client embed``: the embeddings of texts."""

from __future__ import annotations

import argparse

from ..client import VllmClient
from ._input import inputs
from ._options import request_params
from ._output import print_json, print_row

__all__ = ["add_arguments", "run"]

_SHOWN = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command to its parser."""
    parser.add_argument(
        "texts", nargs="*", metavar="TEXT", help="default: the lines of standard input"
    )
    parser.add_argument("--json", action="store_true", help="a JSON object a line, all numbers")
    parser.set_defaults(run=run)


def run(client: VllmClient, arguments: argparse.Namespace) -> int:
    """Run the command. Returns the exit status."""
    texts = inputs(arguments.texts)
    response = client.embeddings.create(input=texts, **request_params(arguments))
    for text, item in zip(texts, response.data):
        vector = item.embedding
        if arguments.json:
            print_json({"index": item.index, "embedding": vector})
        else:
            numbers = " ".join(f"{number:.4g}" for number in vector[:_SHOWN])
            print_row(f"{len(vector)} dimensions", f"{numbers} ...", text)
    return 0
