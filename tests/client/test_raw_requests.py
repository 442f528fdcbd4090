"""``client.request()``: any route of the server, with plain JSON."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest

from vllm_client import NotFoundError, VllmClient

from ..recorded import json_bytes
from ..servers import FINE, Serve, WireServer, numbered, replying

KEY = "sk-very-secret-0123456789"

PATHS = [
    ("/v1/models", "/gateway/v1/models"),
    ("/health", "/gateway/health"),
    ("models", "/gateway/v1/models"),
    ("completions?a=http://x", "/gateway/v1/completions?a=http://x"),
    ("", "/gateway/v1/"),
]


@pytest.mark.parametrize(("path", "arrives"), PATHS)
def test_request_path(path: str, arrives: str) -> None:
    """A path with a slash is relative to server_url, any other to base_url."""
    with WireServer(replying(FINE)) as server, VllmClient(f"{server.url}/gateway/v1") as client:
        client.request("get", path)
    assert (server.requests[0].method, server.requests[0].path) == ("GET", arrives)


def test_requests_of_one_path_keep_their_queries_apart(serve: Serve) -> None:
    """A query belongs to one call: neither the next query nor its absence repeats it."""
    served = serve(FINE)
    for params in ({"a": "1"}, {"a": "2"}, None, {"a": "3"}):
        served.client.request("GET", "/pause", params=params)
    sent = [request.path for request in served.requests]
    assert sent == ["/pause?a=1", "/pause?a=2", "/pause", "/pause?a=3"]


@pytest.mark.parametrize("path", ["http://elsewhere/v1/models", "HTTPS://x", "://x"])
def test_request_to_another_address_is_refused(path: str) -> None:
    """An address instead of a path is refused, so that the key reaches one server only."""
    with (
        VllmClient("host", api_key=KEY) as client,
        pytest.raises(ValueError, match="not an address"),
    ):
        client.request("GET", path)


def test_request_sends_its_arguments(serve: Serve) -> None:
    """JSON, query and headers are sent; the response is returned unchanged."""
    served = serve(numbered, api_key=KEY)
    response = served.client.request(
        "post",
        "/pooling",
        json={"a": ["é", None]},
        params={"q": "1 2"},
        extra_headers={"X-A": "1"},
        timeout=5,
    )
    assert response.json()["id"] == "cmpl-1"
    assert response.headers["x-request-id"] == "r1"
    assert response.status_code == 200
    request = served.requests[0]
    assert (request.method, request.path) == ("POST", "/pooling?q=1+2")
    assert (request.json, request.headers["x-a"]) == ({"a": ["é", None]}, "1")
    assert request.headers["content-type"] == "application/json"
    assert request.headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("value", [{}, [], 0, False, ""])
def test_request_sends_an_empty_value(serve: Serve, value: Any) -> None:
    """Every JSON value but None is sent as a body."""
    served = serve(FINE)
    served.client.request("POST", "x", json=value)
    assert json.loads(served.requests[0].body) == value


def test_request_without_a_body(serve: Serve) -> None:
    """A request without JSON has neither a body nor a Content-Type."""
    served = serve(FINE)
    served.client.request("GET", "/health")
    assert served.requests[0].body == b""
    assert "content-type" not in served.requests[0].headers


def test_request_raises_for_an_error_status(serve: Serve) -> None:
    """An error status raises the same error as elsewhere."""
    client = serve(json_bytes({"detail": "Not Found"}, "404 Not Found")).client
    request = functools.partial(client.request, "GET", "/nowhere")
    with pytest.raises(NotFoundError, match="404: Not Found"):
        request()


def test_request_that_cannot_be_json() -> None:
    """A body that is not JSON raises an error that names the member."""
    with VllmClient("host") as client, pytest.raises(TypeError, match=r"^a cannot be sent as JSON"):
        client.request("POST", "/x", json={"a": object()})
