"""Waiting for a server that has just been started."""

from __future__ import annotations

import os
import sys
from time import monotonic
from typing import Any, Callable, Optional, Union

from .._http.transport import CallOptions, Transport
from ..exceptions import APIConnectionError, APIStatusError, APITimeoutError
from ..timeouts import Timeout, check_seconds

ShowProgress = Union[bool, None, Callable[[str], Any]]

_PAUSE = 0.5
_ASKED = Timeout(connect=5.0, read=10.0, total=15.0)
_SHORTEST = 1.0
"""Seconds for a question at the end of the wait: with less, its reason would be lost."""


def wait_until_ready(
    transport: Transport, timeout: Optional[float], pid: Optional[int], progress: ShowProgress
) -> None:
    """Ask ``/health`` and then ``/v1/models`` until both answer.

    Arguments and errors as ``Server.wait_until_ready``.
    """
    check_seconds("timeout", timeout)
    check_pid(pid)
    once = transport.without_retries()
    until = None if timeout is None else monotonic() + timeout
    show = _print if progress is True else progress or None
    told: Optional[str] = None
    while True:
        left = None if until is None else until - monotonic()
        if told is not None and left is not None and left <= 0:
            raise APITimeoutError(f"{once.server_url} was not ready in {timeout:g} s: {told}")
        reason = _reason(once, left)
        if pid is not None and not _is_alive(pid):
            raise APIConnectionError(_ended(once.server_url, pid, reason))
        if reason is None:
            return
        if show is not None and reason != told:
            show(f"waiting for {once.server_url}: {reason}")
        told = reason
        _pause(once, _PAUSE if until is None else min(_PAUSE, until - monotonic()))


def brief(timeout: Timeout, left: Optional[float] = None) -> Timeout:
    """The time limits of one question to the server, which needs no queue and no model.

    Args:
        timeout: The limits of the client; longer ones are shortened.
        left: Seconds until the whole wait ends.
    """
    shortest = [limit for limit in (_ASKED.total, timeout.total, left) if limit is not None]
    return Timeout(
        connect=min(filter(None, (_ASKED.connect, timeout.connect))),
        read=min(filter(None, (_ASKED.read, timeout.read))),
        total=max(min(shortest), _SHORTEST),
    )


def _pause(transport: Transport, seconds: float) -> None:
    # A call without a request: close() of the client ends its pause, and so does a cancelled
    # task. A new one each time, because a scope cancels only the call that was opened last.
    call = transport.session.open_call(transport, None)
    try:
        call.pause(seconds)
        if call.reason is not None:
            raise APIConnectionError("the client was closed while it waited for the server")
    finally:
        call.close()


def _ended(server_url: str, pid: int, reason: Optional[str]) -> str:
    if reason is None:
        return f"the process {pid} has ended: another server answers at {server_url}"
    return f"the process {pid} has ended, and so the server will not be ready ({reason})"


def _reason(transport: Transport, left: Optional[float]) -> Optional[str]:
    """Why the server is not ready; None if it is.

    Raises:
        APIConnectionError: The client was closed, or the fault will not pass, such as one of TLS.
        APIStatusError: It answers with an error that does not pass.
    """
    for path in ("/health", "models"):
        options = CallOptions(brief(transport.timeout, left))
        try:
            transport.open("GET", transport.url(path), accept="*/*", options=options).close()
        except APITimeoutError:
            return "it does not answer yet"
        except APIConnectionError as error:
            if transport.session.is_closed or not error.is_retryable:
                raise
            return f"nothing listens there yet ({error.message})"
        except APIStatusError as error:
            if error.status_code < 500:
                raise
            return f"it answers {error.status_code}, its engine is not ready"
    return None


def check_pid(pid: Optional[int]) -> None:
    """Refuse what is no process, and systems that cannot ask for one.

    Raises:
        ValueError: ``pid`` cannot be watched.
    """
    if pid is None:
        return
    if isinstance(pid, bool) or not isinstance(pid, int) or pid < 1:
        raise ValueError(f"pid must be the id of a process, 1 or greater, not {pid!r}")
    if os.name == "nt":  # There os.kill(pid, 0) interrupts the process instead of asking.
        raise ValueError("pid cannot be watched on Windows: leave it out")


def _is_alive(pid: int) -> bool:
    try:
        if hasattr(os, "waitid"):  # A child that has ended stays until its parent asks.
            ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            return ended is None
    except ChildProcessError:
        pass  # Not a child of this process.
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _print(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
