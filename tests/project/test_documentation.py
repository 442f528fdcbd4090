"""The documentation: every block of Python runs, and the site builds without a warning."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest

from vllm_client.testing import FakeServer

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def blocks(page: Path) -> List[str]:
    """The Python of a page; code of other libraries is in ``{code-block}``, which is not run."""
    text = page.read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


PAGES = [page for page in sorted(DOCS.rglob("*.md")) if blocks(page)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_the_code_of_a_page_runs(
    page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The blocks of a page run one after the other, against the embedded server."""
    names: Dict[str, Any] = {"__name__": "__main__"}
    monkeypatch.chdir(tmp_path)  # A block may write a file.
    with FakeServer() as server:
        monkeypatch.setenv("VLLM_BASE_URL", server.base_url)
        try:
            for block in blocks(page):
                exec(block.replace("http://localhost:8000", server.url), names)
        finally:
            for name in ("client", "patient", "server"):
                if name in names:
                    names[name].close()


def test_the_site_builds(tmp_path: Path) -> None:
    """The site builds without a warning, without network, and every page is in its contents."""
    pytest.importorskip("furo", reason="the extra docs is not installed")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "docs", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "searchindex.js").stat().st_size > 10_000
