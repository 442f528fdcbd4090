"""Calls and how they are stopped, where sockets alone do not get to."""

from __future__ import annotations

import threading

import pytest
import requests

from vllm_client import APIConnectionError, VllmClient
from vllm_client._http.adapter import TrackingAdapter
from vllm_client._http.call import CLOSED, Call, CancelScope

from ..recorded import WHOLE, answer, json_bytes, stream_bytes
from ..servers import WireServer, answering


def test_a_stopped_call_does_not_pause() -> None:
    """The pause before another attempt is over at once when the call is stopped already."""
    call = Call()
    call.cancel()
    call.pause(threading.TIMEOUT_MAX)
    assert call.reason == CLOSED


def test_a_scope_stops_calls_to_come() -> None:
    """A call made in a scope that was stopped before ends without an answer."""
    scope = CancelScope()
    scope.cancel()
    with WireServer(answering(json_bytes(answer()))) as server:
        with VllmClient(server.base_url) as client, scope:
            with pytest.raises(APIConnectionError):
                client.completions.create(prompt="x")
    assert server.requests == []


def test_the_adapter_serves_others_too() -> None:
    """Mounted on a session of the user's, it works without any call of ours."""
    with WireServer(answering(json_bytes({"fine": 1}))) as server, requests.Session() as session:
        session.mount("http://", TrackingAdapter())
        assert session.get(server.url).json() == {"fine": 1}


def test_a_response_outlives_its_stream() -> None:
    """Closing the response of a stream that is gone is no error."""
    with WireServer(answering(stream_bytes(*WHOLE))) as server, VllmClient(server.url) as client:
        stream = client.completions.stream(prompt="x")
        assert stream.collect_text() == "Hello"
        response = stream.response
        del stream
        response.close()
        assert client.completions.stream(prompt="x").collect_text() == "Hello"
    assert server.connections == 1
