"""The asynchronous face: the same answers, in the loop, and threads that end when they should."""

from __future__ import annotations

import asyncio
import gc
import pickle
import threading
import traceback
from typing import Any, Awaitable, Callable, List

import pytest

import vllm_client
from vllm_client import (
    APIConnectionError,
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
    Timeout,
    Usage,
    VllmClient,
)
from vllm_client.aio._handover import MOST_WAITING

from ..recorded import STREAM_HEAD, WHOLE, answer, chunk, json_bytes, stream_bytes
from ..servers import Connection, WireServer, answering
from ..threads import WAIT

SAY = [{"role": "user", "content": "hi"}]


def run(main: Callable[[], Awaitable[Any]]) -> Any:
    """Run in a loop of its own, with what asyncio has to complain about as errors."""
    return asyncio.run(asyncio.wait_for(main(), 3 * WAIT), debug=True)


class Stalled:
    """A handler whose stream sends some events, then waits for the client to go."""

    def __init__(self, *events: Any, head: bytes = STREAM_HEAD) -> None:
        self.events = events
        self.head = head
        self.reached = threading.Semaphore(0)
        self.gone = threading.Semaphore(0)

    def __call__(self, connection: Connection) -> None:
        if connection.receive() is None:
            return
        if self.head:
            connection.send(self.head)
        for event in self.events:
            connection.send_event(event)
        self.reached.release()
        connection.wait_gone()
        self.gone.release()


async def in_time(semaphore: threading.Semaphore) -> None:
    """Wait for another thread without holding up the loop."""
    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(None, semaphore.acquire, True, WAIT)


def test_create() -> None:
    """create() waits in a thread and gives what the synchronous one gives."""

    async def main() -> None:
        async with AsyncVllmClient(server.base_url) as client:
            completion = await client.completions.create(prompt="x", top_k=3)
            assert completion.text == "fine"

    with WireServer(answering(json_bytes(answer("fine")))) as server:
        run(main)
    assert server.requests[0].json == {"prompt": "x", "top_k": 3}


def test_events() -> None:
    """A stream gives the events of the synchronous one, in order, then ends."""

    async def main() -> None:
        async with AsyncVllmClient(server.base_url) as client:
            async with client.completions.stream(prompt="x") as stream:
                events = [event async for event in stream]
                with pytest.raises(StopAsyncIteration):
                    await stream.__anext__()
            assert events == [
                Text("Hel"),
                Text("lo"),
                FinishReason("stop"),
                Usage(1, 2, 3),
                Done(),
            ]
            assert stream.snapshot.text == "Hello"
            assert stream.timings.chunks == 3
            assert stream.response.status_code == 200
            assert stream.request_id == "r1"

    head = STREAM_HEAD.replace(b"\r\n\r\n", b"\r\nx-request-id: r1\r\n\r\n")
    with WireServer(answering(stream_bytes(*WHOLE, head=head))) as server:
        run(main)


def test_without_async_with() -> None:
    """The request is sent on first use, too."""

    async def main() -> None:
        client = AsyncVllmClient(server.base_url)
        stream = client.completions.stream(prompt="x")
        with pytest.raises(RuntimeError, match="not open yet"):
            _ = stream.snapshot
        assert server.requests == []
        assert [event async for event in stream][-1] == Done()
        assert await client.completions.stream(prompt="x").collect_text() == "Hello"
        await client.aclose()

    with WireServer(answering(stream_bytes(*WHOLE))) as server:
        run(main)


def test_collect_and_deltas() -> None:
    """collect(), collect_text() and text_deltas() are those of the synchronous stream."""

    async def main() -> None:
        async with AsyncVllmClient(server.base_url) as client:
            async with client.completions.stream(prompt="x") as stream:
                assert await stream.__anext__() == Text("Hel")
                completion = await stream.collect()
                assert (completion.text, completion.usage) == ("Hello", Usage(1, 2, 3))
                assert await stream.collect_text() == "Hello"
            async with client.completions.stream(prompt="x") as stream:
                assert [text async for text in stream.text_deltas()] == ["Hel", "lo"]
            async with client.completions.stream(prompt="x") as stream:
                assert [text async for text in stream.text_deltas(1)] == []

    with WireServer(answering(stream_bytes(*WHOLE))) as server:
        run(main)


