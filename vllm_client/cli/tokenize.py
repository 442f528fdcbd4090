"""``vllm-client tokenize`` and ``detokenize``: text to token ids and back."""

from __future__ import annotations

import argparse
import sys

from ..client import VllmClient
from ._input import read_input
from ._options import request_params
from ._output import print_json, print_row, shown_on

__all__ = ["add_detokenize", "add_tokenize"]


def add_tokenize(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``tokenize`` to its parser."""
    parser.add_argument("text", nargs="?", help="default: standard input")
    parser.add_argument("--json", action="store_true", help="with the pieces and the count")
    parser.set_defaults(run=_tokenize)


def _tokenize(client: VllmClient, arguments: argparse.Namespace) -> int:
    text = read_input() if arguments.text is None else arguments.text
    found = client.tokenizer.tokenize(text, return_token_strs=True, **request_params(arguments))
    if arguments.json:
        print_json(found.raw)
    else:
        print_row(*map(str, found.tokens))
    return 0


def add_detokenize(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``detokenize`` to its parser."""
    parser.add_argument("tokens", nargs="*", help="ids; default: those of standard input")
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(run=_detokenize)


def _detokenize(client: VllmClient, arguments: argparse.Namespace) -> int:
    given = arguments.tokens or read_input("the token ids").split()
    strange = [token for token in given if not token.isdecimal()]
    if strange:
        raise ValueError(f"{strange[0]!r} is no token id")
    tokens = [int(token) for token in given]
    text = client.tokenizer.detokenize(tokens, **request_params(arguments))
    if arguments.json:
        print_json({"text": text})
    else:
        print(shown_on(sys.stdout, text))
    return 0
