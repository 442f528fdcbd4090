"""What ``import vllm_client`` offers: every name is listed, importable and documented."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
import types
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest

import vllm_client
from vllm_client._lazy import names_of

NAMES = vllm_client.__all__

# The names that DESIGN.md promises; the others follow from its tables.
PROMISED = {
    "CompletionStreamEvent",
    "Done",
    "Error",
    "FinishReason",
    "Text",
    "Timeout",
    "Usage",
    "VllmClient",
    "VllmError",
    "__version__",
}


def test_all_is_sorted() -> None:
    """``__all__`` is in order and without repetition."""
    assert sorted(set(NAMES)) == NAMES


def test_all_can_be_imported() -> None:
    """Every listed name is there, and ``import *`` gives exactly those."""
    space: Dict[str, Any] = {}
    exec("from vllm_client import *", space)
    del space["__builtins__"]
    assert set(space) == set(NAMES)
    assert set(NAMES) >= PROMISED


def source_imports() -> List[Tuple[str, str]]:
    """The public names of the package and the modules its source says they come from."""
    tree = ast.parse(Path(vllm_client.__file__).read_text())
    blocks = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.If))]
    return [
        (alias.asname or alias.name, str(node.module))
        for block in blocks
        for node in block
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module != "_lazy"
        for alias in node.names
    ]


@pytest.mark.parametrize(("name", "module"), source_imports())
def test_names_come_from_where_the_source_says(name: str, module: str) -> None:
    """What a type checker reads and what is imported with the first use are the same object."""
    home = importlib.import_module(f"vllm_client.{module}")
    assert getattr(vllm_client, name) is getattr(home, name)


def test_modules_come_with_the_first_use_too() -> None:
    """A module of a package is an attribute of it; what is neither name nor module is an error."""
    get = names_of("vllm_client", {"types.chat": "ChatCompletion", "events": ""})
    assert get("events") is importlib.import_module("vllm_client.events")
    assert get("types") is importlib.import_module("vllm_client.types")
    assert get("ChatCompletion") is vllm_client.ChatCompletion
    with pytest.raises(AttributeError, match="'vllm_client' has no attribute 'chat'"):
        get("chat")


def test_an_import_brings_no_more_than_is_used() -> None:
    """The package alone imports nothing heavy, the first client all it will need."""
    program = """
import sys
import vllm_client
assert not {"requests", "attrs", "sseclient"} & set(sys.modules)
vllm_client.exceptions.VllmError
assert "requests" not in sys.modules
from vllm_client import VllmClient
assert "requests" in sys.modules
assert not [name for name in sys.modules if name.startswith("vllm_client.resources")]
vllm_client.types.messages, vllm_client.resources._media
VllmClient("http://localhost:1")
assert {"vllm_client.resources.chat", "vllm_client.resources.completions"} <= set(sys.modules)
assert not {"asyncio", "vllm_client.aio"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_all_is_what_the_source_imports() -> None:
    """What is imported for the users is listed, and no listed name is made up on the fly."""
    assert sorted(name for name, _ in source_imports()) == NAMES


def test_the_package_of_types_exports_its_modules() -> None:
    """``vllm_client.types`` exports every public class and alias that its modules define."""
    package = vllm_client.types
    assert sorted(set(package.__all__)) == package.__all__
    for found in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"vllm_client.types.{found.name}")
        classes = {
            name
            for name, value in vars(module).items()
            if is_public(name) and getattr(value, "__module__", None) == module.__name__
        }
        assert classes <= set(module.__all__)
        assert set(module.__all__) <= set(package.__all__)
        for name in module.__all__:
            assert getattr(package, name) is getattr(module, name)
    assert set(dir(package)) >= set(package.__all__)


def test_lazy_names_are_listed() -> None:
    """Names that are imported on first use are offered like the others, by completion too."""
    assert set(dir(vllm_client)) >= set(NAMES)


def test_version() -> None:
    """The version is three numbers."""
    assert [number.isdecimal() for number in vllm_client.__version__.split(".")] == [True] * 3


def test_unknown_name() -> None:
    """A name that is not there is an AttributeError, as in any module."""
    assert not hasattr(vllm_client, "OpenAI")


def test_typed() -> None:
    """The package says that it is typed."""
    assert Path(vllm_client.__file__).with_name("py.typed").exists()


def modules() -> List[Any]:
    """Every module of the package but ``__main__``, which runs when it is imported."""
    found = pkgutil.walk_packages(vllm_client.__path__, "vllm_client.")
    return [
        vllm_client,
        *(importlib.import_module(one.name) for one in found if not one.name.endswith("__main__")),
    ]


def is_public(name: str) -> bool:
    return not name.startswith("_")


def members(path: str, owner: Any) -> Iterator[Tuple[str, Any]]:
    """What a class defines itself under public names: methods, properties and classes."""
    for name, value in vars(owner).items():
        inner = getattr(value, "__func__", value)
        if is_public(name) and isinstance(inner, (types.FunctionType, property)):
            yield f"{path}.{name}", inner


def public_things() -> Iterator[Tuple[str, Any]]:
    """Modules, the public classes and functions in them, and the members of the classes."""
    for module in modules():
        yield module.__name__, module
        for name, value in vars(module).items():
            is_own = getattr(value, "__module__", None) == module.__name__
            if is_public(name) and is_own and isinstance(value, (type, types.FunctionType)):
                path = f"{module.__name__}.{name}"
                yield path, value
                if isinstance(value, type):
                    yield from members(path, value)


THINGS = dict(public_things())


def test_things_are_found() -> None:
    """The walk finds what there is."""
    for path in ("client.VllmClient.with_options", "streams.Stream.snapshot", "events.Text"):
        assert f"vllm_client.{path}" in THINGS


@pytest.mark.parametrize("path", THINGS)
def test_documented(path: str) -> None:
    """Every public module, class, function, method and property says what it is for."""
    thing = THINGS[path]
    doc = thing.__doc__
    if isinstance(thing, type) and "__doc__" not in vars(thing):
        doc = None  # Inherited: it would speak of another class.
    if isinstance(thing, types.FunctionType):
        doc = inspect.getdoc(thing)
    # attrs makes a docstring of the arguments for a class without one.
    assert doc
    assert doc.strip()
    assert "Method generated by attrs" not in doc
