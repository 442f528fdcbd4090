"""The table of checks, what a check can result in, and how results are printed."""

from __future__ import annotations

import time
import traceback
from collections import Counter
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    List,
    Optional,
    Sequence,
    Tuple,
    Type,
    TypeVar,
    Union,
)

from attrs import field, frozen

from vllm_client import VllmError

from .servers import Server

PASSED, KNOWN, DIFFERS, FAILED = "passed", "known", "differs", "FAILED"
RESULTS = (PASSED, KNOWN, DIFFERS, FAILED)


class KnownBehaviourError(Exception):
    """The server does what it is known to do, although it is not what one expects."""


class UnknownDifferenceError(Exception):
    """A stream and the whole response of the same request differ in what is not known."""


@frozen
class Check:
    """One row of the table.

    Attributes:
        kinds: Names of the kinds of server that it runs on.
        group: The heading of the rows that belong together.
        name: What is checked, unique in its group.
        run: Does it, and returns a remark or None. Any exception is a failure.
    """

    kinds: Tuple[str, ...]
    group: str
    name: str
    run: Callable[[Server], Optional[str]]


@frozen
class Row:
    """The result of a check on one server."""

    kind: str
    check: Check
    result: str
    remark: str = ""
    seconds: float = field(default=0.0, eq=False)

    def __str__(self) -> str:
        name = f"{self.check.group}: {self.check.name}"
        return (
            f"{self.kind:8} {self.result:8} {self.seconds:6.1f} s  {name}  {self.remark}".rstrip()
        )


CHECKS: List[Check] = []
"""All checks, in the order in which they run."""

Run = Callable[[Server], Optional[str]]


def check(group: str, name: str, *kinds: str) -> Callable[[Run], Run]:
    """Put a function into the table; it runs on the servers of these kinds."""

    def registered(run: Run) -> Run:
        CHECKS.append(Check(kinds, group, name, run))
        return run

    return registered


def result_of(each: Check, server: Server) -> Row:
    """Run one check. An exception becomes a row, so that the others run as well."""
    started = time.monotonic()
    result, remark = PASSED, ""
    try:
        remark = each.run(server) or ""
    except KnownBehaviourError as known:
        result, remark = KNOWN, str(known)
    except UnknownDifferenceError as difference:
        result, remark = DIFFERS, str(difference)
    except Exception as error:  # A fault of the package, or of the server.
        result, remark = FAILED, _told(error)
    return Row(server.kind.name, each, result, remark, time.monotonic() - started)


def _told(error: Exception) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())[:300]
    place = "" if isinstance(error, VllmError) else f" ({where.name}, line {where.lineno})"
    return f"{type(error).__name__}: {text}{place}"


def summary(rows: Iterable[Row]) -> str:
    """How many rows have which result."""
    counts = Counter(row.result for row in rows)
    return ", ".join(f"{counts[result]} {result}" for result in RESULTS)


def markdown(rows: Sequence[Row], versions: Dict[str, str]) -> str:
    """The page that is committed: versions, counts, and one line a group."""
    told = "".join(f"| {name} | {value} |\n" for name, value in versions.items())
    parts = [_HEAD, f"\n| | |\n|---|---|\n{told}", "\n## Results\n", _counts(rows)]
    notable = [row for row in rows if row.result != PASSED]
    parts += [
        "\n## Known behaviour of the server, differences and failures\n",
        _listed(notable),
    ]
    parts += ["\n## Every check\n", _names(rows)]
    return "\n".join(parts)


_HEAD = """# Against a real vLLM

`python -m tests.real` starts real vLLM servers of four kinds, makes each check of `tests/real/`,
and writes this page. `CONTRIBUTING.md` tells how to run it.

- *passed*: the check holds.
- *known*: the server differs from what one expects, in a way that its own code causes.
- *differs*: `stream().collect()` and `create()` of the same request differ otherwise.
- *FAILED*: the check does not hold.
"""


def _groups(rows: Iterable[Row]) -> List[Tuple[str, str]]:
    return list(dict.fromkeys((row.kind, row.check.group) for row in rows))


def _counts(rows: Sequence[Row]) -> str:
    lines = ["| server | checks | " + " | ".join(RESULTS) + " |", "|---|---|" + "---|" * 4]
    for kind, group in _groups(rows):
        here = Counter(r.result for r in rows if (r.kind, r.check.group) == (kind, group))
        counts = " | ".join(str(here[result]) for result in RESULTS)
        lines.append(f"| {kind} | {group} | {counts} |")
    total = Counter(row.result for row in rows)
    counts = " | ".join(str(total[result]) for result in RESULTS)
    return "\n".join([*lines, f"| all | | {counts} |", ""])


def _listed(rows: Sequence[Row]) -> str:
    """A line for each result and remark, with the checks that have it."""
    if not rows:
        return "None.\n"
    groups: Dict[Tuple[str, str], List[Row]] = {}
    for row in sorted(rows, key=lambda row: -RESULTS.index(row.result)):
        groups.setdefault((row.result, row.remark), []).append(row)
    lines = ["| result | remark | checks |", "|---|---|---|"]
    for (result, remark), here in groups.items():
        names = ", ".join(dict.fromkeys(row.check.name for row in here[:3]))
        more = f" and {len(here) - 3} more" if len(here) > 3 else ""
        kinds = ", ".join(dict.fromkeys(row.kind for row in here))
        cells = (result, remark, f"{kinds}: {names}{more}")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


def _names(rows: Sequence[Row]) -> str:
    lines: List[str] = []
    for kind, group in _groups(rows):
        here = [row for row in rows if (row.kind, row.check.group) == (kind, group)]
        names = "; ".join(_named(row) for row in here)
        lines.append(f"**{kind}, {group}** ({len(here)}): {names}\n")
    return "\n".join(lines)


def _named(row: Row) -> str:
    return f"`{row.check.name}`" + (f" ({row.remark})" if _is_short(row) else "")


def _is_short(row: Row) -> bool:
    return row.result == PASSED and 0 < len(row.remark) <= 60


def first(items: Sequence[Any], wanted: Callable[[Any], bool]) -> Any:
    """The first item that is wanted; AssertionError if there is none."""
    found = [item for item in items if wanted(item)]
    assert found, f"none of {len(items)} items is the one that was looked for"
    return found[0]


E = TypeVar("E", bound=BaseException)


def raised(kind: Union[Type[E], Tuple[Type[E], ...]], call: Callable[[], Any]) -> E:
    """The error of this kind that the call raises; AssertionError if it raises none."""
    try:
        result = call()
    except kind as error:
        return error
    raise AssertionError(f"no error was raised; the result is {str(result)[:100]}")
