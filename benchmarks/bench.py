"""How benchmarks run: every round runs each client once, in a fresh process."""

from __future__ import annotations

import statistics
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Sequence

from . import clients
from .children import calls, rows, vectors
from .clients import LIMIT, OURS_FAST, READERS
from .processes import ClientError, in_process

LIMITS = (LIMIT, "http.client")
Results = Dict[str, List[Any]]


class Bench(NamedTuple):
    """The settings of a run."""

    server: str
    quick: bool = False
    counts: bool = False
    """Whether to count instructions as well."""
    only: Sequence[str] = ()
    """Run only clients whose names contain one of these; empty means all. The limits always run."""
    log: Callable[[str], object] = print
    million: bool = False
    """Whether the run whose memory is measured has a million rows."""

    @property
    def repetitions(self) -> int:
        """The number of rounds."""
        return 2 if self.quick else 5

    def size(self, full: int, quick: int) -> int:
        """Return ``full``, or ``quick`` in a quick run."""
        return quick if self.quick else full

    def interleaved(
        self, names: Iterable[str], function: str, rounds: int = 0, **arguments: Any
    ) -> Results:
        """Run every client once per round, so that a busy machine slows all of them alike."""
        found: Results = {name: [] for name in names if self._wanted(name)}
        for _ in range(rounds or self.repetitions):
            for name in list(found):
                found[name] += self.once(name, function, **arguments)
                if not found[name]:
                    del found[name]
        return found

    def once(self, name: str, function: str, **arguments: Any) -> List[Any]:
        """Run a client once. Returns its result in a list, which is empty if it failed."""
        try:
            return [in_process(function, name=name, server=self.server, **arguments)]
        except ClientError as error:
            self.log(f"{name} failed in {function}: {error}")
            return []

    def _wanted(self, name: str) -> bool:
        if self.only and name not in LIMITS and not any(part in name for part in self.only):
            return False
        reason = missing(name)
        if reason:
            self.log(f"{name} is skipped: {reason}")
        return not reason


def missing(name: str) -> str:
    """Return why a client cannot run here; empty if it can."""
    if name == OURS_FAST and not in_process("clients:uses_orjson"):
        return "vllm_client does not use orjson here"
    if name in READERS:
        return clients.missing(name)
    if name == vectors.BY_NUMPY:
        return clients.absent("numpy")
    return clients.absent({**calls.NEEDS, **rows.NEEDS}.get(name, ""))


def median_of(results: Results, key: str) -> Dict[str, float]:
    return {name: statistics.median(each[key] for each in found) for name, found in results.items()}


def medians_of(results: Results, keys: Sequence[str]) -> List[Dict[str, Any]]:
    medians = {key: median_of(results, key) for key in keys}
    return [{"client": name, **{key: medians[key][name] for key in keys}} for name in results]


def ratios_of(results: Results, key: str, to: str) -> List[Dict[str, Any]]:
    """Return the median and the range of the ratios within each round."""
    table = []
    for name, found in results.items():
        ratios = [each[key] / base[key] for each, base in zip(found, results[to])]
        row = {"client": name, "ratio": statistics.median(ratios)}
        table.append({**row, "spread": [min(ratios), max(ratios)]})
    return table
