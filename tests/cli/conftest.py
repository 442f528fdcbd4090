"""Fixtures for the command line: nothing typed, and a home of its own."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from ..http.conftest import certificate

__all__ = ["certificate", "empty_input"]


@pytest.fixture(autouse=True)
def empty_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The standard input is empty, colours are not asked about, and history goes elsewhere."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
