"""The time limits of a run: its rows may wait in the server's queue."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest
import requests

from vllm_client import APITimeoutError, Timeout
from vllm_client._http.connections import TrackedConnection
from vllm_client._http.transport import UNSET
from vllm_client.batch import resource

from ..recorded import answer
from ..servers import Connection, Serve, WireServer
from .answering import Answering

SHORT = 0.05


def slow(connection: Connection) -> None:
    """An outcome: the response comes after longer than SHORT, or not at all."""
    threading.Event().wait(6 * SHORT)
    connection.send_json(answer("late"))


def slow_server() -> Answering:
    return Answering({"a": [slow] * 9})


def test_default_read_limit_does_not_hold(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row may take longer than the read limit that the client has by default."""
    monkeypatch.setattr(resource, "_DEFAULT_READ", SHORT)
    server = slow_server()
    client = serve(handler=server, timeout=Timeout(read=SHORT), max_retries=0).client
    for _ in range(2):  # On a new connection, and on a reused one.
        (row,) = client.batch.completions(["a"])
        assert row.text == "late"
    assert server.asked["a"] == 2


LIMITS = [
    ({"timeout": Timeout(read=SHORT)}, {}),
    ({}, {"timeout": Timeout(read=SHORT)}),
    ({}, {"timeout": Timeout(total=SHORT)}),
    ({"timeout": Timeout(total=SHORT)}, {}),
]


@pytest.mark.parametrize(("of_client", "of_call"), LIMITS)
def test_limits_that_were_chosen_hold(serve: Serve, of_client: Any, of_call: Any) -> None:
    """A read limit and a total limit that the program chose hold for each row."""
    client = serve(handler=slow_server(), max_retries=0, **of_client).client
    (row,) = client.batch.completions(["a"], **of_call)
    assert isinstance(row.error, APITimeoutError)


def test_session_of_the_user_keeps_the_limit(serve: Serve) -> None:
    """Connections of a user's session may not notice a lost machine, so the limit stays."""
    with requests.Session() as session:
        served = serve(handler=Answering(), session=session)
        assert resource._timeout_of(served.client._transport) is UNSET
    assert resource._timeout_of(serve(handler=Answering()).client._transport) == Timeout(read=None)


def test_connections_ask_after_a_silent_peer() -> None:
    """The system asks a silent server after a minute whether it is there."""
    with WireServer(lambda connection: connection.wait_gone()) as server:
        connection = TrackedConnection("127.0.0.1", server.port)
        connection.connect()
        assert connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_KEEPIDLE"):
            assert connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
        connection.close()
