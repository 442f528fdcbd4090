"""A streamed chat answer."""

from __future__ import annotations

from _server import connected

with (
    connected() as client,
    client.chat.completions.stream(
        messages=[{"role": "user", "content": "What is a network?"}], max_tokens=60
    ) as stream,
):
    for text in stream.text_deltas():
        print(text, end="", flush=True)
    print(f"\n\n{stream.snapshot.usage}")
