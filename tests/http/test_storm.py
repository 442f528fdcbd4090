"""Many threads, thousands of calls and twenty kinds of faults: no wrong text, nothing left over."""

from __future__ import annotations

import gc
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from vllm_client import Timeout, VllmClient, VllmError
from vllm_client._http import attempts

from ..recorded import STREAM_HEAD, answer, chunk, chunked, json_bytes, stream_bytes
from ..servers import Connection, Serve

CALLS = 2400
THREADS = 64


def whole(text: str) -> bytes:
    return json_bytes(answer(text))


def streamed(text: str) -> bytes:
    pieces = [chunk(text[:2]), chunk(text[2:]), chunk("", finish="stop")]
    return stream_bytes(*pieces, "[DONE]")


def half(response: bytes) -> bytes:
    return response[: len(response) // 2]


BUSY = json_bytes({"error": "busy"}, "503 Busy", "retry-after: 0\r\n")
GARBAGE = STREAM_HEAD + chunked(b"data: {\n\n")

Fault = Callable[[Connection, bytes], Any]

# What a server does instead of sending a response, or before it. "close" ends the connection.
FAULTS: Dict[str, Fault] = {
    "nothing": lambda connection, response: connection.send(response),
    "close": lambda connection, response: "close",
    "reset": lambda connection, response: connection.reset() or "close",
    "half": lambda connection, response: connection.send(half(response)) or "close",
    "half, reset": lambda c, response: (c.send(half(response)), c.reset()) and "close",
    "status line": lambda c, response: c.send(b"HTTP/1.1 200 OK\r\n") or "close",
    "half a status": lambda connection, response: connection.send(b"HTTP/1") or "close",
    "no HTTP": lambda connection, response: connection.send(b"SSH-2.0-x\r\n\r\n") or "close",
    "busy": lambda connection, response: connection.send(BUSY),
    "bad request": lambda c, response: c.send(json_bytes({"error": "no"}, "400 Bad")),
    "not JSON": lambda connection, response: connection.send(json_bytes(b"<html>")),
    "empty object": lambda connection, response: connection.send(json_bytes({})),
    "garbage": lambda connection, response: connection.send(GARBAGE),
    "error frame": lambda c, response: c.send(stream_bytes({"error": "no"}, "[DONE]")),
    "no finish": lambda connection, response: connection.send(stream_bytes("[DONE]")),
    "bad chunk size": lambda c, response: c.send(STREAM_HEAD + b"zz\r\n") or "close",
    "more than asked": lambda c, response: c.send(response + response) or "close",
    "late": lambda c, response: threading.Event().wait(0.05) or c.send(response),
    "in bytes": lambda c, response: [c.send(response[at : at + 7]) for at in range(0, 999, 7)],
    "answers, closes": lambda connection, response: connection.send(response) or "close",
    "interim": lambda c, response: c.send(b"HTTP/1.1 103 Early\r\n\r\n" + response),
}
KINDS = list(FAULTS)


def storm(connection: Connection) -> None:
    while True:
        request = connection.receive()
        if request is None:
            return
        body = request.json
        fault = FAULTS[KINDS[int(body["prompt"]) % len(KINDS)]]
        text = f"t{body['prompt']}"
        if fault(connection, streamed(text) if body.get("stream") else whole(text)) == "close":
            return


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_a_storm_of_faults(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call returns its own text or raises a VllmError; threads and files are as before."""
    monkeypatch.setattr(attempts, "FIRST_PAUSE", 0.001)
    served = serve(handler=storm)
    gc.collect()
    files, threads = open_files(), threading.active_count()
    wrong: List[str] = []
    served_well = [0]
    client = VllmClient(served.base_url, timeout=Timeout(5, 5, 20), max_retries=1)

    def call(number: int) -> None:
        prompt = str(number)
        try:
            if number % 2:
                with client.completions.stream(prompt=prompt) as stream:
                    text = stream.collect_text()
            else:
                text = client.completions.create(prompt=prompt).text
        except VllmError:
            return
        except BaseException as error:  # Whatever it is, it is not ours.
            wrong.append(f"{number}: {error!r}")
            return
        served_well[0] += 1
        if text != f"t{prompt}":
            wrong.append(f"{number}: {text!r}")

    with client, ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(call, range(CALLS)))
    assert wrong == []
    assert served_well[0] > CALLS // 8
    for thread in threading.enumerate():
        if thread.name == "vllm-client-watchdog":
            thread.join(10)
    served.server.__exit__()
    gc.collect()
    assert open_files() <= files
    assert threading.active_count() <= threads
