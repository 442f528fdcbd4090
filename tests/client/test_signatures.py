"""What help(), Shift-Tab and completion in a notebook tell about the keywords of a method."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import pydoc
import subprocess
import sys
import types
from typing import Any, List, Tuple

import pytest

import vllm_client.params
from vllm_client import AsyncVllmClient, CompletionParams, VllmClient
from vllm_client._request import takes
from vllm_client.params import CallParams, ChatBatchParams, ChatCompletionParams, StreamOptions
from vllm_client.params.documentation import documentation


def names_of(method: Any) -> List[str]:
    return list(inspect.signature(method).parameters)


def test_what_everybody_sets_stands_first() -> None:
    """The prompt, model, max_tokens, temperature and stop stand first, options of the call last."""
    client = VllmClient()
    first = ["model", "max_tokens", "temperature", "stop"]
    assert names_of(client.completions.create)[:7] == ["prompt", *first, "stream", "top_p"]
    assert names_of(client.completions.stream)[:6] == ["prompt", *first, "on_error"]
    assert names_of(client.chat.completions.create)[:5] == ["messages", *first]
    options = ["extra_headers", "timeout", "extra_body"]
    assert names_of(client.chat.completions.create)[-3:] == options
    assert names_of(client.tokenizer.tokenize)[:3] == ["prompt", "messages", "model"]
    assert names_of(AsyncVllmClient().completions.create)[:3] == ["prompt", "model", "max_tokens"]


def each_params() -> List[Tuple[str, Any]]:
    package = vllm_client.params
    names = [f"{package.__name__}.{each.name}" for each in pkgutil.iter_modules(package.__path__)]
    modules = [package, *map(importlib.import_module, names)]
    return [
        (name, value)
        for module in modules
        for name, value in vars(module).items()
        if name.endswith("Params") and value.__module__ == module.__name__
    ]


@pytest.mark.parametrize(("name", "params"), each_params())
def test_every_field_is_documented(name: str, params: Any) -> None:
    """Each keyword of each method has documentation at run time, in plain characters."""
    documented = documentation(params)
    assert documented.keys() == params.__annotations__.keys()
    assert [text for text in documented.values() if '"""' in text or not text.strip()] == []


def test_a_field_has_the_documentation_of_its_route() -> None:
    """A field that two routes have with different meanings is documented for each."""
    assert documentation(CompletionParams)["max_tokens"].endswith("Default 16.")
    assert documentation(ChatBatchParams)["messages"].startswith("The conversations")
    assert "max_completion_tokens" in documentation(ChatCompletionParams)["max_tokens"]
    assert documentation(CompletionParams)["cache_salt"].startswith("1 to 128 characters, none of")
    assert "``@ / \\``" in documentation(CompletionParams)["cache_salt"]
    assert documentation(StreamOptions) == {}


def test_help_explains_each_field() -> None:
    """help() of a method has the documentation of its fields, and is well indented."""
    client = VllmClient()
    for method in (client.completions.create, client.chat.completions.stream):
        text = pydoc.plain(pydoc.render_doc(method))
        assert "temperature: 0 (greedy) or more. Default 1 or the model's." in text
        assert "**params" not in inspect.getdoc(method)
    lines = inspect.getdoc(client.completions.create).splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("    top_p: "))
    assert lines[at + 1].startswith("        probability.")
    assert "timeout: Seconds," in inspect.getdoc(client.models.list)


def test_a_method_of_a_module_without_source() -> None:
    """Without sources the fields have no documentation, and nothing fails."""
    module = types.ModuleType("frozen_module")
    params: Any = type("FrozenParams", (), {"__module__": module.__name__})
    sys.modules[module.__name__] = module
    try:
        assert documentation(params) == {}
    finally:
        del sys.modules[module.__name__]


def test_without_docstrings() -> None:
    """With ``python -OO`` there are no docstrings, and the signatures are the same."""
    code = "from vllm_client import VllmClient; import inspect; c = VllmClient().completions;"
    code += "assert c.create.__doc__ is None; print(*list(inspect.signature(c.create).parameters))"
    run = [sys.executable, "-OO", "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert done.stdout.split() == names_of(VllmClient().completions.create)


def test_a_method_without_a_docstring() -> None:
    """A method without a docstring, as all are with ``python -OO``, keeps none."""

    @takes(CallParams)
    def method(self: object, **params: Any) -> None:
        raise NotImplementedError

    assert method.__doc__ is None
    assert names_of(method) == ["self", "extra_headers", "timeout"]


def test_documentation_is_inherited() -> None:
    """The options of every call are documented for each method."""
    assert documentation(CompletionParams).items() >= documentation(CallParams).items()


def test_jedi_in_a_notebook_explains_the_fields() -> None:
    """Completion in a notebook, which asks jedi, names the keywords; its help explains them."""
    jedi = pytest.importorskip("jedi")
    code = "client.completions.stream("
    notebook = jedi.Interpreter(f"{code}temp", [{"client": VllmClient()}])
    assert [each.name for each in notebook.complete()] == ["temperature="]
    (signature,) = jedi.Interpreter(code, [{"client": VllmClient()}]).get_signatures()
    assert [each.name for each in signature.params[:3]] == ["prompt", "model", "max_tokens"]
    assert "temperature: 0 (greedy) or more." in signature.docstring()
