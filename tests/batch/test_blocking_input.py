"""Inputs that block: what is finished is handed over and written while the next row is awaited."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Iterator, List, Optional

import pytest

from vllm_client import AsyncVllmClient, StreamConsumedError, read_batch
from vllm_client.batch import BatchProgress

from ..servers import Connection, Serve, Served, WireServer
from ..threads import WAIT, Running, wait_until
from .answering import Answering, status

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals and pipes")


def written(output: Path) -> List[str]:
    """The ids in an output file."""
    if not output.exists():
        return []
    return [json.loads(line)["custom_id"] for line in output.read_bytes().splitlines()]


def test_rows_are_written_while_the_input_blocks(serve: Serve, output: Path) -> None:
    """run() writes finished rows while its input blocks; its own thread still reads the input."""
    threads = set()

    def rows() -> Iterator[str]:
        for number in range(4):
            threads.add(threading.get_ident())
            assert wait_until(lambda number=number: len(written(output)) == number)
            yield f"p{number}"

    served = serve(handler=Answering())
    report = served.client.batch.run(rows(), output)
    assert (report.read, report.done, report.failed) == (4, 4, 0)
    assert written(output) == ["0", "1", "2", "3"]
    assert len(served.requests) == 4
    assert threads == {threading.get_ident()}


def test_cursor_as_the_input_of_a_file(serve: Serve, output: Path) -> None:
    """A cursor that is tied to its thread works as the input of run()."""
    database = sqlite3.connect(":memory:")
    cursor = database.execute("select 'a' union select 'b'")
    report = serve(handler=Answering()).client.batch.run((text for (text,) in cursor), output)
    assert report.done == 2
    database.close()


def test_retries_while_the_input_blocks(serve: Serve, output: Path) -> None:
    """While the input blocks, a server that was away is asked, and its rows are sent again."""
    server = Answering({"a": [status("502 Bad Gateway"), status("500 Oops"), status("503 Busy")]})
    server.health = [status("503 Service Unavailable")] * 2

    def rows() -> Iterator[str]:
        yield "a"
        assert wait_until(lambda: written(output) == ["0"])

    report = serve(handler=server).client.batch.run(rows(), output)
    assert (report.done, server.asked["a"], server.probes) == (1, 4, 3)


def test_row_that_is_read_when_there_is_no_room_any_more(serve: Serve, output: Path) -> None:
    """A row waits if another one was sent again while it was read."""
    release = threading.Event()

    def held(connection: Connection) -> None:
        release.wait(WAIT)
        status("500 Oops")(connection)

    server = Answering({"a": [status("500 Oops"), held]})

    def rows() -> Iterator[Any]:
        yield "a"
        assert wait_until(lambda: server.asked["a"] == 2)
        yield 5  # Wrong, and no request.
        assert not server.asked["b"]
        release.set()
        yield "b"

    report = serve(handler=server).client.batch.run(rows(), output, max_concurrency=1)
    assert (report.done, report.failed, server.most_at_once) == (2, 1, 1)


def test_full_disk_while_the_input_blocks(
    serve: Serve, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the file that comes while the input blocks is raised with the next row."""
    refused = threading.Event()

    def full(file: int, data: bytes) -> int:
        refused.set()
        raise OSError(errno.ENOSPC, "No space left on device")

    def rows() -> Iterator[str]:
        monkeypatch.setattr(os, "write", full)
        yield "a"
        assert refused.wait(WAIT)
        monkeypatch.undo()
        yield "b"

    served = serve(handler=Answering())
    with pytest.raises(OSError, match="No space left"):
        served.client.batch.run(rows(), output)
    assert len(served.requests) == 1
    assert served.client.batch.run(["a", "b"], output).done == 2


def test_stopped_while_the_input_blocks(serve: Serve, output: Path) -> None:
    """Closing the client while the input blocks ends the run with the next row."""
    server = Answering()
    server.hold.clear()
    client = serve(handler=server).client

    def rows() -> Iterator[str]:
        yield "a"
        assert server.wait_asked(1)
        client.close()
        yield "b"

    with pytest.raises(Exception, match="closed"):
        client.batch.run(rows(), output)
    server.hold.set()
    assert written(output) == []


def test_input_that_blocks_now_and_then(serve: Serve, output: Path) -> None:
    """However often input and stand-in take turns, each row is sent and written once."""
    chance, server = random.Random(3), Answering()

    def rows() -> Iterator[str]:
        for number in range(400):
            if chance.random() < 0.1:
                assert wait_until(lambda number=number: len(written(output)) == number)
            yield str(number)

    client = serve(handler=server).client
    report = client.batch.run(rows(), output, max_concurrency=8)
    assert (report.read, report.done) == (400, 400)
    assert sorted(written(output), key=int) == [str(number) for number in range(400)]
    assert set(server.asked.values()) == {1}
    assert server.most_at_once <= 8


def command(served: Served, *arguments: str) -> List[str]:
    where = ["--base-url", served.base_url]
    return [sys.executable, "-m", "vllm_client", "batch", *arguments, *where]


