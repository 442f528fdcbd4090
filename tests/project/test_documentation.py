"""The documentation: every block of Python runs, and the site builds without a warning."""

from __future__ import annotations

import ast
import importlib
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


def texts_of_the_package() -> str:
    """The texts in the code of the package, without what an f-string puts in, and class names."""
    found = []
    for path in sorted((ROOT / "vllm_client").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.ClassDef):
                found.append(node.name)
    return "\n".join(found)


def test_troubleshooting_quotes_messages() -> None:
    """Each message of the page is one of the client's, or of the server that it embeds."""
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| ([^|]+) \|", page, flags=re.MULTILINE)
    quoted = [text for cell in cells for _, text in re.findall(r"(`+)(.+?)\1", cell)]
    pieces = [piece.strip() for text in quoted for piece in re.sub(r"^\d+: ", "", text).split("…")]
    known = texts_of_the_package()
    assert len(pieces) > 40
    assert [piece for piece in pieces if piece not in known] == []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. A warning fails the build."""
    pytest.importorskip("furo", reason="the extra docs is not installed")
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "docs", str(target)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return target


def test_the_site_builds(site: Path) -> None:
    """The site builds without a warning, without network, and every page is in its contents."""
    assert (site / "searchindex.js").stat().st_size > 10_000


PUBLIC = ("", ".types", ".params", ".batch", ".evaluate", ".display", ".testing")
"""The modules whose names a program may import."""


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    """The reference describes each name of each public module."""
    pages = "".join(page.read_text("utf-8") for page in sorted(site.glob("reference/*.html")))
    described = {name.rsplit(".", 1)[-1] for name in re.findall(r'id="(vllm_client[\w.]*)"', pages)}
    modules = [importlib.import_module(f"vllm_client{name}") for name in PUBLIC]
    names = {name for module in modules for name in module.__all__} - {"__version__"}
    assert sorted(names - described) == []


NOISE = (
    "Does not exist",  # A name of another client.
    "=Ellipsis",
    "=&lt;object object&gt;",
    "<blockquote>",  # An example without "::" before it.
)


@pytest.mark.parametrize("noise", NOISE)
def test_pages_are_free_of_noise(site: Path, noise: str) -> None:
    """No page has what autodoc makes of docstrings and defaults that it misunderstands."""
    pages = {page.name: page.read_text("utf-8") for page in site.rglob("*.html")}
    assert [name for name, text in pages.items() if noise in text] == []


def test_the_reference_keeps_whole_sentences(site: Path) -> None:
    """What stands before a colon in the docstring of a field, or of a result, is no type."""
    page = (site / "reference" / "parameters.html").read_text("utf-8")
    assert "Default: the server’s first model." in page
    pages = "".join(page.read_text("utf-8") for page in sorted(site.glob("reference/*.html")))
    entries = re.findall(r"<dt[^>]*>(?:Return type|Type)<.*?<dd[^>]*>(.*?)</dd>", pages, re.DOTALL)
    types = {re.sub(r"<[^>]*>", "", entry).strip() for entry in entries}
    assert len(types) > 10
    assert [text for text in types if re.search(r"\w \w", text)] == []


def test_the_reference_has_types(site: Path) -> None:
    """Parameters and fields have their types."""
    client = (site / "reference" / "client.html").read_text("utf-8")
    assert re.search(r"<strong>max_tokens</strong> \(<em>Optional</em>.*?int", client)
    fields = (site / "reference" / "parameters.html").read_text("utf-8")
    assert re.search(r"min_tokens</span>.*?int", fields)
