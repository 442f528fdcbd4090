"""``VllmClient``: its arguments, its copies, its pickles, and what importing it does not do."""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Optional

import pytest
import requests

import vllm_client
from vllm_client import (
    APIConnectionError,
    NotFoundError,
    Timeout,
    VllmClient,
    VllmError,
)

from ..recorded import STREAM_HEAD, chunk
from ..servers import Connection, Serve, WireServer

KEY = "sk-very-secret-0123456789"


def completing(connection: Connection) -> None:
    """Answer every completion; leave a stream for /v1/completions open until the client goes."""
    while True:
        request = connection.receive()
        if request is None:
            return
        if request.body and request.json and "stream" in request.json:
            connection.send(STREAM_HEAD)
            connection.send_event(chunk("so far"))
            continue
        text = str(connection.number)
        connection.send_json(chunk(text, finish="stop"), headers="x-request-id: r1\r\n")


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
    """A bare origin gains scheme and /v1, slashes at the end go, what has a path is kept."""
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
        f"http://{'x' * 64}.example",
    ],
)
def test_bad_base_url(given: str) -> None:
    """What cannot be the address of a server is refused with an example of one that can."""
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
    """Credentials in the address are refused without being repeated."""
    with pytest.raises(ValueError, match=r"api_key=… or headers=…") as caught:
        VllmClient(given)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("given", [b"http://host", 8000, 0, [], ("host", 80)])
def test_base_url_is_text(given: Any) -> None:
    """An address that is no text is a TypeError."""
    with pytest.raises(TypeError, match="base_url has to be text"):
        VllmClient(given)


def test_base_url_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """VLLM_BASE_URL stands in for the argument, which wins over it; empty, it is unset."""
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
    """The key is the argument, else VLLM_API_KEY, stripped; an empty one is none."""
    if variable is not None:
        monkeypatch.setenv("VLLM_API_KEY", variable)
    served = serve(handler=completing, api_key=argument)
    served.client.completions.create(prompt="x")
    assert served.requests[0].headers.get("authorization") == sent


