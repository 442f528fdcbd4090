"""Error bodies of every shape: the class of the error and the server's message."""

from __future__ import annotations

import json
import re
from typing import Any, Dict, Optional, Tuple, Type

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_client import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    ContextLengthError,
    InternalServerError,
    ModelNotFoundError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServiceUnavailableError,
    UnprocessableEntityError,
)
from vllm_client._error_bodies import (
    decoded_or_text,
    error_in_success,
    frame_error,
    message_in,
    status_error,
)

from ..recorded import CAPTURES, body_of, capture

CLASSES: Dict[int, Type[APIStatusError]] = {
    302: APIStatusError,
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    405: APIStatusError,
    408: APIStatusError,
    413: APIStatusError,
    418: APIStatusError,
    422: UnprocessableEntityError,
    429: RateLimitError,
    500: InternalServerError,
    501: InternalServerError,
    502: InternalServerError,
    503: ServiceUnavailableError,
    504: InternalServerError,
    529: InternalServerError,
}

NESTED = {"error": {"message": "it is so", "type": "T", "param": "p", "code": 7}}
FASTAPI = [
    {"type": "missing", "loc": ["body", "prompt"], "msg": "Field required", "input": {}},
    {"type": "int", "loc": ["body", "n", 0], "msg": "not a number"},
]
HTML = "<html>\n<head><title>502 Bad\n Gateway</title></head><body><h1>nginx</h1></body></html>"

SHAPES = [
    pytest.param(json.dumps(NESTED), "it is so", id="nested"),
    pytest.param('{"error": "it is so"}', "it is so", id="string"),
    pytest.param('{"detail": "it is so"}', "it is so", id="detail"),
    pytest.param(
        json.dumps({"detail": FASTAPI}),
        "body.prompt: Field required; body.n.0: not a number",
        id="detail-list",
    ),
    pytest.param('{"detail": [{"loc": 5}, 6]}', '[{"loc": 5}, 6]', id="detail-odd-list"),
    pytest.param('{"detail": [{"loc": 5}]}', '{"loc": 5}', id="detail-odd-item"),
    pytest.param('{"detail": {"why": "é"}}', '{"why": "é"}', id="detail-object"),
    pytest.param(
        '{"object": "error", "message": " it is so ", "type": "T", "param": null, "code": 7}',
        "it is so",
        id="flat-old",
    ),
    pytest.param(
        '{"type": "error", "error": {"type": "T", "message": "it is so"}}',
        "it is so",
        id="anthropic",
    ),
    pytest.param('{"error": {"detail": "it is so"}}', "it is so", id="detail-inside"),
    pytest.param('{"error": null, "detail": "it is so"}', "it is so", id="null-and-detail"),
    pytest.param(HTML, "502 Bad Gateway", id="html"),
    pytest.param("<p>it\n<b>is</b> so</p>", "it is so", id="html-untitled"),
    pytest.param("it is so\n", "it is so", id="text"),
    pytest.param('"it is so"', "it is so", id="json-text"),
    pytest.param("", "the reason", id="empty"),
    pytest.param("  \r\n", "the reason", id="blank"),
    pytest.param('{"error": {"message": "it', '{"error": {"message": "it', id="invalid-json"),
    pytest.param('["it", "is"]', '["it", "is"]', id="array"),
    pytest.param('{"why": 1}', '{"why": 1}', id="object-without-words"),
    pytest.param(
        '{"error": {"message": ""}}',
        "the reason, without a message in the response body",
        id="no-words",
    ),
]


@pytest.mark.parametrize(("text", "message"), SHAPES)
@pytest.mark.parametrize("status", [code for code in CLASSES if code not in {302, 401, 405}])
def test_message_is_found(status: int, text: str, message: str) -> None:
    """The message is found in every shape, and the status sets the class."""
    error = status_error(status, text, {}, reason="the reason")
    assert (type(error), error.message) == (CLASSES[status], message)
    assert error.status_code == status
    assert str(error) == f"{status}: {message}"
    assert error.body == decoded_or_text(text)


@pytest.mark.parametrize(("status", "hint"), [(401, "VLLM_API_KEY"), (405, "method")])
@pytest.mark.parametrize(("text", "message"), SHAPES)
def test_advice_follows_the_message(status: int, hint: str, text: str, message: str) -> None:
    """Where the server's message does not help, advice is added to it."""
    error = status_error(status, text, {}, reason="the reason")
    assert type(error) is CLASSES[status]
    assert error.message.startswith(message)
    assert hint in error.message


