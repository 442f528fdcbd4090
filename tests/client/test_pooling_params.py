"""The fields of the routes of pooling models: those of vLLM 0.33, each explained once."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import pytest

from vllm_client.params import RequestOptions, names, pooling
from vllm_client.resources.embeddings import Embeddings
from vllm_client.resources.pooling import Classify, Pooling
from vllm_client.resources.scoring import Rerank, Score

from .test_params import field_docstrings

# The fields of all request classes of a route: in vLLM's entrypoints/pooling, the annotated names
# of the classes of ``EmbeddingRequest``, ``TokenEmbeddingRequest`` and their like in protocol.py.
PINNED = Path(__file__).parents[1] / "data" / "fields"
ROUTES = [
    ("embeddings", Embeddings.create, pooling.EmbeddingParams),
    ("pooling", Pooling.create, pooling.PoolingParams),
    ("classify", Classify.create, pooling.ClassifyParams),
    ("score", Score.create, pooling.ScoreParams),
    ("rerank", Rerank.create, pooling.RerankParams),
]


@pytest.mark.parametrize(("route", "method", "kind"), ROUTES)
def test_fields_are_those_of_the_server(route: str, method: Any, kind: Any) -> None:
    """The keywords of each method are the fields of vLLM's request classes, all optional."""
    pinned = set((PINNED / f"{route}-0.33.txt").read_text().split())
    assert set(names(kind)) - set(names(RequestOptions)) == pinned
    assert kind.__required_keys__ == frozenset()
    shown = set(inspect.signature(method).parameters)
    assert shown - {"self", "batch_size"} == set(names(kind))


def test_every_field_is_explained_once() -> None:
    """Every field has a docstring, and no class repeats a field that it inherits."""
    tree = ast.parse(inspect.getsource(pooling))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    own = {name: field_docstrings(node) for name, node in classes.items()}
    for name, fields in own.items():
        if name not in {"LateChunking", "ScoredContent"}:
            assert all(fields.values()), name
        for base in classes[name].bases:
            assert isinstance(base, ast.Name)
            assert not set(fields) & set(own.get(base.id, ()))
