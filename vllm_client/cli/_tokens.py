"""Tokens with their log-probabilities: coloured on a terminal, lines elsewhere."""

from __future__ import annotations

import json
import math
import sys
from typing import Optional, Sequence

from .._visible import visible
from ..types.logprobs import TokenLogprob
from ._terminal import DIM, has_colour, painted

__all__ = ["TokenPrinter"]

# The least probability of a step, and its SGR style. The last is underlined for whoever does not
# tell the colours apart.
_STEPS = ((0.9, ""), (0.5, "36"), (0.1, "33"), (0.01, "35"), (0.0, "1;4;31"))


class TokenPrinter:
    """Prints tokens to stdout."""

    def __init__(self) -> None:
        self._colours = has_colour(sys.stdout)

    def write(self, text: str, tokens: Sequence[TokenLogprob]) -> None:
        """Print the tokens of a text; the text itself if the server sent none."""
        for token in tokens or ([TokenLogprob(text, None)] if text else []):
            sys.stdout.write(_coloured(token) if self._colours else f"{_line(token)}\n")
        sys.stdout.flush()

    def end_text(self) -> None:
        """End the line."""
        if self._colours:
            print()

    def end(self) -> None:
        """Print the meaning of the colours, on stderr."""
        if self._colours:
            legend = [
                painted(f">={least:.0%}" if least else "<1%", style, sys.stderr)
                for least, style in _STEPS
            ]
            words = painted("vllm-client: probability of each token:", DIM, sys.stderr)
            print(words, *legend, file=sys.stderr)


def _coloured(token: TokenLogprob) -> str:
    text = visible(token.token)
    if token.logprob is None:
        return text
    probability = math.exp(token.logprob)
    style = next(style for least, style in _STEPS if probability >= least)
    # A background of a line's end would fill the line.
    return "\n".join(
        painted(part, style, sys.stdout) if style else part for part in text.split("\n")
    )


def _line(token: TokenLogprob) -> str:
    """Token and log-probability, then the alternatives, with tabs between; texts are JSON."""
    tokens = [token, *(other for other in token.top_logprobs if other.token != token.token)]
    return "\t".join(f"{json.dumps(each.token)}\t{_number(each.logprob)}" for each in tokens)


def _number(logprob: Optional[float]) -> str:
    return "-" if logprob is None else f"{logprob:.4f}"
