"""The web example: text is passed on as it comes; a browser that leaves ends the generation."""

from __future__ import annotations

import importlib.util
import socket
import sys
import threading
from pathlib import Path
from typing import Any, Iterator

import pytest

from vllm_client import AsyncVllmClient

from ..recorded import STREAM_HEAD
from ..servers import Connection, WireServer
from ..threads import WAIT

pytest.importorskip("fastapi")
uvicorn = pytest.importorskip("uvicorn")

APP = Path(__file__).parents[2] / "examples" / "web" / "app.py"


def make_app(base_url: str) -> Any:
    spec = importlib.util.spec_from_file_location("web_example", APP)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # FastAPI looks up the annotations of its functions by the name of their module.
    sys.modules["web_example"] = module
    spec.loader.exec_module(module)
    return module.make_app(AsyncVllmClient(base_url))


class Told(uvicorn.Server):
    """Tells when it listens, instead of having to be asked."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.listens = threading.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets=sockets)
        self.listens.set()


@pytest.fixture
def web() -> Iterator[Any]:
    """The example on a port of its own, in front of a server that says one word and waits."""
    gone = threading.Event()

    def handler(connection: Connection) -> None:
        connection.receive()
        connection.send(STREAM_HEAD)
        choice = {"index": 0, "delta": {"content": "word"}, "finish_reason": None}
        connection.send_event({"id": "c", "model": "m", "created": 1, "choices": [choice]})
        connection.wait_gone()
        gone.set()

    with WireServer(handler) as wire, socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(make_app(wire.base_url), log_level="error", ws="none")
        server = Told(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        assert server.listens.wait(WAIT)
        yield listener.getsockname(), gone
        server.should_exit = True
        thread.join(WAIT)


def test_a_browser_that_leaves_ends_the_generation(web: Any) -> None:
    """The first word is passed on at once; closing the page closes the stream behind it."""
    address, gone = web
    with socket.create_connection(address, WAIT) as browser:
        browser.sendall(b"GET /?question=hi HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b""
        while b"word" not in received:
            received += browser.recv(4096)
        assert b"200 OK" in received
        assert not gone.is_set()
    assert gone.wait(WAIT)
