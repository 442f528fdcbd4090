"""Embeddings of many inputs, in the client's process."""

# ruff: noqa: PLC0415 — a process imports only the library that it measures

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List

from ..clients import OURS, hide_orjson

OPENAI, BY_NUMPY, BY_BASE64 = "openai", f"{OURS}, to_numpy()", f"{OURS}, base64"
Read = Callable[[List[str]], List[float]]
"""Requests the embeddings of some inputs, and returns the last number of each."""


def _ours(url: str, **fields: Any) -> Read:
    hide_orjson()
    from vllm_client import VllmClient

    client = VllmClient(url)

    def read(inputs: List[str]) -> List[float]:
        response = client.embeddings.create(input=inputs, model="m", **fields)
        return [each.embedding[-1] for each in response.data]

    return read


def _by_base64(url: str) -> Read:
    return _ours(url, encoding_format="base64")


def _by_numpy(url: str) -> Read:
    hide_orjson()
    from vllm_client import VllmClient

    client = VllmClient(url)

    def read(inputs: List[str]) -> List[float]:
        array = client.embeddings.create(input=inputs, model="m").to_numpy()
        last: List[float] = array[:, -1].tolist()
        return last

    return read


def _openai(url: str) -> Read:
    from openai import OpenAI

    client = OpenAI(base_url=url, api_key="key")

    def read(inputs: List[str]) -> List[float]:
        response = client.embeddings.create(input=inputs, model="m")
        return [each.embedding[-1] for each in response.data]

    return read


READERS: Dict[str, Callable[[str], Read]] = {
    OURS: _ours,
    BY_NUMPY: _by_numpy,
    BY_BASE64: _by_base64,
    OPENAI: _openai,
}


def embeddings(name: str, server: str, inputs: int, dimensions: int) -> Dict[str, Any]:
    """Return the CPU time of one call for many inputs, and what it read."""
    read = READERS[name](f"{server}/vectors/{dimensions}/v1")
    texts = ["text"] * inputs
    for _ in range(5):  # Until the allocator keeps what a call needs.
        read(texts)
    calls = 10
    cpu = time.process_time()
    for _ in range(calls):
        last = read(texts)
    return {"cpu_ms": (time.process_time() - cpu) / calls * 1e3, "last": last}