@pytest.mark.parametrize("key", ["se\ncret", "se\tcret", "se\x00cret", "secrét", "sec\u2028ret"])
def test_api_key_that_no_header_can_carry(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """A key with a line end or beyond ASCII is refused at once, and not repeated."""
    with pytest.raises(ValueError, match="api_key has characters") as caught:
        VllmClient(api_key=key)
    assert key not in str(caught.value)
    if "\x00" not in key:
        monkeypatch.setenv("VLLM_API_KEY", key)
        with pytest.raises(ValueError, match="api_key has characters"):
            VllmClient()


@pytest.mark.parametrize("key", [b"secret", 5, ["secret"]])
def test_api_key_is_text(key: Any) -> None:
    """A key that is no text is a TypeError that does not show it."""
    with pytest.raises(TypeError, match="api_key has to be text") as caught:
        VllmClient(api_key=key)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("retries", [-1, 1.0, "2", None, True, False])
def test_bad_max_retries(retries: Any) -> None:
    """max_retries is a whole number, 0 or more, in the class and in with_options."""
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
    """Headers that cannot be sent are refused before anything is."""
    with pytest.raises(kind, match=r"header|name"):
        VllmClient(headers=headers)
    with pytest.raises(kind, match=r"header|name"):
        VllmClient().with_options(headers=headers)


@pytest.mark.parametrize("timeout", [0, -1, True, "5", (1, 2, 3), float("nan"), object()])
def test_bad_timeout(timeout: Any) -> None:
    """A limit that cannot be meant is refused."""
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
    """A number, a pair, None and a Timeout are all limits."""
    assert VllmClient(timeout=given).timeout == limits
    assert VllmClient().with_options(timeout=given).timeout == limits


def test_defaults() -> None:
    """Nothing waits for ever unless asked to."""
    client = VllmClient()
    assert client.timeout == Timeout(connect=5.0, read=600.0, total=None)
    assert client.max_retries == 2


def test_copy_has_its_own_settings() -> None:
    """with_options changes what it is told to, in the copy alone."""
    first = VllmClient("host", timeout=1, max_retries=1, headers={"X-A": "1"})
    second = first.with_options(timeout=2, max_retries=5, headers={"X-B": "2"})
    third = second.with_options()
    assert (first.timeout, first.max_retries) == (Timeout(1, 1), 1)
    assert (second.timeout, second.max_retries) == (Timeout(2, 2), 5)
    assert (third.timeout, third.max_retries) == (Timeout(2, 2), 5)
    assert type(second) is VllmClient
    assert second.base_url == first.base_url
    assert first.with_options(timeout=None).timeout == Timeout(None, None)


def test_copy_keeps_the_class() -> None:
    """A copy of a subclass is one of the subclass."""

    class Mine(VllmClient):
        pass

    assert type(Mine("host").with_options(max_retries=0)) is Mine
    assert repr(Mine("host").with_options()) == "Mine('http://host/v1')"


def test_headers_add_up(serve: Serve) -> None:
    """Headers of class, copies and call are laid over each other, whatever their case."""
    served = serve(handler=completing, headers={"X-A": "1"})
    second = served.client.with_options(headers={"x-a": "2", "X-B": "b"})
    third = second.with_options(headers={"X-A": "3", "x-b": None})
    for client in (served.client, second, third, served.client.with_options(headers=None)):
        client.completions.create(prompt="x")
    third.completions.create(prompt="x", extra_headers={"x-A": "4", "X-B": "c"})
    sent = [(one.headers.get("x-a"), one.headers.get("x-b")) for one in served.requests]
    assert sent == [("1", None), ("2", "b"), ("3", None), ("1", None), ("4", "c")]


def test_user_agent(serve: Serve) -> None:
    """The client says who it is, unless the caller does."""
    served = serve(handler=completing)
    served.client.completions.create(prompt="x")
    served.client.with_options(headers={"user-agent": "me"}).completions.create(prompt="x")
    version = vllm_client.__version__
    agents = [request.headers["user-agent"] for request in served.requests]
    assert agents == [f"vllm-sync-client/{version}", "me"]


def test_copy_uses_the_same_connection(serve: Serve) -> None:
    """A copy takes the connection that the first client has left in the pool."""
    served = serve(handler=completing)
    copies = [
        served.client,
        served.client.with_options(max_retries=0),
        served.client.with_options(timeout=9),
        served.client,
    ]
    texts = [client.completions.create(prompt="x").text for client in copies]
    assert texts == ["1"] * 4
    assert served.connections == 1


@pytest.mark.parametrize("changes", [{}, {"max_retries": 0}])
def test_closing_a_copy_leaves_the_first_alive(changes: Dict[str, Any]) -> None:
    """Closing a copy ends the streams of that copy, and nothing else."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(WireServer(completing))
        first = stack.enter_context(VllmClient(server.base_url))
        second, third = first.with_options(**changes), first.with_options(**changes)
        ended, *kept = (
            stack.enter_context(client.completions.stream(prompt="x"))
            for client in (second, first, third)
        )
        assert [next(stream).type for stream in (ended, *kept)] == ["text"] * 3
        second.close()
        second.close()
        with pytest.raises(VllmError, match="closed"):
            next(ended)
        for client, stream in zip((first, third), kept):
            assert stream.response.raw.closed is False
            assert client.completions.create(prompt="x").text


def test_closing_the_first_ends_the_copy() -> None:
    """The connections live until the first client is closed; then no copy can call."""
    with WireServer(completing) as server:
        first = VllmClient(server.base_url)
        second = first.with_options(max_retries=0)
        with second.completions.stream(prompt="x") as stream:
            next(stream)
            first.close()
            with pytest.raises(VllmError, match="closed"):
                next(stream)
        for client in (first, second, second.with_options()):
            with pytest.raises(APIConnectionError, match="the client is closed"):
                client.completions.create(prompt="x")
        first.close()


def test_with_closes() -> None:
    """Leaving ``with`` closes the client."""
    with WireServer(completing) as server:
        client = VllmClient(server.base_url)
        with client as entered:
            assert entered.completions.create(prompt="x").text == "1"
        assert entered is client
        with pytest.raises(APIConnectionError, match="the client is closed"):
            client.completions.create(prompt="x")


def first_of(server: WireServer) -> VllmClient:
    return VllmClient(
        server.base_url, api_key=KEY, timeout=(3, 7), max_retries=4, headers={"X-A": "1"}
    )


def copy_of(server: WireServer) -> VllmClient:
    first = VllmClient(server.base_url, api_key=KEY, timeout=1, headers={"X-A": "0"})
    return first.with_options(timeout=(3, 7), max_retries=4, headers={"x-a": "1"})


def with_session(server: WireServer) -> VllmClient:
    session = requests.Session()
    session.headers["X-Session"] = "mine"
    return VllmClient(
        server.base_url,
        api_key=KEY,
        timeout=(3, 7),
        max_retries=4,
        headers={"X-A": "1"},
        session=session,
    )


def by_pickle(protocol: int) -> Callable[[Any], Any]:
    return lambda client: pickle.loads(pickle.dumps(client, protocol))


WAYS = [by_pickle(number) for number in range(pickle.HIGHEST_PROTOCOL + 1)]


@pytest.mark.parametrize("way", [*WAYS, copy.copy, copy.deepcopy])
@pytest.mark.parametrize("make", [first_of, copy_of, with_session])
def test_client_survives_pickling(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[WireServer], VllmClient], way: Any
) -> None:
    """A pickled or copied client has the same settings and works on connections of its own."""
    with WireServer(completing) as server:
        with make(server) as client:
            client.completions.create(prompt="x")
            # The copy is made of the client's settings, not of what surrounds it there.
            monkeypatch.setenv("VLLM_API_KEY", "another")
            back = way(client)
        with back:
            assert type(back) is VllmClient
            assert (back.base_url, back.timeout) == (client.base_url, Timeout(3, 7))
            assert (back.max_retries, repr(back)) == (4, repr(client))
            # A pickled session comes without its connections, a copied client shares its session.
            shared = make is with_session and way in {copy.copy, copy.deepcopy}
            assert back.completions.create(prompt="x").text == ("1" if shared else "2")
    assert [request.headers["x-a"] for request in server.requests] == ["1", "1"]
    assert server.requests[1].headers == server.requests[0].headers
    assert server.requests[1].headers["authorization"] == f"Bearer {KEY}"
    if make is with_session:
        assert server.requests[1].headers["x-session"] == "mine"
        assert server.requests[1].headers["user-agent"].startswith("python-requests")
        client._session.close()  # type: ignore[union-attr]
        back._session.close()


def test_keyless_client_stays_keyless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client without a key does not pick one up where it is unpickled."""
    data = pickle.dumps(VllmClient("host"))
    monkeypatch.setenv("VLLM_API_KEY", "another")
    assert b"another" not in pickle.dumps(pickle.loads(data))


PATHS = [
    ("/v1/models", "/gateway/v1/models"),
    ("/health", "/gateway/health"),
    ("models", "/gateway/v1/models"),
    ("completions?a=http://x", "/gateway/v1/completions?a=http://x"),
    ("", "/gateway/v1/"),
]


@pytest.mark.parametrize(("path", "arrives"), PATHS)
def test_request_path(path: str, arrives: str) -> None:
    """A path with a slash is the server's, one without is relative to base_url."""
    with WireServer(completing) as server, VllmClient(f"{server.url}/gateway/v1") as client:
        client.request("get", path)
    assert (server.requests[0].method, server.requests[0].path) == ("GET", arrives)


@pytest.mark.parametrize("path", ["http://elsewhere/v1/models", "HTTPS://x", "://x"])
def test_request_goes_nowhere_else(path: str) -> None:
    """An address in the place of a path is refused: the key is for one server."""
    with (
        VllmClient("host", api_key=KEY) as client,
        pytest.raises(ValueError, match="not an address"),
    ):
        client.request("GET", path)


def test_request_sends_what_it_is_given(serve: Serve) -> None:
    """JSON, query, headers and time-out of a request arrive; the answer is given back as it is."""
    served = serve(handler=completing, api_key=KEY)
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
    """Only None is no body."""
    served = serve(handler=completing)
    served.client.request("POST", "x", json=value)
    assert json.loads(served.requests[0].body) == value


def test_request_without_a_body(serve: Serve) -> None:
    """A GET carries neither a body nor its type."""
    served = serve(handler=completing)
    served.client.request("GET", "/health")
    assert served.requests[0].body == b""
    assert "content-type" not in served.requests[0].headers


def refusing(connection: Connection) -> None:
    """Know no route."""
    while connection.receive():
        connection.send_json({"detail": "Not Found"}, "404 Not Found")


def test_request_raises_as_everything_does(serve: Serve) -> None:
    """A route that is not there is the same error as everywhere."""
    client = serve(handler=refusing).client
    request = functools.partial(client.request, "GET", "/nowhere")
    with pytest.raises(NotFoundError, match="404: Not Found"):
        request()


def test_request_that_cannot_be_json() -> None:
    """A body that cannot be sent is refused as a field would be."""
    with VllmClient("host") as client, pytest.raises(TypeError, match=r"^a cannot be sent as JSON"):
        client.request("POST", "/x", json={"a": object()})


IMPORTING = """
import os, sys

class Watched(type(os.environ)):
    def __getitem__(self, key):
        seen.append(str(key))
        return super().__getitem__(key)

    def get(self, key, default=None):
        seen.append(str(key))
        return super().get(key, default)

seen, happened = [], []
os.environ.__class__ = Watched
os.environ["VLLM_PROBE"] = "1"
assert os.environ.get("VLLM_PROBE") == os.environ["VLLM_PROBE"] == os.getenv("VLLM_PROBE") == "1"
assert seen.count("VLLM_PROBE") >= 3
del seen[:]
network = ("socket.connect", "socket.getaddrinfo", "socket.sendto", "urllib.Request",
           "subprocess.Popen", "os.system", "http.client.connect", "socket.gethostbyname")
ended = (".py", ".pyc", ".so", ".pyd", ".dll")

def hook(event, arguments):
    if event in network:
        happened.append((event, arguments))
    if event == "open" and "vllm" in str(arguments[0]) and not str(arguments[0]).endswith(ended):
        happened.append((event, arguments))

sys.addaudithook(hook)
import vllm_client
happened, calm = [], happened
ours = [name for name in seen if name.startswith("VLLM") or name in ("NETRC", "HTTP_PROXY")]
heavy = ("argparse", "asyncio", "IPython", "unittest", "vllm_client.cli", "vllm_client.testing")
heavy = [name for name in heavy if name in sys.modules]
print(repr((calm, ours, heavy)))
"""


def test_import_touches_nothing() -> None:
    """Importing the package reads no environment, file or network, and imports nothing heavy."""
    root = Path(vllm_client.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", IMPORTING], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "([], [], [])", done.stderr
