"""The source distribution has what its user needs: to build the site and to run the tests."""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import Dict, List

import pytest

ROOT = Path(__file__).parents[2]


def included() -> Dict[str, List[str]]:
    """The patterns of MANIFEST.in by folder."""
    lines = (ROOT / "MANIFEST.in").read_text(encoding="utf-8").splitlines()
    words = [line.split() for line in lines if line.startswith("recursive-include ")]
    return {folder: patterns for _, folder, *patterns in words}


@pytest.mark.parametrize("folder", ["benchmarks", "docs", "examples", "tests"])
def test_every_file_of_a_folder_is_in_the_sdist(folder: str) -> None:
    """MANIFEST.in has a pattern for each file of the folder."""
    patterns = included()[folder]
    files = [path for path in (ROOT / folder).rglob("*") if path.is_file()]
    left_out = [
        str(path.relative_to(ROOT))
        for path in files
        if not any(part.startswith((".", "__pycache__")) for part in path.relative_to(ROOT).parts)
        and not any(fnmatch.fnmatch(path.name, pattern) for pattern in patterns)
    ]
    assert left_out == []


def test_the_files_beside_the_folders_are_in_the_sdist() -> None:
    """MANIFEST.in names every page and every file of settings beside the folders."""
    named = (ROOT / "MANIFEST.in").read_text(encoding="utf-8").split()
    files = [path.name for kind in ("md", "toml", "ini", "json") for path in ROOT.glob(f"*.{kind}")]
    assert [name for name in files if name not in named] == []
