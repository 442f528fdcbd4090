"""The options that all commands have: the server, and how the model samples."""

from __future__ import annotations

import argparse
import contextlib
from typing import Any, Dict, Iterator

from ..client import VllmClient
from ..timeouts import Timeout
from ._fields import field


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to the parser of a command that generates text."""
    add_server_options(parser)
    sampling = parser.add_argument_group("sampling")
    sampling.add_argument("--max-tokens", type=int, metavar="N", help="end after N tokens")
    sampling.add_argument(
        "--temperature", type=float, metavar="T", help="0: always the most likely token"
    )
    sampling.add_argument(
        "--top-p", type=float, metavar="P", help="only the likeliest tokens, together P"
    )
    sampling.add_argument("--seed", type=int, metavar="N", help="repeats what is random")
    sampling.add_argument(
        "--stop", action="append", metavar="TEXT", help="end before TEXT; may be repeated"
    )
    sampling.add_argument(
        *("--set", "-s"),
        action="append",
        default=[],
        type=field,
        metavar="FIELD=JSON",
        help="any request field, such as top_k=20; may be repeated",
    )


def add_server_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose the server and the model."""
    server = parser.add_argument_group("server")
    server.add_argument("--demo", action="store_true", help="use the embedded stand-in for vLLM")
    server.add_argument("--base-url", help="default: VLLM_BASE_URL, else http://localhost:8000/v1")
    server.add_argument(
        "--api-key",
        metavar="KEY",
        help="default: VLLM_API_KEY, which other users of the machine cannot see",
    )
    server.add_argument("--model", help="default: the server's default model")
    server.add_argument(
        "--timeout", type=float, metavar="S", help="seconds for a complete response"
    )


@contextlib.contextmanager
def open_client(arguments: argparse.Namespace) -> Iterator[VllmClient]:
    """A client of the server that the options name."""
    with contextlib.ExitStack() as stack:
        base_url, api_key = arguments.base_url, arguments.api_key
        if arguments.demo:
            from ..testing import FakeServer  # noqa: PLC0415 — only a demonstration needs it

            # A key in the environment belongs to a server of the user's.
            base_url, api_key = stack.enter_context(FakeServer(delay=0.02)).base_url, ""
        limits = Timeout() if arguments.timeout is None else _limits(arguments.timeout)
        yield stack.enter_context(VllmClient(base_url, api_key=api_key, timeout=limits))


def _limits(seconds: float) -> Timeout:
    # Silence is no failure before the whole time is up, as in a long response that is no stream.
    return Timeout(read=seconds, total=seconds)


def request_params(arguments: argparse.Namespace) -> Dict[str, Any]:
    """The request fields that the options set."""
    names = ("model", "max_tokens", "temperature", "top_p", "seed", "stop")
    given = {name: getattr(arguments, name, None) for name in names}
    params = {name: value for name, value in given.items() if value is not None}
    return {**params, **dict(getattr(arguments, "set", ()))}


def read_text(path: str) -> str:
    """The text of a file in UTF-8, without the line end at its end.

    Raises:
        OSError, ValueError: It cannot be read, or is no such text.
    """
    with open(path, encoding="utf-8-sig") as file:
        try:
            return file.read().rstrip("\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8: {error}") from error
