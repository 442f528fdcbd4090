"""Asynchronous streams: the events and errors of synchronous streams, and back-pressure."""

from __future__ import annotations

import asyncio
import threading
import traceback
from typing import List

import pytest

from vllm_client import (
    AsyncStream,
    AsyncVllmClient,
    Done,
    Error,
    FinishReason,
    NotFoundError,
    ServerStreamError,
    StreamConsumedError,
    StreamInterruptedError,
    Text,
    Usage,
)

from ..recorded import (
    HELLO,
    STREAM_HEAD,
    WHOLE,
    beginning,
    chunk,
    delta,
    json_bytes,
    rest,
    stream_bytes,
)
from ..servers import Connection, Serve, Stall
from ..threads import WAIT
from .conftest import in_thread, reached, reader_threads, run_with

MOST_AHEAD = 256
"""How many events a stream is read ahead at most, as ``AsyncStream`` documents."""


def of_texts(texts: List[str]) -> bytes:
    """A complete stream with a chunk for each text."""
    return stream_bytes(*map(chunk, texts), chunk("", finish="stop"), "[DONE]")


def test_events(serve: Serve) -> None:
    """A stream yields the events of the synchronous one, in order, then ends."""

    async def main(client: AsyncVllmClient) -> None:
        async with client.completions.stream(prompt="x") as stream:
            events = [event async for event in stream]
            with pytest.raises(StopAsyncIteration):
                await stream.__anext__()
        assert events == [Text("Hel"), Text("lo"), FinishReason("stop"), Usage(1, 2, 3), Done()]
        assert stream.snapshot.text == "Hello"
        assert stream.timings.chunks == 3
        assert stream.response.status_code == 200
        assert stream.request_id == "r1"

    head = STREAM_HEAD.replace(b"\r\n\r\n", b"\r\nx-request-id: r1\r\n\r\n")
    run_with(serve(stream_bytes(*WHOLE, head=head)), main)


def test_without_async_with(serve: Serve) -> None:
    """A stream outside ``async with`` sends its request on first use."""
    served = serve(stream_bytes(*WHOLE))

    async def main(client: AsyncVllmClient) -> None:
        stream = client.completions.stream(prompt="x")
        with pytest.raises(RuntimeError, match="not open yet"):
            _ = stream.snapshot
        assert served.requests == []
        assert [event async for event in stream][-1] == Done()
        assert await client.completions.stream(prompt="x").collect_text() == "Hello"

    run_with(served, main)


def test_collect_and_deltas(serve: Serve) -> None:
    """collect(), collect_text() and text_deltas() return what the synchronous ones return."""

    async def main(client: AsyncVllmClient) -> None:
        async with client.completions.stream(prompt="x") as stream:
            assert await stream.__anext__() == Text("Hel")
            completion = await stream.collect()
            assert (completion.text, completion.usage) == ("Hello", Usage(1, 2, 3))
            assert [event async for event in stream] == []
            assert await stream.collect_text() == "Hello"
        async with client.completions.stream(prompt="x") as stream:
            assert [text async for text in stream.text_deltas()] == ["Hel", "lo"]
        async with client.completions.stream(prompt="x") as stream:
            assert [text async for text in stream.text_deltas(1)] == []

    run_with(serve(stream_bytes(*WHOLE)), main)


def test_chat(serve: Serve) -> None:
    """Chat has stream() and create(stream=True) too."""

    async def main(client: AsyncVllmClient) -> None:
        async with client.chat.completions.stream(messages=HELLO) as stream:
            assert await stream.collect_text() == "hi"
        stream = await client.chat.completions.create(messages=HELLO, stream=True)
        assert isinstance(stream, AsyncStream)
        assert [text async for text in stream.text_deltas()] == ["hi"]

    run_with(serve(stream_bytes(delta(content="hi", finish="stop"), "[DONE]")), main)


def test_any_stream_can_be_wrapped(serve: Serve) -> None:
    """AsyncStream accepts a synchronous stream that is already open."""
    served = serve(stream_bytes(*WHOLE))

    async def main(_: AsyncVllmClient) -> None:
        async with AsyncStream(served.client.completions.stream(prompt="x")) as stream:
            assert [event async for event in stream][-1] == Done()
        unread = AsyncStream(served.client.completions.stream(prompt="x"))
        assert unread.snapshot.choices == []
        await unread.aclose()
        with pytest.raises(StreamConsumedError):
            await unread.__anext__()

    run_with(served, main)


def test_errors_keep_class_partial_and_traceback(serve: Serve) -> None:
    """An error has the class and the text so far, and its traceback shows the reading thread."""

    async def main(client: AsyncVllmClient) -> None:
        async with client.completions.stream(prompt="x") as stream:
            with pytest.raises(StreamInterruptedError) as raised:
                [event async for event in stream]
            assert raised.value.partial.text == "Hel"
            modules = [f.f_globals["__name__"] for f, _ in traceback.walk_tb(raised.tb)]
            assert "vllm_client.streams.base" in modules
            with pytest.raises(StreamInterruptedError):
                await stream.collect()
        async with client.completions.stream(prompt="x") as stream:
            with pytest.raises(StreamInterruptedError):
                await stream.collect_text()

    run_with(serve(stream_bytes(chunk("Hel"))), main)


def test_error_events(serve: Serve) -> None:
    """With on_error="event" the error is yielded; methods without events raise it."""
    frame = {"error": {"message": "engine died", "code": 500}}

    async def main(client: AsyncVllmClient) -> None:
        async with client.completions.stream(prompt="x", on_error="event") as stream:
            events = [event async for event in stream]
            assert isinstance(events[-1], Error)
            with pytest.raises(ServerStreamError):
                await stream.collect()
        async with client.completions.stream(prompt="x", on_error="event") as stream:
            with pytest.raises(ServerStreamError):
                [text async for text in stream.text_deltas()]

    run_with(serve(stream_bytes(chunk("Hel"), frame, "[DONE]")), main)


