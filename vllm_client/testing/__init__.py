"""A stand-in for a vLLM server, for demonstrations, examples and tests.

    from vllm_client.testing import FakeServer

    with FakeServer() as server:
        server.enqueue(text="Hello.")
        client = VllmClient(server.base_url)
        assert client.completions.create(prompt="Hi").text == "Hello."

It speaks vLLM's wire format on a real socket, and shares no code with the client: a double that
used the client's own decoder would agree with its bugs. It runs no model.
"""

from __future__ import annotations

from .recorded import Headers, RecordedRequest, RequestLog
from .script import ScriptFields
from .server import FakeServer

__all__ = ["FakeServer", "Headers", "RecordedRequest", "RequestLog", "ScriptFields"]
