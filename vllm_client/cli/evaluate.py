"""``vllm-client score-text``, ``choose`` and ``perplexity``: how likely a model finds texts."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Dict, List, Tuple

from ..client import VllmClient
from ..evaluate import LogLikelihood, Perplexity
from ._input import inputs, read_bytes
from ._options import request_params
from ._output import print_json, print_row

__all__ = ["add_choose", "add_perplexity", "add_score_text"]


def add_score_text(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``score-text`` to its parser."""
    parser.add_argument("context", help="may be empty; see --bos-token-id")
    parser.add_argument(
        "continuations",
        nargs="*",
        metavar="CONTINUATION",
        help="what follows the context; default: the lines of standard input",
    )
    parser.add_argument(
        "--boundary",
        choices=["joint", "tokens"],
        default="joint",
        help="tokenize both as one text, or apart; default: joint",
    )
    _add_common(parser)
    parser.set_defaults(run=_score_text)


def add_choose(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``choose`` to its parser."""
    parser.add_argument("context")
    parser.add_argument(
        "options",
        nargs="*",
        metavar="OPTION",
        help="what may follow the context; default: the lines of standard input",
    )
    parser.add_argument("--normalize", choices=["token", "byte"], help="default: the plain sum")
    _add_common(parser)
    parser.set_defaults(run=_choose)


def add_perplexity(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``perplexity`` to its parser."""
    parser.add_argument(
        "files", nargs="*", metavar="FILE", default=["-"], help="default: standard input"
    )
    parser.add_argument("--window", type=int, metavar="N", help="the most tokens of a request")
    parser.add_argument("--stride", type=int, metavar="N", help="new tokens of each request")
    _add_common(parser)
    parser.set_defaults(run=_perplexity)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bos-token-id", type=int, metavar="ID", help="the token in front, if there is none"
    )
    parser.add_argument("--json", action="store_true", help="a JSON object a line")


def _params(arguments: argparse.Namespace, *names: str) -> Dict[str, Any]:
    given = {name: getattr(arguments, name) for name in ("bos_token_id", *names)}
    chosen = {name: value for name, value in given.items() if value is not None}
    return {**request_params(arguments), **chosen}


def _score_text(client: VllmClient, arguments: argparse.Namespace) -> int:
    continuations = inputs(arguments.continuations)
    if not continuations:
        raise ValueError("there is no continuation: pass it as an argument, or pipe lines in")
    pairs = ((arguments.context, continuation) for continuation in continuations)
    results = client.evaluate.loglikelihoods(pairs, **_params(arguments, "boundary"))
    for continuation, result in zip(continuations, results):
        assert isinstance(result, LogLikelihood)  # An error would have been raised.
        if arguments.json:
            print_json({"continuation": continuation, **_as_json(result)})
        else:
            greedy = "greedy" if result.is_greedy else ""
            print_row(f"{result.logprob:.4f}", _counted(len(result)), greedy, continuation)
    return 0


def _as_json(result: LogLikelihood) -> Dict[str, Any]:
    return {
        "logprob": result.logprob,
        "is_greedy": result.is_greedy,
        "tokens": result.tokens,
        "token_ids": list(result.token_ids),
        "token_logprobs": list(result.token_logprobs),
        "context_tokens_rescored": result.context_tokens_rescored,
        "bos_token_id": result.bos_token_id,
        "boundary": result.boundary,
        "method": result.method,
    }


def _choose(client: VllmClient, arguments: argparse.Namespace) -> int:
    options = inputs(arguments.options)
    choice = client.evaluate.choose(arguments.context, options, **_params(arguments, "normalize"))
    if arguments.json:
        print_json(
            {
                "best": choice.best,
                "index": choice.index,
                "options": options,
                "scores": choice.scores,
                "probabilities": choice.probabilities,
                "ties": choice.ties,
                "context_tokens_rescored": choice.context_tokens_rescored,
                "bos_token_id": choice.bos_token_id,
                "method": choice.method,
            }
        )
        return 0
    ranked = sorted(range(len(options)), key=lambda number: -choice.scores[number])
    for number in ranked:
        share, score = choice.probabilities[number], choice.scores[number]
        print_row(f"{share:.1%}", f"{score:.4f}", options[number])
    return 0


def _perplexity(client: VllmClient, arguments: argparse.Namespace) -> int:
    params = _params(arguments, "window", "stride")
    for name, text in map(_read, arguments.files):
        try:
            result = client.evaluate.perplexity(text, **params)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        if arguments.json:
            print_json({"file": name, **_figures(result)})
        else:
            print_row(
                f"perplexity {result.perplexity:.4f}",
                f"{result.bits_per_byte:.4f} bits/byte",
                _counted(result.tokens),
                f"window {result.window}, stride {result.stride}" if result.windows > 1 else "",
                name,
            )
    return 0


def _figures(result: Perplexity) -> Dict[str, Any]:
    names: List[str] = ["perplexity", "nll", "per_token", "per_byte", "per_word", "bits_per_byte"]
    names += ["tokens", "bytes", "words", "window", "stride", "windows", "unscored_tokens"]
    names += ["bos_token_id", "method"]
    return {name: getattr(result, name) for name in names}


def _counted(tokens: int) -> str:
    return f"{tokens} token" if tokens == 1 else f"{tokens} tokens"


def _read(name: str) -> Tuple[str, str]:
    """The name and the text of a file; ``-`` is standard input.

    Raises:
        ValueError: It cannot be read, or is not UTF-8.
    """
    try:
        # As bytes: text files would turn all ends of lines into one kind.
        content = read_bytes() if name == "-" else Path(name).read_bytes()
        return name, content.decode("utf-8")
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not UTF-8: {error}") from error
