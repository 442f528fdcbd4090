"""``vllm-client bench``: how fast a server answers one's own prompts under load."""

from __future__ import annotations

import argparse
import json
import sys
from itertools import cycle, islice
from time import perf_counter, process_time
from typing import Any, Dict, Iterator, List

from .._request import split
from ..client import VllmClient
from ..params import ChatCompletionParams, CompletionParams
from ._chart import chart
from ._figures import LABELS, Figures
from ._input import read_input
from ._load import Load
from ._options import read_text, request_params
from ._output import print_json
from ._terminal import is_terminal, note

__all__ = ["SOME_FAILED", "add_arguments", "run"]

SOME_FAILED = 3
"""Exit status if some requests have no complete response."""
_LATE = 0.01
"""Seconds of a request's delay in the client that are too long."""
_LATE_SHARE = 0.01
"""Share of late requests from which on they change the load."""
_BUSY = 0.7
"""Share of a core from which on the client itself may be the limit."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command to its parser."""
    parser.add_argument(
        "file", metavar="FILE", help="a prompt a line, or JSON with prompt or messages; - is stdin"
    )
    parser.add_argument("-n", type=int, metavar="N", help="N requests; the prompts begin again")
    parser.add_argument(
        "--concurrency", type=int, metavar="N", help="requests in flight; default: 8, or no limit"
    )
    parser.add_argument(
        "--rate", type=float, metavar="R", help="requests a second, at random moments (Poisson)"
    )
    parser.add_argument("--chat", action="store_true", help="send each prompt as a message")
    parser.add_argument(
        "--warmup",
        type=int,
        default=1,
        metavar="N",
        help="requests before, not counted; default: 1",
    )
    parser.add_argument("--json", action="store_true", help="the figures as a JSON object")
    parser.add_argument("--svg", metavar="FILE", help="draw the distributions")
    parser.set_defaults(run=run, max_tokens=128, seed=0)


def run(client: VllmClient, arguments: argparse.Namespace) -> int:
    """Run the command. Returns the exit status."""
    requests = _requests(arguments)
    client = client.with_options(max_retries=0)
    for params in islice(cycle(requests), arguments.warmup):
        _stream(client, params)
    figures = _measured(client, arguments, requests)
    if arguments.json:
        print_json(figures.to_dict())
    else:
        print("\n".join(_table(figures, arguments)))
    for warning in _warnings(figures):
        note(warning)
    if arguments.svg:
        with open(arguments.svg, "w", encoding="utf-8") as file:
            file.write(chart(figures.seconds))
    if not figures.complete:
        return 1
    return SOME_FAILED if figures.errors else 0


def _stream(client: VllmClient, params: Dict[str, Any]) -> None:
    route: Any = client.chat.completions if "messages" in params else client.completions
    with route.stream(**params) as stream:
        stream.collect()


def _measured(
    client: VllmClient, arguments: argparse.Namespace, requests: List[Dict[str, Any]]
) -> Figures:
    concurrency = arguments.concurrency or (8 if arguments.rate is None else None)
    load = Load(client, concurrency, arguments.rate, arguments.seed)

    def progress(ended: int) -> None:
        if is_terminal(sys.stderr):
            print(f"\r{ended} of {len(requests)}", end="", file=sys.stderr, flush=True)

    cpu, begin = process_time(), perf_counter()
    outcomes = load.run(requests, progress)
    duration, cpu = perf_counter() - begin, process_time() - cpu
    if is_terminal(sys.stderr):
        print(file=sys.stderr)
    return Figures(outcomes, duration, cpu)


def _requests(arguments: argparse.Namespace) -> List[Dict[str, Any]]:
    """The fields of each request."""
    for option in ("-n", "--concurrency", "--rate"):
        value = getattr(arguments, option.lstrip("-"))
        if value is not None and not value > 0:
            raise ValueError(f"{option} must be above 0, not {value}")
    if arguments.warmup < 0:
        raise ValueError(f"--warmup must be 0 or more, not {arguments.warmup}")
    common = request_params(arguments)
    common.pop("seed")  # Of the load; --set seed=… is the field.
    common.update(arguments.set)
    text = read_input() if arguments.file == "-" else read_text(arguments.file)
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if not lines:
        raise ValueError(f"{arguments.file}: there is no prompt in it")
    rows = [_checked(arguments, common, *each) for each in enumerate(lines, 1)]
    return list(islice(cycle(rows), arguments.n or len(rows)))


def _checked(
    arguments: argparse.Namespace, common: Dict[str, Any], number: int, line: str
) -> Dict[str, Any]:
    """The fields of a request. Unknown ones are refused now: in the load it would be too late."""
    try:
        params = {**common, **_row(line, is_chat=arguments.chat)}
        fields = ChatCompletionParams if "messages" in params else CompletionParams
        split("stream", {**params}, fields)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{arguments.file}, row {number}: {error}") from error
    return params


def _row(line: str, *, is_chat: bool) -> Dict[str, Any]:
    """The fields of a line: JSON, or the prompt itself."""
    row: Dict[str, Any] = json.loads(line) if line.startswith("{") else {"prompt": line}
    if not ("prompt" in row or "messages" in row):
        raise ValueError("it has neither prompt nor messages")
    if is_chat and "prompt" in row:
        row["messages"] = [{"role": "user", "content": row.pop("prompt")}]
    return row


def _table(figures: Figures, arguments: argparse.Namespace) -> List[str]:
    found = figures.to_dict()
    rate = f"{arguments.rate:g} a second" if arguments.rate else "as soon as one ends"
    lines = [
        f"requests    {found['completed']} complete, {found['failed']} failed; sent {rate}",
        f"duration    {found['duration']:.2f} s",
        f"throughput  {found['request_throughput']:.2f} requests/s",
        f"            {found['output_throughput']:.1f} output tokens/s",
        f"            {found['total_token_throughput']:.1f} tokens/s, prompts included",
        f"tokens      {found['total_input_tokens']} in, {found['total_output_tokens']} out",
        f"cut         {figures.cut} responses, by max_tokens",
        f"client      {figures.cpu:.2f} s of CPU",
        "",
        f"{'ms':14}{'mean':>10}{'median':>10}{'p99':>10}",
    ]
    for name, label in LABELS.items():
        if figures.seconds[name]:
            cells = [found[f"{kind}_{name}_ms"] for kind in ("mean", "median", "p99")]
            lines.append(f"{label:14}" + "".join(f"{cell:10.2f}" for cell in cells))
    return lines


def _warnings(figures: Figures) -> Iterator[str]:
    """What makes the figures doubtful."""
    late = sum(delay > _LATE for delay in figures.seconds["client_delay"])
    if late > _LATE_SHARE * len(figures.outcomes):
        yield (
            f"{late} of {len(figures.outcomes)} requests were sent more than {1000 * _LATE:g} ms "
            "late by this client: the load was lighter than asked, and TTFT does not contain the "
            "delay (raise --concurrency, lower --rate, or use another machine)"
        )
    if figures.cpu > _BUSY * figures.duration:
        share = figures.cpu / figures.duration
        yield f"this client used {share:.0%} of a core: it may be the limit"
    for error, count in figures.errors.items():
        yield f"failed {count} times: {error}"