def test_parts_of_the_error_object() -> None:
    """Type, parameter, code and request id are attributes of the error."""
    error = status_error(400, json.dumps(NESTED), {"x-request-id": "r1"})
    assert (error.error_type, error.param, error.code) == ("T", "p", 7)
    assert error.request_id == "r1"
    flat = status_error(400, json.dumps(NESTED["error"]), {})
    assert (flat.error_type, flat.param, flat.code) == ("T", "p", 7)
    assert flat.request_id is None


def test_nothing_at_all() -> None:
    """An empty body without a reason phrase still yields a message."""
    assert str(status_error(500, "", {})) == "500: the response body is empty"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirection_names_its_target(status: int) -> None:
    """The error for a redirect names its target and that it was not followed."""
    error = status_error(status, HTML, {"location": "https://other/v1"})
    assert type(error) is APIStatusError
    assert "https://other/v1" in error.message
    assert "does not follow redirects" in error.message
    assert not error.is_retryable


def test_redirection_to_nowhere() -> None:
    """The error for a redirect without a target is clear about it."""
    assert "an address that it does not name" in status_error(304, "", {}).message


@pytest.mark.parametrize("depth", [300, 900, 5000, 200000])
@pytest.mark.parametrize("text", ["%s", '{"error": {"message": %s}}', '{"detail": %s}'])
def test_deeply_nested(depth: int, text: str) -> None:
    """A body that is nested too deeply for json is an error like any other."""
    body = text % ("[" * depth + "]" * depth)
    error = status_error(400, body, {})
    assert type(error) is BadRequestError
    assert 0 < len(error.message) <= 2000


@pytest.mark.parametrize("body", ["x" * 10**6, '{"detail": "%s"}' % ("x" * 10**6)])
def test_long_message_is_cut(body: str) -> None:
    """A long message is cut; `body` holds all of it."""
    error = status_error(500, body, {})
    assert len(error.message) <= 2000
    assert len(str(error.body)) >= 10**6


def test_long_page() -> None:
    """Only the beginning of an HTML page is searched for its title."""
    message = status_error(502, "<title>" * 200000, {}, reason="Bad Gateway").message
    assert message == "Bad Gateway, without a message in the response body"


NOT_SERVED = [
    ("POST", "http://h:1/v1/embeddings", "needs an embedding model"),
    ("POST", "http://h:1/gateway/v1/chat/completions/batch", "older than vLLM 0.20"),
    ("POST", "http://h:1/v1/load_lora_adapter?x=1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"),
    ("GET", "http://h:1/is_sleeping", "VLLM_SERVER_DEV_MODE=1"),
    ("GET", "http://h:1/v1/responses/resp_1", "needs a model that generates text"),
    ("POST", "http://h:1/gateway/v1/chat/completions", "needs a model that generates text"),
    ("POST", "http://h:1/v2/completions", "vLLM serves /v1/completions, so check the path of base"),
    ("POST", "http://h:1/v1/completions/embeddings", "vLLM serves /v1/embeddings, so check the"),
    ("GET", "http://h:1/v1/nope", "check base_url and the path"),
]


@pytest.mark.parametrize(("method", "url", "advice"), NOT_SERVED)
def test_route_that_is_not_served(method: str, url: str, advice: str) -> None:
    """The message of a 404 names server and route, and what makes a server serve it."""
    error = status_error(404, '{"detail":"Not Found"}', {}, route=(method, url))
    path = url.removeprefix("http://h:1").partition("?")[0]
    assert f"the server at http://h:1 does not serve {method} {path}: " in error.message
    assert advice in error.message


def test_other_404_keeps_its_message() -> None:
    """A 404 with a message of its own gets no advice about the route."""
    route = ("POST", "http://h/v1/embeddings")
    assert status_error(404, '{"detail":"no such id"}', {}, route=route).message == "no such id"


def test_empty_message_is_said_in_words() -> None:
    """An error whose message is empty says so."""
    text = '{"error": {"message": "", "code": 500}}'
    message = status_error(500, text, {}, reason="Internal Server Error").message
    assert message == "Internal Server Error, without a message in the response body"


