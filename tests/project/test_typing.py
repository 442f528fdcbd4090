"""Types: mypy accepts right uses of the API and rejects wrong ones."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import List

import pytest

USES = Path(__file__).with_name("typed_uses.py")
ROOT = USES.parents[2]


def test_wrong_uses_are_marked_for_both_checkers() -> None:
    """Every wrong use names its error for mypy and for basedpyright."""
    marked = [
        line for line in USES.read_text().splitlines() if re.search(r"# (type|pyright):", line)
    ]
    assert len(marked) > 20
    assert [line for line in marked if not re.search(r"# type: ignore\[[\w, -]+\]", line)] == []
    bare: List[str] = [line for line in marked if re.search(r"pyright: ignore(?!\[)", line)]
    assert bare == []


def test_uses_are_not_run() -> None:
    """The file with the uses has only functions and imports, so importing it does nothing."""
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.If, ast.Expr)
    body = ast.parse(USES.read_text()).body
    assert [node for node in body if not isinstance(node, kinds)] == []


def test_mypy_agrees(tmp_path: Path) -> None:
    """Mypy accepts every right use and rejects every wrong one."""
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), str(USES)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no issues found in 1 source file" in done.stdout


def test_mypy_reports_unmarked_uses(tmp_path: Path) -> None:
    """Without the marks mypy reports exactly the marked lines, so the test above can fail."""
    pytest.importorskip("mypy")
    unmarked = tmp_path / "unmarked.py"
    lines = USES.read_text().splitlines()
    unmarked.write_text("\n".join(line.partition("  # type: ignore")[0] for line in lines))
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run(
        [*command, str(unmarked)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    found = {int(number) for number in re.findall(r"unmarked\.py:(\d+): error", done.stdout)}
    assert found == {at for at, line in enumerate(lines, 1) if "# type: ignore[" in line}
