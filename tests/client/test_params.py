"""The fields of requests: those of vLLM 0.33, visible in signatures and in help()."""

from __future__ import annotations

import ast
import inspect
import pydoc
import re
from pathlib import Path
from typing import Any, Dict, List, Set

import pytest

from vllm_client import params
from vllm_client.params import (
    ChatBatchParams,
    ChatCompletionParams,
    CompletionParams,
    RequestOptions,
    SamplingParams,
    names,
)
from vllm_client.resources.chat import ChatCompletions
from vllm_client.resources.completions import Completions

# The fields of the request classes of each version, without ``stream``, which is a parameter of its
# own: python -c "from vllm.entrypoints.openai.completion.protocol import CompletionRequest as R;
# print(*sorted(R.model_fields), sep='\n')"
PINNED = Path(__file__).parents[1] / "data" / "fields"
VERSIONS = ["0.32", "0.33"]
"""Of the first one only the fields that are gone would differ from the keywords."""
METHODS = [
    (Completions.create, CompletionParams),
    (Completions.stream, CompletionParams),
    (ChatCompletions.create, ChatCompletionParams),
    (ChatCompletions.stream, ChatCompletionParams),
    (ChatCompletions.batch, ChatBatchParams),
]
each_method = pytest.mark.parametrize(("method", "kind"), METHODS)
# Fields with the same name and another meaning in chat.
OF_EACH_KIND = {"max_tokens", "logprobs", "echo"}


def pinned(name: str, version: str = VERSIONS[-1]) -> Set[str]:
    return set((PINNED / f"{name}-{version}.txt").read_text().split())


def first_versions(kind: str) -> Dict[str, str]:
    """The first release with a field, of those since 0.8.5, read from the source of each."""
    lines = [line.split() for line in (PINNED / "since.txt").read_text().splitlines()]
    return {name: version for each, name, version in lines if each == kind}


def fields(kind: type) -> Set[str]:
    return set(names(kind)) - set(names(RequestOptions))


def test_completion_fields_are_those_of_the_server() -> None:
    """The keywords of completions are exactly the fields of vLLM's request class."""
    assert fields(CompletionParams) == pinned("completions")
    assert "stream" not in names(CompletionParams)


def test_chat_fields_are_those_of_the_server() -> None:
    """The keywords of chat are exactly the fields of vLLM's request class."""
    assert fields(ChatCompletionParams) == pinned("chat")


def test_common_fields_are_those_of_the_server() -> None:
    """The fields that completions and chat share are declared once."""
    both = pinned("completions") & pinned("chat")
    assert both - OF_EACH_KIND == fields(SamplingParams)
    assert both >= OF_EACH_KIND


@pytest.mark.parametrize("version", VERSIONS)
def test_fields_of_every_version_are_keywords(version: str) -> None:
    """A program for an earlier version of vLLM has all its fields."""
    assert pinned("completions", version) <= fields(CompletionParams)
    assert pinned("chat", version) <= fields(ChatCompletionParams)


@pytest.mark.parametrize(
    ("route", "kind"), [("completions", CompletionParams), ("chat", ChatCompletionParams)]
)
def test_each_field_names_the_version_that_brought_it(route: str, kind: type) -> None:
    """The documentation of a field names the first version of vLLM that has it."""
    noted = {name: since(text, route) for name, text in documentation(kind).items()}
    assert {name: version for name, version in noted.items() if version} == first_versions(route)
    new = pinned(route, VERSIONS[-1]) - pinned(route, VERSIONS[-2])
    assert new
    assert {noted[name] for name in new} == {VERSIONS[-1]}


@pytest.mark.parametrize(
    ("route", "kind"), [("completions", CompletionParams), ("chat", ChatCompletionParams)]
)
def test_fields_that_refuse_null_tell_so(route: str, kind: type) -> None:
    """The documentation of a field tells if the server refuses null for it."""
    noted = {
        name
        for name, text in documentation(kind).items()
        if re.search(r"Not\s+None", text) and not re.search(rf"None\s+in\s+(?!{route})", text)
    }
    assert noted == set((PINNED / f"{route}-not-null.txt").read_text().split())


@pytest.mark.parametrize(
    ("route", "kind"), [("completions", CompletionParams), ("chat", ChatCompletionParams)]
)
def test_none_is_a_value_where_the_server_accepts_null(route: str, kind: type) -> None:
    """Type checkers accept None where the server accepts null, and only there."""
    hints = {name: hint.__forward_arg__ for name, hint in kind.__annotations__.items()}
    optional = {name for name, hint in hints.items() if hint.startswith("Optional[")}
    refused = set((PINNED / f"{route}-not-null.txt").read_text().split())
    assert optional & refused == {"skip_special_tokens"}  # Since vLLM 0.33 it accepts null.
    required = {"prompt", "messages", *names(RequestOptions)}
    assert set(hints) - optional - refused - required <= {"n"}  # Completions refuse null for it.


