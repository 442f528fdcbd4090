"""A completion in one response."""

from __future__ import annotations

from _server import connected

with connected() as client:
    completion = client.completions.create(prompt="A server is", max_tokens=24, seed=1)
    print(completion.text)
    print(completion.choices[0].finish_reason)
    print(completion.usage)
