"""CHANGELOG.md keeps the format of Keep a Changelog, and says something about this version."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import List, Tuple

from vllm_client import __version__

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


def test_links_are_known() -> None:
    """A heading that is a link by name has its address at the end of the file."""
    for name in re.findall(r"^\[([^\]]+)\]: ", TEXT, flags=re.MULTILINE):
        assert f"## [{name}]" in TEXT
