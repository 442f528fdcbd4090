"""Requests that are not streamed, with small responses or a huge one, in the client's process."""

# ruff: noqa: PLC0415 — a process imports only the library that it measures

from __future__ import annotations

import json
import time
from typing import Callable, Dict
from urllib.parse import urlsplit

from .. import recorded_streams
from ..clients import BODIES, OURS, OURS_FAST, hide_orjson

Call = Callable[[], object]
_BODY = BODIES[recorded_streams.COMPLETIONS]


def _ours(url: str) -> Call:
    hide_orjson()
    return _ours_fast(url)


def _ours_fast(url: str) -> Call:
    from vllm_client import VllmClient

    client = VllmClient(url)
    return lambda: client.completions.create(**_BODY).text


def _openai(url: str) -> Call:
    from openai import OpenAI

    client = OpenAI(base_url=url, api_key="key")
    return lambda: client.completions.create(**_BODY).choices[0].text


def _http_client(url: str) -> Call:
    import http.client

    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    headers = {"Content-Type": "application/json"}

    def call() -> object:
        connection.request("POST", parts.path + "/completions", json.dumps(_BODY), headers)
        return json.loads(connection.getresponse().read())["choices"][0]["text"]

    return call


def _urllib3(url: str) -> Call:
    import urllib3

    pool = urllib3.PoolManager()
    return lambda: pool.request("POST", url + "/completions", json=_BODY).json()["choices"][0]


def _requests(url: str) -> Call:
    import requests

    session = requests.Session()
    return lambda: session.post(url + "/completions", json=_BODY).json()["choices"][0]["text"]


def _httpx(url: str) -> Call:
    import httpx

    client = httpx.Client()
    return lambda: client.post(url + "/completions", json=_BODY).json()["choices"][0]["text"]


CALLERS: Dict[str, Callable[[str], Call]] = {
    "http.client": _http_client,
    "urllib3": _urllib3,
    OURS: _ours,
    OURS_FAST: _ours_fast,
    "httpx": _httpx,
    "requests Session.post": _requests,
    "openai": _openai,
}
NEEDS = {"urllib3": "urllib3", "httpx": "httpx", "requests Session.post": "requests"}
NEEDS["openai"] = "openai"


def small(name: str, server: str, calls: int) -> Dict[str, float]:
    """Return the CPU time of one call with a response of about 600 bytes."""
    call = CALLERS[name](f"{server}/answer/0/v1")
    for _ in range(20):
        call()
    cpu = time.process_time()
    for _ in range(calls):
        call()
    return {"cpu_us": (time.process_time() - cpu) / calls * 1e6}


def huge(name: str, server: str, tokens: int) -> Dict[str, float]:
    """Return the CPU time of one response with the log-probabilities of many tokens."""
    CALLERS[name](f"{server}/answer/1/v1")()
    call = CALLERS[name](f"{server}/answer/{tokens}/v1")
    call()
    cpu = time.process_time()
    call()
    return {"cpu_ms": (time.process_time() - cpu) * 1e3}


def json_alone(tokens: int) -> Dict[str, float]:
    """Return the CPU time of ``json.loads`` on the bytes of that response."""
    body = recorded_streams.answer(tokens)
    json.loads(body)
    cpu = time.process_time()
    json.loads(body)
    return {"cpu_ms": (time.process_time() - cpu) * 1e3, "megabytes": len(body) / 1e6}
