"""The end of asynchronous streams: by cancelling, closing, dropping, and with the loop."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest

from vllm_client import (
    APIConnectionError,
    AsyncStream,
    AsyncVllmClient,
    StreamConsumedError,
    Text,
)

from ..recorded import WHOLE, beginning, chunk, stream_bytes
from ..servers import Connection, Serve, Stall
from ..threads import WAIT, Tally
from .conftest import in_thread, reached, reader_threads, run, run_with


@pytest.fixture
def stall() -> Stall:
    """A reply that begins a stream and stalls after its first event."""
    return Stall(beginning(chunk("Hel")))


def test_cancelling_in_mid_stream(serve: Serve, stall: Stall) -> None:
    """Cancelling the task that reads closes the connection at once."""

    async def main(client: AsyncVllmClient) -> None:
        seen = asyncio.Event()

        async def read() -> None:
            async with client.completions.stream(prompt="x") as stream:
                async for _ in stream:
                    seen.set()

        task = asyncio.ensure_future(read())
        await seen.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await reached(stall.gone)

    run_with(serve(stall), main)


def test_cancelling_outside_async_with(serve: Serve, stall: Stall) -> None:
    """Cancelling a task that reads closes a stream that nobody else closes or drops."""

    async def main(client: AsyncVllmClient) -> None:
        stream = client.completions.stream(prompt="x")
        assert await stream.__anext__() == Text("Hel")
        task = asyncio.ensure_future(stream.__anext__())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await reached(stall.gone)
        assert stream.snapshot.text == "Hel"

    run_with(serve(stall), main)


@pytest.mark.parametrize("streamed", [True, False])
def test_cancelling_before_the_headers(serve: Serve, streamed: bool) -> None:
    """Cancelling closes the connection also before the server has sent anything."""
    silent = Stall()

    async def main(client: AsyncVllmClient) -> None:
        async def read() -> None:
            if streamed:
                await client.completions.stream(prompt="x").collect()
            else:
                await client.completions.create(prompt="x")

        task = asyncio.ensure_future(read())
        await reached(silent.reached)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await reached(silent.gone)

    run_with(serve(silent), main)


def test_closing_wakes_the_reader(serve: Serve, stall: Stall) -> None:
    """aclose() in another task wakes a waiting reader, and reading on is an error."""

    async def main(client: AsyncVllmClient) -> None:
        stream = client.completions.stream(prompt="x")
        assert await stream.__anext__() == Text("Hel")
        reader = asyncio.ensure_future(stream.__anext__())
        await asyncio.sleep(0)
        await stream.aclose()
        with pytest.raises(StreamConsumedError) as raised:
            await reader
        assert raised.value.partial.text == "Hel"
        await stream.aclose()
        for read in (stream.__anext__, stream.collect):
            with pytest.raises(StreamConsumedError):
                await read()
        await reached(stall.gone)

    run_with(serve(stall), main)


def test_closing_before_the_first_use(serve: Serve, stall: Stall) -> None:
    """A stream that is closed before its first use sends nothing, and reading it is an error."""
    served = serve(stall)

    async def main(client: AsyncVllmClient) -> None:
        for read in (AsyncStream.__anext__, AsyncStream.collect, AsyncStream.__aenter__):
            stream: Any = client.completions.stream(prompt="x")
            await stream.aclose()
            with pytest.raises(StreamConsumedError) as raised:
                await read(stream)
            assert raised.value.partial is None
            assert reader_threads() == []

    run_with(served, main)
    assert served.connections == 0


def test_closing_a_stream_that_has_arrived(serve: Serve) -> None:
    """After aclose(), reading is an error also if the thread has read to the end."""

    async def main(client: AsyncVllmClient) -> None:
        stream = client.completions.stream(prompt="x")
        assert await stream.__anext__() == Text("Hel")
        for thread in reader_threads():
            await in_thread(thread.join, WAIT)
        await stream.aclose()
        for read in (stream.__anext__, stream.collect, stream.collect_text):
            with pytest.raises(StreamConsumedError):
                await read()
        assert stream.snapshot.text == "Hello"

    run_with(serve(stream_bytes(*WHOLE)), main)


def test_closing_the_client(serve: Serve, stall: Stall) -> None:
    """aclose() of a client ends its streams and calls; of a copy, only those of the copy."""

    async def main(client: AsyncVllmClient) -> None:
        copy = client.with_options(max_retries=0)
        one, two = (who.completions.stream(prompt="x") for who in (client, copy))
        assert await one.__anext__() == await two.__anext__() == Text("Hel")
        await copy.aclose()
        with pytest.raises(StreamConsumedError):
            await two.__anext__()
        await reached(stall.gone)
        assert stall.gone.count == 1
        await client.aclose()
        with pytest.raises(StreamConsumedError):
            await one.__anext__()
        with pytest.raises(APIConnectionError, match="closed"):
            await client.completions.create(prompt="x")
        with pytest.raises(APIConnectionError, match="closed"):
            await client.completions.stream(prompt="x").collect()

    run_with(serve(stall), main)


def test_a_loop_that_ends_ends_its_streams(serve: Serve, stall: Stall) -> None:
    """A stream that is still open when its loop ends leaves no thread and no warning."""
    base_url = serve(stall).base_url
    kept = []

    async def main() -> None:
        stream = AsyncVllmClient(base_url).completions.stream(prompt="x")
        kept.append(stream)
        await stream.__anext__()

    run(main)
    assert stall.gone.wait()


def test_a_loop_that_is_just_closed(serve: Serve) -> None:
    """A stream whose loop was just closed ends with its next event, or when the next loop runs."""
    proceed = threading.Event()
    gone = Tally()

    def reply(connection: Connection) -> None:
        connection.send(beginning(chunk("Hel")))
        proceed.wait(WAIT)
        connection.send_event(chunk("lo"))
        connection.wait_gone()
        gone.add()

    base_url = serve(reply).base_url

    async def first() -> Any:
        stream = AsyncVllmClient(base_url).completions.stream(prompt="x")
        await stream.__anext__()
        task = asyncio.ensure_future(stream.__anext__())
        await asyncio.sleep(0)
        return stream, task

    async def second() -> None:
        client = AsyncVllmClient(base_url)
        stream = client.completions.stream(prompt="x")
        await stream.__anext__()
        await client.aclose()

    loops = [asyncio.new_event_loop() for _ in range(2)]
    kept = [loop.run_until_complete(first()) for loop in loops]
    for loop in loops:
        loop.close()
    asyncio.run(second())
    proceed.set()
    assert gone.wait(3)
    for _, task in kept:
        task._log_destroy_pending = False  # The test itself left the task pending.


def test_a_stream_dropped_unread_closes(serve: Serve, stall: Stall) -> None:
    """Dropping the last reference closes the connection at once, with a ResourceWarning."""

    async def main(client: AsyncVllmClient) -> None:
        stream = client.completions.stream(prompt="x")
        await stream.__anext__()
        gc.disable()
        try:
            with pytest.warns(ResourceWarning, match="dropped before its end"):
                del stream
            await reached(stall.gone)
        finally:
            gc.enable()

    run_with(serve(stall), main)


def test_a_thread_for_each_stream(serve: Serve, stall: Stall) -> None:
    """The thread of a stream is a named daemon, and exists only while the stream is open."""

    async def main(client: AsyncVllmClient) -> None:
        stream = client.completions.stream(prompt="x")
        assert reader_threads() == []
        await stream.__anext__()
        (thread,) = reader_threads()
        assert thread.daemon
        await stream.aclose()
        thread.join(WAIT)
        assert reader_threads() == []

    run_with(serve(stall), main)


def test_under_uvloop(serve: Serve, stall: Stall) -> None:
    """Events, cancelling and the end of the loop work under uvloop too."""
    uvloop = pytest.importorskip("uvloop")
    base_url = serve(stall).base_url
    kept = []

    async def main() -> None:
        client = AsyncVllmClient(base_url)
        kept.append(client.completions.stream(prompt="x"))
        assert await kept[0].__anext__() == Text("Hel")
        task = asyncio.ensure_future(client.completions.stream(prompt="x").collect())
        await reached(stall.reached, 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await reached(stall.gone)

    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(asyncio.wait_for(main(), WAIT))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
    assert stall.gone.wait(2)
