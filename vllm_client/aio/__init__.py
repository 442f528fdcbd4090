"""The client for ``asyncio``: a thin layer over threads."""

from __future__ import annotations

from .client import AsyncVllmClient
from .stream import AsyncStream

__all__ = ["AsyncStream", "AsyncVllmClient"]
