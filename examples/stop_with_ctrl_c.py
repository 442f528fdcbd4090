"""Ctrl-C also stops the generation on the server; the text so far is kept."""

from __future__ import annotations

from _server import connected

with (
    connected() as client,
    client.completions.stream(
        prompt="Tell me about networks.", max_tokens=400, ignore_eos=True
    ) as stream,
):
    try:
        for text in stream.text_deltas():
            print(text, end="", flush=True)
    except KeyboardInterrupt:
        stream.close()
    print(f"\n\nkept: {len(stream.snapshot.text)} characters")
