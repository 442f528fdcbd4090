"""Runs against servers that go away, that are too busy, and that refuse rows."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Iterator, List

import pytest

from vllm_client import BatchStoppedError, VllmClient
from vllm_client.batch._store import errors_path

from ..recorded import answer
from ..servers import Connection, Serve, WireServer
from ..threads import Running, Tally, wait_until
from .answering import Answering, prompt_of, status

BUSY = status("503 Service Unavailable", "queue full")


def ids(path: Path) -> List[int]:
    return sorted(int(json.loads(line)["custom_id"]) for line in path.read_bytes().splitlines())


def test_server_that_goes_away_and_comes_back() -> None:
    """While nobody listens at the address nothing is lost, and no row loses an attempt."""
    server, reached = Answering(), Tally()

    def silent(connection: Connection) -> None:
        reached.add()
        connection.wait_gone()

    server.outcomes = {str(number): [silent] for number in range(10, 20)}
    with WireServer(server) as first:
        port = first.port
        client = VllmClient(first.base_url, max_retries=0)
        rows = client.batch.completions(map(str, range(60)), max_concurrency=10)
        reader = Running(lambda: list(rows))
        assert reached.wait(10)
    assert wait_until(lambda: rows.report().retries >= 10)
    with client, WireServer(server, port=port):
        done = reader.result()
    assert [row.text for row in done] == [f"<{number}>" for number in range(60)]
    assert {row.attempts for row in done} == {1}
    assert rows.report().failed == 0


def test_every_fifth_request_is_rejected(serve: Serve, output: Path) -> None:
    """Every fifth request gets a 503: each row is answered and written once."""
    requests, answered, lock = [0], Counter(), threading.Lock()  # type: ignore[var-annotated]

    def handler(connection: Connection) -> None:
        while connection.receive():
            with lock:
                requests[0] += 1
                rejected = requests[0] % 5 == 0
            if rejected:
                BUSY(connection)
                continue
            prompt = prompt_of(connection.request.json)
            answered[prompt] += 1
            connection.send_json(answer(f"<{prompt}>"))

    report = serve(handler=handler, max_retries=0).client.batch.run(map(str, range(200)), output)
    assert (report.done, report.failed) == (200, 0)
    assert report.rejections == requests[0] - 200 == requests[0] // 5
    assert set(answered.values()) == {1}
    assert ids(output) == list(range(200))


class Admission:
    """Serves ``slots`` requests at once, lets ``queue`` more wait, and rejects the others.

    A request is answered once as many are here as the client may send, so that their number does
    not depend on how fast the client is; if no more come, after a moment.

    Attributes:
        limit: How many the client may send.
    """

    def __init__(self, slots: int, queue: int) -> None:
        self.rejected = 0
        self.most = 0
        self._most_allowed = slots + queue
        self._here = 0
        self._slots = threading.Semaphore(slots)
        self._changed = threading.Condition()
        self.limit: Callable[[], int] = lambda: 0

    def __call__(self, connection: Connection) -> None:
        while connection.receive():
            with self._changed:
                is_full = self._here >= self._most_allowed
                self._here += not is_full
                self.rejected += is_full
                self.most = max(self.most, self._here)
                self._changed.notify_all()
            if is_full:
                BUSY(connection)
                continue
            with self._slots, self._changed:
                self._changed.wait_for(self._all_are_here, 0.2)
                self._here -= 1
            connection.send_json(answer("x"))

    def _all_are_here(self) -> bool:
        return self._here >= min(self.limit(), self._most_allowed)


def test_server_with_slots_and_a_queue(serve: Serve) -> None:
    """The limit settles below what the server admits: few rejections, and no failed row."""
    server = Admission(64, 48)
    client = serve(handler=server, max_retries=0).client
    rows = client.batch.completions(map(str, range(4000)), max_concurrency=1024, ordered=False)
    server.limit = lambda: rows._engine.limit
    assert all(row.ok for row in rows)
    report = rows.report()
    assert report.rejections == server.rejected
    assert server.most == 112
    assert 0 < report.rejections / 4000 <= 0.01


def test_poison_row_in_a_file(serve: Serve, output: Path) -> None:
    """A row that is always refused, and one that breaks each connection, do not hurt others."""
    refused = [status("422 Unprocessable Entity", "no")] * 9
    server = Answering({"7": refused, "11": [lambda connection: connection.reset()] * 99})
    client = serve(handler=server, max_retries=1).client
    report = client.batch.run(map(str, range(40)), output)
    assert (report.done, report.failed) == (38, 2)
    assert ids(errors_path(output)) == [7, 11]
    assert server.asked["7"] == 1


def test_all_rows_are_poison(serve: Serve, output: Path) -> None:
    """If all rows are refused alike the run ends early; the rows that were asked for are kept."""
    refused = status("400 Bad Request", "bad template")
    server = Answering({str(n): [refused] for n in range(500)})
    client = serve(handler=server).client
    with pytest.raises(BatchStoppedError, match="bad template"):
        client.batch.run(map(str, range(500)), output, max_concurrency=4)
    assert output.read_bytes() == b""
    assert 20 <= len(ids(errors_path(output))) <= sum(server.asked.values()) <= 24
    server.outcomes = {}
    report = client.batch.run(map(str, range(500)), output, retry_failed=True)
    assert (report.done, report.failed) == (500, 0)


def test_all_rows_fail_at_the_server(serve: Serve, output: Path) -> None:
    """If the server fails with each row, all of them are failed rows, tried again next time."""
    server = Answering({str(n): [status("500 Oops")] * 2 for n in range(50)})
    client = serve(handler=server, max_retries=1).client
    report = client.batch.run(map(str, range(50)), output)
    assert (report.read, report.done, report.failed) == (50, 0, 50)
    report = client.batch.run(map(str, range(50)), output)
    assert (report.done, report.failed) == (50, 0)


def test_rows_that_differ_a_thousandfold(serve: Serve, output: Path) -> None:
    """Short and very long rows come in order and whole, with a buffer smaller than a long one."""
    prompts = [("x" if n % 7 else "y" * 300_000) + str(n) for n in range(60)]
    client = serve(handler=Answering()).client
    rows = client.batch.completions(prompts, max_concurrency=8, buffer_bytes=100_000)
    assert [row.text for row in rows] == [f"<{prompt}>" for prompt in prompts]
    report = client.batch.run(prompts, output, ordered=True)
    lines = [json.loads(line) for line in output.read_bytes().splitlines()]
    texts = [line["response"]["body"]["choices"][0]["text"] for line in lines]
    assert (report.done, texts) == (60, [f"<{prompt}>" for prompt in prompts])


def test_duplicate_ids_in_a_file(serve: Serve, output: Path) -> None:
    """A custom id that comes again is a failed row, in the first run and when it is resumed."""
    served = serve(handler=Answering())
    rows: List[Any] = [("a", "x"), ("b", "y"), ("a", "z")]
    for _ in range(2):
        report = served.client.batch.run(rows, output)
        assert (report.done, report.failed) == (2, 1)
        assert report.read + report.skipped == report.done + report.failed
        assert "stands at an earlier row already" in errors_path(output).read_text()
    assert sorted(request.json["prompt"] for request in served.requests) == ["x", "y"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if (
        sys.platform != "linux"
        or subprocess.run(mount, check=False, capture_output=True).returncode
    ):
        pytest.skip("needs the right to mount a file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_full_disk(serve: Serve, small_disk: Path) -> None:
    """On a full file system the run ends with ENOSPC, and goes on once there is room."""
    client = serve(handler=Answering()).client
    path, rows = small_disk / "out.jsonl", [str(number) for number in range(400)]
    with pytest.raises(OSError, match="No space left") as raised:
        client.batch.run(rows, path)
    assert raised.value.errno == errno.ENOSPC
    assert path.read_bytes().endswith(b"\n")
    written = len(ids(path))
    assert 0 < written < 400
    remount = ["mount", "-o", "remount,size=4m", str(small_disk)]
    subprocess.run(remount, check=True)
    report = client.batch.run(rows, path)
    assert (report.skipped, report.done) == (written, 400)
    assert ids(path) == list(range(400))
