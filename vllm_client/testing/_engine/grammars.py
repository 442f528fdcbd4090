"""Turns a small grammar, in vLLM's notations GBNF and Lark, into a regular expression."""

from __future__ import annotations

import json
import re

from .._wire.refusals import RefusalError

__all__ = ["pattern_of_grammar"]

_TOKEN = re.compile(
    r"""
    (?P<nothing> \s+ | (?:\#|//)[^\n]* )
    | (?P<rule> [?!]?[\w-]+ ) \s* (?: ::= | : )
    | (?P<name> [\w-]+ )
    | (?P<literal> "(?:\\.|[^"\\])*" )
    | / (?P<pattern> (?:\\.|[^/\\])+ ) /
    | (?P<operator> \[(?:\\.|[^\]\\])*\] | [()|?*+.] | \{[\d,]+\} )
    """,
    re.VERBOSE,
)
_FIRST_RULES = ("root", "start")
_MALFORMED = "Invalid grammar specification"


def pattern_of_grammar(grammar: str) -> str:
    """Return a regular expression for the texts of a grammar.

    Raises:
        RefusalError: The grammar is malformed, refers to itself, or imports rules.
    """
    rules = _rules(grammar)
    first = next((name for name in _FIRST_RULES if name in rules), None)
    if first is None:
        raise RefusalError(f"{_MALFORMED}: no rule is called root or start")
    pattern = _expanded(rules, first, ())
    try:
        re.compile(pattern)
    except re.error as error:
        raise RefusalError(f"{_MALFORMED}: {error}") from error
    return pattern


def _rules(grammar: str) -> dict[str, list[re.Match[str]]]:
    """Return the tokens of each rule."""
    rules: dict[str, list[re.Match[str]]] = {}
    current: list[re.Match[str]] = []
    at = 0
    while at < len(grammar):
        token = _TOKEN.match(grammar, at)
        if not token:
            raise RefusalError(
                f"{_MALFORMED}: this stand-in for vLLM cannot read {grammar[at : at + 20]!r}"
            )
        at = token.end()
        if token["rule"]:
            current = rules.setdefault(token["rule"].lstrip("?!"), [])
        elif not token["nothing"]:
            current.append(token)
    return rules


def _expanded(rules: dict[str, list[re.Match[str]]], name: str, around: tuple[str, ...]) -> str:
    """Return the expression of a rule.

    Args:
        rules: The tokens of all rules.
        name: The name of the rule.
        around: The rules in which this one is being expanded.
    """
    if name in around:
        raise RefusalError(
            f"This stand-in for vLLM cannot follow a grammar whose rules contain themselves, as "
            f"{name} does"
        )
    if name not in rules:
        raise RefusalError(f"{_MALFORMED}: no rule is called {name}")
    parts = []
    for token in rules[name]:
        if token["name"]:
            part = _expanded(rules, token["name"], (*around, name))
        elif token["literal"]:
            part = _literal(token["literal"])
        else:
            part = token["pattern"]
        parts.append(token["operator"] or f"(?:{part})")
    return "".join(parts)


def _literal(quoted: str) -> str:
    try:
        return re.escape(str(json.loads(quoted)))
    except ValueError as error:
        raise RefusalError(f"{_MALFORMED}: {quoted}: {error}") from error