@posix_only
def test_pipe_on_the_command_line(serve: Serve, output: Path) -> None:
    """The command writes each row of a pipe that stays open, and Ctrl-C says how to go on."""
    served = serve(handler=Answering())
    process = subprocess.Popen(
        command(served, "-", str(output), "--prompts"),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    for number in range(3):
        process.stdin.write(b"p%d\n" % number)
        process.stdin.flush()
        assert wait_until(lambda number=number: len(written(output)) == number + 1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=WAIT)
    assert process.returncode == 130
    assert f"goes on with the rows that {output} lacks".encode() in errors
    assert served.client.batch.run(["p0", "p1", "p2", "p3"], output, prompts=True).skipped == 3


@posix_only
@pytest.mark.parametrize("progress", [True, False])
def test_named_pipe(serve: Serve, output: Path, tmp_path: Path, *, progress: bool) -> None:
    """A named pipe is read once, also if its rows would have to be counted for the progress."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    told: List[BatchProgress] = []
    writer = Running(lambda: pipe.write_text('{"prompt": "a"}\n{"prompt": "b"}\n'))
    client = serve(handler=Answering()).client
    report = client.batch.run(pipe, output, progress=told.append if progress else None)
    writer.result()
    assert report.done == 2
    assert [each.total for each in told[-1:]] == [None] * progress


def test_rows_come_while_the_next_prompt_is_awaited(serve: Serve) -> None:
    """With input_thread=True a row comes before the next prompt is there."""
    seen: List[str] = []

    def prompts() -> Iterator[str]:
        for number in range(5):
            assert wait_until(lambda number=number: len(seen) == number)
            yield f"p{number}"

    client = serve(handler=Answering()).client
    rows = client.batch.completions(prompts(), input_thread=True)
    seen.extend(row.text for row in rows)  # One by one: prompts() looks at it meanwhile.
    assert seen == [f"<p{number}>" for number in range(5)]


def test_input_thread_reads_no_further_ahead(serve: Serve) -> None:
    """The thread of the input reads a row only when there is room for it."""
    server = Answering()
    server.hold.clear()
    read: List[int] = []

    def prompts() -> Iterator[str]:
        for number in range(50):
            read.append(number)
            yield f"p{number}"

    client = serve(handler=server).client
    rows = client.batch.completions(prompts(), max_concurrency=5, input_thread=True)
    reader = Running(lambda: list(rows))
    assert server.wait_asked(5)
    assert len(read) == 5
    server.hold.set()
    assert [row.index for row in reader.result()] == list(range(50))
    assert server.most_at_once == 5


def test_input_in_a_thread_that_raises(serve: Serve) -> None:
    """The error of an input comes after the rows that were read, from another thread as well."""

    def prompts() -> Iterator[str]:
        yield "a"
        raise OSError("the disk is gone")

    rows = serve(handler=Answering()).client.batch.completions(prompts(), input_thread=True)
    assert next(rows).text == "<a>"
    with pytest.raises(OSError, match="the disk is gone"):
        next(rows)


@pytest.mark.parametrize("blocks", [True, False])
def test_leaving_a_run_with_an_input_thread(serve: Serve, *, blocks: bool) -> None:
    """After `break` the thread of the input ends, at the latest with its next row."""
    release, closed = threading.Event(), threading.Event()

    def prompts() -> Iterator[str]:
        try:
            yield "a"
            if blocks:
                release.wait(WAIT)
            for number in range(99):
                yield str(number)
        finally:
            closed.set()

    client = serve(handler=Answering()).client
    limit = 2 if blocks else 1  # With 1, nothing is read before the first row has come.
    with client.batch.completions(prompts(), max_concurrency=limit, input_thread=True) as rows:
        assert next(rows).text == "<a>"
    assert closed.is_set() != blocks
    release.set()
    assert closed.wait(WAIT)


def test_run_that_is_closed_before_it_begins(serve: Serve) -> None:
    """A run that was never iterated over has no thread, and its input is not read."""
    served = serve(handler=Answering())
    rows = served.client.batch.completions(iter("ab"), input_thread=True)
    rows.close()
    with pytest.raises((StopIteration, StreamConsumedError)):
        next(rows)
    assert served.requests == []


def test_asynchronous_rows_of_a_blocking_input() -> None:
    """The asynchronous twin hands rows over while the input blocks, and ends without it."""
    release = threading.Event()

    def prompts() -> Iterator[str]:
        yield "a"
        release.wait(WAIT)

    async def first(base_url: str) -> Optional[str]:
        async with AsyncVllmClient(base_url) as client:
            async with client.batch.completions(prompts(), input_thread=True) as rows:
                async for row in rows:
                    return row.text
        return None

    with WireServer(Answering()) as server:
        assert asyncio.run(first(server.base_url)) == "<a>"
    release.set()


def test_written_rows_of_a_blocking_input_can_be_read(serve: Serve, output: Path) -> None:
    """read_batch() reads the file of a run that waits for its input."""
    texts: List[str] = []

    def rows() -> Iterator[str]:
        yield "a"
        assert wait_until(lambda: len(written(output)) == 1)
        texts.extend(row.text for row in read_batch(output))

    serve(handler=Answering()).client.batch.run(rows(), output)
    assert texts == ["<a>"]
