"""``vllm-client serve-demo``: the embedded server, until Ctrl-C."""

from __future__ import annotations

import argparse

__all__ = ["add_arguments"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command to its parser."""
    # Those of `python -m vllm_client.testing`, whose import would delay every other command.
    parser.add_argument(
        "--port",
        type=int,
        default=8000,
        metavar="N",
        help="default: 8000, where vllm-client looks; 0 takes a free port",
    )
    parser.add_argument("--model", default="fake-vllm", help="the name of the served model")
    parser.add_argument("--api-key", metavar="KEY", help="the key that requests must have")
    parser.add_argument(
        "--delay", type=float, default=0.02, metavar="S", help="seconds before each event"
    )
    parser.set_defaults(run_alone=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command. Returns the exit status."""
    from ..testing.serving import serve  # noqa: PLC0415 — it imports the embedded server

    return serve(arguments)
