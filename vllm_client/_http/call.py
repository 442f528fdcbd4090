"""One call from its first attempt to the end of its body, and the way to stop it from outside."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import weakref
from time import monotonic
from typing import Any, Callable, Dict, Optional, Tuple

CLOSED = "closed"
TIMED_OUT = "timed out"
NOT_DRAINED = "not drained"
LONGEST_WAIT = 2e6
"""Seconds, some three weeks; of a longer wait a socket takes only 32 bits of milliseconds."""


class Call:
    """What another thread needs to stop a call, wherever it is: sending, waiting or reading.

    A blocked read ends only when its socket is shut down, and a socket may be shut down only while
    it is this call's own: once its connection is back in the pool another call may be using it.
    So one lock guards both stopping and :meth:`release`.
    """

    def __init__(self, total: Optional[float] = None) -> None:
        self._reason: Optional[str] = None
        self.sock: Any = None
        self.answer: Any = None
        self._lock = threading.Lock()
        self._shutdown: Optional[Callable[[], None]] = None
        self._paused: Optional[threading.Event] = None
        self._on_stop: Optional[weakref.WeakMethod[Callable[[], None]]] = None
        self._pid = os.getpid()
        self._deadline: Optional[float] = None
        self._alarm: Optional[object] = None
        if total is not None:
            self._deadline = monotonic() + total
            self._alarm = watchdog.stop_in(total, self, TIMED_OUT)

    @property
    def reason(self) -> Optional[str]:
        """Why the call has to end; None while it may go on."""
        # A limit of one step may end together with the whole, before the watchdog wakes.
        if self._reason is None and self._deadline is not None and monotonic() >= self._deadline:
            self._reason = TIMED_OUT
        return self._reason

    @property
    def remaining(self) -> Optional[float]:
        """Seconds left of the total limit, None without one."""
        return None if self._deadline is None else self._deadline - monotonic()

    def clamped(self, limit: Optional[float]) -> Optional[float]:
        """A limit of one step, no longer than what is left of the whole."""
        limits = [seconds for seconds in (limit, self.remaining) if seconds is not None]
        # requests takes 0 for an error; the next check of the reason ends what is overdue.
        return max(min(*limits, LONGEST_WAIT), 0.001) if limits else None

    def hold(self, shutdown: Callable[[], None]) -> None:
        """From now on ``shutdown`` is what ends a blocked read of this call."""
        with self._lock:
            self._shutdown = shutdown
            if self.reason is not None:
                self._shut_down()

    def hold_unless_held(self, shutdown: Callable[[], None]) -> None:
        """The same, for connections that did not announce their socket."""
        if self._shutdown is None:
            self.hold(shutdown)

    def release(self) -> None:
        """The connection is about to be given away: keep the hands off it."""
        with self._lock:
            self._shutdown = None

    def finish(self) -> None:
        """The call is over; nothing is left to stop."""
        self.release()
        if self._alarm is not None:
            watchdog.forget(self._alarm)

    def on_stop(self, method: Callable[[], None]) -> None:
        """Have this bound method, held weakly, run after a stop."""
        self._on_stop = weakref.WeakMethod(method)

    def stop(self, reason: str = CLOSED) -> None:
        """End the call from any thread, at once and without waiting for whoever reads."""
        with self._lock:
            if self._reason is None:
                self._reason = reason
            self._shut_down()
            if self._paused is not None:
                self._paused.set()
        then = self._on_stop and self._on_stop()
        if then:
            then()

    def pause(self, seconds: float) -> None:
        """Wait, unless and until the call is stopped."""
        with self._lock:
            if self.reason is not None:
                return
            self._paused = threading.Event()
        self._paused.wait(seconds)

    def _shut_down(self) -> None:
        # After a fork the socket is shared: shutting it down would end the parent's stream.
        if self._shutdown is not None and os.getpid() == self._pid:
            self._shutdown()


class Scope:
    """Stops the calls that a thread makes in it, also one that has not begun. A context manager."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._call: Optional[Call] = None
        self._stopped = False

    def __enter__(self) -> None:
        _entered.scope = self

    def __exit__(self, *_: object) -> None:
        _entered.scope = None

    def adopt(self, call: Call) -> None:
        """The thread makes this call now."""
        with self._lock:
            self._call = call
            stopped = self._stopped
        if stopped:
            call.stop()

    def stop(self) -> None:
        """Stop the call that is under way, and those to come."""
        with self._lock:
            self._stopped = True
            call = self._call
        if call is not None:
            call.stop()


class _Entered(threading.local):
    scope: Optional[Scope] = None


_entered = _Entered()


def adopted(call: Call) -> Call:
    """The call, known to the scope that the running thread is in."""
    if _entered.scope is not None:
        _entered.scope.adopt(call)
    return call


def shut_socket(sock: Any) -> None:
    """Wake whoever is blocked on a socket, and tell the peer that nobody listens."""
    sock = getattr(sock, "socket", sock)  # The one below, for TLS within the TLS of a proxy.
    with contextlib.suppress(OSError):  # It is closed: nobody can be blocked on it.
        # SSLSocket.shutdown would pull the TLS layer from under the reader.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


class _Watchdog:
    """Stops calls when their time is up. Its thread lives only while there are any to watch."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: Dict[object, Tuple[float, weakref.ref[Call], str]] = {}
        self._thread: Optional[threading.Thread] = None

    def stop_in(self, seconds: float, call: Call, reason: str) -> object:
        """Stop ``call`` after so many seconds; returns what :meth:`forget` takes."""
        alarm = object()
        with self._changed:
            self._due[alarm] = monotonic() + seconds, weakref.ref(call), reason
            if self._thread is None:
                self._start()
            self._changed.notify()
        return alarm

    def forget(self, alarm: object) -> None:
        """Let the call of this alarm run on."""
        with self._changed:
            if self._due.pop(alarm, None) is not None and not self._due:
                self._changed.notify()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="vllm-client-watchdog", daemon=True)
        # Where no thread can be had, as at the end of the interpreter, limits hold between reads.
        with contextlib.suppress(RuntimeError):
            thread.start()
            self._thread = thread

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._due:
                    self._thread = None
                    return
                alarm, (when, call, reason) = min(self._due.items(), key=lambda due: due[1][0])
                wait = when - monotonic()
                if wait > 0:
                    self._changed.wait(min(wait, threading.TIMEOUT_MAX))
                    continue
                del self._due[alarm]
            overdue = call()
            if overdue is not None:
                overdue.stop(reason)
                del overdue


watchdog = _Watchdog()

if hasattr(os, "register_at_fork"):  # A child has the lock and the entries, but not the thread.
    os.register_at_fork(after_in_child=watchdog.__init__)  # type: ignore[misc]
