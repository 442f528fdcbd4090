"""``vllm-client``: use a vLLM server from the command line."""

from __future__ import annotations

import argparse
import io
import sys
from typing import Optional, Sequence

from .._version import __version__
from ..exceptions import VllmError
from . import (
    batch,
    bench,
    chat,
    complete,
    doctor,
    embed,
    rerank,
    score,
    serve_demo,
    server,
    tokenize,
)
from ._options import add_options, add_server_options, open_client
from ._output import print_error

__all__ = ["INTERRUPTED", "main"]

INTERRUPTED = 130
"""Exit status after Ctrl-C, the same as in shells."""


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the program.

    Args:
        argv: The arguments, without the program's name; the default is those of the process.

    Returns:
        The exit status: 0 only for complete responses, 1 after an error, 130 after Ctrl-C; of
        ``batch`` also 3 if some rows failed, and 75 if another process writes the file. The text
        that arrived has been printed in every case.
    """
    arguments = _parser().parse_args(argv)
    for file in (sys.stdout, sys.stderr):
        if isinstance(file, io.TextIOWrapper):  # A replacement may accept any text.
            file.reconfigure(errors="backslashreplace")
    try:
        if "run_alone" in arguments:  # It needs no client.
            return int(arguments.run_alone(arguments))
        with open_client(arguments) as client:
            return int(arguments.run(client, arguments))
    except BrokenPipeError:
        sys.stderr.close()  # Python would report the pipe again when it exits.
        return 1
    except (VllmError, TypeError, ValueError, OSError) as error:
        return print_error(error)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return INTERRUPTED


_SERVER_COMMANDS = (
    ("models", "the served models and adapters", server.add_models),
    ("health", "whether the server is there", server.add_health),
    ("version", "the server's version", server.add_version),
    ("metrics", "the server's metrics", server.add_metrics),
    ("tokenize", "the token ids of a text", tokenize.add_tokenize),
    ("detokenize", "the text of token ids", tokenize.add_detokenize),
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vllm-client", description="Use a vLLM server from the command line."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    completing = commands.add_parser("complete", help="continue a prompt")
    complete.add_arguments(completing)
    chatting = commands.add_parser("chat", help="a conversation; /exit or end of input ends it")
    chat.add_arguments(chatting)
    for command in (completing, chatting):
        add_options(command)
    embedding = commands.add_parser("embed", help="the embeddings of texts")
    embed.add_arguments(embedding)
    scoring = commands.add_parser("score", help="how well texts match a query")
    score.add_arguments(scoring)
    ranking = commands.add_parser("rerank", help="texts, the best match of a query first")
    rerank.add_arguments(ranking)
    for command in (embedding, scoring, ranking):
        add_server_options(command)
    batching = commands.add_parser("batch", help="the rows of a file, each exactly once, to a file")
    batch.add_arguments(batching)
    add_options(batching)
    measuring = commands.add_parser("bench", help="how fast the server answers under load")
    bench.add_arguments(measuring)
    add_options(measuring)
    examining = commands.add_parser("doctor", help="find out why it does not work")
    doctor.add_arguments(examining)
    add_server_options(examining)
    serve_demo.add_arguments(
        commands.add_parser("serve-demo", help="run the embedded server until Ctrl-C")
    )
    for name, words, add_arguments in _SERVER_COMMANDS:
        command = commands.add_parser(name, help=words)
        add_arguments(command)
        add_server_options(command)
    return parser
