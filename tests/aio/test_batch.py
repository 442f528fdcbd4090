"""``client.batch`` for asyncio: rows handed over to the loop, and what ends a run."""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
from pathlib import Path
from typing import Any, Iterator, List

import pytest

from vllm_client import (
    AsyncBatchRows,
    AsyncVllmClient,
    BatchInputError,
    BatchStoppedError,
    StreamConsumedError,
    read_batch,
)
from vllm_client.aio import batch as aio_batch

from ..batch.answering import Answering, prompt_of, status
from ..recorded import STREAM_HEAD, chunk
from ..servers import Connection, Serve
from ..threads import WAIT, Running, Tally
from .conftest import in_thread, reached, reader_threads, run, run_with

MOST_AHEAD = 256
"""How many finished rows wait at most, as ``AsyncBatchRows`` documents."""


class Silent:
    """An outcome: no answer until the client closes; both are counted."""

    def __init__(self) -> None:
        self.reached, self.gone = Tally(), Tally()

    def __call__(self, connection: Connection) -> None:
        self.reached.add()
        assert connection.wait_gone()
        self.gone.add()


def run_threads() -> List[threading.Thread]:
    """The threads of runs: those that read, and those that send."""
    return [t for t in threading.enumerate() if t.name.endswith("-batch")]


def test_rows(serve: Serve) -> None:
    """Rows are those of the synchronous client, in the order of the input."""
    served = serve(handler=Answering())

    async def main(client: AsyncVllmClient) -> None:
        async with client.batch.completions(["a", "b"], max_tokens=4) as rows:
            assert [(row.index, row.text) async for row in rows] == [(0, "<a>"), (1, "<b>")]
            assert rows.report().done == 2
            with pytest.raises(StopAsyncIteration):
                await rows.__anext__()
        assert [row.text async for row in client.batch.chat(["c"], ordered=False)] == ["<c>"]

    run_with(served, main)
    assert sorted(prompt_of(request.json) for request in served.requests) == ["a", "b", "c"]
    assert served.requests[0].json["max_tokens"] == 4


def test_a_misspelt_field_is_refused_at_once(serve: Serve) -> None:
    """A field that no row can have is an error of the call, before anything is sent."""
    served = serve(handler=Answering())

    async def main(client: AsyncVllmClient) -> None:
        with pytest.raises(BatchInputError, match="max_tokens"):
            client.batch.completions(["a"], max_tokns=4)
        with pytest.raises(BatchInputError, match="iterable"):
            client.batch.chat("a")

    run_with(served, main)
    assert served.requests == []


def test_the_error_of_a_run(serve: Serve) -> None:
    """The error that ends a run is raised after the rows before it."""
    server = Answering({"a": [status("400 Bad Request")]})

    async def main(client: AsyncVllmClient) -> None:
        rows = client.batch.completions(["a", "b"], max_concurrency=1, stop_after_failures=1)
        assert not (await rows.__anext__()).ok
        with pytest.raises(BatchStoppedError, match="400"):
            await rows.__anext__()

    served = serve(handler=server)
    run_with(served, main)
    assert server.asked == {"a": 1}


def test_break_ends_the_run(serve: Serve) -> None:
    """After ``break`` the requests in flight are cancelled, and the input is read no further."""
    silent = Silent()
    read: List[str] = []

    def prompts() -> Iterator[str]:
        for prompt in ("a", *("b" * 50)):
            read.append(prompt)
            yield prompt

    async def main(client: AsyncVllmClient) -> None:
        async for row in client.batch.completions(prompts(), max_concurrency=3, adaptive=False):
            assert row.text == "<a>"
            await reached(silent.reached, 2)
            break
        await reached(silent.gone, 2)
        for thread in run_threads():
            await in_thread(thread.join, WAIT)
        assert run_threads() == []

    run_with(serve(handler=Answering({"b": [silent] * 50})), main)
    assert len(read) <= 4


def test_aclose_ends_the_run(serve: Serve) -> None:
    """When aclose() returns, no thread and no request is left; reading on is an error."""
    silent = Silent()

    async def main(client: AsyncVllmClient) -> None:
        rows = client.batch.completions(["a", "b"])
        await rows.__anext__()
        reader = asyncio.ensure_future(rows.__anext__())
        await reached(silent.reached)
        with pytest.raises(StreamConsumedError, match="another task reads this batch"):
            await rows.__anext__()
        await rows.aclose()
        assert run_threads() == []
        await reached(silent.gone)
        with pytest.raises(StreamConsumedError, match="the run is closed"):
            await reader
        with pytest.raises(StreamConsumedError, match="the run is closed"):
            await rows.__anext__()
        await rows.aclose()

    run_with(serve(handler=Answering({"b": [silent]})), main)


