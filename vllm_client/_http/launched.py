"""Requests that were sent and wait for their response, many of them in one thread.

Hot path, measured, see docs/performance.md: a thread for each would wait for the interpreter
several times a request. A response that is not a common one in one piece is finished by
``Launched.finish``, which waits, so it needs a thread of its own.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
from time import monotonic
from typing import Any, Dict, List, Optional

from attrs import define, field

from .attempts import Attempts
from .call import Call
from .response import WholeResponse

CAN_POLL = selectors.DefaultSelector.__name__ != "SelectSelector"
"""Whether the system can wait for any number of sockets at once."""


@define(eq=False, repr=False)
class Launched:
    """A request that was sent.

    Attributes:
        subject: What the caller knows it by.
    """

    subject: Any
    _attempts: Attempts
    _call: Call
    due: float = field(init=False)
    """When the server has been silent for too long, by ``monotonic``."""

    def __attrs_post_init__(self) -> None:
        limit = self._call.cap_to_deadline(self._attempts.timeout.read)
        self.due = float("inf") if limit is None else monotonic() + limit

    def fileno(self) -> int:
        """The file descriptor of its socket."""
        begun = self._attempts.begun
        assert begun is not None
        return begun.connection.sock.fileno()

    def content_now(self) -> Optional[WholeResponse]:
        """The response, if it is there, whole, and no error; else :meth:`finish` must follow."""
        return self._attempts.content_now(self._call)

    def finish(self) -> WholeResponse:
        """Wait for the response; results and errors as those of ``Transport.fetch``."""
        return self._attempts.finish(self._call)

    def expire(self) -> None:
        """The server has been silent for too long: :meth:`finish` raises that error."""
        begun = self._attempts.begun
        assert begun is not None
        begun.error = socket.timeout("timed out")

    def abandon(self) -> None:
        """Close the connection."""
        begun, self._attempts.begun = self._attempts.begun, None
        self._call.close()
        if begun is not None:
            begun.abandon()


class Poller:
    """Waits for many launched requests. All methods but :meth:`wake` are for one thread at a time.

    They must have the same time limits: the first that was sent is the first to be overdue.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._launched: Dict[int, Launched] = {}
        self._wakes, self._is_woken = socket.socketpair()
        self._wakes.setblocking(False)
        self._is_woken.setblocking(False)
        self._selector.register(self._is_woken, selectors.EVENT_READ)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to wait for."""
        return not self._launched

    def add(self, launched: Launched) -> None:
        """Wait for this one too."""
        number = launched.fileno()
        self._launched[number] = launched
        self._selector.register(number, selectors.EVENT_READ)

    def wait(self, timeout: Optional[float]) -> List[Launched]:
        """Those whose response has begun to arrive, or that are overdue; they are forgotten here.

        There may be none: after ``timeout`` seconds, or :meth:`wake`.
        """
        arrived = []
        for key, _ in self._selector.select(self._until_due(timeout)):
            if key.fileobj is self._is_woken:
                with contextlib.suppress(BlockingIOError):
                    self._is_woken.recv(4096)
            else:
                arrived.append(self._forget(key.fd))
        return arrived or self._overdue()

    def _until_due(self, timeout: Optional[float]) -> Optional[float]:
        first = next(iter(self._launched.values()), None)
        if first is None or first.due == float("inf"):
            return timeout
        left = max(first.due - monotonic(), 0.0)
        return left if timeout is None else min(left, timeout)

    def _overdue(self) -> List[Launched]:
        overdue: List[Launched] = []
        now = monotonic()
        while self._launched:
            number, launched = next(iter(self._launched.items()))
            if launched.due > now:
                break
            launched.expire()
            overdue.append(self._forget(number))
        return overdue

    def _forget(self, number: int) -> Launched:
        self._selector.unregister(number)
        return self._launched.pop(number)

    def wake(self) -> None:
        """End a :meth:`wait`, from any thread."""
        with contextlib.suppress(OSError):  # It is awake already, or closed.
            self._wakes.send(b"\0")

    def close(self) -> None:
        """Wait for none of them any more."""
        self._launched.clear()
        self._selector.close()
        self._wakes.close()
        self._is_woken.close()
