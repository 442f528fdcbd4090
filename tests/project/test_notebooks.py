"""The example notebooks: each runs from top to bottom, and shows what its text promises."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from ..display.pages import Page

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
NEEDED = ("nbclient", "ipykernel", "pandas", "markdown_it")

# nbclient needs threads and an event loop of its own.
EXECUTE = """
import sys
import nbformat
from nbclient import NotebookClient

book = nbformat.read(sys.argv[1], as_version=4)
resources = {"metadata": {"path": sys.argv[2]}}
NotebookClient(book, timeout=120, kernel_name="python3", resources=resources).execute()
sys.stdout.buffer.write(nbformat.writes(book).encode())
"""

SHOWS = {
    "bulk": ["Question 0: what is learning?", "custom_id", "ContextLengthError: "],
    "logprobs": ["probability of the token", "entropy at the token", "difference to the other"],
    "streaming": ["temperature 1.5", "Thinking: 33 words", "get_weather", "TTFT"],
}
"""Texts in the HTML of each notebook."""


def test_notebooks_are_found() -> None:
    """The table above names every notebook, and so does the index of the examples."""
    assert [path.stem for path in NOTEBOOKS] == sorted(SHOWS)
    index = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in NOTEBOOKS if f"(notebooks/{path.name})" not in index] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_have_no_outputs(path: Path) -> None:
    """A notebook in the repository has code and text only."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, tmp_path: Path) -> None:
    """Every cell runs, and the outputs are HTML without scripts that shows what it should."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"needs the extra dev: {', '.join(missing)} not installed")
    done = subprocess.run(
        [sys.executable, "-c", EXECUTE, str(path), str(tmp_path)],
        capture_output=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    pages = list(html_outputs(json.loads(done.stdout)["cells"]))
    assert "script" not in {tag for page in pages for tag, _ in page.elements}
    shown = "\n".join(text for page in pages for text in page.texts)
    assert [text for text in SHOWS[path.stem] if text not in shown] == []
    assert list(tmp_path.iterdir()) == []


def html_outputs(cells: List[Dict[str, Any]]) -> Iterator[Page]:
    """Each output that is HTML."""
    for cell in cells:
        for output in cell.get("outputs", ()):
            if "text/html" in output.get("data", {}):
                yield Page("".join(output["data"]["text/html"]))
