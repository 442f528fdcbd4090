"""A run stays below the number of files that its process may open."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from vllm_client._http.open_files import most_connections

from ..servers import Connection, Serve
from .answering import Answering

resource = pytest.importorskip("resource", reason="this system has no limit of open files")

RUN = """
import resource, sys
from vllm_client import VllmClient
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
rows = VllmClient(sys.argv[1], max_retries=0).batch.completions(map(str, range(300)))
print(sum(row.ok for row in rows))
"""


def test_a_run_with_few_files(serve: Serve) -> None:
    """With room for 64 files, no row of a run with 256 at once fails, and the log says why."""
    server, most, open_now, lock = Answering(), 0, 0, threading.Lock()

    def counted(connection: Connection) -> None:
        nonlocal most, open_now
        with lock:
            open_now += 1
            most = max(most, open_now)
        server(connection)
        with lock:
            open_now -= 1

    url = serve(handler=counted).client.base_url
    ended = subprocess.run(
        [sys.executable, "-c", RUN, url], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.stdout == "300\n"
    assert "at most 40 of max_concurrency=256 requests at once" in ended.stderr
    assert most <= 40


@pytest.mark.parametrize(
    ("limit", "most"), [(1024, 880), (64, 40), (8, 1), (resource.RLIM_INFINITY, None)]
)
def test_room_for_connections(monkeypatch: pytest.MonkeyPatch, limit: int, most: object) -> None:
    """A part of the limit is left to the program; no limit is none."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert most_connections() == most


def test_a_system_without_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has no such limit."""
    monkeypatch.setitem(sys.modules, "resource", None)
    assert most_connections() is None


def test_the_log_tells_it_once(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each batch of a Mapper is a run: one warning a process is enough."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    client = serve(handler=Answering()).client
    for _ in range(2):
        assert all(row.ok for row in client.batch.completions(["a"] * 9, max_concurrency=47))
    assert [record.args for record in caplog.records] == [(40, 47)]
