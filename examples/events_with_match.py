"""The events of a stream in a ``match`` statement (Python 3.10 and later)."""

from __future__ import annotations

from _server import connected

from vllm_client import Done, FinishReason, Text, Usage

with connected() as client, client.completions.stream(prompt="A network is") as stream:
    for event in stream:
        match event:
            case Text(text):
                print(text, end="", flush=True)
            case FinishReason(reason):
                print(f"\nfinished: {reason}")
            case Usage(prompt_tokens, completion_tokens):
                print(f"{prompt_tokens} tokens in, {completion_tokens} out")
            case Done():
                print("complete")
