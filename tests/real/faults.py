"""Checks: what the server does to a stream in its middle, and what the client makes of it.

These start servers of their own: most of them do not survive.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from typing import Any, Callable, Iterator, Mapping, Tuple

from vllm_client import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    GenerationAbortedError,
    InternalServerError,
    ServerStreamError,
    StreamConsumedError,
    StreamInterruptedError,
    Timeout,
    VllmClient,
    VllmError,
)

from .servers import Server
from .table import check, first, raised

ONE = {"prompt": "One, two", "max_tokens": 950, "ignore_eos": True, "seed": 1}
LONG = {**ONE, "n": 12}
"""Many outputs: a busy server sends one in a few bursts, and the end may be among the first."""
READ = 5.0
"""Seconds of silence after which the client gives up."""

# The ways in which a stream may end when its server is told to stop.
_ENDINGS = (GenerationAbortedError, ServerStreamError, StreamInterruptedError, APITimeoutError)
_WHOLE_ENDINGS = (GenerationAbortedError, InternalServerError, APIConnectionError)


@contextlib.contextmanager
def begun(client: VllmClient, fields: Mapping[str, Any] = LONG) -> Iterator[Tuple[Any, Any]]:
    """A long stream of which some text has arrived."""
    with client.completions.stream(**fields) as stream:
        for _ in range(5):
            next(stream)
        yield stream, stream.snapshot


@contextlib.contextmanager
def after(seconds: float, act: Callable[[], Any]) -> Iterator[None]:
    """Act in another thread, this long after the block has begun."""
    timer = threading.Timer(seconds, act)
    timer.start()
    try:
        yield
    finally:
        timer.join()


def running(client: VllmClient) -> float:
    """The number of requests that the server works on, from its metrics."""
    text = client.request("GET", "/metrics").text
    lines = [line for line in text.splitlines() if line.startswith("vllm:num_requests_running")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def idle(client: VllmClient, seconds: float = 5.0) -> None:
    """Wait until the server works on no request."""
    until = time.monotonic() + seconds
    while running(client):
        assert time.monotonic() < until, "the server still generates"
        time.sleep(0.1)


def _partial_is_kept(error: VllmError, before: Any) -> None:
    assert error.partial is not None
    assert error.partial.text.startswith(before.text)


@check("faults", "close() stops the generation", "plain", "parsers", "lora")
def _(server: Server) -> None:
    with server.client() as client:
        with begun(client) as (stream, _):
            assert running(client) > 0
            stream.close()
            idle(client)


@check("faults", "break stops the generation", "plain", "parsers")
def _(server: Server) -> None:
    with server.client() as client:
        with client.completions.stream(**LONG) as stream:
            for event in stream:
                if event.type == "text" and event.text:
                    break
        idle(client)


@check("faults", "close() of another thread wakes the reader", "plain")
def _(server: Server) -> None:
    with server.client() as client, begun(client) as (stream, _):
        with after(0.2, stream.close):
            raised(StreamConsumedError, stream.collect)
        idle(client)


@check("faults", "a total timeout stops the generation", "plain")
def _(server: Server) -> None:
    with server.client() as client:
        limit = Timeout(total=0.3)
        raised(APITimeoutError, lambda: client.completions.create(**LONG, timeout=limit))
        idle(client)


@check("faults", "the abort route raises GenerationAbortedError", "parsers")
def _(server: Server) -> None:
    with server.client() as client, begun(client, ONE) as (stream, before):
        client.request("POST", "/pause", params={"mode": "keep"})
        try:
            client.request("POST", "/abort_requests", json={"request_ids": [f"{before.id}-0"]})
            _aborted(stream, before)
        finally:
            client.request("POST", "/resume")


@check("faults", "pausing with abort raises GenerationAbortedError", "parsers")
def _(server: Server) -> None:
    with server.client() as client:
        try:
            with begun(client) as (stream, before):
                client.request("POST", "/pause", params={"mode": "abort"})
                _aborted(stream, before)
        finally:
            client.request("POST", "/resume")
        assert client.completions.create(prompt="One", max_tokens=2).text is not None


def _aborted(stream: Any, before: Any) -> None:
    _partial_is_kept(raised(GenerationAbortedError, stream.collect), before)


@check("faults", "a wrong key is an AuthenticationError", "lora")
def _(server: Server) -> None:
    with server.client(api_key="wrong") as client:
        raised(AuthenticationError, lambda: client.completions.create(prompt="One"))


@check("faults", "comments come while the engine is paused", "parsers")
def _(server: Server) -> None:
    with server.client() as client:
        client.request("POST", "/pause", params={"mode": "keep"})
        with after(2.5, lambda: client.request("POST", "/resume")):
            with client.completions.stream(prompt="One", max_tokens=2, timeout=2) as stream:
                assert stream.collect().finish_reason == "length"


@check("stop", "SIGTERM in mid-stream never passes as the end", "plain")
def _(server: Server) -> str:
    with _own(server) as own, own.client(timeout=READ, max_retries=0) as client:
        with begun(client) as (stream, before):
            own.send_signal(signal.SIGTERM)
            error = raised(_ENDINGS, stream.collect)
            _partial_is_kept(error, before)
    return f"it ended in {type(error).__name__}"


@check("stop", "SIGTERM during create() never passes as a whole response", "plain")
def _(server: Server) -> str:
    with _own(server) as own, own.client(timeout=READ, max_retries=0) as client:
        with after(0.2, lambda: own.send_signal(signal.SIGTERM)):
            error = raised(_WHOLE_ENDINGS, lambda: client.completions.create(**LONG))
    return f"it ended in {type(error).__name__}"


@check("stop", "SIGKILL in mid-stream raises, and the client goes on after a restart", "plain")
def _(server: Server) -> str:
    with _own(server) as own, own.client(timeout=READ, max_retries=0) as client:
        with begun(client) as (stream, before):
            own.send_signal(signal.SIGKILL)
            error = raised(_ENDINGS, stream.collect)
            _partial_is_kept(error, before)
        raised(APIConnectionError, lambda: client.completions.create(prompt="One"))
        own.stop()
        own.start()
        assert client.completions.create(prompt="One", max_tokens=2).finish_reason == "length"
    return f"it ended in {type(error).__name__}"


@check("stop", "a batch goes on where its server was killed and started again", "plain")
def _(server: Server) -> str:
    prompts = [f"Number {number}" for number in range(60)]
    with _own(server) as own, own.client(timeout=30) as client:
        with client.batch.completions(prompts, max_tokens=200, ignore_eos=True) as rows:
            found = [next(rows) for _ in range(5)]
            own.stop(signal.SIGKILL)
            own.start()
            found += rows
    assert [row.index for row in found] == list(range(60))
    assert all(row.ok for row in found), first(found, lambda row: not row.ok).error
    return f"{sum(row.attempts > 1 for row in found)} rows were sent again"


@contextlib.contextmanager
def _own(server: Server) -> Iterator[Server]:
    """Another server like this one, which may be killed."""
    with Server(server.kind, server.paths) as own:
        yield own
