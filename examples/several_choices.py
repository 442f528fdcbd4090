"""Two outputs for each of two prompts, distinguished by their index."""

from __future__ import annotations

from _server import connected

PROMPTS = ["Machine learning is", "A server is"]

with (
    connected() as client,
    client.completions.stream(prompt=PROMPTS, n=2, max_tokens=12, seed=7) as stream,
):
    for choice in stream.collect().choices:
        prompt = PROMPTS[choice.index // 2]
        print(f"{choice.index}: {prompt}{choice.text}")
