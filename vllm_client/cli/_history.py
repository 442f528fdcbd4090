"""What was typed in earlier conversations."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import List

__all__ = ["History"]

_REMEMBERED = 1000
"""How many texts a new conversation remembers."""


class History:
    """A file with a JSON text a line, which only the user can read.

    Several conversations may append to it. A file that cannot be read or written is no history.
    """

    def __init__(self) -> None:
        self.path = _state() / "vllm-client" / "chat-history.jsonl"

    def load(self) -> List[str]:
        """The last texts, oldest first."""
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []
        return [text for line in lines[-_REMEMBERED:] for text in _text(line)]

    def add(self, text: str) -> None:
        """Remember a text."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            with os.fdopen(os.open(self.path, flags, 0o600), "w", encoding="utf-8") as file:
                file.write(f"{json.dumps(text)}\n")
        except OSError:
            return


def _text(line: str) -> List[str]:
    """The text of a line; none if a full disk or another program has spoiled it."""
    try:
        text = json.loads(line)
    except ValueError:
        return []
    return [text] if isinstance(text, str) else []


def _state() -> Path:
    """Where programs keep what they remember."""
    # https://specifications.freedesktop.org/basedir-spec/
    default = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_STATE_HOME"
    return Path(os.environ.get(default) or os.path.expanduser("~/.local/state"))