def test_closing_before_the_first_use(serve: Serve) -> None:
    """A run that is closed before its first use sends nothing, and reading it is an error."""
    served = serve(handler=Answering())

    async def main(client: AsyncVllmClient) -> None:
        rows = client.batch.completions(["a"])
        await rows.aclose()
        with pytest.raises(StreamConsumedError):
            await rows.__anext__()
        client.batch.completions(["a"])  # Dropped before its first use.
        with pytest.raises(TypeError):
            AsyncBatchRows()  # type: ignore[call-arg]  # Its __del__ reports nothing.

    run_with(served, main)
    assert served.connections == 0


def test_cancelling_the_task_ends_the_run(serve: Serve) -> None:
    """A task that is cancelled while it waits for a row closes its connections."""
    silent = Silent()

    async def main(client: AsyncVllmClient) -> None:
        rows = client.batch.completions(["a"])
        reader = asyncio.ensure_future(rows.__anext__())
        await reached(silent.reached)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        await reached(silent.gone)

    run_with(serve(handler=Answering({"a": [silent]})), main)


def test_back_pressure(serve: Serve) -> None:
    """An endless input is read as far ahead as documented, and every row is yielded."""
    asked = Tally()
    ahead: List[int] = []

    def handler(connection: Connection) -> None:
        server = Answering()
        while connection.receive():
            asked.add()
            server._answer(connection)

    async def main(client: AsyncVllmClient) -> None:
        numbers = map(str, itertools.count())
        async with client.batch.completions(numbers, max_concurrency=1) as rows:
            taken = 0
            async for row in rows:
                assert row.index == taken
                taken += 1
                if taken == 3:
                    await reached(asked, MOST_AHEAD)
                ahead.append(asked.count - taken)
                if taken == 3 * MOST_AHEAD:
                    break

    run_with(serve(handler=handler), main)
    assert MOST_AHEAD - 3 <= max(ahead) <= MOST_AHEAD + 1


def test_a_loop_that_ends_ends_its_runs(serve: Serve) -> None:
    """A run that is still open when its loop ends leaves no thread."""
    silent = Silent()
    kept = []

    async def main() -> None:
        client = AsyncVllmClient(served.base_url)
        kept.extend([client, client.batch.completions(["a", "b"])])
        assert (await kept[1].__anext__()).text == "<a>"
        await reached(silent.reached)

    served = serve(handler=Answering({"b": [silent]}))
    run(main)
    assert silent.gone.wait()


def test_run(serve: Serve, tmp_path: Path) -> None:
    """run() writes the file of the synchronous client, and returns its report."""
    output = tmp_path / "out.jsonl"

    async def main(client: AsyncVllmClient) -> None:
        report = await client.batch.run(["a", "b"], output, max_tokens=4)
        assert (report.done, report.failed) == (2, 0)
        with pytest.raises(BatchInputError, match="route"):
            await client.batch.run(["a"], output, route="nonsense")

    served = serve(handler=Answering())
    run_with(served, main)
    assert [row.text for row in read_batch(output, ordered=True)] == ["<a>", "<b>"]
    assert {request.json["max_tokens"] for request in served.requests} == {4}


def test_cancelling_run(serve: Serve, tmp_path: Path) -> None:
    """A cancelled run() has closed its connections and files; the same call goes on at once."""
    silent = Silent()
    output = tmp_path / "out.jsonl"
    server = Answering({"b": [silent]})

    async def main(client: AsyncVllmClient) -> None:
        running = asyncio.ensure_future(client.batch.run(["a", "b"], output))
        await reached(silent.reached)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await reached(silent.gone)
        report = await client.batch.run(["a", "b"], output)
        assert (report.done, report.failed) == (2, 0)

    run_with(serve(handler=server), main)
    assert server.asked["b"] == 2
    assert [row.text for row in read_batch(output, ordered=True)] == ["<a>", "<b>"]


def test_cancelling_run_before_it_begins(serve: Serve, tmp_path: Path) -> None:
    """A run() that is cancelled before its thread has sent anything sends nothing."""
    opened, go_on = threading.Event(), threading.Event()
    served = serve(handler=Answering())

    class Rows:
        """An input that is asked for its length before the run has an engine."""

        def __len__(self) -> int:
            opened.set()
            assert go_on.wait(WAIT)
            return 1

        def __iter__(self) -> Iterator[str]:
            return iter(["a"])

    async def main(client: AsyncVllmClient) -> None:
        running = asyncio.ensure_future(client.batch.run(Rows(), tmp_path / "out.jsonl"))
        assert await in_thread(opened.wait, WAIT)
        running.cancel()
        asyncio.get_running_loop().call_soon(go_on.set)
        with pytest.raises(asyncio.CancelledError):
            await running

    run_with(served, main)
    assert served.requests == []


