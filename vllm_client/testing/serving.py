"""The server as a program: it runs until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading
from collections.abc import Iterator

from .server import FakeServer

__all__ = ["DEFAULT_PORT", "add_arguments", "serve"]

DEFAULT_PORT = 8000
"""The port of ``vllm serve``, where clients look by default."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``serve`` to a parser."""
    parser.add_argument(
        "--port",
        type=int,
        default=DEFAULT_PORT,
        metavar="N",
        help=f"default: {DEFAULT_PORT}, where vllm-client looks; 0 takes a free port",
    )
    parser.add_argument("--model", default="fake-vllm", help="the name of the served model")
    parser.add_argument("--api-key", metavar="KEY", help="the key that requests must have")
    parser.add_argument(
        "--delay", type=float, default=0.02, metavar="S", help="seconds before each event"
    )


def serve(arguments: argparse.Namespace) -> int:
    """Run a server, print its ``base_url`` on a line of stdout, and wait for Ctrl-C or SIGTERM.

    Returns:
        The exit status: 0, or 1 if the port cannot be used.
    """
    try:
        server = FakeServer(
            arguments.model, api_key=arguments.api_key, delay=arguments.delay, port=arguments.port
        ).start()
    except (OSError, ValueError) as error:
        print(f"cannot listen: {error}; --port 0 takes a free port", file=sys.stderr)
        return 1
    with server, _stop_signal() as stopped:
        print(server.base_url, flush=True)
        print("a stand-in for vLLM, without a language model; Ctrl-C ends it", file=sys.stderr)
        stopped.wait()
    return 0


@contextlib.contextmanager
def _stop_signal() -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set."""
    stopped = threading.Event()
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(kind, lambda *_: stopped.set()) for kind in kinds]
    try:
        yield stopped
    finally:
        for kind, handler in zip(kinds, before):
            signal.signal(kind, handler)
