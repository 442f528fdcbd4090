"""Is ``stream().collect()`` what ``create()`` of the same request returns?"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Callable, Dict, Iterator, List, Mapping, Tuple, Union

from attrs import frozen

from vllm_client import ChatCompletion, Completion

from .make_models import SPECIAL
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
        when: Whether they may, for these fields, this value in the whole response and this value
            in the stream.
        reason: What the server does.
    """

    path: str
    when: Callable[[Fields, Any, Any], bool]
    reason: str


def _echoes(fields: Fields, _: Any, __: Any) -> bool:
    return bool(fields.get("echo"))


def _is_forced(fields: Fields) -> bool:
    return fields.get("tool_choice") == "required" or isinstance(fields.get("tool_choice"), dict)


def _json_of(text: Any) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _same_json(fields: Fields, whole: Any, streamed: Any) -> bool:
    value = _json_of(whole)
    return _is_forced(fields) and value is not None and _same(value, _json_of(streamed))


def _broke_off(fields: Fields, whole: Any, streamed: Any) -> bool:
    """Whether the last call of the stream is no JSON; of the texts, whether only one has any."""
    if isinstance(streamed, list):
        last = streamed[-1]["function"]["arguments"]
        return _is_forced(fields) and not whole and _json_of(last) is None
    return _is_forced(fields) and bool(whole) and not streamed


def _shows_marker(_: Fields, whole: Any, streamed: Any) -> bool:
    shown = str(streamed)
    for marker in ("</think>", *SPECIAL):
        shown = shown.replace(marker, "")
    return bool(streamed) and whole == shown != streamed


def _withheld(fields: Fields, whole: Any, streamed: Any) -> bool:
    if "tools" not in fields or not isinstance(whole, str):
        return False
    sent = streamed or ""
    return whole.startswith(sent) and whole[len(sent) :].lstrip().startswith("<tool_call>")


RULES = [
    Rule(
        r"(choices\[\d+\]\.)?prompt_logprobs",
        _echoes,
        "echo: only the whole response has prompt_logprobs",
    ),
    Rule(
        r"choices\[\d+\]\.prompt_token_ids",
        _echoes,
        "echo: only the stream has prompt_token_ids",
    ),
    Rule(
        r"usage\.completion_tokens_details.*",
        lambda fields, *_: "messages" in fields,
        "only the whole response has reasoning_tokens",
    ),
    Rule(
        r"usage\.prompt_tokens_details.*",
        lambda *_: True,
        "the second request finds the prompt of the first in the cache",
    ),
    Rule(
        r"choices\[\d+\]\.message\.tool_calls\[\d+\]\.function\.arguments",
        _same_json,
        "forced calls: the whole response has their arguments decoded and encoded again",
    ),
    Rule(
        r"choices\[\d+\]\.message\.tool_calls",
        lambda _, whole, streamed: whole == [] and streamed is None,
        "an empty list of calls in the whole response, as old versions send it",
    ),
    Rule(
        r"choices\[\d+\]\.message\.(content|tool_calls)",
        _broke_off,
        "a forced call that breaks off: text in the whole response, a call in the stream",
    ),
    Rule(
        r"choices\[\d+\]\.message\.content",
        lambda _, whole, streamed: not whole and not streamed,
        "a message without text: only the whole response tells null from empty",
    ),
    Rule(
        r"choices\[\d+\]\.message\.content",
        _shows_marker,
        "a further </think> or special token: only the stream shows it",
    ),
    Rule(
        r"choices\[\d+\]\.message\.content",
        _withheld,
        "tools, auto: a call that breaks off is text in the whole response, nothing in the stream",
    ),
]


def compare(fields: Fields, whole: Answer, streamed: Answer) -> None:
    """Compare the whole response and the collected stream of a request with these fields.

    Raises:
        UnknownDifferenceError: They differ in what no rule allows.
        KnownBehaviourError: They differ only in what rules allow.
    """
    known: List[str] = []
    unknown: Dict[str, str] = {}
    for path, one, other in differences(whole.raw, streamed.raw):
        reason = _reason(path, fields, one, other)
        if reason:
            known.append(reason)
        else:  # Of the items of a list, one tells enough.
            told = f"{path}: {_short(one)} whole, {_short(other)} streamed"
            unknown.setdefault(re.sub(r"\d+", "", path), told)
    if unknown:
        raise UnknownDifferenceError("; ".join(unknown.values()))
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


def _reason(path: str, fields: Fields, whole: Any, streamed: Any) -> str:
    for rule in RULES:
        if re.fullmatch(rule.path, path) and rule.when(fields, whole, streamed):
            return rule.reason
    return ""


def may_fail_in_streams(fields: Fields) -> bool:
    """Whether vLLM 0.32 may end a stream with these fields in an error frame, by its own fault.

    It looks up a token of the prompt among the log-probabilities of another position.
    """
    return bool(fields.get("echo")) and "logprobs" in fields and fields.get("n", 1) > 1


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
