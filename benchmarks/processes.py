"""Run the server and the clients, each in a process of its own."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List

CHECKOUT = Path(__file__).parent.parent
# Remove the variables that configure a client. A fixed hash seed makes sets iterate in the same
# order in every run.
_CONFIGURES_CLIENTS = re.compile("proxy$|^(openai|vllm|hf|python)_?", re.IGNORECASE)
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if not _CONFIGURES_CLIENTS.search(name)
}
ENVIRONMENT["PYTHONHASHSEED"] = "0"
_TIME_LIMIT = 900  # Seconds.
_REFS = re.compile(r"I\s+refs:\s+([\d,]+)")
VALGRIND = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]


class ClientError(Exception):
    """A client's process ended with an error."""


@contextmanager
def server(module: str = "benchmarks.replay_server") -> Iterator[str]:
    """Start a server and yield its base address."""
    process = subprocess.Popen(
        [sys.executable, "-m", module],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def in_process(function: str, *, before: List[str] = [], **arguments: Any) -> Any:  # noqa: B006
    """Call ``module:function`` of this package in a fresh interpreter, and return its result."""
    return json.loads(_run(function, before, arguments).stdout.splitlines()[-1])


def instructions(function: str, **arguments: Any) -> int:
    """Return the number of user-mode instructions of the whole process."""
    found = _REFS.search(_run(function, VALGRIND, arguments).stderr)
    if found is None:
        raise ClientError("valgrind did not print the number of instructions")
    return int(found[1].replace(",", ""))


def has_valgrind() -> bool:
    return shutil.which("valgrind") is not None


def _run(
    function: str, before: List[str], arguments: Dict[str, Any]
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.processes", function, json.dumps(arguments)]
    try:
        done = subprocess.run(
            [*before, *command],
            cwd=CHECKOUT,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIME_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ClientError(f"{function} has not ended after {_TIME_LIMIT} s") from None
    if done.returncode:
        raise ClientError(done.stderr.strip()[-2000:])
    return done


def main() -> None:
    """Run in the process that :func:`in_process` starts."""
    module, _, name = sys.argv[1].partition(":")
    function = getattr(importlib.import_module(f"benchmarks.{module}"), name)
    print(json.dumps(function(**json.loads(sys.argv[2]))), flush=True)
    os._exit(0)  # Do not wait for daemon threads and connection pools.


if __name__ == "__main__":
    main()
