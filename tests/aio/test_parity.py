"""Parity: every public name of the synchronous client has an asynchronous twin."""

from __future__ import annotations

import inspect
from typing import Any, Iterator, List, Tuple

import pytest

from vllm_client import AsyncBatchRows, AsyncStream, AsyncVllmClient, BatchRows, VllmClient
from vllm_client.streams import Stream

TWINS = {
    "close": "aclose",
    "__enter__": "__aenter__",
    "__exit__": "__aexit__",
    "__iter__": "__aiter__",
    "__next__": "__anext__",
}


PACKAGES = ("vllm_client.resources", "vllm_client.batch", "vllm_client.evaluate")
"""Where the classes of resources are."""
_BATCHES = ("completions", "chat", "embeddings", "score", "rerank")
NOT_AWAITED = {"stream", "evaluate.loglikelihoods", *(f"batch.{name}" for name in _BATCHES)}
"""The methods whose twins return an asynchronous iterator at once."""


def public(kind: type) -> List[str]:
    return [name for name in dir(kind) if not name.startswith("_") or name in TWINS]


def resources(client: Any, path: Tuple[str, ...] = ()) -> Iterator[Tuple[str, ...]]:
    """The paths of all resources, such as ("chat", "completions")."""
    properties = [name for name, value in vars(type(client)).items() if isinstance(value, property)]
    for name in [*vars(client), *properties]:
        value = getattr(client, name)
        if type(value).__module__.startswith(PACKAGES) and name[0] != "_":
            yield (*path, name)
            yield from resources(value, (*path, name))


def at(client: Any, path: Tuple[str, ...]) -> Any:
    for name in path:
        client = getattr(client, name)
    return client


def shape(function: Any) -> List[Any]:
    """What makes two signatures equal: names, kinds, defaults and annotations."""
    parameters = inspect.signature(function).parameters.values()
    return [(each.name, each.kind, each.default, each.annotation) for each in parameters]


SYNC, ASYNC = VllmClient("http://127.0.0.1:9"), AsyncVllmClient("http://127.0.0.1:9")
PATHS = list(resources(SYNC))


def test_there_are_resources_to_compare() -> None:
    """The search finds the resources."""
    assert {("completions",), ("chat",), ("chat", "completions"), ("evaluate",)} <= set(PATHS)


@pytest.mark.parametrize("name", public(VllmClient))
def test_client(name: str) -> None:
    """Each name of the client has a twin with the same parameters."""
    twin = getattr(AsyncVllmClient, TWINS.get(name, name))
    if callable(getattr(VllmClient, name)):
        assert shape(getattr(VllmClient, name)) == shape(twin)


def test_constructor() -> None:
    """The asynchronous client has the same parameters, and ``max_calls``."""
    twin = [parameter for parameter in shape(AsyncVllmClient) if parameter[0] != "max_calls"]
    assert shape(VllmClient) == twin


@pytest.mark.parametrize("path", PATHS, ids=".".join)
def test_resources(path: Tuple[str, ...]) -> None:
    """Each method of a resource has a twin with its signature and docstring."""
    own, other = at(SYNC, path), at(ASYNC, path)
    for name in public(type(own)):
        method, twin = getattr(own, name), getattr(other, name)
        assert inspect.signature(method) == inspect.signature(twin)
        assert inspect.getdoc(method) == inspect.getdoc(twin)
        is_awaited = NOT_AWAITED.isdisjoint({name, ".".join([*path, name])})
        assert inspect.iscoroutinefunction(twin) == is_awaited


@pytest.mark.parametrize("name", public(Stream))
def test_streams(name: str) -> None:
    """Each name of a stream has a twin with the same parameters."""
    method, twin = getattr(Stream, name), getattr(AsyncStream, TWINS.get(name, name))
    if inspect.isfunction(method):
        assert shape(method) == shape(twin)


@pytest.mark.parametrize("name", public(BatchRows))
def test_batch_rows(name: str) -> None:
    """Each name of the rows of a run has a twin with the same parameters."""
    method, twin = getattr(BatchRows, name), getattr(AsyncBatchRows, TWINS.get(name, name))
    if inspect.isfunction(method) and name != "__exit__":
        assert shape(method)[1:] == shape(twin)[1:]
