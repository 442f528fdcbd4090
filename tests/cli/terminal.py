"""Programs in a process of their own, at a real pseudo-terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from typing import TYPE_CHECKING, Any, List, Sequence

from ..threads import WAIT

if TYPE_CHECKING:
    from typing_extensions import Self

_MARK_PASTES = b"\x1b[?2004h"
_CURSOR_QUESTION = b"\x1b[6n"


class Terminal:
    """Runs a program at a terminal; what it shows is collected by a thread.

    Attributes:
        shown: All bytes that the program has written to the terminal.
    """

    def __init__(self, command: Sequence[str], columns: int, **env: str) -> None:
        self.shown = b""
        self._changed = threading.Condition()
        self._ended = False
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self._process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "COLUMNS": str(columns), **env},
        )
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(WAIT)
        self._reader.join(WAIT)
        os.close(self._master)

    def _read(self) -> None:
        data = b"-"
        while data:
            data = b""
            with contextlib.suppress(OSError):  # The program has closed its side.
                data = os.read(self._master, 65536)
            if _CURSOR_QUESTION in data:
                os.write(self._master, b"\x1b[1;1R")
            with self._changed:
                self.shown += data
                self._ended = not data
                self._changed.notify_all()

    def type(self, keys: str) -> None:
        """Press these keys."""
        os.write(self._master, keys.encode())

    def wait_for(self, text: str, times: int = 1) -> None:
        """Wait until the text has been shown so often, styles apart."""
        with self._changed:
            found = self._changed.wait_for(
                lambda: self.text.count(text) >= times or self._ended, 3 * WAIT
            )
        assert found, self.text
        assert self.text.count(text) >= times, self.text

    def interrupt_until(self, text: str) -> None:
        """Press Ctrl-C until the text is shown: Python misses a signal just before it waits."""
        for _ in range(int(WAIT)):
            self.type("\x03")
            with self._changed:
                if self._changed.wait_for(lambda: text in self.text, 1):
                    return
        self.wait_for(text)

    def wait_for_prompt(self, times: int = 1) -> None:
        """Wait until a line editor has begun to read so many lines: it asks to mark pastes."""
        with self._changed:
            found = self._changed.wait_for(
                lambda: self.shown.count(_MARK_PASTES) >= times or self._ended, 3 * WAIT
            )
        assert found, self.text

    @property
    def text(self) -> str:
        """What was shown, without the codes of the terminal."""
        return re.sub(r"\x1b(\[[0-?]*[ -/]*[@-~]|[=>])", "", self.shown.decode("utf-8", "replace"))

    def status(self) -> int:
        """Wait for the end; the exit status."""
        status = self._process.wait(3 * WAIT)
        self._reader.join(WAIT)
        return status


class AtTerminal(Terminal):
    """``vllm-client`` at a terminal."""

    def __init__(self, *arguments: str, columns: int = 80, modules: str = "", **env: str) -> None:
        command = [sys.executable, "-c", _program(modules), *arguments]
        super().__init__(command, columns, **{"PYTHONIOENCODING": "utf-8", **env})


class Shell(Terminal):
    """An interactive shell; it ends with the ``with`` block."""

    def __init__(self, *command: str, **env: str) -> None:
        lines = [*_OWN_TERMINAL, "import os", "os.execvp(sys.argv[1], sys.argv[1:])"]
        super().__init__([sys.executable, "-c", "\n".join(lines), *command], 100, **env)


_OWN_TERMINAL = (
    "import fcntl, sys, termios",
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # Ctrl-C at the terminal is then a signal for it.",
)


def _program(hidden: str) -> str:
    """A program that runs the command line without the modules named, as if not installed."""
    names: List[Any] = hidden.split()
    lines = [
        *_OWN_TERMINAL,
        *(f"sys.modules[{name!r}] = None" for name in names),
        "from vllm_client.cli import main",
        "sys.exit(main(sys.argv[1:]))",
    ]
    return "\n".join(lines)
