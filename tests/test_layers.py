"""The import rule: which module may import which, and how large a module and a function may be.

A module imports from rows below its own; inside a row only along the arrows drawn here.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Dict, Iterator, List, Set, Tuple

import pytest

import vllm_client

PACKAGE = Path(vllm_client.__file__).parent

# From the ground up. A name stands for a module or for a package and all that is in it. To add a
# module, put its name into its row; to let it import one of its own row, add an arrow.
ROWS: List[Tuple[str, Set[str]]] = [
    ("ground", {"exceptions", "_lazy", "_version"}),
    ("vocabulary", {"events", "types", "params", "timeouts"}),
    (
        "pure",
        {
            "_accumulator",
            "_body",
            "_chat_decoding",
            "_decoding",
            "_errors",
            "_json",
            "_repeat",
            "timings",
        },
    ),
    (
        "wire",
        {
            "_call",
            "_framing",
            "_connection",
            "_exchange",
            "_faults",
            "_fields",
            "_pool",
            "_sse",
            "_transport",
            "streams",
        },
    ),
    ("resources", {"resources"}),
    ("faces", {"_calls", "_mailbox", "aio", "batch", "client"}),
    ("package", {"__init__"}),
    ("edges", {"__main__", "_display", "cli", "testing"}),
]
ARROWS: Dict[str, Set[str]] = {
    "events": {"types"},
    "params": {"types"},
    "_accumulator": {"_json"},
    "_body": {"_json"},
    "_chat_decoding": {"_accumulator", "_decoding", "_json", "_repeat"},
    "_decoding": {"_accumulator", "_errors", "_json", "_repeat"},
    "_errors": {"_json"},
    "streams": {"_exchange", "_sse"},
    "_sse": {"_fields"},
    "_transport": {"_call", "_connection", "_exchange", "_faults", "_pool"},
    "_pool": {"_call", "_connection"},
    "_exchange": {"_call", "_framing", "_connection", "_faults"},
    "_faults": {"_call", "_connection"},
    "_connection": {"_call"},
    "batch": {"client"},
    "aio": {"_calls", "_mailbox", "client"},
    "__main__": {"cli"},
    "cli": {"_display", "testing"},
}
# Only the wire knows these libraries. The faces name the types of an argument and of a result, and
# the embedded server reads requests with what the standard library has for it.
WIRE_LIBRARIES = {"http.client", "requests", "sseclient", "urllib3"}
EXCUSED = {("aio", "requests"), ("client", "requests"), ("testing", "http.client")}
LARGEST_MODULE = 400
LONGEST_FUNCTION = 45

LEVELS = {name: level for level, (_, names) in enumerate(ROWS) for name in names}
ROW_OF = {name: row for row, names in ROWS for name in names}
MODULES = sorted(PACKAGE.rglob("*.py"))


def unit(path: Path) -> str:
    """The name in the table that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """The full names of all that a file imports, wherever in the file it does."""
    package = ["vllm_client", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            # "from . import x" and "from .x import y" both name x.
            yield from (f"{base}.{alias.name}" for alias in node.names)


def inner_imports(path: Path) -> Set[str]:
    """The names in the table that a file imports."""
    found = set()
    for name in imports(path):
        package, *parts = name.split(".")
        if package == "vllm_client":
            found.add(parts[0] if parts and parts[0] in LEVELS else "__init__")
    return found


def outer_imports(path: Path) -> Set[str]:
    """Those of the wire's libraries that a file imports."""
    names = list(imports(path))
    return {
        library
        for library in WIRE_LIBRARIES
        if any(name == library or name.startswith(f"{library}.") for name in names)
    }


def each_module() -> pytest.MarkDecorator:
    names = [str(path.relative_to(PACKAGE)) for path in MODULES]
    return pytest.mark.parametrize("path", MODULES, ids=names)


def test_table_is_sound() -> None:
    """Every name stands in one row, and arrows stay inside rows and make no circle."""
    assert len(LEVELS) == sum(len(names) for _, names in ROWS)
    for name, others in ARROWS.items():
        assert {ROW_OF[other] for other in others} == {ROW_OF[name]}
    seen: Set[str] = set()
    while len(seen) < len(LEVELS):
        free = {name for name in LEVELS if ARROWS.get(name, set()) <= seen} - seen
        assert free, f"a circle among {set(LEVELS) - seen}"
        seen |= free


def test_reader_of_imports_reads_them() -> None:
    """The table is held against imports that are really found."""
    assert {"_transport", "params", "streams"} <= inner_imports(
        PACKAGE / "resources" / "completions.py"
    ) | inner_imports(PACKAGE / "resources" / "_base.py")
    assert "requests" in outer_imports(PACKAGE / "_transport.py")
    assert "http.client" in outer_imports(PACKAGE / "_connection.py")
    assert len(MODULES) > 20


@each_module()
def test_imports_go_down(path: Path) -> None:
    """A module imports from lower rows, and in its own row along the arrows only."""
    name = unit(path)
    assert name in LEVELS, f"{name} has no row yet"
    allowed = {other for other in LEVELS if LEVELS[other] < LEVELS[name]} | {name}
    assert inner_imports(path) - allowed - ARROWS.get(name, set()) == set()


@each_module()
def test_libraries_of_the_wire_stay_there(path: Path) -> None:
    """requests, urllib3, sseclient and http.client are named in the wire row only."""
    if ROW_OF[unit(path)] != "wire":
        found = {(unit(path), library) for library in outer_imports(path)}
        assert found - EXCUSED == set()


@each_module()
def test_embedded_server_is_independent(path: Path) -> None:
    """The embedded server shares no decoder with the client, so that it cannot share its bugs."""
    if unit(path) == "testing":
        rows = {ROW_OF[name] for name in inner_imports(path) if name != "testing"}
        assert rows <= {"ground", "vocabulary"}


@each_module()
def test_nothing_imports_the_edges(path: Path) -> None:
    """Command line, display and embedded server are imported by each other at the most."""
    edges = {name for name, row in ROW_OF.items() if row == "edges"}
    if unit(path) not in edges:
        assert inner_imports(path) & edges == set()


@each_module()
def test_modules_are_small(path: Path) -> None:
    """A module can be read in one go."""
    assert len(path.read_text().splitlines()) <= LARGEST_MODULE


@each_module()
def test_functions_are_short(path: Path) -> None:
    """A function, its docstring included, fits on a screen."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)]
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in nodes}
    assert {name: long for name, long in lengths.items() if long > LONGEST_FUNCTION} == {}
