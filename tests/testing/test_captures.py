"""The responses of the fake server are compared with the captured traffic of a real vLLM server.

For every captured request that the fake server can imitate, the response must have the same
status, the same headers, the same keys in the same order at every level of the JSON, and the same
sequence of event types. Error messages must be equal. The captures that it cannot imitate are
listed below, with the reason.
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
    "completion* chat* error_* auth_* health* ping* version load models root tokenize* detok* "
    "responses* embed_* b_lora* dev_is* dev_sleep dev_wake_up dev_resume "
    "dev_reset* f_generate*"
)

NOT_IMITATED = {
    "chat_tools_auto": "the real server's random model made no call; the fake server makes one",
    "chat_tools_auto_stream": "as chat_tools_auto",
    "completion_after_sleep": "needs vLLM's developer routes first",
    "embed_chat": "an embedding model is served; the fake server answers all routes",
    "embed_classify": "as embed_chat",
    "embed_completions": "as embed_chat",
    "embed_v2_embed": "the route is not served",
    "error_generate_model_classify": "the fake server has the routes of all kinds of model",
    "error_generate_model_pooling": "as error_generate_model_classify",
    "error_generate_model_rerank": "as error_generate_model_classify",
    "error_generate_model_score": "as error_generate_model_classify",
    "error_generate_model_v1_embeddings": "as error_generate_model_classify",
    "error_generate_model_v1_rerank": "as error_generate_model_classify",
    "error_generate_model_v1_score": "as error_generate_model_classify",
    "error_generate_model_tokenizer_info": "the fake server has the routes of all flags",
    "error_generate_model_v1_load_lora_adapter": "as error_generate_model_tokenizer_info",
    "dev_is_sleeping_after": "as dev_is_sleeping",
    "error_generate_model_inference_v1_generate": "the fake server always serves this route",
    "error_generate_model_v1_audio_transcriptions": "as the route above",
    "error_generate_model_v1_completions_render": "the fake server does not have this route",
    "error_structured_bad_grammar": "the fake server refuses it with its own message",
    "error_structured_bad_regex": "as the grammar above",
}
# vLLM lists one error for each message type that it tried; the fake server only the first.
SHORTER = {"error_chat_content_type", "error_chat_no_role"}
KEYED_BY_TOKEN = {"top_logprobs", "prompt_logprobs"}
# vLLM sends null here unless it was started with certain flags.
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
    """The names of the captures that the fake server must match."""
    found = (
        path.name for family in FAMILIES.split() for path in CAPTURES.glob(f"{family}.request.json")
    )
    names = {name.partition(".")[0] for name in found}
    return sorted(names - NOT_IMITATED.keys())


def test_every_exception_is_a_capture() -> None:
    """Every capture in NOT_IMITATED exists."""
    for name in NOT_IMITATED:
        assert (CAPTURES / f"{name}.request.json").exists(), name


@pytest.mark.parametrize("name", cases())
def test_it_responds_as_vllm_did(name: str) -> None:
    """The response to a captured request has the form of the captured response."""
    request = json.loads((CAPTURES / f"{name}.request.json").read_text("utf-8"))
    api_key = "sk-test-2" if request["server"] == "B" else None
    if name == "auth_ok_key1":
        api_key = "sk-test-1"
    model = "tiny-embed" if request["server"] == "C" else "tiny"
    with FakeServer(model, api_key=api_key, max_model_len=512) as server:
        actual = send_captured(server, without_forced_fields(name, request))
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
def test_it_imitates_special_states(
    name: str, script: dict[str, Any], more: dict[str, Any]
) -> None:
    """With a script, the fake server imitates special states and flags of the real server."""
    request = json.loads((CAPTURES / f"{name}.request.json").read_text("utf-8"))
    request["body"] |= more
    with FakeServer("tiny", max_model_len=1024) as server:
        server.enqueue(**script)
        actual = send_captured(server, request)
    compare(name, (CAPTURES / f"{name}.response.http").read_bytes(), actual)


def without_forced_fields(name: str, request: dict[str, Any]) -> dict[str, Any]:
    """The captured request, without fields that only the real server needed."""
    if name.startswith("chat_tools_auto_call"):
        # The real server's random model makes a call only if it is forced to.
        del request["body"]["structured_outputs"]
    return request


def send_captured(server: FakeServer, request: dict[str, Any]) -> bytes:
    """Send a request byte for byte as captured; return all bytes of the response."""
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
    return send_bytes(server, head + body)


def send_bytes(server: FakeServer, sent: bytes) -> bytes:
    """Send bytes; return all bytes up to the end of the response."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(sent)
        received = b""
        while not is_complete(received, sent):
            part = connection.recv(65536)
            if not part:
                break
            received += part
        return received


def is_complete(received: bytes, sent: bytes) -> bool:
    """Whether the received bytes are a complete response."""
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
    """Assert that a response has the form of the captured response."""
    continued = b"HTTP/1.1 100 Continue\r\n\r\n"
    assert actual.startswith(continued) == expected.startswith(continued)
    expected_head, _, expected_body = expected.removeprefix(continued).partition(b"\r\n\r\n")
    actual_head, _, actual_body = actual.removeprefix(continued).partition(b"\r\n\r\n")
    assert head_lines(actual_head) == head_lines(expected_head)
    if b"text/event-stream" in expected_head:
        assert event_skeletons(actual_body) == event_skeletons(expected_body)
    elif b"octet-stream" in expected_head:
        assert list(map(len, chunks(actual_body))) == list(map(len, chunks(expected_body)))
    elif b" 200 " in expected_head.partition(b"\r\n")[0] or name in SHORTER:
        assert skeleton(decoded(actual_body)) == skeleton(decoded(expected_body))
    else:
        assert without_size(actual_body) == without_size(expected_body)


def without_size(body: bytes) -> str:
    """The text of an error without the size of the vocabulary, in which the servers differ."""
    return re.sub(r"(Vocabulary size: )\d+", r"\1", body.decode())


def head_lines(head: bytes) -> list[str]:
    """The status line and the headers; values that may differ are left out."""
    first, *lines = head.decode().split("\r\n")
    varying = ("date", "server", "content-length")
    added = ("x-request-id", "endpoint-load-metrics")
    pairs = [line.partition(": ")[::2] for line in lines]
    kept = [(key, "" if key in varying else value) for key, value in pairs if key not in added]
    shown = [
        (key, skeleton(json.loads(value)) if key == "metadata" else value) for key, value in kept
    ]
    return [first, *sorted(f"{key}: {value}" for key, value in shown)]


def decoded(body: bytes) -> Any:
    """The decoded JSON of a body, or None for an empty body."""
    return json.loads(body) if body else None


def event_skeletons(body: bytes) -> list[Any]:
    """The skeletons of the events of a chunked body; consecutive equal ones are listed once."""
    found: list[Any] = []
    for chunk in chunks(body):
        name, _, data = chunk.rpartition(b"data: ")
        assert name == b"" or re.fullmatch(rb"event: [a-z_.]+\n", name)
        assert data.endswith(b"\n\n")
        data = data[:-2]
        shape = data.decode() if data == b"[DONE]" else skeleton(json.loads(data))
        shape = [name, shape] if name else shape
        if found[-1:] != [shape]:
            found.append(shape)
    return found


def chunks(body: bytes) -> list[bytes]:
    """The HTTP chunks of a body, which must be complete."""
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
    """The keys of a JSON value at every level, without values that depend on the output."""
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
