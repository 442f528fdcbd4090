"""A stand-in for a vLLM server, for demonstrations, examples and tests::

    from vllm_client import VllmClient
    from vllm_client.testing import FakeServer

    with FakeServer() as server:
        server.enqueue(text="Hello.")
        client = VllmClient(server.base_url)
        assert client.completions.create(prompt="Hi").text == "Hello."

The server uses vLLM's wire format on a real socket. It shares no code with the client: with the
client's own decoder it would repeat the client's bugs, and no test would find them. It runs no
language model.
"""

from __future__ import annotations

from .recorded import Headers, RecordedRequest, RequestLog
from .script import ScriptFields
from .server import FakeServer

__all__ = ["FakeServer", "Headers", "RecordedRequest", "RequestLog", "ScriptFields"]