def test_the_fields_of_sampling_are_explained_briefly() -> None:
    """The documentation of a field of both routes has one or two lines."""
    [sampling] = [node for node in classes() if node.name == "SamplingParams"]
    long = [name for name, text in field_docstrings(sampling).items() if text.count("\n") > 1]
    assert long == []


@pytest.mark.parametrize("kind", [CompletionParams, ChatCompletionParams, RequestOptions])
def test_every_field_may_be_left_out(kind: Any) -> None:
    """No field is required by its type."""
    assert kind.__required_keys__ == frozenset()
    assert len(names(kind)) == len(set(names(kind)))


@each_method
def test_signature_shows_every_field(method: Any, kind: Any) -> None:
    """inspect.signature() shows every field as a keyword with its type."""
    shown = inspect.signature(method).parameters
    assert set(names(kind)) <= set(shown)
    assert set(shown) - set(names(kind)) <= {"self", "stream", "on_error"}
    for name, parameter in shown.items():
        assert name == "self" or parameter.kind is inspect.Parameter.KEYWORD_ONLY
    hints = {name: shown[name].annotation for name in ("model", "stop", "max_tokens")}
    assert hints == {
        "model": "Optional[str]",
        "stop": "Optional[Union[str, Sequence[str]]]",
        "max_tokens": "Optional[int]",
    }


@each_method
def test_signature_ends_with_the_options(method: Any, kind: Any) -> None:
    """The options of the call follow the fields of the body."""
    shown = list(inspect.signature(method).parameters)
    assert set(shown[-3:]) == set(names(RequestOptions))


@each_method
def test_help_shows_every_field(method: Any, kind: Any) -> None:
    """help() shows every field with its type."""
    text = pydoc.plain(pydoc.render_doc(method))
    missing = [name for name in names(kind) if f" {name}: " not in text]
    assert missing == []


@each_method
def test_bound_method_shows_its_fields(method: Any, kind: Any) -> None:
    """The signature of a bound method has every field and no self."""
    bound = method.__get__(object())
    shown = inspect.signature(bound).parameters
    assert "self" not in shown
    assert set(names(kind)) <= set(shown)


def field_docstrings(node: ast.ClassDef) -> Dict[str, str]:
    """Each annotated name of a class body, and the docstring that follows it, or nothing."""
    found = {}
    for statement, following in zip(node.body, [*node.body[1:], None]):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            has_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            found[statement.target.id] = str(following.value.value).strip() if has_text else ""
    return found


def documentation(kind: type) -> Dict[str, str]:
    """The docstring of each field of a request."""
    texts: Dict[str, str] = {}
    shared = (
        {"SamplingParams", "ChatParams"} if kind is ChatCompletionParams else {"SamplingParams"}
    )
    for node in classes():
        if node.name in {*shared, kind.__name__}:
            texts.update(field_docstrings(node))
    return texts


SINCE = re.compile(r"Since\s+vLLM\s+([\d.]+\d)(?:\s+in\s+(\w+)(?:,\s+([\d.]+)\s+in\s+(\w+))?)?\.")


def since(text: str, route: str) -> str:
    """The version in which a field came to a route, as its docstring tells; empty if always."""
    found = SINCE.search(text)
    if not found:
        return ""
    version, first, other, second = found.groups()
    return {first: version, second: other}.get(route, "") if first else version


def classes() -> List[ast.ClassDef]:
    tree = ast.parse(inspect.getsource(params))
    return [node for node in tree.body if isinstance(node, ast.ClassDef)]


def test_every_field_is_explained() -> None:
    """Every field of a request has a docstring."""
    # Each of these is the value of a field, and is described in its docstring.
    values = {"StreamOptions", "StructuredOutputs", "RepetitionDetection"}
    seen: Set[str] = set()
    for node in classes():
        found = field_docstrings(node)
        seen |= set(found)
        if node.name not in values:
            assert [name for name, explained in found.items() if not explained] == []
    assert set(names(CompletionParams)) | set(names(ChatCompletionParams)) <= seen


def test_every_field_is_written_once() -> None:
    """No field is declared both in a class and in one that inherits from it."""
    own = {node.name: set(field_docstrings(node)) for node in classes()}
    for name in ("CompletionParams", "ChatParams"):
        assert not own[name] & (own["SamplingParams"] | own["RequestOptions"])
    for name in ("ChatCompletionParams", "ChatBatchParams"):
        assert own[name] == {"messages"}
    assert not own["SamplingParams"] & own["RequestOptions"]
