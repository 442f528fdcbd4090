"""The client works under eventlet, whose sockets have fewer methods."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ..recorded import beginning, chunk
from ..servers import Stall, WireServer, replying

LEAVE = """
import sys
import eventlet
eventlet.monkey_patch()
from vllm_client import VllmClient

with VllmClient(sys.argv[1], max_retries=0) as client:
    with client.completions.stream(prompt="x") as stream:
        for event in stream:
            break
    print(event.text, flush=True)
    sys.stdin.readline()
"""


def test_a_stream_that_is_left_ends_the_connection() -> None:
    """``break`` inside ``with`` closes the connection at once, and the server sees it."""
    pytest.importorskip("eventlet")
    stall = Stall(beginning(chunk("a")))
    with WireServer(replying(stall)) as server:
        program = [sys.executable, "-W", "ignore", "-c", LEAVE, server.base_url]
        with subprocess.Popen(
            program,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            gone = stall.gone.wait()  # The process still runs: it waits for its input.
            out, err = process.communicate("go\n", timeout=60)
    assert (out, process.returncode) == ("a\n", 0), err
    assert gone
