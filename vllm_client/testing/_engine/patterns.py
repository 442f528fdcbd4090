"""Writes a text that a regular expression matches. It follows the common shapes and no others."""

from __future__ import annotations

import random
import re
import string
from typing import Callable

from .._wire.refusals import RefusalError

__all__ = ["text_for_pattern"]

Maker = Callable[[random.Random], str]
"""Writes one text for a part of an expression."""

_ESCAPE = re.compile(r"\\(?:x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|[^1-9])", re.DOTALL)
_CLASS = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_GROUP = re.compile(r"\((?:\?:|\?P<\w+>)?")
_COUNTS = re.compile(r"\{(\d+)(,?)(\d*)\}")
_COUNTS_OF_SIGN = {"?": (0, 1), "*": (0, 3), "+": (1, 3)}
_MORE = 3
"""How many more parts than required ``*``, ``+`` and ``{2,}`` write at most."""


def text_for_pattern(pattern: str, rng: random.Random) -> str:
    """Return a text that the whole of ``pattern`` matches.

    Args:
        pattern: Literal characters, classes, groups, alternatives, repetitions, and anchors at
            both ends.
        rng: Makes the choices that the pattern leaves open.

    Raises:
        RefusalError: The pattern is malformed, or has other parts.
    """
    try:
        compiled = re.compile(pattern)
    except (re.error, RecursionError) as error:
        raise RefusalError(f'Grammar error: invalid regex "{pattern}": {error}') from error
    text = _PatternReader(pattern).maker()(rng)
    # Anchors match in few places; the reader accepts them everywhere.
    if not compiled.fullmatch(text):
        raise _refusal(pattern)
    return text


class _PatternReader:
    """Reads an expression from left to right. ``re`` has accepted it, so its brackets match."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    def maker(self) -> Maker:
        """Read alternatives, up to the end of the expression or the group."""
        options = [self._sequence()]
        while self._skip("|"):
            options.append(self._sequence())
        return lambda rng: rng.choice(options)(rng)

    def _sequence(self) -> Maker:
        parts: list[Maker] = []
        while self._at < len(self._pattern) and self._pattern[self._at] not in "|)":
            parts.append(self._repeated())
        return lambda rng: "".join([part(rng) for part in parts])

    def _repeated(self) -> Maker:
        part = self._single()
        low, high = self._counts()
        return lambda rng: "".join([part(rng) for _ in range(rng.randint(low, high))])

    def _single(self) -> Maker:
        character = self._pattern[self._at]
        if character == "(":
            return self._group()
        if character in "[.\\":
            return self._one_of()
        self._at += 1
        return lambda _: "" if character in "^$" else character

    def _group(self) -> Maker:
        self._take(_GROUP)
        if self._pattern[self._at] == "?":
            raise _refusal(self._pattern)
        inside = self.maker()
        self._skip(")")
        return inside

    def _one_of(self) -> Maker:
        """Read a class, an escape or a dot."""
        known = {"[": _CLASS, "\\": _ESCAPE}.get(self._pattern[self._at], re.compile(r"\."))
        matches = re.compile(self._take(known)).fullmatch
        for alphabet in (string.ascii_letters + string.digits, string.punctuation + " \t\n"):
            found = [each for each in alphabet if matches(each)]
            if found:
                return lambda rng: rng.choice(found)
        raise _refusal(self._pattern)

    def _counts(self) -> tuple[int, int]:
        for sign, counts in _COUNTS_OF_SIGN.items():
            if self._skip(sign):
                self._skip("?")  # Lazy repetition matches the same texts.
                return counts
        found = _COUNTS.match(self._pattern, self._at)
        if not found:
            return 1, 1
        self._at = found.end()
        self._skip("?")
        low = int(found[1])
        return low, int(found[3]) if found[3] else low + _MORE * bool(found[2])

    def _take(self, expected: re.Pattern[str]) -> str:
        found = expected.match(self._pattern, self._at)
        if not found:
            raise _refusal(self._pattern)
        self._at = found.end()
        return found[0]

    def _skip(self, character: str) -> bool:
        found = self._pattern.startswith(character, self._at)
        self._at += found
        return found


def _refusal(pattern: str) -> RefusalError:
    return RefusalError(
        f"This stand-in for vLLM cannot follow the pattern {pattern!r}. It knows literal "
        "characters, classes of ASCII, groups, alternatives and repetitions."
    )
