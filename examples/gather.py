"""Many prompts at the same time with asyncio; prints the texts when all are complete."""

from __future__ import annotations

import asyncio
import os

from vllm_client import AsyncVllmClient
from vllm_client.testing import FakeServer

TOPICS = ["Machine learning", "A server", "A network", "A client", "Training"]


async def main(base_url: str) -> None:
    async with AsyncVllmClient(base_url) as client:

        async def about(topic: str) -> str:
            async with client.completions.stream(prompt=f"{topic} is", max_tokens=12) as stream:
                return f"{topic} is{await stream.collect_text()}"

        for line in await asyncio.gather(*(about(topic) for topic in TOPICS)):
            print(line)


if __name__ == "__main__":
    address = os.environ.get("VLLM_BASE_URL")
    if address:
        asyncio.run(main(address))
    else:
        with FakeServer() as server:
            asyncio.run(main(server.base_url))
