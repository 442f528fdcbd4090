"""The pytest fixture ``fake_vllm``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .server import FakeServer

__all__ = ["fake_vllm"]


@pytest.fixture
def fake_vllm() -> Iterator[FakeServer]:
    """A running ``FakeServer``, closed after the test."""
    with FakeServer() as server:
        yield server
