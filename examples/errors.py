"""What to catch, and what an error knows."""

from __future__ import annotations

from typing import Any

from _server import connected

from vllm_client import APIConnectionError, APIStatusError, ModelNotFoundError, VllmError

with connected() as client:
    try:
        client.completions.create(model="no-such-model", prompt="Hello")
    except ModelNotFoundError as error:
        print(f"status {error.status_code}, field {error.param}: {error.message}")

    try:
        with client.completions.stream(prompt="Hello", temperature=-1) as stream:
            print(stream.collect_text())
    except APIStatusError as error:
        print(f"refused: {error.message}")
    except APIConnectionError as error:
        print(f"no answer: {error.message}")
    except VllmError as error:
        # Raised in mid-stream: what had arrived is there.
        print(f"broken off: {error}; so far: {error.partial and error.partial.text!r}")

    try:
        misspelt: Any = {"max_token": 5}
        client.completions.create(prompt="Hello", **misspelt)
    except TypeError as slip:
        print(slip)
