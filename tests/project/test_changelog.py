"""CHANGELOG.md keeps the format of Keep a Changelog, and says something about this version."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Dict, List, Tuple

import pytest

from vllm_client import __version__

from .test_links import SOURCE

TEXT = (Path(__file__).parents[2] / "CHANGELOG.md").read_text()
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def sections() -> List[Tuple[str, str]]:
    """Each heading of a version, and the text under it."""
    _, *parts = re.split(r"^## ", TEXT, flags=re.MULTILINE)
    return [(part.partition("\n")[0], part.partition("\n")[2]) for part in parts]


def key(version: str) -> Tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))


def test_title() -> None:
    """The file says what it is and whose format it has."""
    assert TEXT.startswith("# Changelog\n")
    assert "keepachangelog.com" in TEXT
    assert len(sections()) > 0


def test_headings() -> None:
    """Versions are headings of one form, with a date, newest first, unreleased changes on top."""
    headings = [heading for heading, _ in sections()]
    released = headings[1:] if headings[0] == "[Unreleased]" else headings
    found = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d{2}-\d{2})", one) for one in released]
    assert None not in found
    versions = [match.group(1) for match in found if match]
    dates = [dt.date.fromisoformat(match.group(2)) for match in found if match]
    assert versions == sorted(set(versions), key=key, reverse=True)
    assert dates == sorted(dates, reverse=True)


def test_this_version_is_there() -> None:
    """The newest entry is what is not released yet, or the version of the package."""
    newest = sections()[0][0]
    assert newest == "[Unreleased]" or newest.startswith(f"[{__version__}] - ")


def test_entries() -> None:
    """Every version has changes under the headings of the format, each a sentence of a list."""
    for heading, text in sections():
        _, *groups = re.split(r"^### ", text, flags=re.MULTILINE)
        assert groups, heading
        for group in groups:
            kind, *lines = [line for line in group.splitlines() if line.strip()]
            assert kind in KINDS, heading
            items = [line for line in lines if not line.startswith(("  ", "["))]
            assert items, kind
            assert [line for line in items if not re.match(r"- \S", line)] == []


def without_blank_line(text: str) -> List[str]:
    """The headings that a blank line (or the start of the text) does not set off on both sides."""
    lines = ["", *text.splitlines(), ""]
    numbers = [at for at, line in enumerate(lines) if line.startswith("#")]
    return [lines[at] for at in numbers if lines[at - 1].strip() or lines[at + 1].strip()]


def test_blank_lines() -> None:
    """A blank line stands before and after each heading, as Markdown formatters expect."""
    assert without_blank_line(TEXT) == []


@pytest.mark.parametrize("text", ["- x\n## y\n\n- z", "- x\n\n### y\n- z"])
def test_a_missing_blank_line_is_found(text: str) -> None:
    """The check above sees a heading that touches the line before or after it."""
    assert len(without_blank_line(text)) == 1


def comparisons(names: List[str], source: str) -> Dict[str, str]:
    """The address of each version: its changes since the one before, of the first its tag."""
    links = {}
    for name, before in zip(names, [*names[1:], None]):
        if name == "Unreleased":
            links[name] = f"compare/v{before}...HEAD" if before else "commits/main"
        else:
            links[name] = f"compare/v{before}...v{name}" if before else f"releases/tag/v{name}"
    return {name: f"{source}/{path}" for name, path in links.items()}


def test_every_version_has_a_link() -> None:
    """Each version is a link to its changes, and the links stand in one block at the end."""
    names = [heading.partition("]")[0][1:] for heading, _ in sections()]
    wanted = [f"[{name}]: {link}" for name, link in comparisons(names, SOURCE).items()]
    assert TEXT.splitlines()[-len(wanted) - 1 :] == ["", *wanted]
    assert len(re.findall(r"^\[[^\]]+\]: ", TEXT, flags=re.MULTILINE)) == len(wanted)


def test_links_of_released_versions() -> None:
    """After a release the newest changes are compared with it, and the first version is a tag."""
    assert comparisons(["Unreleased", "0.2.0", "0.1.0"], "s") == {
        "Unreleased": "s/compare/v0.2.0...HEAD",
        "0.2.0": "s/compare/v0.1.0...v0.2.0",
        "0.1.0": "s/releases/tag/v0.1.0",
    }
