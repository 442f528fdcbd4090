"""``vllm-client models``, ``health``, ``version`` and ``metrics``: about the server itself."""

from __future__ import annotations

import argparse
import time

from ..client import VllmClient
from ._output import print_json, print_row

__all__ = ["add_health", "add_metrics", "add_models", "add_version"]


def add_models(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``models`` to its parser."""
    parser.add_argument("--json", action="store_true", help="a JSON object a line")
    parser.set_defaults(run=_models)


def _models(client: VllmClient, arguments: argparse.Namespace) -> int:
    for model in client.models.list():
        if arguments.json:
            print_json(model.raw)
            continue
        # Other servers behind the same API tell no length.
        length = f"{model.max_model_len} tokens" if model.max_model_len else ""
        print_row(model.id, f"adapter of {model.parent}" if model.parent else length)
    return 0


def add_health(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``health`` to its parser."""
    parser.add_argument(
        "--wait",
        type=float,
        nargs="?",
        const=600.0,
        metavar="S",
        help="wait until it is ready, 600 seconds at most unless given",
    )
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(run=_health)


def _health(client: VllmClient, arguments: argparse.Namespace) -> int:
    if arguments.wait is not None:
        client.server.wait_until_ready(arguments.wait, progress=not arguments.json)
    is_healthy = client.server.health()
    if arguments.json:
        print_json({"healthy": is_healthy})
    else:
        print_row("healthy" if is_healthy else "not healthy", client.server_url)
    return 0 if is_healthy else 1


def add_version(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``version`` to its parser."""
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(run=_version)


def _version(client: VllmClient, arguments: argparse.Namespace) -> int:
    version = client.server.version()
    if arguments.json:
        print_json({"version": version})
    else:
        print_row(version)
    return 0


def add_metrics(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``metrics`` to its parser."""
    parser.add_argument("name", nargs="?", default="vllm:", help="only names that begin so")
    parser.add_argument(
        "--watch",
        type=float,
        nargs="?",
        const=2.0,
        metavar="S",
        help="again every S seconds, 2 unless given",
    )
    parser.add_argument("--json", action="store_true", help="a JSON object of names and values")
    parser.set_defaults(run=_metrics)


def _metrics(client: VllmClient, arguments: argparse.Namespace) -> int:
    while True:
        text = client.server.metrics(raw=True)
        values = dict(_sample(line) for line in text.splitlines() if line[:1] not in {"", "#"})
        chosen = {name: value for name, value in values.items() if name.startswith(arguments.name)}
        if arguments.json:
            print_json(chosen)
        else:
            for name, value in chosen.items():
                print_row(value, name)
        if arguments.watch is None:
            return 0
        time.sleep(arguments.watch)


def _sample(line: str) -> tuple[str, str]:
    name, _, value = line.rpartition(" ")
    return name, value
