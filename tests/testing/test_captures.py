"""The stand-in is held against the captured traffic of a real vLLM server.

For every captured exchange that it can imitate: the same status, the same headers, the same keys
in the same order at every level of the JSON, the same order of kinds of events; errors in the
same words. What it cannot imitate is listed below, with the reason.
"""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from vllm_client.testing import FakeServer

CAPTURES = Path(__file__).parents[1] / "data" / "captures"
FAMILIES = (
    "completion* chat* error_* auth_* health* ping* version load models root tokenize* detok*"
)

NOT_IMITATED = {
    "chat_batch": "the route is not served",
    "chat_tools_auto": "the random model made no call; the stand-in does",
    "chat_tools_auto_stream": "the same",
    "completion_after_sleep": "needs the developer routes, as its preparation",
    "completion_repetition_detection": "the stand-in does not look for repetition",
    "error_generate_model_inference_v1_generate": "routes that are off are 404",
    "error_generate_model_v1_completions_render": "the same",
    "error_structured_bad_grammar": "grammars are refused in other words",
    "error_structured_bad_regex": "the same",
}
# vLLM lists an error for each kind of message that there is; the stand-in only the first.
SHORTER = {"error_chat_content_type", "error_chat_no_role"}
KEYED_BY_TOKEN = {"top_logprobs", "prompt_logprobs"}
# Filled if the server was started with certain flags, else null.
BY_FLAG = {"prompt_tokens_details", "metrics"}

QUEUE_FULL = (
    "The engine is currently busy and cannot accept new requests. "
    "Please try again later or on a different instance."
)
BUSY = {
    "json": {
        "error": {"message": QUEUE_FULL, "type": "Service Unavailable", "param": None, "code": 503}
    },
    "status": 503,
}
BUSY_FRAME = {"error": QUEUE_FULL, "status": 503}
RUNNING_USAGE = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
THINKING = {"chat_template_kwargs": {"enable_thinking": True}, "logit_bias": None}


def cases() -> list[str]:
    """The captures that the stand-in has to match."""
    found = (
        path.name for family in FAMILIES.split() for path in CAPTURES.glob(f"{family}.request.json")
    )
    names = {name.partition(".")[0] for name in found}
    return sorted(names - NOT_IMITATED.keys())


def test_every_exception_is_a_capture() -> None:
    """What is not imitated is there, so that the list cannot rot."""
    for name in NOT_IMITATED:
        assert (CAPTURES / f"{name}.request.json").exists(), name


@pytest.mark.parametrize("name", cases())
def test_it_answers_as_vllm_did(name: str) -> None:
    """A captured request gets an answer of the captured form."""
    request = json.loads((CAPTURES / f"{name}.request.json").read_text("utf-8"))
    api_key = "sk-test-2" if request["server"] == "B" else None
    if name == "auth_ok_key1":
        api_key = "sk-test-1"
    with FakeServer("tiny", api_key=api_key, max_model_len=512) as server:
        actual = exchange(server, prepared(name, request))
    expected = (CAPTURES / f"{name}.response.http").read_bytes()
    compare(name, expected, actual)


@pytest.mark.parametrize(
    ("name", "script", "more"),
    [
        ("dev_abort_stream", {"abort_after": 5}, {}),
        ("shutdown_stream", {"abort_after": 5}, {}),
        ("shutdown_completion", {"abort_after": 5}, {}),
        ("engine_dies", {"error_after": 5}, {}),
        ("engine_dies_stream", {"error_after": 5}, RUNNING_USAGE),
        ("f_queue_full", BUSY, {}),
        ("f_queue_full_stream", BUSY, {}),
        ("f_queue_full_prompts_stream", {**BUSY_FRAME, "error_after": 0}, {}),
        ("b_reasoning_effort_bad", {}, {}),
        ("b_reasoning", {}, THINKING),
        ("b_reasoning_excluded", {}, THINKING),
        ("b_reasoning_never_ends", {}, {**THINKING, "max_tokens": 5}),
        ("f_reasoning_tools", {}, {**THINKING, "max_tokens": 200}),
        ("f_tools_required_strict", {}, {**THINKING, "max_tokens": 200}),
        ("f_tools_named_strict_stream", {}, {}),
        ("f_chat_qwen3_no_thinking_stream", {}, {}),
    ],
)
def test_told_to_it_does_as_vllm_did(
    name: str, script: dict[str, Any], more: dict[str, Any]
) -> None:
    """What the real server did by its flags or by force, the stand-in does when it is told to."""
    request = json.loads((CAPTURES / f"{name}.request.json").read_text("utf-8"))
    request["body"] |= more
    with FakeServer("tiny", max_model_len=1024) as server:
        server.enqueue(**script)
        actual = exchange(server, request)
    compare(name, (CAPTURES / f"{name}.response.http").read_bytes(), actual)


