"""``VllmClient``: its arguments and their defaults."""

from __future__ import annotations

from typing import Any, Optional

import pytest

import vllm_client
from vllm_client import APIConnectionError, Timeout, VllmClient

from ..servers import FINE, Serve, numbered

KEY = "sk-very-secret-0123456789"

ADDRESSES = [
    ("localhost", "http://localhost/v1"),
    ("localhost:8000", "http://localhost:8000/v1"),
    ("gpu-box.lan:8000/", "http://gpu-box.lan:8000/v1"),
    ("10.0.0.7:8000", "http://10.0.0.7:8000/v1"),
    ("http://host:8000", "http://host:8000/v1"),
    ("http://host:8000/", "http://host:8000/v1"),
    ("http://host:8000//", "http://host:8000/v1"),
    ("http://host:8000/v1", "http://host:8000/v1"),
    ("http://host:8000/v1/", "http://host:8000/v1"),
    ("host:8000/v1", "http://host:8000/v1"),
    ("http://host/gateway/v1/", "http://host/gateway/v1"),
    ("http://host/gateway", "http://host/gateway"),
    ("https://host", "https://host/v1"),
    ("HTTPS://host", "https://host/v1"),
    ("http://[::1]:8000", "http://[::1]:8000/v1"),
    ("[::1]:8000", "http://[::1]:8000/v1"),
    ("[::1]", "http://[::1]/v1"),
    ("  http://host:8000\n", "http://host:8000/v1"),
    ("http://host/v1?", "http://host/v1"),
    ("http://host/v1#", "http://host/v1"),
    ("http-gateway:8000", "http://http-gateway:8000/v1"),
    ("gpu_box.example.:80", "http://gpu_box.example.:80/v1"),
    ("http://exämple.de", "http://exämple.de/v1"),
    ("", "http://localhost:8000/v1"),
    (None, "http://localhost:8000/v1"),
]


@pytest.mark.parametrize(("given", "address"), ADDRESSES)
def test_base_url(given: Optional[str], address: str) -> None:
    """An address gains a scheme and, without a path, /v1; slashes at its end are removed."""
    assert VllmClient(given).base_url == address


@pytest.mark.parametrize(
    "given",
    [
        "ftp://host",
        "file:///etc/passwd",
        "unix:///run/vllm.sock",
        "http://",
        "http:///v1",
        "//host",
        "/v1",
        "   ",
        "http://host:port",
        "http://host:99999",
        "http://host:-1",
        "http://host:0",
        "http:/localhost:8000",
        "http//localhost:8000",
        "http:localhost:8000",
        "::1",
        "http://[::1",
        "http://my host",
        "http://host/v 1",
        "http://host\\v1",
        "http://ho\x00st",
        "http://my..host",
        "http://%VLLM_HOST%:8000",
        "http://%(host)s:8000",
        "http://localhost:",
        "localhost:",
        "unix:/run/vllm.sock",
        "VLLM_BASE_URL=http://host:8000",
        "‘http://host:8000’",
        "“http://host:8000/v1”",
        "«http://host:8000»",
        "(http://host:8000)",
        "\ufeffhttp://host:8000",
        "http://host\u200b:8000",
        "http://*:8000",
        "http://host:8000/v1;",
        "http://host:8000/v1\x7f",
        f"http://{'x' * 64}.example",
    ],
)
def test_bad_base_url(given: str) -> None:
    """An invalid address raises ValueError with an example of a valid one."""
    with pytest.raises(ValueError, match="is not the address of a server") as caught:
        VllmClient(given)
    assert "http://localhost:8000/v1" in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        "http://user:hunter2@host:8000",
        "user:hunter2@host",
        "http://hunter2@host",
        "http://@host",
        "http://user:hunter2@host:bad",
        "http://host/v1?key=hunter2",
        "http://host#hunter2",
    ],
)
def test_base_url_holds_no_secrets(given: str) -> None:
    """An address with credentials is refused, and the error does not repeat them."""
    with pytest.raises(ValueError, match=r"api_key=… or headers=…") as caught:
        VllmClient(given)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("given", [b"http://host", 8000, 0, [], ("host", 80)])
def test_base_url_is_text(given: Any) -> None:
    """An address that is not a string is a TypeError."""
    with pytest.raises(TypeError, match="base_url must be text"):
        VllmClient(given)


def test_base_url_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """VLLM_BASE_URL is used if there is no argument; an empty one is ignored."""
    monkeypatch.setenv("VLLM_BASE_URL", "gpu:9000/")
    assert VllmClient().base_url == "http://gpu:9000/v1"
    assert VllmClient("").base_url == "http://gpu:9000/v1"
    assert VllmClient("other:1").base_url == "http://other:1/v1"
    monkeypatch.setenv("VLLM_BASE_URL", "")
    assert VllmClient().base_url == "http://localhost:8000/v1"
    monkeypatch.setenv("VLLM_BASE_URL", "ftp://gpu")
    with pytest.raises(ValueError, match="ftp://gpu"):
        VllmClient()


@pytest.mark.parametrize(
    ("given", "server"),
    [
        ("http://host:8000", "http://host:8000"),
        ("http://host/gateway/v1/", "http://host/gateway"),
        ("http://host/gateway", "http://host/gateway"),
        ("http://host/v1/v1", "http://host/v1"),
        ("http://host/xv1", "http://host/xv1"),
    ],
)
def test_server_url(given: str, server: str) -> None:
    """server_url is base_url without its last /v1."""
    assert VllmClient(given).server_url == server


