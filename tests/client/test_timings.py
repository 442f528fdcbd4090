"""The timings of responses that are not streamed, and the server's own."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from time import perf_counter
from typing import Any, Callable

import pytest
import requests

from vllm_client import Completion, VllmClient, read_batch

from ..conftest import Serve
from ..recorded import HELLO, capture, chunk, json_bytes, stream_bytes

USAGE = {"prompt_tokens": 1, "completion_tokens": 4, "total_tokens": 5}
METRICS = {"time_to_first_token_ms": 9.5, "generation_time_ms": 34.6}
CHOICE = {"index": 0, "text": "Hi", "message": {"content": "Hi"}, "finish_reason": "stop"}
BODY = {"object": "text_completion", "choices": [CHOICE], "usage": USAGE}

CREATE: Any = [
    lambda client: client.completions.create(prompt="Hello"),
    lambda client: client.chat.completions.create(messages=HELLO),
]


@pytest.mark.parametrize("create", CREATE, ids=["completions", "chat"])
@pytest.mark.parametrize("own_session", [False, True])
def test_timings_of_create(
    serve: Serve, create: Callable[[VllmClient], Completion], own_session: bool
) -> None:
    """A response of create() has the time from the request to its end, and the rate."""
    served = serve(json_bytes(BODY))
    with requests.Session() as session:
        client = VllmClient(served.base_url, session=session) if own_session else served.client
        for _ in range(2):  # The second request uses the connection of the first.
            before = perf_counter()
            answer = create(client)
            after = perf_counter()
            timings = answer.timings
            assert timings is not None
            assert before <= timings.called <= timings.started <= timings.ended <= after
            assert timings.duration == timings.ended - timings.started
            assert timings.output_tokens == 4
            assert timings.output_tokens_per_second == 4 / timings.duration
            assert (timings.ttft, timings.chunks, timings.server) == (None, 0, None)
            assert answer.timings is timings


def test_retries_are_counted_apart(serve: Serve) -> None:
    """The duration is that of the attempt that the server answered."""
    refused = json_bytes({"error": "busy"}, "503 Service Unavailable", "retry-after: 0\r\n")
    answer = serve(refused, json_bytes(BODY)).client.completions.create(prompt="Hello")
    assert answer.timings.duration_with_retries > answer.timings.duration


def test_the_metrics_of_the_server(serve: Serve) -> None:
    """What the server measured itself is in timings.server, of a real response."""
    _, response = capture("b_completion_metrics")
    answer = serve(response).client.completions.create(prompt="Hello")
    assert answer.timings.server == answer.raw["metrics"]
    assert answer.timings.server["time_to_first_token_ms"] > 0
    assert "server={'generation_time_ms': " in repr(answer.timings)


def test_a_collected_stream_has_its_timings(serve: Serve) -> None:
    """What a stream adds up to has the timings of the stream, and the server's metrics."""
    last = {"choices": [], "usage": USAGE, "metrics": METRICS}
    served = serve(stream_bytes(chunk("a"), chunk("b", finish="stop"), last, "[DONE]"))
    with served.client.completions.stream(prompt="x") as stream:
        next(stream)
        assert stream.snapshot.timings is stream.timings
        answer = stream.collect()
    assert answer.timings is stream.timings
    assert answer.timings.chunks == 2
    assert answer.timings.server == METRICS


def test_rows_of_a_batch_have_timings(serve: Serve, tmp_path: Path) -> None:
    """The responses of a batch have timings; those that are read from a file have none."""
    served = serve(json_bytes(BODY))
    [row] = served.client.batch.completions(["Hello"])
    assert 0 < row.response.timings.duration <= row.duration
    output = tmp_path / "out.jsonl"
    served.client.batch.run([{"prompt": "Hello"}], str(output), progress=False)
    [row] = read_batch(str(output))
    assert row.response.timings is None


def test_a_recording_has_timings(serve: Serve) -> None:
    """The text of a recording has timings too."""
    served = serve(json_bytes({"text": "Hi"}))
    answer = served.client.audio.transcriptions.create(file=b"RIFF")
    assert answer.timings.duration > 0
    assert answer.timings.output_tokens is None


def test_timings_are_no_part_of_the_data(serve: Serve) -> None:
    """Timings change neither equality nor pickles, and a copy has none."""
    answer = serve(json_bytes(BODY)).client.completions.create(prompt="Hello")
    assert answer.timings is not None
    assert answer == Completion.from_raw(answer.raw)
    assert pickle.dumps(answer) == pickle.dumps(Completion.from_raw(answer.raw))
    assert copy.copy(answer).timings is None
    assert "timings" not in json.dumps(answer.to_dict())