def prepared(name: str, request: dict[str, Any]) -> dict[str, Any]:
    """The captured request, less what the real server needed and the stand-in does not."""
    if name.startswith("chat_tools_auto_call"):
        # The real model had to be forced to make a call.
        del request["body"]["structured_outputs"]
    return request


def exchange(server: FakeServer, request: dict[str, Any]) -> bytes:
    """Send a request byte for byte as it was captured; return all bytes that come back."""
    body = request.get("raw_body", "").encode("latin-1")
    if "body" in request:
        body = json.dumps(request["body"]).encode()
    headers = {"Host": "127.0.0.1:8000", "Accept": "*/*"}
    if request["method"] == "POST":
        headers |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    headers |= request.get("headers", {})
    start = f"{request['method']} {request['path']} {request.get('http_version', 'HTTP/1.1')}"
    lines = [f"{key}: {value}" for key, value in headers.items() if value is not None]
    head = "\r\n".join([start, *lines, "", ""]).encode()
    return talk(server, head + body)


def talk(server: FakeServer, sent: bytes) -> bytes:
    """Send bytes, and return what comes back until the last byte of the answer."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(sent)
        received = b""
        while not complete(received, sent):
            part = connection.recv(65536)
            if not part:
                break
            received += part
        return received


def complete(received: bytes, sent: bytes) -> bool:
    """Whether a whole answer is there."""
    head, separator, body = received.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").partition(
        b"\r\n\r\n"
    )
    if not separator:
        return False
    length = re.search(rb"content-length: (\d+)", head)
    if length:
        return sent.startswith(b"HEAD") or len(body) == int(length[1])
    return body.endswith(b"0\r\n\r\n")


def compare(name: str, expected: bytes, actual: bytes) -> None:
    """Hold an answer against the captured one."""
    continued = b"HTTP/1.1 100 Continue\r\n\r\n"
    assert actual.startswith(continued) == expected.startswith(continued)
    expected_head, _, expected_body = expected.removeprefix(continued).partition(b"\r\n\r\n")
    actual_head, _, actual_body = actual.removeprefix(continued).partition(b"\r\n\r\n")
    assert head_lines(actual_head) == head_lines(expected_head)
    if b"text/event-stream" in expected_head:
        assert kinds(actual_body) == kinds(expected_body)
    elif b" 200 " in expected_head.partition(b"\r\n")[0] or name in SHORTER:
        assert skeleton(decoded(actual_body)) == skeleton(decoded(expected_body))
    else:
        assert without_size(actual_body) == without_size(expected_body)


def without_size(body: bytes) -> str:
    """An error without the size of the vocabulary, which the stand-in has its own of."""
    return re.sub(r"(Vocabulary size: )\d+", r"\1", body.decode())


def head_lines(head: bytes) -> list[str]:
    """The status line and the headers: their names, and those values that must be equal."""
    first, *lines = head.decode().split("\r\n")
    varying = ("date", "server", "content-length")
    added = ("x-request-id", "endpoint-load-metrics")
    pairs = [line.partition(": ")[::2] for line in lines]
    kept = [(key, "" if key in varying else value) for key, value in pairs if key not in added]
    return [first, *sorted(f"{key}: {value}" for key, value in kept)]


def decoded(body: bytes) -> Any:
    """The JSON of a body, if it has one."""
    return json.loads(body) if body else None


def kinds(body: bytes) -> list[Any]:
    """The skeletons of the events of a chunked body, each run of equal ones once."""
    found: list[Any] = []
    for chunk in chunks(body):
        assert chunk.startswith(b"data: ")
        assert chunk.endswith(b"\n\n")
        data = chunk[6:-2]
        kind = data.decode() if data == b"[DONE]" else skeleton(json.loads(data))
        if found[-1:] != [kind]:
            found.append(kind)
    return found


def chunks(body: bytes) -> list[bytes]:
    """The HTTP chunks of a body, which must be whole."""
    found = []
    while True:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        assert rest[length : length + 2] == b"\r\n"
        if length == 0:
            return found
        found.append(rest[:length])
        body = rest[length + 2 :]


def skeleton(value: Any, key: str = "") -> Any:
    """The keys of a JSON value at every level, without what depends on what was generated."""
    if key in BY_FLAG:
        return None
    if isinstance(value, dict) and key in KEYED_BY_TOKEN:
        return "by token"
    if isinstance(value, dict):
        return [(name, skeleton(each, name)) for name, each in value.items()]
    if isinstance(value, list):
        inner = [skeleton(each, key) for each in value if each is not None]
        return [inner[0]] if inner else []
    return None
