"""The documentation of fields at run time, for ``help()`` and for Shift-Tab in a notebook.

Python keeps no docstring of a field of a TypedDict, so they are read from the source.
"""

from __future__ import annotations

import functools
import re
import sys
from typing import Any, Dict, List, Tuple

__all__ = ["documentation"]

# Measured: a fifth of the time of ast.parse(), and a client waits for it.
_CLASS_OR_FIELD = re.compile(
    r"^class (\w+)\(([\w, ]+?)(?:, total=False)?\):|"
    # A long type stands on several lines, indented further.
    r'^    (\w+): .+\n(?:     .+\n|    \]\n)*    """((?s:.+?))"""',
    re.MULTILINE,
)


@functools.cache
def documentation(params: type) -> Dict[str, str]:
    """Return the documentation of each field of a TypedDict, inherited ones included.

    It is empty in an installation without sources.
    """
    module = sys.modules[params.__module__]
    bases, own = _classes_in(params.__module__).get(params.__name__, ([], {}))
    found: Dict[str, str] = {}
    for base in bases:
        if base != "TypedDict":
            found.update(documentation(getattr(module, base)))
    return {**found, **own}


@functools.cache
def _classes_in(module_name: str) -> Dict[str, Tuple[List[str], Dict[str, str]]]:
    """The classes in the source of a module: their bases, and the documentation of their fields."""
    classes: Dict[str, Tuple[List[str], Dict[str, str]]] = {}
    own: Dict[str, str] = {}
    for name, bases, field, text in _CLASS_OR_FIELD.findall(_source(module_name)):
        if name:
            own = {}
            classes[name] = (bases.split(", "), own)
        else:
            own[field] = text.replace("\\\\", "\\")
    return classes


def _source(module_name: str) -> str:
    spec: Any = sys.modules[module_name].__spec__
    try:
        data: bytes = spec.loader.get_data(spec.origin)  # From a zip file too.
        return data.decode()
    except (AttributeError, OSError, UnicodeDecodeError):  # Perhaps there is only bytecode.
        return ""
