"""Fixtures of the tests with real engines: a server that knows which processes ask it."""

from __future__ import annotations

import os
import signal
from typing import Any, Iterator, Set

import pytest

from ..batch.answering import Answering, status
from ..servers import Connection, WireServer
from ..threads import WAIT, Running

WRONG = "wrong"
"""The prompt that the server refuses."""


@pytest.fixture(autouse=True)
def no_thread_left() -> None:
    """Engines keep threads of their own in the process of the test."""


class Watched(Answering):
    """Answers as ``Answering`` does, and notes from which ports it is asked."""

    def __init__(self) -> None:
        super().__init__({WRONG: [status("400 Bad Request")] * 99})
        self.ports: Set[int] = set()
        self.base_url = ""

    def __call__(self, connection: Connection) -> None:
        self.ports.add(connection.sock.getpeername()[1])
        super().__call__(connection)

    def kill_a_process(self, asked: int) -> Running:
        """Kill one that waits for a response, once so many requests wait; then answer all."""
        self.hold.clear()

        def kill() -> int:
            assert self.wait_asked(asked, 6 * WAIT)
            victim = self._process()
            os.kill(victim, signal.SIGKILL)
            self.hold.set()
            return victim

        return Running(kill)

    def _process(self) -> int:
        import psutil  # noqa: PLC0415 — an engine brings it

        for process in psutil.process_iter():
            try:
                connections = process.net_connections("tcp")
            except psutil.Error:
                continue
            if process.pid != os.getpid() and self.ports & {c.laddr.port for c in connections}:
                return int(process.pid)
        raise AssertionError("no process is connected")


@pytest.fixture
def answering() -> Iterator[Any]:
    """A server that answers the prompt ``x`` with ``<x>``; ``base_url`` is its address."""
    handler = Watched()
    with WireServer(handler) as server:
        handler.base_url = server.base_url
        yield handler
