"""The threads of an asynchronous client: how many, when there are none, and when they end."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from typing import Any

import pytest

from vllm_client import APIConnectionError, AsyncStream, AsyncVllmClient, StreamConsumedError, Text

from ..recorded import beginning, chunk
from ..servers import FINE, Connection, Serve, Stall
from ..threads import WAIT
from .conftest import in_thread, reader_threads, run


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let no further thread of the client start, until the returned function is called."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("vllm-client"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    return lambda: monkeypatch.setattr(threading.Thread, "start", start)


def test_a_call_without_a_thread_is_an_error(serve: Serve, no_threads: Any) -> None:
    """Nothing is sent, then or later, and the client works once there are threads again."""
    served = serve(FINE)

    async def main() -> None:
        async with AsyncVllmClient(served.base_url) as client:
            with pytest.raises(APIConnectionError, match="no thread can be started"):
                await client.completions.create(prompt="lost")
            no_threads()
            assert (await client.completions.create(prompt="sent")).text == "fine"

    run(main)
    assert [request.json["prompt"] for request in served.requests] == ["sent"]


def test_a_call_waits_for_a_thread_that_is_busy(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If only a second thread cannot start, the first one makes both calls."""
    served = serve(FINE)
    start = threading.Thread.start
    started = []

    def only_one(thread: threading.Thread) -> None:
        if thread.name == "vllm-client-call":
            if started:
                raise RuntimeError("can't start new thread")
            started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", only_one)

    async def main() -> None:
        async with AsyncVllmClient(served.base_url) as client:
            calls = [client.completions.create(prompt=str(number)) for number in range(3)]
            assert [each.text for each in await asyncio.gather(*calls)] == ["fine"] * 3

    run(main)
    assert len(started) == 1


def test_a_stream_without_a_thread_is_an_error(serve: Serve, no_threads: Any) -> None:
    """Each read raises the error; none waits for ever."""
    served = serve(FINE)

    async def main() -> None:
        async with AsyncVllmClient(served.base_url) as client:
            stream = client.completions.stream(prompt="x")
            for _ in range(2):
                with pytest.raises(APIConnectionError, match="no thread can be started"):
                    await stream.__anext__()

    run(main)
    assert served.requests == []


def test_two_tasks_cannot_read_one_stream(serve: Serve) -> None:
    """The second reader gets an error that says so, and the first reads on."""
    proceed = threading.Event()

    def reply(connection: Connection) -> None:
        connection.send(beginning(chunk("Hel")))
        proceed.wait(WAIT)
        connection.send_event(chunk("lo"))

    served = serve(reply)

    async def main() -> None:
        async with AsyncVllmClient(served.base_url) as client:
            stream = client.completions.stream(prompt="x")
            assert await stream.__anext__() == Text("Hel")
            first = asyncio.ensure_future(stream.__anext__())
            await asyncio.sleep(0)
            with pytest.raises(StreamConsumedError, match="another task reads") as raised:
                await stream.__anext__()
            assert raised.value.partial.text == "Hel"
            proceed.set()
            assert await first == Text("lo")
            await stream.aclose()

    run(main)


def test_closing_fails_the_calls_that_wait_for_a_thread(serve: Serve) -> None:
    """With max_calls=1, aclose() ends the call that runs and the one that waits."""
    stall = Stall()
    served = serve(stall)

    async def main() -> None:
        client = AsyncVllmClient(served.base_url, max_calls=1)
        calls = [asyncio.ensure_future(client.completions.create(prompt=p)) for p in "ab"]
        await in_thread(stall.reached.wait)
        await client.aclose()
        for call in calls:
            with pytest.raises(APIConnectionError, match="closed"):
                await call

    run(main)
    assert [request.json["prompt"] for request in served.requests] == ["a"]


def test_a_call_that_is_cancelled_before_its_turn_is_not_sent(serve: Serve) -> None:
    """With max_calls=1, a task that is cancelled while it waits for the thread sends nothing."""
    proceed = threading.Event()

    def reply(connection: Connection) -> None:
        proceed.wait(WAIT)
        assert callable(FINE)
        FINE(connection)

    served = serve(reply)

    async def main() -> None:
        async with AsyncVllmClient(served.base_url, max_calls=1) as client:
            first, second, third = (
                asyncio.ensure_future(client.completions.create(prompt=p)) for p in "abc"
            )
            await asyncio.sleep(0)
            second.cancel()
            await asyncio.sleep(0)
            proceed.set()
            await asyncio.gather(first, third)

    run(main)
    assert [request.json["prompt"] for request in served.requests] == ["a", "c"]


@pytest.mark.parametrize("value", [0, -1, True, "5", None])
def test_max_calls_is_a_positive_number(value: Any) -> None:
    """Anything else is refused when the client is made."""
    with pytest.raises(ValueError, match="max_calls must be an int, 1 or greater"):
        AsyncVllmClient(max_calls=value)


PENDING = """
import asyncio, sys
from vllm_client import AsyncVllmClient

loop = asyncio.new_event_loop()
client = AsyncVllmClient(sys.argv[1])
task = loop.create_task(client.completions.create(prompt="x"))
loop.run_until_complete(asyncio.sleep(0.3))
print("end", flush=True)
"""


def test_a_pending_call_does_not_keep_the_process_alive(serve: Serve) -> None:
    """The interpreter ends although a call waits for its response."""
    stall = Stall()
    served = serve(stall)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PENDING, served.base_url],
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )
    assert done.stdout == "end\n"
    assert stall.gone.wait()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_makes_calls_with_its_parents_client(serve: Serve) -> None:
    """After a fork both sides of it make calls, each with threads of its own."""
    served = serve(FINE)
    client = AsyncVllmClient(served.base_url)

    async def call() -> str:
        return (await client.completions.create(prompt="x")).text

    assert asyncio.run(call()) == "fine"
    while not client._executor._idle:  # A thread of the parent that the child must not count on.
        threading.Event().wait(0.001)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if asyncio.run(asyncio.wait_for(call(), WAIT)) == "fine" else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert asyncio.run(call()) == "fine"
    asyncio.run(client.aclose())


def test_a_forked_executor_starts_afresh(serve: Serve) -> None:
    """In another process than the one that made it, the client starts threads of its own."""
    served = serve(FINE)

    async def main() -> None:
        async with AsyncVllmClient(served.base_url) as client:
            await client.completions.create(prompt="x")
            client._executor._pid = -1
            assert (await client.completions.create(prompt="x")).text == "fine"

    run(main)


def test_a_short_stream_dropped_unread_warns(serve: Serve) -> None:
    """Events that nobody took are a reason to warn, also after the thread has read them all."""
    served = serve(FINE)

    async def main() -> None:
        async with AsyncVllmClient(served.base_url) as client:
            stream = client.completions.stream(prompt="x")
            await stream.__anext__()
            for thread in reader_threads():
                await in_thread(thread.join)
            with pytest.warns(ResourceWarning, match="dropped before its end"):
                del stream

    run(main)


def test_a_stream_that_cannot_be_made_is_no_second_error() -> None:
    """A wrong call of the constructor raises its TypeError alone."""
    with pytest.raises(TypeError):
        AsyncStream()  # type: ignore[call-arg]
