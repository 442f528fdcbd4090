"""What every test gets: a clean environment, and a look at what it left behind."""

from __future__ import annotations

import os
import threading
from typing import Any, Iterator, List

import hypothesis
import pytest

from vllm_client._decoding import fast_json, sse_fields, templates
from vllm_client._http import framing

from .threads import WAIT

SHORTCUTS: List[Any] = [framing, sse_fields, fast_json, templates]
"""What may be switched off without a test of the wire noticing."""

# The gate on coverage shall not depend on what chance has tried; everywhere else it may look.
hypothesis.settings.register_profile("gate", derandomize=True)
if os.environ.get("HYPOTHESIS_GATE"):
    hypothesis.settings.load_profile("gate")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--plain", action="store_true", help="switch every shortcut off")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--plain"):
        for shortcut in SHORTCUTS:
            shortcut.ENABLED = False


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """No proxies, keys, addresses or .netrc of the machine reach a test."""
    for name in (
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "VLLM_API_KEY",
        "VLLM_BASE_URL",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
    ):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """Every thread that a test started has ended with it."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(WAIT)
        assert not thread.is_alive(), f"{thread.name} is still there"
