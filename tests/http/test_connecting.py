"""How a connection is opened: names, addresses, and what interrupts it."""

from __future__ import annotations

import socket
import threading
from typing import Any, List

import pytest
import requests

from vllm_client import APIConnectionError, APITimeoutError, VllmClient
from vllm_client._http.adapter import TrackingAdapter
from vllm_client._http.call import Call, shut_socket

from ..recorded import json_bytes
from ..servers import FINE, Serve


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """The error says that nothing answers there, with the words of the resolver."""

    def fail(*_: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with VllmClient(f"{scheme}://model.example", max_retries=0) as client:
        with pytest.raises(APIConnectionError, match=r"nothing answers.*Name or service"):
            client.completions.create(prompt="x")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_every_address_refuses(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """If no address of a name accepts a connection, the last refusal is the reason."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dead = closed.getsockname()[1]
    found = socket.getaddrinfo("127.0.0.1", dead, socket.AF_INET, socket.SOCK_STREAM)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found * 2)
    with VllmClient(f"{scheme}://model.example", max_retries=0) as client:
        with pytest.raises(APIConnectionError, match=r"nothing answers.*refused"):
            client.completions.create(prompt="x")


def test_a_slow_resolver_uses_up_the_time_to_connect(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``connect`` includes the time of the resolver, and no connection is opened after it."""
    served = serve(FINE, timeout=(0.02, 5), max_retries=0)
    resolve = socket.getaddrinfo

    def slow(*args: Any) -> Any:
        threading.Event().wait(0.1)
        return resolve(*args)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with pytest.raises(APITimeoutError, match=r"no connection to .* within 0\.02 s"):
        served.client.completions.create(prompt="x")
    assert served.connections == 0


def test_an_interrupt_while_connecting_leaves_no_socket(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle of a connect closes the socket, and the client still works."""
    client = serve(FINE).client
    connect = socket.socket.connect

    def interrupted(*_: Any) -> None:
        monkeypatch.setattr(socket.socket, "connect", connect)
        raise KeyboardInterrupt

    monkeypatch.setattr(socket.socket, "connect", interrupted)
    with pytest.raises(KeyboardInterrupt):
        client.completions.create(prompt="x")
    assert client.completions.create(prompt="x").text == "fine"


def test_a_source_address_is_used(serve: Serve) -> None:
    """The adapter binds its connections to the address that urllib3 was told."""
    served = serve(json_bytes({"fine": 1}))
    adapter = TrackingAdapter()
    adapter.poolmanager.connection_pool_kw["source_address"] = ("127.0.0.1", 0)
    with requests.Session() as session:
        session.mount("http://", adapter)
        assert session.get(served.base_url).json() == {"fine": 1}


def test_a_socket_of_another_library_is_shut_down() -> None:
    """A socket object that is no socket of Python's has its own method called."""

    class Green:
        def __init__(self) -> None:
            self.how: List[int] = []

        def shutdown(self, how: int) -> None:
            self.how.append(how)

    green: Any = Green()
    shut_socket(green)
    assert green.how == [socket.SHUT_RDWR]


def test_the_first_attached_function_stays() -> None:
    """A call whose connection has attached itself keeps that way to be cancelled."""
    shut: List[str] = []
    call = Call()
    call.attach_if_unset(lambda: shut.append("first"))
    call.attach_if_unset(lambda: shut.append("second"))
    call.cancel()
    assert shut == ["first"]


def test_one_session_is_made(serve: Serve) -> None:
    """Two threads whose first calls meet share one session of the client's own."""
    session = serve(FINE).client._transport.session
    assert session._make_own("http://a") is session._make_own("http://a")


def test_a_session_without_settings_has_no_proxy() -> None:
    """A mock that has nothing but request() may fail as any session does."""

    class Bare:
        adapters: Any = requests.Session().adapters

        def request(self, *_: Any, **__: Any) -> Any:
            raise requests.ConnectionError("nobody there")

    bare: Any = Bare()
    with VllmClient("http://localhost:9", session=bare, max_retries=0) as client:
        with pytest.raises(APIConnectionError, match="nobody there"):
            client.completions.create(prompt="x")
