"""Is ``stream().collect()`` what ``create()`` of the same request returns?"""

from __future__ import annotations

import math
import re
from typing import Any, Callable, Iterator, List, Mapping, Tuple, Union

from attrs import frozen

from vllm_client import ChatCompletion, Completion

from .table import KnownBehaviourError, UnknownDifferenceError

Answer = Union[Completion, ChatCompletion]
Fields = Mapping[str, Any]

# What is never the same in two responses: ids, clocks, and how fast the server was.
_NEVER_THE_SAME = re.compile(
    r"(id|created|metrics|choices\[\d+\]\.message\.tool_calls\[\d+\]\.id)$"
)
_CLOSE = 1e-3
"""Log-probabilities may differ by this much: the batches of two requests are not the same."""


@frozen
class Rule:
    """A difference that the server causes.

    Attributes:
        path: A pattern of the paths that may differ.
        when: Whether it may, for a request with these fields.
        reason: What the server does.
    """

    path: str
    when: Callable[[Fields], bool]
    reason: str


def _echoes(fields: Fields) -> bool:
    return bool(fields.get("echo"))


RULES = [
    Rule(
        r"choices\[\d+\]\.prompt_logprobs",
        lambda f: _echoes(f) and "logprobs" in f,
        "echo: prompt_logprobs only in the whole response",
    ),
    Rule(
        r"choices\[\d+\]\.prompt_token_ids",
        _echoes,
        "echo: prompt_token_ids only in the stream",
    ),
    Rule(
        r"usage\.completion_tokens_details.*",
        lambda f: "messages" in f,
        "reasoning_tokens only in the whole response",
    ),
    Rule(
        r"usage\.prompt_tokens_details.*",
        lambda _: True,
        "the second request finds the prompt of the first in the cache",
    ),
    Rule(
        r"choices\[\d+\]\.message\..*",
        lambda f: f.get("tool_choice") == "required",
        "required with broken JSON: the whole response has text, the stream a call",
    ),
]


def compare(fields: Fields, whole: Answer, streamed: Answer) -> None:
    """Compare the whole response and the collected stream of a request with these fields.

    Raises:
        UnknownDifferenceError: They differ in what no rule allows.
        KnownBehaviourError: They differ only in what rules allow.
    """
    known: List[str] = []
    unknown: List[str] = []
    for path, one, other in differences(whole.raw, streamed.raw):
        reason = _reason(path, fields)
        told = f"{path}: {_short(one)} whole, {_short(other)} streamed"
        (known if reason else unknown).append(reason or told)
    if unknown:
        raise UnknownDifferenceError("; ".join(unknown[:4]))
    if known:
        raise KnownBehaviourError("; ".join(dict.fromkeys(known)))


def differences(one: Any, other: Any, path: str = "") -> Iterator[Tuple[str, Any, Any]]:
    """Path and both values of each place where two JSON values differ; null counts as absent."""
    if _NEVER_THE_SAME.match(path):
        return
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted({*one, *other}):
            inner = f"{path}.{name}" if path else name
            yield from differences(one.get(name), other.get(name), inner)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (left, right) in enumerate(zip(one, other)):
            yield from differences(left, right, f"{path}[{number}]")
    elif not _same(one, other):
        yield path, one, other


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=_CLOSE, abs_tol=_CLOSE)
    return bool(one == other) and type(one) is type(other)


def _reason(path: str, fields: Fields) -> str:
    fits = (rule.reason for rule in RULES if re.fullmatch(rule.path, path) and rule.when(fields))
    return next(fits, "")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
