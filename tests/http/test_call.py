"""Calls and how they are cancelled, without a socket where possible."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import pytest
import requests

from vllm_client import APIConnectionError
from vllm_client._http.adapter import TrackingAdapter
from vllm_client._http.call import CLOSED, Call, CancelScope, shut_socket

from ..recorded import WHOLE, answer, json_bytes, stream_bytes
from ..servers import Connection, Serve
from .conftest import tls_context


def test_a_stopped_call_does_not_pause() -> None:
    """A call that was stopped does not pause before another attempt."""
    call = Call()
    call.cancel()
    call.pause(threading.TIMEOUT_MAX)
    assert call.reason == CLOSED


def test_a_stopped_scope_stops_later_calls(serve: Serve) -> None:
    """A call made in a stopped scope raises and sends nothing."""
    scope = CancelScope()
    scope.cancel()
    served = serve(json_bytes(answer()))
    with scope:
        with pytest.raises(APIConnectionError):
            served.client.completions.create(prompt="x")
    assert served.requests == []


def test_the_adapter_works_outside_our_calls(serve: Serve) -> None:
    """The adapter also works on a session of the user's, outside any call of ours."""
    served = serve(json_bytes({"fine": 1}))
    with requests.Session() as session:
        session.mount("http://", TrackingAdapter())
        assert session.get(served.server.url).json() == {"fine": 1}


def test_a_response_outlives_its_stream(serve: Serve) -> None:
    """Closing the response of a stream that is gone is no error."""
    served = serve(stream_bytes(*WHOLE))
    stream = served.client.completions.stream(prompt="x")
    assert stream.collect_text() == "Hello"
    response = stream.response
    del stream
    response.close()
    assert served.client.completions.stream(prompt="x").collect_text() == "Hello"
    assert served.connections == 1


def test_a_tls_connection_that_is_shut_down_stays_encrypted(
    serve: Serve, certificate: Path
) -> None:
    """What has arrived is still read through TLS, and never as the raw bytes of the network."""

    def handler(connection: Connection) -> None:
        connection.send(b"plain")
        connection.wait_gone()

    port = serve(handler=handler, tls=tls_context(certificate)).server.port
    context = ssl.create_default_context(cafile=str(certificate))
    with socket.create_connection(("127.0.0.1", port)) as below:
        with context.wrap_socket(below, server_hostname="127.0.0.1") as sock:
            assert sock.recv(1) == b"p"
            shut_socket(sock)
            assert sock.recv(100) == b"lain"
