"""Calls and how they are cancelled, without a socket where possible."""

from __future__ import annotations

import threading

import pytest
import requests

from vllm_client import APIConnectionError
from vllm_client._http.adapter import TrackingAdapter
from vllm_client._http.call import CLOSED, Call, CancelScope

from ..recorded import WHOLE, answer, json_bytes, stream_bytes
from ..servers import Serve


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
