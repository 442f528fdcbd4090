"""Asynchronous calls that are not streamed, and the settings of the asynchronous client."""

from __future__ import annotations

import asyncio
import pickle
import threading
from typing import List

import pytest

import vllm_client
from vllm_client import AsyncVllmClient, Timeout

from ..recorded import answer, json_bytes
from ..servers import FINE, Connection, Serve
from ..threads import WAIT
from .conftest import run, run_with


def test_create(serve: Serve) -> None:
    """create() returns what the synchronous one returns."""
    served = serve(FINE)

    async def main(client: AsyncVllmClient) -> None:
        completion = await client.completions.create(prompt="x", top_k=3)
        assert completion.text == "fine"

    run_with(served, main)
    assert served.requests[0].json == {"prompt": "x", "top_k": 3}


def test_two_hundred_calls_at_once(serve: Serve) -> None:
    """Two hundred calls are in flight at the same time, each with its own text."""
    together = threading.Barrier(200)

    def reply(connection: Connection) -> None:
        together.wait(WAIT)
        connection.send_json(answer(connection.request.json["prompt"]))

    async def main(client: AsyncVllmClient) -> List[str]:
        calls = (client.completions.create(prompt=str(number)) for number in range(200))
        return [completion.text for completion in await asyncio.gather(*calls)]

    assert run_with(serve(reply), main) == [str(number) for number in range(200)]


def test_calls_are_bounded(serve: Serve) -> None:
    """With max_calls=1 the second call is sent only after the first has returned."""
    order: List[str] = []

    def reply(connection: Connection) -> None:
        order.append("asked")
        order.append("answered")
        connection.send_json(answer())

    async def main(client: AsyncVllmClient) -> None:
        await asyncio.gather(*(client.completions.create(prompt="x") for _ in range(5)))

    served = serve(reply)
    run_with(served, main, max_calls=1)
    assert order == ["asked", "answered"] * 5
    assert served.connections == 1


def test_the_rest_of_the_client(serve: Serve) -> None:
    """Settings, request(), repr and pickling are those of the synchronous client."""
    served = serve(json_bytes({"fine": True}))

    async def main() -> None:
        server = served.server
        client = AsyncVllmClient(server.url, api_key="secret-key", timeout=7, max_retries=1)
        assert client.base_url == server.base_url
        assert client.server_url == server.url
        assert client.timeout == Timeout(7, 7)
        assert client.max_retries == 1
        assert repr(client) == f"AsyncVllmClient({server.base_url!r})"
        response = await client.request("GET", "/health")
        assert response.json() == {"fine": True}
        copy = pickle.loads(pickle.dumps(client))
        assert copy.timeout == Timeout(7, 7)
        assert (await copy.request("GET", "models")).status_code == 200
        for each in (client, copy):
            await each.aclose()

    run(main)
    assert [request.path for request in served.requests] == ["/health", "/v1/models"]
    assert served.requests[1].headers["authorization"] == "Bearer secret-key"


def test_lazy_names() -> None:
    """The package has the asynchronous names, and no others."""
    assert vllm_client.AsyncVllmClient is AsyncVllmClient
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = vllm_client.Nonsense
