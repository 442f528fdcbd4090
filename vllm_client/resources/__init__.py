"""The routes of the server, in the groups of ``client.…``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import names_of

if TYPE_CHECKING:
    from . import chat, completions

__all__ = ["chat", "completions"]

__getattr__ = names_of(__name__, {"chat": "", "completions": "", "_media": ""})
