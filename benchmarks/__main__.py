"""``python -m benchmarks``: measure, and print the results."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Dict, List, Tuple

from . import processes, tables
from .bench import Bench
from .plot import svg
from .scenarios import SCENARIOS
from .tables import Table


def main() -> None:
    arguments = _arguments()
    if arguments.instructions and not processes.has_valgrind():
        sys.exit("--instructions needs valgrind: apt install valgrind")
    about = tables.machine()
    print(tables.machine_as_text(about), flush=True)
    found: List[Table] = []
    with processes.server() as server:
        bench = Bench(
            server,
            arguments.quick,
            arguments.instructions,
            arguments.only,
            _log,
            arguments.million,
        )
        for name in arguments.names or SCENARIOS:
            for table in SCENARIOS[name](bench):
                print(tables.as_text(table), flush=True)
                found.append(table)
    if arguments.keep:
        about, found = _with_earlier(arguments.keep, about, found)
    data = {"machine": about, "tables": [tables.as_data(table) for table in found]}
    if arguments.json:
        arguments.json.write_text(json.dumps(data, indent=1, ensure_ascii=False))
    if arguments.markdown:
        made_with = "".join(f"- {name}: {value}\n" for name, value in about.items())
        parts = ["# Results\n", *map(tables.as_markdown, found), "## Made with\n", made_with]
        arguments.markdown.write_text("\n".join(parts))
    if arguments.svg:
        arguments.svg.write_text(svg(data))


def _with_earlier(
    path: Path, about: Dict[str, str], found: List[Table]
) -> Tuple[Dict[str, str], List[Table]]:
    """The machine and the tables of an earlier run, with these tables in place of theirs.

    A table that another machine made says so in a note.
    """
    earlier = json.loads(path.read_text())
    machine: Dict[str, str] = earlier["machine"]
    others = [f"{name}: {value}" for name, value in about.items() if value != machine.get(name)]
    note = [f"Made with another machine or other versions: {'; '.join(others)}."] if others else []
    measured = {each.name: each._replace(notes=[*each.notes, *note]) for each in found}
    kept = [tables.from_data(data) for data in earlier["tables"]]
    tables_now = [measured.pop(table.name, table) for table in kept] + list(measured.values())
    return machine, tables_now


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"one of: {', '.join(SCENARIOS)}")
    parser.add_argument("--quick", action="store_true", help="shorter, and so less reliable")
    parser.add_argument("--instructions", action="store_true", help="count them with valgrind")
    parser.add_argument(
        "--million", action="store_true", help="measure the memory of `rows` over a million rows"
    )
    parser.add_argument("--only", action="append", default=[], metavar="CLIENT", help="repeatable")
    parser.add_argument(
        "--keep", type=Path, metavar="JSON", help="keep the other tables of an earlier run"
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    parser.add_argument("--svg", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(SCENARIOS)
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    return arguments


if __name__ == "__main__":
    main()
