"""Waiting for a server that has just been started."""

from __future__ import annotations

import os
import sys
from time import monotonic
from typing import Any, Callable, Optional, Union

from .._http.transport import CallOptions, Transport
from ..exceptions import APIConnectionError, APIStatusError, APITimeoutError
from ..timeouts import Timeout

ShowProgress = Union[bool, None, Callable[[str], Any]]

_PAUSE = 0.5
_ASKED = Timeout(connect=5.0, read=10.0, total=15.0)


def wait_until_ready(
    transport: Transport, timeout: Optional[float], pid: Optional[int], progress: ShowProgress
) -> None:
    """Ask ``/health`` and then ``/v1/models`` until both answer.

    Arguments and errors as ``Server.wait_until_ready``.
    """
    once = transport.without_retries()
    until = None if timeout is None else monotonic() + timeout
    show = _print if progress is True else progress or None
    told: Optional[str] = None
    # A call without a request: it holds the limit, and close() of the client ends its pauses.
    call = once.session.open_call(once, None)
    try:
        while True:
            reason = _reason(once)
            if reason is None:
                return
            if show is not None and reason != told:
                show(f"waiting for {transport.server_url}: {reason}")
            told = reason
            if pid is not None and not _is_alive(pid):
                raise APIConnectionError(
                    f"the process {pid} has ended, and so the server will not be ready ({reason})"
                )
            left = None if until is None else until - monotonic()
            if left is not None and left <= 0:
                raise APITimeoutError(
                    f"{transport.server_url} was not ready in {timeout:g} s: {reason}"
                )
            call.pause(_PAUSE if left is None else min(_PAUSE, left))
            if call.reason is not None:
                raise APIConnectionError("the client was closed while it waited for the server")
    finally:
        call.close()


def _reason(transport: Transport) -> Optional[str]:
    """Why the server is not ready; None if it is.

    Raises:
        APIStatusError: It answers with an error that does not pass.
    """
    for path in ("/health", "models"):
        options = CallOptions(_ASKED)
        try:
            transport.open("GET", transport.url(path), accept="*/*", options=options).close()
        except APITimeoutError:
            return "it accepts connections, but does not answer yet"
        except APIConnectionError as error:
            if transport.session.is_closed:
                raise
            return f"nothing listens there yet ({error.message})"
        except APIStatusError as error:
            if error.status_code < 500:
                raise
            return f"it answers {error.status_code}, its engine is not ready"
    return None


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
