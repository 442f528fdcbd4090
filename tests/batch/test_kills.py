"""Runs that are killed, and runs on a full disk, in processes of their own.

``BATCH_KILLS=100 pytest tests/batch/test_kills.py -s`` kills more often and prints how many rows
were paid for twice.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
from pathlib import Path
from typing import List

import pytest

from vllm_client import VllmClient, read_batch

from ..servers import WireServer
from .answering import Answering

KILLS = int(os.environ.get("BATCH_KILLS", "5"))
IN_FLIGHT = 32

RUN = """
import sys
from vllm_client import VllmClient

base_url, output, rows = sys.argv[1:]
with VllmClient(base_url) as client:
    client.batch.run(map(str, range(int(rows))), output, max_concurrency=32)
"""
RUN_ON_A_FULL_DISK = (
    """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
"""
    + RUN
)

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


def start(code: str, server: WireServer, output: Path, rows: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", code, server.base_url, str(output), str(rows)]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


def whole_lines(output: Path) -> List[str]:
    """The ids in the whole lines of a file, of which only the last line may be torn."""
    if not output.exists():
        return []
    whole, _, _ = output.read_bytes().rpartition(b"\n")
    return [json.loads(line)["custom_id"] for line in whole.splitlines()]


@posix_only
def test_killed_at_any_moment(output: Path) -> None:
    """After each kill -9 every written row is whole; in the end each row is there exactly once."""
    rows, chance, twice = 60 * (KILLS + 1), random.Random(7), []
    server = Answering()
    with WireServer(server) as wire:
        for kill in range(KILLS):
            before = sum(server.asked.values())
            process = start(RUN, wire, output, rows)
            assert server.wait_asked(before + chance.randint(1, 60))
            process.kill()
            process.communicate()
            written = whole_lines(output)
            assert len(set(written)) == len(written), f"a row twice after kill {kill}"
            twice.append(len(server.answered.keys() - set(written)))
        with VllmClient(wire.base_url) as client:
            report = client.batch.run(map(str, range(rows)), output)
    assert (report.done, report.failed) == (rows, 0)
    assert sorted(map(int, whole_lines(output))) == list(range(rows))
    assert all(row.text == f"<{row.custom_id}>" for row in read_batch(output))
    sent_again = sum(server.asked.values()) - rows
    assert sent_again <= KILLS * IN_FLIGHT
    sys.stdout.write(
        f"\n{KILLS} kills, {IN_FLIGHT} in flight: {sent_again} of {rows} rows were sent again; "
        f"answered and not written after a kill: median {statistics.median(twice):g}, "
        f"at most {max(twice)}\n"
    )


@posix_only
def test_full_disk(output: Path) -> None:
    """On a full disk the run ends with that error, and the same call goes on when there is room."""
    server = Answering()
    with WireServer(server) as wire:
        process = start(RUN_ON_A_FULL_DISK, wire, output, 100)
        _, errors = process.communicate(timeout=60)
        assert process.returncode != 0
        assert b"File too large" in errors
        assert output.read_bytes().endswith(b"\n")
        written = whole_lines(output)
        assert 0 < len(written) < 100
        with VllmClient(wire.base_url) as client:
            report = client.batch.run(map(str, range(100)), output)
    assert (report.done, report.skipped) == (100, len(written))
    assert sorted(map(int, whole_lines(output))) == list(range(100))


@pytest.mark.parametrize("rows", [3])
def test_torn_at_every_byte(output: Path, rows: int) -> None:
    """Wherever the last line was torn, the run goes on with the row that it was."""
    with WireServer(Answering()) as wire, VllmClient(wire.base_url) as client:
        client.batch.run(map(str, range(rows)), output, max_concurrency=1)
        whole = output.read_bytes()
        last = len(whole[:-1].rpartition(b"\n")[2]) + 1
        for size in range(1, last + 1):
            output.write_bytes(whole[:-size])
            report = client.batch.run(map(str, range(rows)), output)
            assert (report.skipped, report.done) == (rows - 1, rows), f"torn {size} bytes before"
