"""Fixtures of the batch tests: short pauses, and a file to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from vllm_client.batch import _engine, _stand_in


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses between attempts, and the time after which a read counts as long."""
    for name in ("_FIRST_PAUSE", "_FIRST_BUSY_PAUSE", "_LONGEST_PROBE_PAUSE"):
        monkeypatch.setattr(_engine, name, 0.001)
    monkeypatch.setattr(_stand_in, "_LONG_READ", 0.001)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """The path of an output file that does not exist yet."""
    return tmp_path / "out.jsonl"