def test_cancelling_run_while_the_input_blocks(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An input that blocks does not keep a cancelled run() waiting for ever."""
    monkeypatch.setattr(aio_batch, "_LONGEST_END", 0.01)
    blocked, go_on = threading.Event(), threading.Event()

    def prompts() -> Iterator[str]:
        blocked.set()
        assert go_on.wait(WAIT)
        yield "a"

    served = serve(handler=Answering())

    async def main(client: AsyncVllmClient) -> None:
        running = asyncio.ensure_future(client.batch.run(prompts(), tmp_path / "out.jsonl"))
        assert await in_thread(blocked.wait, WAIT)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        go_on.set()

    run_with(served, main)


def test_aclose_while_the_input_blocks(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """An input that blocks does not keep aclose() waiting for ever, and nothing more is sent."""
    monkeypatch.setattr(aio_batch, "_LONGEST_END", 0.01)
    blocked, go_on = threading.Event(), threading.Event()

    def prompts() -> Iterator[str]:
        yield "a"
        blocked.set()
        assert go_on.wait(WAIT)
        yield "b"

    server = Answering()

    async def main(client: AsyncVllmClient) -> None:
        async with client.batch.completions(prompts(), max_concurrency=2) as rows:
            reader = asyncio.ensure_future(rows.__anext__())
            assert await in_thread(blocked.wait, WAIT)
        with pytest.raises(StreamConsumedError):
            await reader
        go_on.set()

    run_with(serve(handler=server), main)
    assert "b" not in server.asked


def test_stopping_a_run_whose_rows_are_all_wrong(serve: Serve) -> None:
    """An endless input of rows that cannot be sent is left when the run is closed."""
    read = Tally()

    def rows() -> Iterator[Any]:
        while True:
            read.add()
            yield {"no_such_field": 1}

    batch = serve(handler=Answering()).client.batch.completions(rows(), ordered=False)

    def read_all() -> None:
        for row in batch:
            assert not row.ok

    reader = Running(read_all)
    assert read.wait(100)
    batch.close()
    assert isinstance(reader.error(), StreamConsumedError)


class AtLastPop:
    """Lets the reading thread end between the loop's look for an item and for the end."""

    def __init__(self, go_on: threading.Event) -> None:
        self._go_on = go_on

    def __enter__(self) -> None:
        sys.setprofile(self._note)

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _note(self, frame: Any, event: str, function: Any) -> None:
        if event == "c_exception" and function.__name__ == "popleft" and not self._go_on.is_set():
            self._go_on.set()
            for thread in [*reader_threads(), *run_threads()]:
                thread.join(WAIT)


@pytest.mark.parametrize("what", ["stream", "batch"])
def test_the_last_items_are_not_lost(serve: Serve, what: str) -> None:
    """Items that arrive with the end, just after the loop found none, are yielded."""
    go_on = threading.Event()

    def streamed(connection: Connection) -> None:
        connection.send(STREAM_HEAD)
        connection.send_event(chunk("<a>"))
        assert go_on.wait(WAIT)
        for event in (chunk("<b>", finish="stop"), "[DONE]"):
            connection.send_event(event)
        connection.end_chunks()

    def whole(connection: Connection) -> None:
        server = Answering()
        while connection.receive():
            if prompt_of(connection.request.json) == "b":
                assert go_on.wait(WAIT)
            server._answer(connection)

    async def main(client: AsyncVllmClient) -> None:
        if what == "stream":
            items: Any = client.completions.stream(prompt="x")
        else:
            items = client.batch.completions(["a", "b"])
        async with items:
            texts = [(await items.__anext__()).text]
            with AtLastPop(go_on):
                texts += [getattr(item, "text", "") async for item in items]
        assert [text for text in texts if text] == ["<a>", "<b>"]

    run_with(serve(streamed) if what == "stream" else serve(handler=whole), main)


def test_half_made_rows_are_dropped_quietly() -> None:
    """Dropping an object whose constructor failed raises nothing."""
    rows = object.__new__(aio_batch.AsyncBatchRows)
    rows.__del__()
    assert not hasattr(rows, "_rows")
