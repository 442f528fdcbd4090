"""The web example: text is sent on at once, and closing the page ends the generation."""

from __future__ import annotations

import importlib.util
import socket
import sys
import threading
from pathlib import Path
from typing import Any, Iterator

import pytest

from vllm_client import AsyncVllmClient

from ..recorded import beginning, delta
from ..servers import Serve, Stall
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


class Announcing(uvicorn.Server):
    """A server that sets an event once it listens."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.listens = threading.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets=sockets)
        self.listens.set()


@pytest.fixture
def web(serve: Serve) -> Iterator[Any]:
    """The example, in front of a server that sends one word and then stalls."""
    stall = Stall(beginning(delta(content="word")))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        app = make_app(serve(stall).base_url)
        config = uvicorn.Config(app, log_level="error", ws="none")
        server = Announcing(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        assert server.listens.wait(WAIT)
        yield listener.getsockname(), stall
        server.should_exit = True
        thread.join(WAIT)


def test_closing_the_page_ends_the_generation(web: Any) -> None:
    """The first word is sent on at once; closing the page closes the stream."""
    address, stall = web
    with socket.create_connection(address, WAIT) as browser:
        browser.sendall(b"GET /?question=hi HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b""
        while b"word" not in received:
            received += browser.recv(4096)
        assert b"200 OK" in received
        assert stall.gone.count == 0
    assert stall.gone.wait()
