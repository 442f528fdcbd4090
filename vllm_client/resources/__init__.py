"""The routes of the server, grouped as ``client.…`` shows them."""

from __future__ import annotations

from .._lazy import names_of

__getattr__ = names_of(__name__, {"chat": "", "completions": "", "_media": ""})