def test_chat() -> None:
    """Chat has the same twins."""
    said = {"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}
    one = {"id": "c", "model": "m", "created": 1, "choices": [said]}

    async def main() -> None:
        async with AsyncVllmClient(server.base_url) as client:
            async with client.chat.completions.stream(messages=SAY) as stream:
                assert await stream.collect_text() == "hi"
            stream = await client.chat.completions.create(messages=SAY, stream=True)
            assert isinstance(stream, AsyncStream)
            assert [text async for text in stream.text_deltas()] == ["hi"]

    with WireServer(answering(stream_bytes(one, "[DONE]"))) as server:
        run(main)


def test_any_stream_can_be_wrapped() -> None:
    """AsyncStream takes a synchronous stream that is open already."""

    async def main() -> None:
        with VllmClient(server.base_url) as client:
            async with AsyncStream(client.completions.stream(prompt="x")) as stream:
                assert [event async for event in stream][-1] == Done()
            unread = AsyncStream(client.completions.stream(prompt="x"))
            assert unread.snapshot.choices == []
            await unread.aclose()
            with pytest.raises(StreamConsumedError):
                await unread.__anext__()

    with WireServer(answering(stream_bytes(*WHOLE))) as server:
        run(main)


def test_errors_keep_class_partial_and_traceback() -> None:
    """An error in mid-stream is the synchronous one, and its traceback shows the reading side."""

    async def main() -> None:
        async with AsyncVllmClient(server.base_url) as client:
            async with client.completions.stream(prompt="x") as stream:
                with pytest.raises(StreamInterruptedError) as raised:
                    [event async for event in stream]
                assert raised.value.partial.text == "Hel"
                frames = [frame.name for frame in traceback.extract_tb(raised.tb)]
                assert "_pump" in frames
                with pytest.raises(StreamInterruptedError):
                    await stream.collect()
            async with client.completions.stream(prompt="x") as stream:
                with pytest.raises(StreamInterruptedError):
                    await stream.collect_text()

    with WireServer(answering(stream_bytes(chunk("Hel")))) as server:
        run(main)


def test_error_events() -> None:
    """on_error="event" gives the error as an event, and raises where only text is asked for."""
    frame = {"error": {"message": "engine died", "code": 500}}

    async def main() -> None:
        async with AsyncVllmClient(server.base_url) as client:
            async with client.completions.stream(prompt="x", on_error="event") as stream:
                events = [event async for event in stream]
                assert isinstance(events[-1], Error)
                with pytest.raises(ServerStreamError):
                    await stream.collect()
            async with client.completions.stream(prompt="x", on_error="event") as stream:
                with pytest.raises(ServerStreamError):
                    [text async for text in stream.text_deltas()]

    with WireServer(answering(stream_bytes(chunk("Hel"), frame, "[DONE]"))) as server:
        run(main)


def test_errors_before_the_stream() -> None:
    """A refusal and a misspelt name are raised on entering, and by create()."""
    refused = json_bytes({"detail": "Not Found"}, "404 Not Found")

    async def main() -> None:
        async with AsyncVllmClient(server.base_url) as client:
            for wrong, error in (({}, NotFoundError), ({"max_token": 1}, TypeError)):
                with pytest.raises(error):
                    async with client.completions.stream(prompt="x", **wrong):
                        pass
                with pytest.raises(error):
                    await client.completions.create(prompt="x", **wrong)

    with WireServer(answering(refused)) as server:
        run(main)


def test_two_hundred_streams_at_once() -> None:
    """Two hundred streams are open at the same time, each with its own text."""
    together = threading.Barrier(200)

    def handler(connection: Connection) -> None:
        request = connection.receive()
        assert request is not None
        connection.send(STREAM_HEAD)
        connection.send_event(chunk(request.json["prompt"]))
        together.wait(WAIT)
        connection.send_event(chunk("", finish="stop"))
        connection.send_event("[DONE]")
        connection.end_chunks()

    async def main() -> List[str]:
        async with AsyncVllmClient(server.base_url) as client:

            async def one(number: int) -> str:
                async with client.completions.stream(prompt=str(number)) as stream:
                    return "".join([text async for text in stream.text_deltas()])

            return await asyncio.gather(*(one(number) for number in range(200)))

    with WireServer(handler) as server:
        assert run(main) == [str(number) for number in range(200)]


def test_two_hundred_calls_at_once() -> None:
    """Calls that are not streams have as many threads as are in flight."""
    together = threading.Barrier(200)

    def handler(connection: Connection) -> None:
        request = connection.receive()
        assert request is not None
        together.wait(WAIT)
        connection.send_json(answer(request.json["prompt"]))

    async def main() -> List[str]:
        async with AsyncVllmClient(server.base_url) as client:
            answers = await asyncio.gather(
                *(client.completions.create(prompt=str(number)) for number in range(200))
            )
            return [completion.text for completion in answers]

    with WireServer(handler) as server:
        assert run(main) == [str(number) for number in range(200)]


def test_calls_are_bounded() -> None:
    """With max_calls=1 the second call is sent only after the first is answered."""
    order: List[str] = []

    def handler(connection: Connection) -> None:
        for request in iter(connection.receive, None):
            order.append("asked")
            order.append("answered")
            connection.send_json(answer(request.json["prompt"]))

    async def main() -> None:
        async with AsyncVllmClient(server.base_url, max_calls=1) as client:
            await asyncio.gather(*(client.completions.create(prompt="x") for _ in range(5)))

    with WireServer(handler) as server:
        run(main)
    assert order == ["asked", "answered"] * 5
    assert server.connections == 1


def test_the_loop_ticks_while_streams_are_silent() -> None:
    """While every stream waits, other tasks run: one of them lets the server go on."""
    proceed = threading.Event()

    def handler(connection: Connection) -> None:
        connection.receive()
        connection.send(STREAM_HEAD)
        proceed.wait(WAIT)
        for event in WHOLE:
            connection.send_event(event)
        connection.end_chunks()

    async def main() -> None:
        async with AsyncVllmClient(server.base_url) as client:
            reading = [
                asyncio.ensure_future(client.completions.stream(prompt="x").collect_text())
                for _ in range(20)
            ]
            for _ in range(50):
                await asyncio.sleep(0)
            assert not any(task.done() for task in reading)
            proceed.set()
            assert await asyncio.gather(*reading) == ["Hello"] * 20

    with WireServer(handler) as server:
        run(main)


def test_cancelling_in_mid_stream() -> None:
    """Cancelling the task that reads ends the connection at once, while the server is silent."""
    stalled = Stalled(chunk("Hel"))

    async def main() -> None:
        async with AsyncVllmClient(server.base_url) as client:
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
            await in_time(stalled.gone)

    with WireServer(stalled) as server:
        run(main)


@pytest.mark.parametrize("streamed", [True, False])
def test_cancelling_before_the_headers(streamed: bool) -> None:
    """Cancelling works while the server has not answered at all."""
    stalled = Stalled(head=b"")

    async def main() -> None:
        async with AsyncVllmClient(server.base_url) as client:

            async def read() -> None:
                if streamed:
                    await client.completions.stream(prompt="x").collect()
                else:
                    await client.completions.create(prompt="x")

            task = asyncio.ensure_future(read())
            await in_time(stalled.reached)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await in_time(stalled.gone)

    with WireServer(stalled) as server:
        run(main)


def test_cancelling_under_back_pressure() -> None:
    """A reader that stops reading stops the thread, and leaving then frees everything."""
    stalled = Stalled(*(chunk(str(number)) for number in range(20 * MOST_WAITING)))

    async def main() -> None:
        async with AsyncVllmClient(server.base_url) as client:
            async with client.completions.stream(prompt="x") as stream:
                assert await stream.__anext__() == Text("0")
            await in_time(stalled.gone)

    with WireServer(stalled) as server:
        run(main)


def test_back_pressure_bounds_what_waits() -> None:
    """The thread reads no further ahead than its bound, and every event comes in the end."""
    numbers = [str(number) for number in range(10 * MOST_WAITING)]
    events = [chunk(number) for number in numbers]
    waited: List[int] = []

    async def main() -> None:
        async with AsyncVllmClient(server.base_url) as client:
            texts = []
            async with client.completions.stream(prompt="x") as stream:
                async for text in stream.text_deltas():
                    texts.append(text)
                    waited.append(len(stream._handover._events))
                    if len(texts) == 3:  # Time for the thread to run into its bound.
                        await asyncio.get_running_loop().run_in_executor(None, full, stream)
                assert texts == numbers

    def full(stream: Any) -> None:
        with stream._handover._room:
            pass
        until = threading.Event()
        while not stream._handover._full:
            until.wait(0.001)

    with WireServer(answering(stream_bytes(*events, chunk("", finish="stop"), "[DONE]"))) as server:
        run(main)
    assert max(waited) <= MOST_WAITING


def test_collect_leaves_the_loop_free() -> None:
    """An event under way when collect() began does not keep the loop from other tasks."""
    begun, turn = threading.Semaphore(0), threading.Semaphore(0)
    had_turn = []

    def handler(connection: Connection) -> None:
        connection.receive()
        connection.send(STREAM_HEAD)
        begun.acquire(timeout=WAIT)
        connection.send_event(chunk("Hel"))
        had_turn.append(turn.acquire(timeout=WAIT))
        connection.send_event(chunk("lo", finish="stop"))
        connection.send_event("[DONE]")
        connection.end_chunks()

    async def main() -> None:
        async with AsyncVllmClient(server.base_url).completions.stream(prompt="x") as stream:
            task = asyncio.ensure_future(stream.collect())
            await asyncio.sleep(0)
            begun.release()
            while not stream.timings.chunks:  # noqa: ASYNC110 — it comes in a thread
                await asyncio.sleep(0.001)
            turn.release()
            assert (await task).text == "Hello"

    with WireServer(handler) as server:
        run(main)
    assert had_turn == [True]


def test_collect_under_back_pressure() -> None:
    """collect() lets a thread go that waits for room."""
    events = [chunk("x") for _ in range(5 * MOST_WAITING)]

    async def main() -> None:
        async with AsyncVllmClient(server.base_url) as client:
            stream = client.completions.stream(prompt="x")
            async with stream:
                await stream.__anext__()
                assert len(await stream.collect_text()) == 5 * MOST_WAITING

    with WireServer(answering(stream_bytes(*events, chunk("", finish="stop"), "[DONE]"))) as server:
        run(main)


def test_other_tasks_have_a_turn_in_a_burst() -> None:
    """A reader whose events all wait already does not keep the loop to itself."""
    events = [chunk("x") for _ in range(MOST_WAITING - 6)]
    turns: List[int] = []

    async def main() -> None:
        async with AsyncVllmClient(server.base_url) as client:
            reading = True

            def ended(mailbox: Any) -> None:
                until = threading.Event()
                while not mailbox.ended:
                    until.wait(0.001)

            async def other() -> None:
                while reading:
                    turns.append(1)
                    await asyncio.sleep(0)

            async with client.completions.stream(prompt="x") as stream:
                await stream.__anext__()
                await asyncio.get_running_loop().run_in_executor(None, ended, stream._handover)
                task = asyncio.ensure_future(other())
                async for _ in stream:
                    pass
                reading = False
                await task

    with WireServer(answering(stream_bytes(*events, chunk("", finish="stop"), "[DONE]"))) as server:
        run(main)
    assert len(turns) >= 3


def test_closing_wakes_the_reader() -> None:
    """aclose() in another task ends a reader that waits, and reading on is an error."""
    stalled = Stalled(chunk("Hel"))

    async def main() -> None:
        async with AsyncVllmClient(server.base_url) as client:
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
            await in_time(stalled.gone)

    with WireServer(stalled) as server:
        run(main)


def test_closing_before_the_first_use() -> None:
    """A stream closed before it was used sends nothing, and reading it is an error."""

    async def main() -> None:
        client = AsyncVllmClient("http://127.0.0.1:9")
        stream = client.completions.stream(prompt="x")
        await stream.aclose()
        with pytest.raises(StreamConsumedError) as raised:
            await stream.__anext__()
        assert raised.value.partial is None
        await client.aclose()

    run(main)


def test_closing_the_client() -> None:
    """aclose() of the client ends its streams and calls; a copy's ends only the copy's."""
    stalled = Stalled(chunk("Hel"))

    async def main() -> None:
        async with AsyncVllmClient(server.base_url) as client:
            copy = client.with_options(max_retries=0)
            one, two = (who.completions.stream(prompt="x") for who in (client, copy))
            assert await one.__anext__() == await two.__anext__() == Text("Hel")
            await copy.aclose()
            with pytest.raises(StreamConsumedError):
                await two.__anext__()
            await in_time(stalled.gone)
            assert not stalled.gone.acquire(blocking=False)
        with pytest.raises(StreamConsumedError):
            await one.__anext__()
        with pytest.raises(APIConnectionError, match="closed"):
            await client.completions.create(prompt="x")
        with pytest.raises(APIConnectionError, match="closed"):
            await client.completions.stream(prompt="x").collect()

    with WireServer(stalled) as server:
        run(main)


def test_a_loop_that_ends_ends_its_streams() -> None:
    """A stream still held when its loop ends leaves neither a thread nor a warning."""
    stalled = Stalled(chunk("Hel"))
    kept = []

    async def main() -> None:
        stream = AsyncVllmClient(server.base_url).completions.stream(prompt="x")
        kept.append(stream)
        await stream.__anext__()

    with WireServer(stalled) as server:
        run(main)
        assert stalled.gone.acquire(timeout=WAIT)


def test_a_loop_closed_without_ceremony() -> None:
    """A loop closed by hand, under an open stream, is noticed by the next event or loop."""
    proceed = threading.Event()
    gone = threading.Semaphore(0)

    def handler(connection: Connection) -> None:
        connection.receive()
        connection.send(STREAM_HEAD)
        connection.send_event(chunk("Hel"))
        proceed.wait(WAIT)
        connection.send_event(chunk("lo"))
        connection.wait_gone()
        gone.release()

    async def first() -> Any:
        stream = AsyncVllmClient(server.base_url).completions.stream(prompt="x")
        await stream.__anext__()
        task = asyncio.ensure_future(stream.__anext__())
        await asyncio.sleep(0)
        return stream, task

    async def second() -> None:
        client = AsyncVllmClient(server.base_url)
        stream = client.completions.stream(prompt="x")
        await stream.__anext__()
        await client.aclose()

    with WireServer(handler) as server:
        loops = [asyncio.new_event_loop() for _ in range(2)]
        kept = [loop.run_until_complete(first()) for loop in loops]
        for loop in loops:
            loop.close()
        asyncio.run(second())
        proceed.set()
        for _ in range(3):
            assert gone.acquire(timeout=WAIT)
        for _, task in kept:
            task._log_destroy_pending = False  # That the loop forgot its task is the test's doing.


def test_a_stream_dropped_unread_closes() -> None:
    """A stream that nobody holds any more ends its connection without the garbage collector."""
    stalled = Stalled(chunk("Hel"))

    async def main() -> None:
        async with AsyncVllmClient(server.base_url) as client:
            stream = client.completions.stream(prompt="x")
            await stream.__anext__()
            gc.disable()
            try:
                with pytest.warns(ResourceWarning, match="dropped before its end"):
                    del stream
                await in_time(stalled.gone)
            finally:
                gc.enable()

    with WireServer(stalled) as server:
        run(main)


def test_a_thread_for_each_stream() -> None:
    """A stream's thread is named, a daemon, and there only while the stream is open."""
    stalled = Stalled(chunk("Hel"))

    def readers() -> List[threading.Thread]:
        return [t for t in threading.enumerate() if t.name.startswith("vllm-client-stream")]

    async def main() -> None:
        async with AsyncVllmClient(server.base_url) as client:
            stream = client.completions.stream(prompt="x")
            assert readers() == []
            await stream.__anext__()
            (thread,) = readers()
            assert thread.daemon
            await stream.aclose()
            thread.join(WAIT)
            assert readers() == []

    with WireServer(stalled) as server:
        run(main)


def test_the_rest_of_the_client() -> None:
    """Settings, request(), repr and pickling are those of the synchronous client."""

    async def main() -> None:
        client = AsyncVllmClient(server.url, api_key="secret-key", timeout=7, max_retries=1)
        assert client.base_url == server.base_url
        assert client.server_url == server.url
        assert client.timeout == Timeout(7, 7)
        assert client.max_retries == 1
        assert repr(client) == f"AsyncVllmClient({server.base_url!r})"
        response = await client.request("GET", "/health")
        assert response.json() == {"fine": True}
        copy = pickle.loads(pickle.dumps(client))
        assert copy.timeout == Timeout(7, 7)
        assert (await copy.request("GET", "models")).status_code == 200
        for each in (client, copy):
            await each.aclose()

    with WireServer(answering(json_bytes({"fine": True}))) as server:
        run(main)
    assert [request.path for request in server.requests] == ["/health", "/v1/models"]
    assert server.requests[1].headers["authorization"] == "Bearer secret-key"


def test_under_uvloop() -> None:
    """Uvloop serves as well: events, cancelling, and a loop that ends under an open stream."""
    uvloop = pytest.importorskip("uvloop")
    stalled = Stalled(chunk("Hel"))
    kept = []

    async def main() -> None:
        client = AsyncVllmClient(server.base_url)
        kept.append(client.completions.stream(prompt="x"))
        assert await kept[0].__anext__() == Text("Hel")
        task = asyncio.ensure_future(client.completions.stream(prompt="x").collect())
        await in_time(stalled.reached)
        await in_time(stalled.reached)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await in_time(stalled.gone)

    with WireServer(stalled) as server:
        loop = uvloop.new_event_loop()
        try:
            loop.run_until_complete(asyncio.wait_for(main(), WAIT))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()
        assert stalled.gone.acquire(timeout=WAIT)


def test_names_come_with_the_first_use() -> None:
    """The package gives the asynchronous names without importing asyncio before, and no others."""
    assert vllm_client.AsyncVllmClient is AsyncVllmClient
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = vllm_client.Nonsense
