"""Passes a model's answer on to a browser as it comes; when the browser leaves, the server stops.

Needs the extra ``fastapi``: ``pip install ".[fastapi]"``, then ``python examples/web/app.py`` and
http://127.0.0.1:8080/?question=What+is+a+network.
"""

from __future__ import annotations

import os
from typing import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from vllm_client import AsyncVllmClient
from vllm_client.testing import FakeServer


def make_app(client: AsyncVllmClient) -> FastAPI:
    """The web application, which asks this client."""
    app = FastAPI()

    async def text(question: str) -> AsyncIterator[str]:
        # A browser that leaves cancels this, which closes the stream, which ends the generation.
        messages = [{"role": "user", "content": question}]
        async with client.chat.completions.stream(messages=messages) as stream:
            async for piece in stream.text_deltas():
                yield piece

    @app.get("/")
    async def answer(question: str) -> StreamingResponse:
        return StreamingResponse(text(question), media_type="text/plain; charset=utf-8")

    return app


if __name__ == "__main__":
    import uvicorn

    with FakeServer(delay=0.05) as server:
        address = os.environ.get("VLLM_BASE_URL") or server.base_url
        uvicorn.run(make_app(AsyncVllmClient(address)), port=8080)
