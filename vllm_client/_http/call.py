"""One call, from its first attempt to the end of its response, and how other threads cancel it.

``docs/architecture.md`` describes the way of a cancellation from ``close()`` to the socket.
"""

from __future__ import annotations

import _socket
import contextlib
import functools
import os
import socket
import threading
import weakref
from time import monotonic
from typing import TYPE_CHECKING, Any, Callable, Optional

from .watchdog import watchdog

if TYPE_CHECKING:
    import http.client

CLOSED = "closed"
TIMED_OUT = "timed out"
NOT_DRAINED = "not drained"
LONGEST_WAIT = 2e6
"""Seconds (23 days). Socket timeouts are passed on as 32-bit milliseconds and overflow beyond."""


class Call:
    """What another thread needs to cancel a call that is sending, waiting or reading.

    A blocked read ends only when its socket is shut down. A socket may be shut down only while it
    belongs to this call: after its connection has returned to the pool, another call may use it.
    So one lock guards both :meth:`cancel` and :meth:`detach`. The lock is re-entrant, because a
    signal handler that cancels runs in the middle of whatever its thread was doing.

    Args:
        total: Seconds until the call is cancelled as ``TIMED_OUT``; None for no limit.

    Attributes:
        reason: Why the call was cancelled; None while it may go on. Written by :meth:`cancel`.
            Ask :meth:`is_over` to take the deadline into account too.
        read_limit: Seconds of silence that the current attempt allows. ``ClientSession`` writes
            it; ``adapter`` applies it while a body is sent.
        reused: Whether the connection of the current attempt was used before; None if unknown.
            ``adapter`` writes it, and ``attempts`` reads it.
        sock: The socket of the current attempt. ``adapter`` writes it through
            :meth:`attach_socket` when they connect or are reused; ``response`` reads it.
        wire_response: The response whose head has arrived. ``adapter.WireResponse`` writes it;
            ``response`` reads the body from its file, or from ``sock``.
        on_cancel: A weak reference to a method that runs after a cancellation. ``response``
            writes it.
    """

    def __init__(self, total: Optional[float] = None) -> None:
        self.reason: Optional[str] = None
        self.read_limit: Optional[float] = None
        self.reused: Optional[bool] = None
        self.sock: Optional[socket.socket] = None
        self.wire_response: Optional[http.client.HTTPResponse] = None
        self.on_cancel: Optional[weakref.WeakMethod[Callable[[], None]]] = None
        self._lock = threading.RLock()
        self._shut_down: Optional[Callable[[], None]] = None
        self._pause: Optional[threading.Event] = None
        self._pid = os.getpid()
        self._deadline: Optional[float] = None
        self._alarm: Optional[object] = None
        if total is not None:
            self._deadline = monotonic() + total
            callback = functools.partial(_cancel_if_alive, weakref.ref(self))
            self._alarm = watchdog.call_later(total, callback)
        if current.scope is not None:
            current.scope.register_call(self.cancel)

    def is_over(self) -> bool:
        """Whether the call was cancelled or has reached its deadline."""
        # A read timeout can fire at the deadline itself, before the watchdog's thread has run.
        if self.reason is None and self._deadline is not None and monotonic() >= self._deadline:
            self.reason = TIMED_OUT
        return self.reason is not None

    @property
    def remaining(self) -> Optional[float]:
        """Seconds until the deadline; None without one."""
        return None if self._deadline is None else self._deadline - monotonic()

    def cap_to_deadline(self, limit: Optional[float]) -> Optional[float]:
        """The time limit of one step, no longer than the time until the deadline."""
        if self._deadline is not None:
            left = self._deadline - monotonic()
            # requests rejects a timeout of 0, so wait at least 1 ms; is_over() then ends the call.
            limit = max(left if limit is None else min(limit, left), 0.001)
        return limit if limit is None or limit < LONGEST_WAIT else LONGEST_WAIT

    def attach_socket(self, sock: socket.socket) -> None:
        """From now on the call uses this socket, and :meth:`cancel` shuts it down."""
        self.sock = sock
        self.attach(functools.partial(shut_socket, sock))

    def attach(self, shut_down: Callable[[], None]) -> None:
        """From now on ``shut_down`` is what ends a blocked read of this call."""
        with self._lock:
            self._shut_down = shut_down
            if self.is_over():
                self._shut_down_own()

    def attach_if_unset(self, shut_down: Callable[[], None]) -> None:
        """The same, for the connections of a user's session, which attach no socket."""
        if self._shut_down is None:
            self.attach(shut_down)

    def detach(self) -> None:
        """Forget the socket: the connection returns to the pool and leaves this call."""
        with self._lock:
            self._shut_down = None

    def close(self) -> None:
        """The call is over: there is nothing left to cancel."""
        self.detach()
        if self._alarm is not None:
            watchdog.forget(self._alarm)

    def cancel(self, reason: str = CLOSED) -> None:
        """End the call, from any thread, at once and without waiting for the thread that reads."""
        with self._lock:
            if self.reason is None:
                self.reason = reason
            self._shut_down_own()
            if self._pause is not None:
                self._pause.set()
        on_cancel = self.on_cancel and self.on_cancel()
        if on_cancel:
            on_cancel()

    def pause(self, seconds: float) -> None:
        """Wait, but no longer than until the call is cancelled."""
        with self._lock:
            if self.is_over():
                return
            self._pause = threading.Event()
        self._pause.wait(seconds)

    def _shut_down_own(self) -> None:
        # After a fork, parent and child share the socket: shutting it down in the child would end
        # the parent's stream.
        if self._shut_down is not None and os.getpid() == self._pid:
            self._shut_down()


