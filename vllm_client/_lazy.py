"""Packages that import a module when one of its names is first used.

Importing the package does not import chat or asyncio; their first use does.
"""

from __future__ import annotations

import importlib
import sys
from typing import Callable, Dict


def names_of(package: str, homes: Dict[str, str]) -> Callable[[str], object]:
    """Return the ``__getattr__`` of a package (PEP 562).

    Args:
        package: The name of the package.
        homes: Maps each module of the package to the names that the package exports from it,
            separated by spaces.
    """
    home_of = {name: home for home, names in homes.items() for name in names.split()}
    modules = {home.partition(".")[0] for home in homes}

    def get(name: str) -> object:
        if name in home_of:
            value: object = getattr(importlib.import_module(f"{package}.{home_of[name]}"), name)
            setattr(sys.modules[package], name, value)
            return value
        if name in modules:
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return get
