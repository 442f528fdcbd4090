"""What errors say about proxies and about servers of another protocol, and what they hide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests
import urllib3
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from vllm_client import APIConnectionError, APIStatusError, Timeout, VllmClient
from vllm_client._http.failures import failed_attempt

from ..recorded import answer, chunk, json_bytes, stream_bytes
from ..servers import WireServer, break_off, replying

SECRET = "s3cr3t-w0rd"
BROKEN = [
    f"me:{SECRET}@127.0.0.1:9",
    f"http://me:{SECRET}@127.0.0.1:9",
    f"http://me:{SECRET}@x{SECRET}@127.0.0.1:9",
    f"http://me:{SECRET}/{SECRET}@127.0.0.1:9",
    f"http://me:{SECRET}@host:port",
    f"http://me:{SECRET}@[::1",
    f"http://me:{SECRET}@127.0.0.1:99999",
    f"http://me:{SECRET}@",
    f"http://me:{SECRET}€@127.0.0.1:9",
    f"socks9://me:{SECRET}@127.0.0.1:9",
    " http://127.0.0.1:9 ",
    '"http://127.0.0.1:9"',
    "http://a..b:3",
    "   ",
]


def failure(client: VllmClient) -> Any:
    """The error of a call."""
    with client, pytest.raises((APIConnectionError, APIStatusError)) as caught:
        client.completions.create(prompt="x")
    return caught.value


@pytest.mark.parametrize("proxy", BROKEN)
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("given", [False, True])
def test_a_proxy_that_cannot_be_used_is_named_without_its_login(
    monkeypatch: pytest.MonkeyPatch, proxy: str, scheme: str, given: bool
) -> None:
    """Whatever is wrong with its address, the error is ours and speaks of the proxy."""
    monkeypatch.setenv(f"{scheme}_proxy", proxy)
    session = requests.Session() if given else None
    error = failure(VllmClient(f"{scheme}://model.example/v1", max_retries=0, session=session))
    assert "proxy" in str(error)
    assert "NO_PROXY" in str(error)
    shown = [error, error.__cause__, error.__context__]
    assert SECRET not in " ".join(f"{each} {each!r}" for each in shown)


@pytest.mark.parametrize("kind", [NewConnectionError, ConnectTimeoutError])
def test_a_socks_proxy_that_does_not_answer_is_named(kind: Any) -> None:
    """Urllib3 raises for it what it raises for a server."""
    error = kind(urllib3.HTTPConnectionPool("h"), "Connection refused")
    failed = failed_attempt(error, "http://h:1", Timeout(), f"SOCKS5://me:{SECRET}@127.0.0.1:9")
    assert str(failed.error).startswith("the proxy SOCKS5://127.0.0.1:9 does not connect to")
    assert failed.may_retry


@pytest.mark.parametrize("status", ["407 Proxy Authentication Required", "403 Forbidden"])
def test_a_response_of_a_proxy_names_the_proxy(
    monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    """A page with an error status may be the proxy's, and the error tells which proxy that is."""
    page = b"<title>Squid</title>"
    head = f"HTTP/1.1 {status}\r\ncontent-length: {len(page)}\r\n\r\n".encode()
    with WireServer(replying(head + page)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("//", f"//me:{SECRET}@"))
        error = failure(VllmClient("http://model.example/v1", max_retries=0))
    assert f"Squid (perhaps from the proxy {proxy.url}: unset HTTP_PROXY" in str(error)


def test_an_error_of_the_server_behind_a_proxy_does_not_name_the_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """JSON is the server's."""
    reply = json_bytes({"error": {"message": "no"}}, "403 Forbidden")
    with WireServer(replying(reply)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        error = failure(VllmClient("http://model.example/v1", max_retries=0))
    assert "proxy" not in str(error)


@pytest.mark.parametrize("line", [b"\x15\x03\x01\x00\x02\x02F\r\n", b"SSH-2.0-OpenSSH_9\r\n"])
def test_a_server_of_another_protocol_is_told_apart(line: bytes) -> None:
    """It answers; an error that says it closed the connection would mislead."""
    with WireServer(lambda connection: connection.receive() and connection.send(line)) as server:
        error = failure(VllmClient(server.base_url, max_retries=0))
    assert "answers, but not with HTTP" in str(error)
    assert "https" in str(error)


def test_https_for_a_server_without_tls_is_told_apart() -> None:
    """The advice is about the address, not about certificates."""
    with WireServer(break_off(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as server:
        url = server.base_url.replace("http:", "https:")
        error = failure(VllmClient(url, max_retries=0))
    assert "does it expect http?" in str(error)
    assert "CA_BUNDLE" not in str(error)


@pytest.mark.parametrize("value", [b"chunked ", b"Chunked\t"])
def test_white_space_behind_the_name_of_chunks(value: bytes) -> None:
    """The standard allows it; the body is not waited for until a timeout."""
    body = json_bytes(answer("fine")).partition(b"\r\n\r\n")[2]
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: " + value + b"\r\n\r\n"
    whole = head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    with WireServer(replying(whole)) as server, VllmClient(server.base_url) as client:
        assert [client.completions.create(prompt="x").text for _ in range(2)] == ["fine"] * 2
    assert server.connections == 1
    streamed = stream_bytes(chunk("a", finish="stop"), "[DONE]").replace(b"chunked", value)
    with WireServer(replying(streamed)) as server, VllmClient(server.base_url) as client:
        assert client.completions.stream(prompt="x").collect_text() == "a"


@pytest.mark.parametrize("login", ["login me password p€ssw0rd"])
def test_a_login_of_netrc_that_no_header_can_carry(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, login: str
) -> None:
    """It is an error of ours, which does not show the password."""
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 {login}\n", encoding="utf-8")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with WireServer(replying(json_bytes(answer()))) as server:
        for session in (None, requests.Session()):
            error = failure(VllmClient(server.base_url, max_retries=0, session=session))
            assert "cannot be sent" in str(error)
            assert "p€ssw0rd" not in f"{error} {error.__cause__!r} {error.__cause__.__dict__}"
