"""``vllm-client serve-demo``: a server that runs until it is told to end."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from typing import Any, List

import pytest

from vllm_client import AuthenticationError, VllmClient
from vllm_client.cli import main, serve_demo
from vllm_client.testing import FakeServer, serving
from vllm_client.testing.__main__ import main as module_main

from ..threads import WAIT

PROGRAMS = [["vllm_client", "serve-demo"], ["vllm_client.testing"]]


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("program", PROGRAMS)
def test_runs_until_a_signal(program: List[str], end: signal.Signals) -> None:
    """The first line is the base_url; the server answers until Ctrl-C or SIGTERM, status 0."""
    options = ["--port", "0", "--model", "tiny", "--delay", "0", "--api-key", "k"]
    running = subprocess.Popen(
        [sys.executable, "-m", *program, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    address = running.stdout.readline().strip()
    with VllmClient(address, api_key="k") as client:
        assert client.models.default().id == "tiny"
        assert client.completions.create(prompt="x").text
    with VllmClient(address) as client, pytest.raises(AuthenticationError):
        client.models.list()
    running.send_signal(end)
    _, err = running.communicate(timeout=WAIT)
    assert running.returncode == 0
    assert "stand-in" in err
    assert "Traceback" not in err


def test_port_in_use(capsys: Any) -> None:
    """A port that is in use is status 1 and a hint."""
    with FakeServer() as server:
        port = server.url.rpartition(":")[2]
        assert main(["serve-demo", "--port", port]) == 1
    assert "cannot listen" in capsys.readouterr().err
    assert main(["serve-demo", "--port", "99999"]) == 1
    assert "--port 0 takes a free port" in capsys.readouterr().err


def test_port() -> None:
    """FakeServer listens on the port that it is told."""
    with FakeServer() as first:
        port = int(first.url.rpartition(":")[2])
    with FakeServer(port=port) as second:
        assert second.base_url == f"http://127.0.0.1:{port}/v1"


def test_both_programs_have_the_same_options() -> None:
    """The command and the module have the same options, with the same help."""
    ours, theirs = argparse.ArgumentParser("x"), argparse.ArgumentParser("x")
    serve_demo.add_arguments(ours)
    serving.add_arguments(theirs)
    assert ours.format_help() == theirs.format_help()


@pytest.mark.parametrize("program", [main, module_main])
def test_handlers_are_restored(program: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """When it has ended, signals do again what they did before."""

    class Screen:
        """Its first line is the sign that the server runs."""

        def write(self, text: str) -> int:
            os.kill(os.getpid(), signal.SIGTERM)
            return len(text)

        def flush(self) -> None:
            pass

    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(sys, "argv", ["vllm-client", "--port", "0"])
    monkeypatch.setattr(sys, "stdout", Screen())
    assert (program(["serve-demo", "--port", "0"]) if program is main else program()) == 0
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