def _cancel_if_alive(reference: weakref.ref[Call]) -> None:
    call = reference()
    if call is not None:
        call.cancel(TIMED_OUT)


class CancelScope:
    """A context manager: :meth:`cancel` cancels the calls that its thread makes inside.

    Calls that the thread starts after the cancellation are cancelled too.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._cancel_call: Optional[Callable[[], object]] = None
        self._cancelled = False

    def __enter__(self) -> None:
        current.scope = self

    def __exit__(self, *_: object) -> None:
        current.scope = None

    def register_call(self, cancel: Callable[[], object]) -> None:
        """The thread makes a call now, which this function cancels."""
        with self._lock:
            self._cancel_call = cancel
            cancelled = self._cancelled
        if cancelled:
            cancel()

    def cancel(self) -> None:
        """Cancel the call in progress and those to come; from any thread."""
        with self._lock:
            self._cancelled = True
            cancel_call = self._cancel_call
        if cancel_call is not None:
            cancel_call()


class _Current(threading.local):
    """What the running thread is doing. The only thread-local of the package.

    Attributes:
        call: The call whose attempt the thread sends. ``ClientSession.send`` writes it, and the
            ``adapter`` reads it: requests offers no argument that reaches them.
        scope: The scope that the thread is in. ``CancelScope`` writes it and ``Call`` reads it:
            ``aio`` runs the ordinary methods of the client in threads, and these take no scope.
    """

    call: Optional[Call] = None
    scope: Optional[CancelScope] = None


current = _Current()


def shut_socket(sock: socket.socket) -> None:
    """Wake the thread that is blocked on a socket, and tell the peer that nobody reads."""
    # A TLS connection through a TLS proxy wraps its socket in one more object.
    plain: Any = getattr(sock, "socket", sock)
    with contextlib.suppress(OSError):  # It is closed, so nobody can be blocked on it.
        if isinstance(plain, _socket.socket):
            # SSLSocket.shutdown() would remove the TLS object while another thread reads
            # through it. eventlet replaces socket.socket, so use the class below it.
            _socket.socket.shutdown(plain, socket.SHUT_RDWR)
        else:
            plain.shutdown(socket.SHUT_RDWR)