HIDDEN = [
    (b'{"error": {"message": "dead", "code": 500}}', "InternalServerError"),
    (b'{"error": {"message": "dead", "code": "503"}}', "ServiceUnavailableError"),
    (b'{"error": {"message": "bad", "code": 400}}', "BadRequestError"),
]


@pytest.mark.parametrize(("content", "kind"), HIDDEN)
def test_error_in_success(content: bytes, kind: str) -> None:
    """An error body under a success status is the error of its code."""
    error = error_in_success(content, {"x-request-id": "r1"})
    assert error is not None
    assert type(error).__name__ == kind
    assert error.request_id == "r1"


NO_ERRORS = [
    b'{"error": "no code"}',
    b'{"error": {"message": "m", "code": 200}}',
    b'{"error": {"message": "m", "code": true}}',
    b'{"choices": [{}], "error": {"code": 500}}',
    b'["error"]',
    b'"error" {',
    b'{"a": 1}',
    b'{"error": {"code": 500, "message": "' + b"x" * (1 << 20) + b'"}}',
]


@pytest.mark.parametrize("content", NO_ERRORS, ids=lambda content: content[:40].decode())
def test_no_error_in_success(content: bytes) -> None:
    """A body with choices, without an error code, or too long for an error body is none."""
    assert error_in_success(content, {}) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=6,
)
NAMES = st.sampled_from(["error", "message", "detail", "type", "param", "code", "object", "loc"])
BODIES = st.dictionaries(NAMES, JSON | st.dictionaries(NAMES, JSON, max_size=4), max_size=4) | JSON


@given(body=BODIES, status=st.integers(300, 599))
def test_any_json_is_an_error(body: Any, status: int) -> None:
    """Any JSON value yields an error with a message."""
    error = status_error(status, json.dumps(body), {}, reason="why")
    assert isinstance(error.message, str)
    assert error.message
    assert str(frame_error(body)).startswith("the server reported an error inside the stream: ")


@given(text=st.text(), status=st.integers(300, 599))
def test_any_text_is_an_error(text: str, status: int) -> None:
    """Any text yields an error with a message."""
    error = status_error(status, text, {}, reason="why")
    assert error.message
    assert error.message == error.message.strip()


def answer(name: str) -> Tuple[int, str, Dict[str, str], Any]:
    """Status, body and headers of a captured response, and the body of its request."""
    request, raw = capture(name)
    head = raw.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    headers = {key.lower(): value for key, value in (line.split(": ", 1) for line in head[1:])}
    return int(head[0].split(" ")[1]), body_of(raw).decode(), headers, request.get("body")


def captured(name: str) -> APIStatusError:
    status, text, headers, sent = answer(name)
    return status_error(status, text, headers, reason="reason", sent=sent)


ERRORS = sorted(
    path.name[: -len(".response.http")]
    for path in CAPTURES.glob("*.response.http")
    if re.match(rb"HTTP/1\.[01] [345]", path.read_bytes()[:12])
)


def server_words(text: str) -> Optional[str]:
    """The message in a body of vLLM, found without the code under test."""
    found = re.match(r'\{"(?:detail|error)":"(.*)"\}$', text, re.DOTALL)
    found = found or re.match(
        r'\{(?:"type":"error",)?"error":\{(?:"type":"[^"]*",)?"message":"(.*?[^\\])"[,}]',
        text,
        re.DOTALL,
    )
    return json.loads(f'"{found.group(1)}"').strip() if found else None


@pytest.mark.parametrize("name", ERRORS)
def test_captured_error(name: str) -> None:
    """Every captured error has the class of its status and the server's message."""
    status, text, headers, _ = answer(name)
    error = captured(name)
    assert isinstance(error, CLASSES[status]) if status in CLASSES else status == 307
    words = server_words(text)
    plain = text.strip() if "{" not in text else ""
    assert (words or plain)[:2000] in error.message
    assert words or plain or not text
    assert error.request_id == headers.get("x-request-id")


def test_there_are_captures() -> None:
    """There are enough captured errors, of every shape but HTML."""
    assert len(ERRORS) > 70
    texts = [answer(name)[1] for name in ERRORS]
    openings = ('{"error":{', '{"error":"', '{"detail":"')
    assert all(any(text.startswith(opening) for text in texts) for opening in openings)


TOO_LONG = {
    "completion_prompt_fills_context",
    "completion_prompt_fills_context_stream",
    "embed_embeddings_too_long",
    "error_chat_max_tokens_too_long",
    "error_prompt_plus_max_tokens_too_long",
    "error_prompt_too_long",
    "error_prompt_too_long_stream",
}


