"""The links of the Markdown files lead somewhere, also on the page of a package index."""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from typing import Dict, List

import pytest

ROOT = Path(__file__).parents[2]
INDEX_PAGE = [ROOT / "README.md", ROOT / "CHANGELOG.md"]
"""What setup.cfg joins to the page of a package index, where a relative link leads nowhere."""
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md", "benchmarks/**/*.md")
    for page in ROOT.glob(pattern)
)


def project_urls() -> Dict[str, str]:
    """The addresses in setup.cfg, the one place that decides where the repository is."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = parser["metadata"]["project_urls"].strip().splitlines()
    return {name: url for name, _, url in (line.partition(" = ") for line in lines)}


SOURCE = project_urls()["Source"]


def prose(text: str) -> str:
    """A page without its code, in which brackets are no links."""
    text = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text)


def links(text: str) -> List[str]:
    """The targets of all links and pictures: in the text, in a block of their own, in HTML."""
    inline = re.findall(r"\]\(([^)\s]*)[^)]*\)", prose(text))
    named = re.findall(r"^\[[^\]]+\]: *(\S+)", prose(text), flags=re.MULTILINE)
    return inline + named + re.findall(r'(?:href|src)="([^"]*)"', prose(text))


def anchors(text: str) -> List[str]:
    """The anchors that a repository host gives to the headings of a page."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


def fault(link: str, page: Path) -> str:
    """What is wrong with a link of a page; empty if nothing is."""
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    if path.startswith((f"{SOURCE}/blob/", f"{SOURCE}/tree/")):
        kind, branch, inside = (*path[len(SOURCE) + 1 :].split("/", 2), "")[:3]
        target = ROOT / inside
        if branch != "main" or (kind == "tree") != target.is_dir():
            return "a file is at blob/main, a folder at tree/main"
    elif re.match(r"https?://|mailto:", path):
        return ""
    elif path and page in INDEX_PAGE:
        return "relative"
    if not target.exists():
        return "names nothing in the checkout"
    if anchor and target.suffix == ".md" and anchor not in anchors(target.read_text("utf-8")):
        return "no such heading"
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    """A link into the repository names a file and a heading of it; README's links are absolute."""
    found = {link: fault(link, page) for link in links(page.read_text(encoding="utf-8"))}
    assert {link: what for link, what in found.items() if what} == {}


def test_the_readme_has_links() -> None:
    """The reader of links finds those of the README, also those whose text is code."""
    found = links((ROOT / "README.md").read_text(encoding="utf-8"))
    assert f"{SOURCE}/blob/main/docs/performance.md" in found
    assert f"{SOURCE}/blob/main/CONTRIBUTING.md" in found


@pytest.mark.parametrize(
    "link",
    [
        "docs/performance.md",
        "#no-such-heading",
        f"{SOURCE}/blob/main/no/such/file.py",
        f"{SOURCE}/blob/main/docs",
        f"{SOURCE}/tree/main/README.md",
        f"{SOURCE}/blob/other/README.md",
        f"{SOURCE}/blob/main/docs/performance.md#no-such-heading",
    ],
)
def test_bad_links_are_found(link: str) -> None:
    """The check above objects to each kind of link that leads nowhere."""
    assert links(f"[`x`]({link})") == [link]
    assert fault(link, ROOT / "README.md")


def test_good_links_are_left_alone() -> None:
    """The check accepts other sites, headings, folders and, beside other pages, files."""
    readme, docs = ROOT / "README.md", ROOT / "docs" / "performance.md"
    for link in ("https://docs.vllm.ai", "#truncated-streams", f"{SOURCE}/tree/main/docs"):
        assert fault(link, readme) == ""
    assert fault("results.md", docs) == ""
    assert links('```\n[a](b)\n```\n`[a](b)` [c](d) [e](f "g")\n\n[h]: i\n') == ["d", "f", "i"]


def test_addresses_of_the_project() -> None:
    """The page of a package index links to documentation, changelog, source and issues."""
    urls = project_urls()
    assert set(urls) == {"Changelog", "Documentation", "Issues", "Source"}
    assert [url for url in urls.values() if not url.startswith(SOURCE)] == []
    for name in ("Changelog", "Documentation"):
        assert fault(urls[name], ROOT / "README.md") == ""
