"""The fields of ``client.responses``: those of vLLM 0.33, visible in signatures and in help()."""

from __future__ import annotations

import ast
import inspect
import pydoc
from pathlib import Path
from typing import Any

import pytest

from vllm_client.params import RequestOptions, names, responses
from vllm_client.params.responses import ResponseParams
from vllm_client.resources.responses import Responses

# The fields of ResponsesRequest of vLLM 0.33 (vllm/entrypoints/openai/responses/protocol.py),
# without ``stream``, which is a parameter of its own.
PINNED = Path(__file__).parents[1] / "data" / "fields" / "responses-0.33.txt"
METHODS = [Responses.create, Responses.stream]


def test_fields_are_those_of_the_server() -> None:
    """The keywords are exactly the fields of vLLM's request class, none of them required."""
    fields = set(names(ResponseParams)) - set(names(RequestOptions))
    assert fields == set(PINNED.read_text().split())
    assert ResponseParams.__required_keys__ == frozenset()


@pytest.mark.parametrize("method", METHODS)
def test_signature_and_help_show_every_field(method: Any) -> None:
    """inspect.signature() and help() show every field as a keyword with its type."""
    shown = inspect.signature(method).parameters
    assert set(shown) - set(names(ResponseParams)) <= {"self", "stream", "on_error"}
    assert set(list(shown)[-3:]) == set(names(RequestOptions))
    assert shown["max_output_tokens"].annotation == "int"
    text = pydoc.plain(pydoc.render_doc(method))
    assert [name for name in names(ResponseParams) if f" {name}: " not in text] == []


def test_every_field_is_explained() -> None:
    """Every field has a docstring."""
    tree = ast.parse(inspect.getsource(responses))
    node = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "ResponseParams")
    body = node.body[1:]
    for statement, following in zip(body[::2], body[1::2]):
        assert isinstance(statement, ast.AnnAssign)
        assert isinstance(following, ast.Expr)
        assert isinstance(following.value, ast.Constant)
        assert str(following.value.value).endswith(".")
    assert len(body) == 2 * len(PINNED.read_text().split())