@pytest.mark.parametrize("name", ERRORS)
def test_context_length_is_recognised(name: str) -> None:
    """Only a request that is too long is a ContextLengthError."""
    assert isinstance(captured(name), ContextLengthError) is (name in TOO_LONG)


NO_ROOM = '{"error": {"message": "max_tokens must be at least 1, got 0. (parameter=max_tokens)"}}'


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("zero", [0, "0", False, 0.0])
def test_zero_tokens_is_no_lack_of_room(field: str, zero: Any) -> None:
    """A request for no tokens is not too long, although the message is the same."""
    assert type(status_error(400, NO_ROOM, {}, sent={field: zero})) is BadRequestError


@pytest.mark.parametrize("sent", [{"max_tokens": 5}, {"max_tokens": None}, {}, None, [1]])
def test_no_room_for_tokens(sent: Any) -> None:
    """With that message, a request for tokens is too long: its prompt fills the context."""
    assert type(status_error(400, NO_ROOM, {}, sent=sent)) is ContextLengthError


@pytest.mark.parametrize(
    "error",
    [
        {"message": "too long", "code": "context_length_exceeded"},
        {"message": "The decoder prompt is longer than the maximum model length of 512."},
        {"message": "This model's maximum context length is 512 tokens. However, you …"},
    ],
)
def test_other_messages_for_too_long(error: Any) -> None:
    """The messages of older servers and gateways are recognised."""
    assert type(status_error(400, json.dumps({"error": error}), {})) is ContextLengthError


def test_quoted_messages_do_not_count() -> None:
    """An invalid value that contains such a message is not a request that is too long."""
    message = "1 validation error:\n {'input': 'maximum context length'}"
    body = json.dumps({"error": {"message": message, "param": "body.max_tokens"}})
    assert type(status_error(400, body, {})) is BadRequestError


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("error_unknown_model", ModelNotFoundError),
        ("f_lora_completion_gone", ModelNotFoundError),
        ("error_not_found", NotFoundError),
        ("error_not_found_post", NotFoundError),
        ("error_double_slash", NotFoundError),
    ],
)
def test_unknown_model_is_recognised(name: str, kind: Type[APIStatusError]) -> None:
    """An unknown model is told from an unknown route."""
    assert type(captured(name)) is kind


def test_unknown_model_of_an_old_server() -> None:
    """The message of an old server about an unknown model is recognised."""
    body = '{"object": "error", "message": "The model `x\\ny` does not exist.", "code": 404}'
    assert type(status_error(404, body, {})) is ModelNotFoundError


@pytest.mark.parametrize(
    ("code", "seen"), [(503, 503), ("503", 503), ("5030", "5030"), ([], []), ("9" * 5000,) * 2]
)
def test_code_of_a_frame(code: Any, seen: Any) -> None:
    """The code of an error frame becomes an int if possible, and decides is_retryable."""
    frame = {"error": {"message": "m", "type": "T", "param": "p", "code": code}}
    error = frame_error(frame)
    assert (error.code, error.error_type, error.param, error.body) == (seen, "T", "p", frame)
    assert error.is_retryable is (seen == 503)
    assert error.message == "the server reported an error inside the stream: m"


@pytest.mark.parametrize("frame", [{}, {"error": {}}, None, [], 5, {"error": True}])
def test_frame_without_a_message(frame: Any) -> None:
    """An error frame without a message is still an error with a text."""
    assert "inside the stream" in str(frame_error(frame))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (NESTED, "it is so"),
        ({"detail": "d"}, "d"),
        ({"choices": []}, None),
        ("text", None),
        ([1], None),
        (None, None),
    ],
)
def test_message_in(body: Any, message: Optional[str]) -> None:
    """A document may contain an error message, or none."""
    assert (message_in(body) or None) == message


def test_message_nested_too_deep() -> None:
    """A message that is nested too deeply to be encoded is ignored."""
    message: Any = []
    for _ in range(100_000):
        message = [message]
    assert not message_in({"detail": message})


def test_decoded_or_text() -> None:
    """JSON is decoded; any other text stays text."""
    assert decoded_or_text('{"a": 1}') == {"a": 1}
    assert decoded_or_text("nope") == "nope"
    assert decoded_or_text("[" * 10**6) == "[" * 10**6
