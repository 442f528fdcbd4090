"""The answers of the server, as attrs classes."""

from __future__ import annotations

from .completion import Completion, CompletionChoice
from .shared import Usage

__all__ = ["Completion", "CompletionChoice", "Usage"]
