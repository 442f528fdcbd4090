"""Packages whose names are imported when they are used first.

Who needs no chat and no asyncio does not wait for them at the import of the package.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any, Callable, Dict


def names_of(package: str, homes: Dict[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package (PEP 562).

    Args:
        package: Its name.
        homes: For each of its modules the names it gives to the package, with spaces between.
    """
    home_of = {name: home for home, names in homes.items() for name in names.split()}
    modules = {home.partition(".")[0] for home in homes}

    def get(name: str) -> Any:
        if name in home_of:
            value = getattr(importlib.import_module(f"{package}.{home_of[name]}"), name)
            setattr(sys.modules[package], name, value)
            return value
        if name in modules:
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return get
