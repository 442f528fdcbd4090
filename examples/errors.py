"""Which errors to catch, and what they contain."""

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
        print(f"rejected: {error.message}")
    except APIConnectionError as error:
        print(f"no response: {error.message}")
    except VllmError as error:
        # If the stream was interrupted, the error contains what arrived before.
        print(f"interrupted: {error}; so far: {error.partial and error.partial.text!r}")

    try:
        misspelt: Any = {"max_token": 5}
        client.completions.create(prompt="Hello", **misspelt)
    except TypeError as error:
        print(error)
