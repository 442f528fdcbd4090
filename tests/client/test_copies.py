"""Copies of a client: by ``with_options()``, by pickling, by the module ``copy``."""

from __future__ import annotations

import contextlib
import copy
import pickle
from typing import Any, Callable, Dict

import pytest
import requests

from vllm_client import APIConnectionError, Timeout, VllmClient, VllmError

from ..recorded import WHOLE, beginning, chunk, stream_bytes
from ..servers import Serve, Served, either, numbered

KEY = "sk-very-secret-0123456789"

REPLY = either(beginning(chunk("so far")), numbered)
"""Answers calls with the number of the connection, and leaves streams open."""


WHOLE_STREAM = stream_bytes(*WHOLE)


def test_copy_has_its_own_settings() -> None:
    """with_options() changes the given settings in the copy alone."""
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
    """A copy of a subclass is an instance of the subclass."""

    class Mine(VllmClient):
        pass

    assert type(Mine("host").with_options(max_retries=0)) is Mine
    assert repr(Mine("host").with_options()) == "Mine('http://host/v1')"


def test_headers_add_up(serve: Serve) -> None:
    """Headers of client, copies and call are merged, ignoring case; later ones win."""
    served = serve(REPLY, headers={"X-A": "1"})
    second = served.client.with_options(headers={"x-a": "2", "X-B": "b"})
    third = second.with_options(headers={"X-A": "3", "x-b": None})
    for client in (served.client, second, third, served.client.with_options(headers=None)):
        client.completions.create(prompt="x")
    third.completions.create(prompt="x", extra_headers={"x-A": "4", "X-B": "c"})
    sent = [(one.headers.get("x-a"), one.headers.get("x-b")) for one in served.requests]
    assert sent == [("1", None), ("2", "b"), ("3", None), ("1", None), ("4", "c")]


def test_copy_uses_the_same_connection(serve: Serve) -> None:
    """A copy reuses the idle connection of the first client."""
    served = serve(REPLY)
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
def test_closing_a_copy_leaves_the_first_alive(serve: Serve, changes: Dict[str, Any]) -> None:
    """Closing a copy ends the streams of that copy, and nothing else."""
    first = serve(REPLY).client
    with contextlib.ExitStack() as stack:
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


def test_closing_the_first_ends_the_copy(serve: Serve) -> None:
    """Closing the first client ends its copies too."""
    first = serve(REPLY).client
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


def first_of(served: Served) -> VllmClient:
    return VllmClient(
        served.base_url, api_key=KEY, timeout=(3, 7), max_retries=4, headers={"X-A": "1"}
    )


def copy_of(served: Served) -> VllmClient:
    first = VllmClient(served.base_url, api_key=KEY, timeout=1, headers={"X-A": "0"})
    return first.with_options(timeout=(3, 7), max_retries=4, headers={"x-a": "1"})


def with_session(served: Served) -> VllmClient:
    session = requests.Session()
    session.headers["X-Session"] = "mine"
    return VllmClient(
        served.base_url,
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
    serve: Serve, monkeypatch: pytest.MonkeyPatch, make: Callable[[Served], VllmClient], way: Any
) -> None:
    """A pickled or copied client has the same settings and its own connections."""
    served = serve(REPLY)
    with make(served) as client:
        client.completions.create(prompt="x")
        # The copy must have the settings of the client, not of the environment.
        monkeypatch.setenv("VLLM_API_KEY", "another")
        back = way(client)
    with back:
        assert type(back) is VllmClient
        assert (back.base_url, back.timeout) == (client.base_url, Timeout(3, 7))
        assert (back.max_retries, repr(back)) == (4, repr(client))
        # A pickled session has no connections; a client copied with its session shares them.
        shared = make is with_session and way in {copy.copy, copy.deepcopy}
        assert back.completions.create(prompt="x").text == ("1" if shared else "2")
    first, second = (request.headers for request in served.requests)
    assert second == first
    assert (second["x-a"], second["authorization"]) == ("1", f"Bearer {KEY}")
    if make is with_session:
        assert second["x-session"] == "mine"
        assert second["user-agent"].startswith("python-requests")
        client._session.close()  # type: ignore[union-attr]
        back._session.close()


def test_keyless_client_stays_keyless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client without a key does not read one from the environment when unpickled."""
    data = pickle.dumps(VllmClient("host"))
    monkeypatch.setenv("VLLM_API_KEY", "another")
    assert b"another" not in pickle.dumps(pickle.loads(data))


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_stream_has_no_copies(serve: Serve, duplicate: Callable[[Any], Any]) -> None:
    """The attempt is a TypeError, and leaves the stream as it was."""
    with serve(WHOLE_STREAM).client.completions.stream(prompt="x") as stream:
        with pytest.raises(TypeError, match="its snapshot can"):
            duplicate(stream)
        assert stream.collect_text() == "Hello"


@pytest.mark.parametrize("name", ["completions", "batch", "server", "evaluate"])
def test_a_resource_pickles(serve: Serve, name: str) -> None:
    """So a method can be given to a pool of processes; it opens connections of its own there."""
    client = serve(REPLY, api_key=KEY).client
    for duplicate in (copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))):
        assert type(duplicate(getattr(client, name))) is type(getattr(client, name))
    create = pickle.loads(pickle.dumps(client.completions.create))
    assert [client.completions.create(prompt="x").text for _ in range(2)] == ["1", "1"]
    assert [create(prompt="x").text for _ in range(2)] == ["2", "2"]
