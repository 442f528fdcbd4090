"""A streamed completion, event by event, of VLLM_BASE_URL or else of an embedded server."""

from __future__ import annotations

import contextlib
import os

from vllm_client import VllmClient
from vllm_client.testing import FakeServer

PROMPT = "What is machine learning?"


def main() -> None:
    with contextlib.ExitStack() as stack:
        base_url = os.environ.get("VLLM_BASE_URL")
        if not base_url:
            base_url = stack.enter_context(FakeServer(delay=0.02)).base_url
        client = stack.enter_context(VllmClient(base_url))
        model = client.request("GET", "models").json()["data"][0]["id"]

        print("=== Streaming completion ===")
        print(f"Model: {model}")
        print(f"Prompt: {PROMPT}\n")

        with client.completions.stream(
            model=model, prompt=PROMPT, max_tokens=500, temperature=0.7
        ) as stream:
            for event in stream:
                if event.type == "text":
                    print(event.text, end="", flush=True)
                elif event.type == "finish_reason":
                    print(f"\n\nFinish reason: {event.reason}")
                elif event.type == "usage":
                    print(f"Prompt tokens: {event.prompt_tokens}")
                    print(f"Completion tokens: {event.completion_tokens}")
                    print(f"Total tokens: {event.total_tokens}")
                elif event.type == "done":
                    print("\n=== Generation Complete ===")


if __name__ == "__main__":
    main()
