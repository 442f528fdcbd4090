"""The cost of having a library installed: import time, disk space, number of distributions."""

from __future__ import annotations

import resource
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Dict, Set

from pip._vendor.packaging.requirements import Requirement  # Installed with pip.

from .processes import CHECKOUT, ENVIRONMENT


def import_cpu(statement: str) -> float:
    """Return the CPU milliseconds of a fresh interpreter, including its own start."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", statement], cwd=CHECKOUT, env=ENVIRONMENT, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3


def installed(*distributions: str) -> Dict[str, float]:
    """Return number and size of these distributions and of all that they require."""
    found: Set[str] = set()
    for name in distributions:
        _add_requirements(name, found)
    return {"distributions": len(found), "megabytes": sum(map(_size, found)) / 1e6}


def _add_requirements(name: str, found: Set[str]) -> None:
    name = name.lower().replace("_", "-")
    if name in found:
        return
    try:
        required = metadata.distribution(name).requires or ()
    except metadata.PackageNotFoundError:
        return
    found.add(name)
    for requirement in map(Requirement, required):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            _add_requirements(requirement.name, found)


def _size(name: str) -> int:
    files = metadata.distribution(name).files or ()
    # Skip bytecode: not every installer creates it.
    paths = [Path(str(file.locate())) for file in files if file.suffix != ".pyc"]
    return sum(path.stat().st_size for path in paths if path.exists())


def own_size() -> float:
    """Return the megabytes of our package in this checkout."""
    package = CHECKOUT / "vllm_client"
    return sum(path.stat().st_size for path in package.rglob("*") if _is_source(path)) / 1e6


def _is_source(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts
