"""The reasoning of a model, separate from its answer."""

from __future__ import annotations

from _server import connected

with (
    connected() as client,
    client.chat.completions.stream(
        messages=[{"role": "user", "content": "How does a model learn?"}],
        chat_template_kwargs={"enable_thinking": True},
        max_tokens=120,
    ) as stream,
):
    shown = ""
    for event in stream:
        if event.type == "reasoning" or event.type == "content":
            if event.type != shown:
                shown = event.type
                print(f"\n--- {shown} ---")
            print(event.text, end="", flush=True)
    print()