@pytest.mark.parametrize(
    ("argument", "variable", "sent"),
    [
        (None, None, None),
        (KEY, None, f"Bearer {KEY}"),
        (f" {KEY}\n", None, f"Bearer {KEY}"),
        (None, f"{KEY}\n", f"Bearer {KEY}"),
        ("own", KEY, "Bearer own"),
        ("", KEY, None),
        ("  ", KEY, None),
        (None, " ", None),
        ("two words", None, "Bearer two words"),
    ],
)
def test_api_key(
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    argument: Optional[str],
    variable: Optional[str],
    sent: Optional[str],
) -> None:
    """The key is the argument, else VLLM_API_KEY, stripped; an empty key is none."""
    if variable is not None:
        monkeypatch.setenv("VLLM_API_KEY", variable)
    served = serve(FINE, api_key=argument)
    served.client.completions.create(prompt="x")
    assert served.requests[0].headers.get("authorization") == sent


@pytest.mark.parametrize("key", ["se\ncret", "se\tcret", "se\x00cret", "secrét", "sec\u2028ret"])
def test_api_key_that_no_header_can_carry(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """A key that no header can hold is refused, and the error does not repeat it."""
    with pytest.raises(ValueError, match="api_key contains characters") as caught:
        VllmClient(api_key=key)
    assert key not in str(caught.value)
    if "\x00" not in key:
        monkeypatch.setenv("VLLM_API_KEY", key)
        with pytest.raises(ValueError, match="api_key contains characters"):
            VllmClient()


@pytest.mark.parametrize("key", [b"secret", 5, ["secret"]])
def test_api_key_is_text(key: Any) -> None:
    """A key that is not a string is a TypeError, which does not show it."""
    with pytest.raises(TypeError, match="api_key must be text") as caught:
        VllmClient(api_key=key)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("retries", [-1, 1.0, "2", None, True, False])
def test_bad_max_retries(retries: Any) -> None:
    """max_retries must be an int, 0 or greater, in the class and in with_options()."""
    with pytest.raises(ValueError, match="max_retries"):
        VllmClient(max_retries=retries)
    with pytest.raises(ValueError, match="max_retries"):
        VllmClient().with_options(max_retries=retries)


BAD_HEADERS = [
    ({"X A": "1"}, ValueError),
    ({"": "1"}, ValueError),
    ({"X\n": "1"}, ValueError),
    ({"X": "a\r\nY: b"}, ValueError),
    ({"X": "\u20ac"}, ValueError),
    ({"X": 5}, TypeError),
    ({"X": b"1"}, TypeError),
    ({5: "x"}, TypeError),
    ([("X", "1")], TypeError),
    ("X: 1", TypeError),
]


@pytest.mark.parametrize(("headers", "kind"), BAD_HEADERS)
def test_bad_headers(headers: Any, kind: Any) -> None:
    """Invalid headers are refused in the class and in with_options()."""
    with pytest.raises(kind, match=r"header|name"):
        VllmClient(headers=headers)
    with pytest.raises(kind, match=r"header|name"):
        VllmClient().with_options(headers=headers)


@pytest.mark.parametrize("timeout", [0, -1, True, "5", (1, 2, 3), float("nan"), object()])
def test_bad_timeout(timeout: Any) -> None:
    """An invalid timeout is refused in the class and in with_options()."""
    with pytest.raises((TypeError, ValueError)):
        VllmClient(timeout=timeout)
    with pytest.raises((TypeError, ValueError)):
        VllmClient().with_options(timeout=timeout)


@pytest.mark.parametrize(
    ("given", "limits"),
    [
        (3, Timeout(3, 3)),
        (2.5, Timeout(2.5, 2.5)),
        ((1, None), Timeout(1, None)),
        ([1, 2], Timeout(1, 2)),
        (None, Timeout(None, None)),
        (Timeout(1, 2, 3), Timeout(1, 2, 3)),
    ],
)
def test_timeout(given: Any, limits: Timeout) -> None:
    """A timeout is a number, a pair, None or a Timeout."""
    assert VllmClient(timeout=given).timeout == limits
    assert VllmClient().with_options(timeout=given).timeout == limits


def test_defaults() -> None:
    """By default a call waits 600 s for data and is retried twice."""
    client = VllmClient()
    assert client.timeout == Timeout(connect=5.0, read=600.0, total=None)
    assert client.max_retries == 2


def test_user_agent(serve: Serve) -> None:
    """The client sends its own User-Agent unless the caller sets one."""
    served = serve(FINE)
    served.client.completions.create(prompt="x")
    served.client.with_options(headers={"user-agent": "me"}).completions.create(prompt="x")
    version = vllm_client.__version__
    agents = [request.headers["user-agent"] for request in served.requests]
    assert agents == [f"vllm-sync-client/{version}", "me"]


def test_with_closes(serve: Serve) -> None:
    """Leaving the ``with`` block closes the client."""
    client = serve(numbered).client
    with client as entered:
        assert entered.completions.create(prompt="x").text == "1"
    assert entered is client
    with pytest.raises(APIConnectionError, match="the client is closed"):
        client.completions.create(prompt="x")
