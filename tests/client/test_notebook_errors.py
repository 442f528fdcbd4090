"""What IPython shows of an error or an interrupt: few frames, and the way to the others."""

from __future__ import annotations

import re
import signal
import socket
import sys
import threading
import traceback
from types import SimpleNamespace
from typing import Any, Callable, Iterator, List

import pytest

from vllm_client import APIConnectionError, VllmClient
from vllm_client._tracebacks import rendered, shorten_interrupt

from ..conftest import Serve
from ..recorded import beginning, chunk
from ..servers import Connection
from ..threads import WAIT, BlockedCalls

PROGRAM = """\
def ask():
    return client.completions.create(prompt="Hello")
ask()
"""
READ = """\
with client.completions.stream(prompt="Hello") as stream:
    for event in stream:
        if event.text == "lo":
            has_arrived.set()
"""
Run = Callable[..., str]


@pytest.fixture(name="run")
def _run(capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs a cell in a real IPython, with these variables, and returns what it prints."""
    interactiveshell = pytest.importorskip("IPython.core.interactiveshell")
    # Its history would be a file of the user's, and a thread.
    settings = pytest.importorskip("traitlets.config").Config()
    settings.HistoryManager.enabled = False
    shell = interactiveshell.InteractiveShell.instance(config=settings)
    shell.InteractiveTB.set_theme_name("nocolor") if hasattr(
        shell.InteractiveTB, "set_theme_name"
    ) else shell.InteractiveTB.set_colors("NoColor")

    def run(cell: str, **variables: Any) -> str:
        shell.push(variables)
        shell.run_cell(cell)
        return capsys.readouterr().out

    hooks = sys.excepthook, sys.displayhook
    try:
        yield run
    finally:
        shell.reset()
        interactiveshell.InteractiveShell.clear_instance()
        sys.excepthook, sys.displayhook = hooks


def refused() -> VllmClient:
    """A client of a server that does not exist."""
    return VllmClient("http://127.0.0.1:1", max_retries=0)


def test_an_error_shows_the_frames_of_the_program(run: Run) -> None:
    """IPython shows the program's frames, the message, and where the rest is."""
    shown = run(PROGRAM, client=refused())
    assert len(shown.splitlines()) < 20
    assert "in ask()" in shown
    assert "APIConnectionError: nothing answers at http://127.0.0.1" in shown
    assert not re.search(r"urllib3/|requests/|vllm_client/", shown)
    assert re.search(r"\(\d+ frames of libraries are hidden: sys.last_value.__traceback__", shown)
    assert "sys.last_value.__cause__ is a requests.exceptions.ConnectionError)" in shown


def test_the_hidden_frames_remain(run: Run) -> None:
    """The error keeps its traceback and its cause: a log, or traceback.print_exc(), has all."""
    run(PROGRAM, client=refused())
    error: Any = sys.last_value
    assert isinstance(error, APIConnectionError)
    assert type(error.__cause__).__name__ == "ConnectionError"
    assert error.__suppress_context__
    whole = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    assert "urllib3" in whole
    assert "attempts.py" in whole


def interrupted(run: Run, serve: Serve, cell: str, *events: Any) -> str:
    """Runs a cell until it waits for data after these events, and presses Ctrl-C."""
    has_arrived = threading.Event()
    blocked = BlockedCalls()
    main = threading.get_ident()

    def reply(connection: Connection) -> None:
        if events:
            connection.send(beginning(*events))
            assert has_arrived.wait(WAIT)
        blocked.wait_for_read()
        # Python notices a signal that arrives just before the system call only after it: repeat.
        connection.sock.settimeout(1)
        is_gone = False
        while not is_gone:
            signal.pthread_kill(main, signal.SIGINT)
            try:
                is_gone = not connection.sock.recv(1)
            except ConnectionError:
                is_gone = True
            except socket.timeout:  # In Python 3.9 it is no TimeoutError.
                pass

    client = serve(reply).client
    with blocked:
        return run(cell, client=client, has_arrived=has_arrived)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_an_interrupt_shows_few_frames(serve: Serve, run: Run) -> None:
    """Ctrl-C while a stream is read shows the program's frames; the snapshot has what arrived."""
    shown = interrupted(run, serve, READ, chunk("Hel"), chunk("lo"))
    assert "KeyboardInterrupt" in shown
    assert len(shown.splitlines()) < 30  # It may hit a function of BlockedCalls.
    assert "vllm_client/" not in shown
    assert "is in its `snapshot`" in shown
    assert "'Hello'" in run("stream.snapshot.text")
    assert "CompletionStream(closed, 2 chunks" in run("stream")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_an_interrupt_of_create_shows_few_frames(serve: Serve, run: Run) -> None:
    """Ctrl-C while create() waits shows the program's frames."""
    shown = interrupted(run, serve, PROGRAM)
    assert "KeyboardInterrupt" in shown
    assert len(shown.splitlines()) < 30  # It may hit a function of BlockedCalls.
    assert "vllm_client/" not in shown


def test_without_ipython_everything_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of IPython, or of errors that were not raised, the usual lines are made."""
    error = APIConnectionError("gone")
    assert rendered(error) == ["vllm_client.exceptions.APIConnectionError: gone\n"]
    for module in (None, SimpleNamespace(get_ipython=lambda: None)):
        monkeypatch.setitem(sys.modules, "IPython", module)
        try:
            raise error
        except APIConnectionError as raised:
            lines: List[str] = raised._render_traceback_()
        assert lines[0] == "Traceback (most recent call last):\n"


def test_an_interrupt_without_ipython_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of IPython nothing is added to an interrupt."""
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    interrupt = KeyboardInterrupt()
    shorten_interrupt(interrupt)
    assert vars(interrupt) == {}