def test_errors_before_the_stream(serve: Serve) -> None:
    """An error status and an unknown name raise on entering the stream, and in create()."""

    async def main(client: AsyncVllmClient) -> None:
        for wrong, error in (({}, NotFoundError), ({"max_token": 1}, TypeError)):
            with pytest.raises(error):
                async with client.completions.stream(prompt="x", **wrong):
                    pass
            with pytest.raises(error):
                await client.completions.create(prompt="x", **wrong)

    run_with(serve(json_bytes({"detail": "Not Found"}, "404 Not Found")), main)


def test_two_hundred_streams_at_once(serve: Serve) -> None:
    """Two hundred streams are open at the same time, each with its own text."""
    together = threading.Barrier(200)

    def reply(connection: Connection) -> None:
        connection.send(beginning(chunk(connection.request.json["prompt"])))
        together.wait(WAIT)
        connection.send(rest(chunk("", finish="stop"), "[DONE]"))

    async def main(client: AsyncVllmClient) -> List[str]:
        async def one(number: int) -> str:
            async with client.completions.stream(prompt=str(number)) as stream:
                return "".join([text async for text in stream.text_deltas()])

        return await asyncio.gather(*(one(number) for number in range(200)))

    assert run_with(serve(reply), main) == [str(number) for number in range(200)]


def test_the_loop_runs_while_streams_are_silent(serve: Serve) -> None:
    """While every stream waits for data, other tasks run."""
    proceed = threading.Event()

    def reply(connection: Connection) -> None:
        connection.send(STREAM_HEAD)
        proceed.wait(WAIT)
        connection.send(rest(*WHOLE))

    async def main(client: AsyncVllmClient) -> None:
        reading = [
            asyncio.ensure_future(client.completions.stream(prompt="x").collect_text())
            for _ in range(20)
        ]
        for _ in range(50):
            await asyncio.sleep(0)
        assert not any(task.done() for task in reading)
        proceed.set()
        assert await asyncio.gather(*reading) == ["Hello"] * 20

    run_with(serve(reply), main)


def test_cancelling_under_back_pressure(serve: Serve) -> None:
    """Leaving a stream whose thread waits for room closes the connection."""
    stall = Stall(beginning(*(chunk(str(number)) for number in range(20 * MOST_AHEAD))))

    async def main(client: AsyncVllmClient) -> None:
        async with client.completions.stream(prompt="x") as stream:
            assert await stream.__anext__() == Text("0")
        await reached(stall.gone)

    run_with(serve(stall), main)


def test_back_pressure_bounds_what_waits(serve: Serve) -> None:
    """The thread reads exactly as far ahead as documented, and every event is yielded."""
    numbers = [str(number) for number in range(10 * MOST_AHEAD)]
    texts: List[str] = []
    ahead: List[int] = []

    async def main(client: AsyncVllmClient) -> None:
        async with client.completions.stream(prompt="x") as stream:
            async for text in stream.text_deltas():
                texts.append(text)
                while len(texts) == 3 and stream.timings.chunks < MOST_AHEAD:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)  # A thread counts the chunks.
                ahead.append(stream.timings.chunks - len(texts))

    run_with(serve(of_texts(numbers)), main)
    assert texts == numbers
    assert MOST_AHEAD - 3 <= max(ahead) <= MOST_AHEAD


def test_collect_leaves_the_loop_free(serve: Serve) -> None:
    """An event that arrives as collect() begins is part of it, and other tasks run."""
    begun, turn = threading.Semaphore(0), threading.Semaphore(0)
    had_turn = []

    def reply(connection: Connection) -> None:
        connection.send(STREAM_HEAD)
        begun.acquire(timeout=WAIT)
        connection.send_event(chunk("Hel"))
        had_turn.append(turn.acquire(timeout=WAIT))
        connection.send(rest(chunk("lo", finish="stop"), "[DONE]"))

    async def main(client: AsyncVllmClient) -> None:
        async with client.completions.stream(prompt="x") as stream:
            task = asyncio.ensure_future(stream.collect())
            await asyncio.sleep(0)
            begun.release()
            while not stream.timings.chunks:  # noqa: ASYNC110 — a thread counts them
                await asyncio.sleep(0.001)
            turn.release()
            assert (await task).text == "Hello"
            assert [event async for event in stream] == []

    run_with(serve(reply), main)
    assert had_turn == [True]


def test_collect_under_back_pressure(serve: Serve) -> None:
    """collect() wakes a thread that waits for room, and takes the events that wait."""

    async def main(client: AsyncVllmClient) -> None:
        async with client.completions.stream(prompt="x") as stream:
            await stream.__anext__()
            assert len(await stream.collect_text()) == 5 * MOST_AHEAD
            assert [event async for event in stream] == []

    run_with(serve(of_texts(["x"] * 5 * MOST_AHEAD)), main)


def test_other_tasks_run_during_a_burst(serve: Serve) -> None:
    """Reading events that have all arrived does not keep other tasks from running."""
    turns: List[int] = []

    async def main(client: AsyncVllmClient) -> None:
        reading = True

        async def other() -> None:
            while reading:
                turns.append(1)
                await asyncio.sleep(0)

        async with client.completions.stream(prompt="x") as stream:
            await stream.__anext__()
            for thread in reader_threads():
                await in_thread(thread.join, WAIT)
            task = asyncio.ensure_future(other())
            async for _ in stream:
                pass
            reading = False
            await task

    run_with(serve(of_texts(["x"] * (MOST_AHEAD - 6))), main)
    assert len(turns) >= 3
