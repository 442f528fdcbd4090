"""Streams a model's answer to a browser. If the browser disconnects, the server stops generating.

Requires the extra ``fastapi``: run ``pip install ".[fastapi]"`` and ``python examples/web/app.py``,
then open http://127.0.0.1:8080/?question=What+is+a+network.
"""

from __future__ import annotations

import os
from typing import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from vllm_client import AsyncVllmClient
from vllm_client.testing import FakeServer


def make_app(client: AsyncVllmClient) -> FastAPI:
    """Return the web application, which uses this client."""
    app = FastAPI()

    async def text(question: str) -> AsyncIterator[str]:
        # If the browser disconnects, FastAPI cancels this generator. The stream closes, and the
        # vLLM server stops generating.
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
