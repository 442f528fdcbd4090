"""A vLLM that is told to stop ends its streams in several ways; recorded from vLLM 0.32.

SIGTERM came in mid-stream in nine trials. Six ended in the finish reason "abort" (one of them also
refused requests with a 500), one in an error frame, and two in silence: the worker is gone, the
connection stays open, and only keep-alive comments follow.
"""

from __future__ import annotations

import contextlib
import json
import threading

import pytest

from vllm_client import (
    APITimeoutError,
    GenerationAbortedError,
    InternalServerError,
    ServerStreamError,
    StreamConsumedError,
    Timeout,
)

from ..recorded import capture, data_of, text_in
from ..servers import Connection, Serve
from ..threads import WAIT, Running, Tally


class Silence:
    """A reply that sends a capture, and then keep-alive comments until the client closes.

    Attributes:
        comments: Counts the comments.
        gone: Counts the clients that closed.
    """

    def __init__(self, name: str) -> None:
        self._data = capture(name)[1]
        self.comments = Tally()
        self.gone = Tally()

    def __call__(self, connection: Connection) -> None:
        connection.send(self._data)
        pause = threading.Event()
        with contextlib.suppress(OSError):
            while not pause.wait(0.01):
                connection.sock.sendall(b"e\r\n: keep-alive\n\n\r\n")
                self.comments.add()
        self.gone.add()


@pytest.fixture
def silence() -> Silence:
    return Silence("shutdown_silent_stream")


def text_of(name: str) -> str:
    """The text of choice 0 in a captured stream."""
    chunks = [json.loads(data) for data in data_of(name)]
    choices = [choice for each in chunks for choice in each.get("choices", ())]
    return "".join(choice["text"] for choice in choices if choice["index"] == 0)


def test_a_stream_may_end_in_abort(serve: Serve) -> None:
    """A shutdown that aborts the generation raises GenerationAbortedError, with the text so far."""
    served = serve(capture("shutdown_stream")[1])
    with served.client.completions.stream(prompt="One, two", max_tokens=450) as stream:
        with pytest.raises(GenerationAbortedError) as raised:
            stream.collect()
    assert raised.value.partial.finish_reason == "abort"
    assert text_in(raised.value.partial) == text_of("shutdown_stream") != ""
    assert len(served.requests) == 1


def test_a_stream_may_end_in_an_error_frame(serve: Serve) -> None:
    """A shutdown that kills the engine raises ServerStreamError, with the text so far."""
    served = serve(capture("shutdown_error_stream")[1])
    with served.client.completions.stream(prompt="One, two", max_tokens=450, n=12) as stream:
        with pytest.raises(ServerStreamError, match="EngineCore encountered an issue") as raised:
            stream.collect()
    assert (raised.value.code, raised.value.error_type) == (500, "InternalServerError")
    assert len(raised.value.partial.choices) == 12
    assert None in {choice.finish_reason for choice in raised.value.partial.choices}
    assert text_in(raised.value.partial) == text_of("shutdown_error_stream") != ""
    assert len(served.requests) == 1


def test_a_stream_may_be_refused(serve: Serve) -> None:
    """A request that arrives while the engine is stopped raises InternalServerError."""
    served = serve(capture("shutdown_refused_stream")[1], max_retries=0)
    with pytest.raises(InternalServerError, match="cannot schedule new futures") as raised:
        served.client.completions.stream(prompt="One, two", n=4)
    assert raised.value.is_retryable
    assert len(served.requests) == 1


def test_a_stream_may_end_in_silence(serve: Serve, silence: Silence) -> None:
    """Keep-alive comments of a server without its worker do not hold a stream open."""
    served = serve(silence, timeout=Timeout(read=0.3))
    with served.client.completions.stream(prompt="One, two", max_tokens=450) as stream:
        with pytest.raises(APITimeoutError, match="only keep-alive comments") as raised:
            stream.collect()
    assert text_in(raised.value.partial) == text_of("shutdown_silent_stream") != ""
    assert raised.value.partial.finish_reason is None
    assert silence.comments.count > 1
    assert silence.gone.wait(), "the client keeps the connection"
    assert len(served.requests) == 1


def test_close_ends_the_silence(serve: Serve, silence: Silence) -> None:
    """close() of another thread ends at once a stream to which only comments come."""
    client = serve(silence, timeout=Timeout(read=10 * WAIT)).client
    with client.completions.stream(prompt="One, two", max_tokens=450) as stream:
        reader = Running(stream.collect)
        assert silence.comments.wait(5)
        reader.wait_blocked()
        stream.close()
        error = reader.error()
    assert isinstance(error, StreamConsumedError)
    assert text_in(error.partial) == text_of("shutdown_silent_stream") != ""
    assert silence.gone.wait(), "the server does not see that the client has left"
