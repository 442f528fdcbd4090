"""The import rule: which module may import which, and how long modules and functions may be.

A module may import from the rows below its own. Inside a row it may import along the arrows only.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Set, Tuple

import pytest

import vllm_client

PACKAGE = Path(vllm_client.__file__).parent

# The rows from the ground up. A name is a module, or a package with all its modules. To add a
# module, add its name to a row. To let it import another module of its row, add an arrow.
ROWS: List[Tuple[str, Set[str]]] = [
    (
        "ground",
        {
            "exceptions",
            "timeouts",
            "_frames",
            "_habits",
            "_lazy",
            "_markdown",
            "_shown",
            "_visible",
            "_structured",
            "_tracebacks",
            "_version",
            "timings",
        },
    ),
    ("data", {"types", "_error_bodies", "_route_hints"}),
    ("vocabulary", {"events", "params", "response_events"}),
    ("machinery", {"_http", "_decoding", "_request"}),
    ("streams", {"streams"}),
    ("resources", {"resources"}),
    ("many prompts", {"batch"}),
    ("scores", {"evaluate"}),
    ("client", {"client"}),
    ("faces", {"aio", "display"}),
    ("package", {"__init__"}),
    ("edges", {"__main__", "cli", "contrib", "testing"}),
]
ARROWS: Dict[str, Set[str]] = {
    "__main__": {"cli"},
    "_error_bodies": {"_route_hints"},
    "_markdown": {"_visible"},
    "_shown": {"_visible"},
    "exceptions": {"_tracebacks"},
    "cli": {"testing"},
    "response_events": {"events"},
    "timings": {"_shown"},
}
# Each network library has one home, which alone may import it. The exceptions below import the
# types of responses and sessions; the embedded server reads requests with the standard library.
HOMES = {
    "http.client": "_http",
    "requests": "_http",
    "socket": "_http",
    "ssl": "_http",
    "sseclient": "_decoding",
    "urllib3": "_http",
}
EXCUSED = {
    ("aio", "requests"),
    ("client", "requests"),
    ("streams", "requests"),
    ("testing", "http.client"),
    ("testing", "socket"),
}
LARGEST_MODULE = 400
LONGEST_FUNCTION = 45

LEVELS = {name: level for level, (_, names) in enumerate(ROWS) for name in names}
ROW_OF = {name: row for row, names in ROWS for name in names}
MODULES = sorted(PACKAGE.rglob("*.py"))
PACKAGES = sorted({path.parent for path in MODULES} - {PACKAGE})


def unit(path: Path) -> str:
    """The name in ROWS that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """The full names of everything that a file imports, at any place in the file."""
    package = ["vllm_client", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            # Both "from . import x" and "from .x import y" import x.
            yield from (f"{base}.{alias.name}" for alias in node.names)


def inner_imports(path: Path) -> Set[str]:
    """The names in ROWS that a file imports."""
    found = set()
    for name in imports(path):
        package, *parts = name.split(".")
        if package == "vllm_client":
            found.add(parts[0] if parts and parts[0] in LEVELS else "__init__")
    return found


def outer_imports(path: Path) -> Set[str]:
    """The libraries in ``HOMES`` that a file imports."""
    names = list(imports(path))
    return {
        library
        for library in HOMES
        if any(name == library or name.startswith(f"{library}.") for name in names)
    }


def circle(arrows: Mapping[str, Set[str]]) -> Set[str]:
    """The names from which arrows lead into a circle; empty if there is none."""
    names = set(arrows).union(*arrows.values())
    seen: Set[str] = set()
    while True:
        free = {name for name in names - seen if arrows.get(name, set()) <= seen | {name}}
        if not free:
            return names - seen
        seen |= free


def each_module() -> pytest.MarkDecorator:
    names = [str(path.relative_to(PACKAGE)) for path in MODULES]
    return pytest.mark.parametrize("path", MODULES, ids=names)


def test_table_is_sound() -> None:
    """Every name is in one row, and arrows stay inside a row and form no circle."""
    assert len(LEVELS) == sum(len(names) for _, names in ROWS)
    for name, others in ARROWS.items():
        assert {ROW_OF[other] for other in others} == {ROW_OF[name]}
    assert circle(ARROWS) == set()


def test_every_name_and_arrow_is_used() -> None:
    """Every name, arrow, home and exception in the tables is in use."""
    assert set(LEVELS) == {unit(path) for path in MODULES}
    inner = {(unit(path), other) for path in MODULES for other in inner_imports(path)}
    assert {(name, other) for name, others in ARROWS.items() for other in others} <= inner
    outer = {(unit(path), library) for path in MODULES for library in outer_imports(path)}
    assert outer >= EXCUSED
    assert {(home, library) for library, home in HOMES.items()} <= outer


def test_reader_of_imports_reads_them() -> None:
    """The functions above find imports that certainly exist."""
    assert {"_http", "_decoding", "streams"} <= inner_imports(PACKAGE / "resources" / "_base.py")
    assert "requests" in outer_imports(PACKAGE / "_http" / "transport.py")
    assert "http.client" in outer_imports(PACKAGE / "_http" / "connections.py")


@each_module()
def test_imports_go_down(path: Path) -> None:
    """A module imports only from lower rows, or along the arrows of its row."""
    name = unit(path)
    assert name in LEVELS, f"add {name} to a row of ROWS"
    allowed = {other for other in LEVELS if LEVELS[other] < LEVELS[name]} | {name}
    assert inner_imports(path) - allowed - ARROWS.get(name, set()) == set()


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_no_circle_inside_a_package(package: Path) -> None:
    """The modules of a package do not import each other in a circle."""
    paths = {
        ".".join(["vllm_client", *path.relative_to(PACKAGE).with_suffix("").parts]): path
        for path in package.rglob("*.py")
        if path.name != "__init__.py"
    }
    inside = {
        name: {
            other for other in paths if any(f"{each}.".startswith(f"{other}.") for each in found)
        }
        for name, found in ((name, set(imports(path))) for name, path in paths.items())
    }
    assert circle(inside) == set()


@each_module()
def test_each_library_has_one_home(path: Path) -> None:
    """HTTP libraries are imported in ``_http`` only, and sseclient in ``_decoding``."""
    found = {
        (unit(path), library) for library in outer_imports(path) if HOMES[library] != unit(path)
    }
    assert found - EXCUSED == set()


@each_module()
def test_embedded_server_is_independent(path: Path) -> None:
    """The embedded server imports nothing of the client, so it cannot share its bugs."""
    if unit(path) == "testing":
        assert inner_imports(path) <= {"testing"}


@each_module()
def test_nothing_imports_the_edges(path: Path) -> None:
    """Only the edges import the command line and the embedded server."""
    edges = {name for name, row in ROW_OF.items() if row == "edges"}
    if unit(path) not in edges:
        assert inner_imports(path) & edges == set()


@each_module()
def test_modules_are_small(path: Path) -> None:
    """A module has at most LARGEST_MODULE lines."""
    assert len(path.read_text().splitlines()) <= LARGEST_MODULE


@each_module()
def test_functions_are_short(path: Path) -> None:
    """A function has at most LONGEST_FUNCTION lines, docstring included."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)]
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in nodes}
    assert {name: long for name, long in lengths.items() if long > LONGEST_FUNCTION} == {}
