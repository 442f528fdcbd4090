"""What ``import vllm_client`` offers: every name is listed, importable and documented."""

from __future__ import annotations

import ast
import importlib
import importlib.util
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

# The names that every version must have.
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

NEEDED = {
    "vllm_client.cli._markdown": "rich",
    "vllm_client.cli._session": "prompt_toolkit",
    "vllm_client.contrib.lm_eval": "lm_eval",
}
"""The modules that need a library of an extra, which alone import it."""


def test_all_is_sorted() -> None:
    """``__all__`` is sorted and has no repetition."""
    assert sorted(set(NAMES)) == NAMES


def test_all_can_be_imported() -> None:
    """Every listed name exists, and ``import *`` imports exactly these names."""
    space: Dict[str, Any] = {}
    exec("from vllm_client import *", space)
    del space["__builtins__"]
    assert set(space) == set(NAMES)
    assert set(NAMES) >= PROMISED


def source_imports() -> List[Tuple[str, str]]:
    """The public names of the package, each with the module that the source imports it from."""
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
def test_lazy_names_are_those_of_the_source(name: str, module: str) -> None:
    """A type checker and a lazy import find the same object."""
    home = importlib.import_module(f"vllm_client.{module}")
    assert getattr(vllm_client, name) is getattr(home, name)


def test_modules_are_lazy_attributes() -> None:
    """A lazy package has its modules as attributes; other names are errors."""
    get = names_of("vllm_client", {"types.chat": "ChatCompletion", "events": ""})
    assert get("events") is importlib.import_module("vllm_client.events")
    assert get("types") is importlib.import_module("vllm_client.types")
    assert get("ChatCompletion") is vllm_client.ChatCompletion
    with pytest.raises(AttributeError, match="'vllm_client' has no attribute 'chat'"):
        get("chat")


def test_an_import_loads_no_more_than_is_used() -> None:
    """The package imports nothing heavy; the first client imports what it needs."""
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


def test_all_lists_what_the_source_imports() -> None:
    """The public names are exactly those that the source imports."""
    assert sorted(name for name, _ in source_imports()) == NAMES


def test_the_package_of_types_exports_its_modules() -> None:
    """``vllm_client.types`` exports every public class and alias that its modules define."""
    package = vllm_client.types
    assert sorted(set(package.__all__)) == package.__all__
    for found in pkgutil.iter_modules(package.__path__):
        if not is_public(found.name):
            continue
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
    """dir() lists the lazy names too."""
    assert set(dir(vllm_client)) >= set(NAMES)


def test_version() -> None:
    """The version is three numbers."""
    assert [number.isdecimal() for number in vllm_client.__version__.split(".")] == [True] * 3


def test_unknown_name() -> None:
    """An unknown name is an AttributeError."""
    assert not hasattr(vllm_client, "OpenAI")


def test_typed() -> None:
    """The package has the marker of typed packages."""
    assert Path(vllm_client.__file__).with_name("py.typed").exists()


def modules() -> List[Any]:
    """Every module but ``__main__``, which runs when it is imported, and adapters without host."""
    found = pkgutil.walk_packages(vllm_client.__path__, "vllm_client.")
    names = [one.name for one in found if not one.name.endswith("__main__")]
    for name, library in NEEDED.items():
        if importlib.util.find_spec(library) is None:
            names.remove(name)
    return [vllm_client, *map(importlib.import_module, names)]


def is_public(name: str) -> bool:
    return not name.startswith("_")


def members(path: str, owner: Any) -> Iterator[Tuple[str, Any]]:
    """The public methods and properties that a class defines itself."""
    for name, value in vars(owner).items():
        inner = getattr(value, "__func__", value)
        if is_public(name) and isinstance(inner, (types.FunctionType, property)):
            yield f"{path}.{name}", inner


def public_things() -> Iterator[Tuple[str, Any]]:
    """Modules, their public classes and functions, and the members of the classes."""
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
    """The search finds methods, properties and classes."""
    for path in ("client.VllmClient.with_options", "streams.base.Stream.snapshot", "events.Text"):
        assert f"vllm_client.{path}" in THINGS


@pytest.mark.parametrize("path", THINGS)
def test_documented(path: str) -> None:
    """Every public module, class, function, method and property has a docstring."""
    thing = THINGS[path]
    doc = thing.__doc__
    if isinstance(thing, type) and "__doc__" not in vars(thing):
        doc = None  # The docstring is inherited and describes another class.
    if isinstance(thing, types.FunctionType):
        doc = inspect.getdoc(thing)
    # attrs generates a docstring for a class without one.
    assert doc
    assert doc.strip()
    assert "Method generated by attrs" not in doc


IMPORTING = """
import os, sys

class Watched(type(os.environ)):
    def __getitem__(self, key):
        seen.append(str(key))
        return super().__getitem__(key)

    def get(self, key, default=None):
        seen.append(str(key))
        return super().get(key, default)

seen, happened = [], []
os.environ.__class__ = Watched
os.environ["VLLM_PROBE"] = "1"
assert os.environ.get("VLLM_PROBE") == os.environ["VLLM_PROBE"] == os.getenv("VLLM_PROBE") == "1"
assert seen.count("VLLM_PROBE") >= 3
del seen[:]
network = ("socket.connect", "socket.getaddrinfo", "socket.sendto", "urllib.Request",
           "subprocess.Popen", "os.system", "http.client.connect", "socket.gethostbyname")
ended = (".py", ".pyc", ".so", ".pyd", ".dll")

def hook(event, arguments):
    if event in network:
        happened.append((event, arguments))
    if event == "open" and "vllm" in str(arguments[0]) and not str(arguments[0]).endswith(ended):
        happened.append((event, arguments))

sys.addaudithook(hook)
import vllm_client
happened, calm = [], happened
ours = [name for name in seen if name.startswith("VLLM") or name in ("NETRC", "HTTP_PROXY")]
heavy = ("argparse", "asyncio", "IPython", "unittest", "vllm_client.cli", "vllm_client.testing")
heavy = [name for name in heavy if name in sys.modules]
print(repr((calm, ours, heavy)))
"""


def test_import_touches_nothing() -> None:
    """Importing the package reads no environment, file or network."""
    root = Path(vllm_client.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", IMPORTING], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "([], [], [])", done.stderr


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.__name__)
def test_public_modules_list_their_names(module: Any) -> None:
    """Every public module has ``__all__``, and every name in it exists."""
    if all(is_public(part) for part in module.__name__.split(".")):
        assert [name for name in module.__all__ if not hasattr(module, name)] == []
