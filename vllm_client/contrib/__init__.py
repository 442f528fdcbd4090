"""Adapters for other programs; each needs an extra of the same name."""

from __future__ import annotations

from typing import List

__all__: List[str] = []
