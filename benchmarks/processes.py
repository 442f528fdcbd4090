"""The server and the clients, each in a process of its own."""

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
from typing import Any, Iterator, List

CHECKOUT = Path(__file__).parent.parent
# Nothing of the user's that a client would heed; the same hashes, and so orders, in every run.
_HEEDED = re.compile("proxy$|^(openai|vllm|hf|python)_?", re.IGNORECASE)
ENVIRONMENT = {name: value for name, value in os.environ.items() if not _HEEDED.search(name)}
ENVIRONMENT["PYTHONHASHSEED"] = "0"
_LONGEST = 900
_REFS = re.compile(r"I\s+refs:\s+([\d,]+)")
VALGRIND = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]


class ClientError(Exception):
    """A client's process ended with an error."""


@contextmanager
def server() -> Iterator[str]:
    """Start the replay server; gives its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.replay_server"],
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


def in_process(work: str, *, before: List[str] = [], **arguments: Any) -> Any:  # noqa: B006
    """Call ``module:function`` of this package in a fresh interpreter; gives what it returns."""
    return json.loads(_run(work, before, arguments).stdout.splitlines()[-1])


def instructions(work: str, **arguments: Any) -> int:
    """User-mode instructions of the whole process."""
    found = _REFS.search(_run(work, VALGRIND, arguments).stderr)
    if found is None:
        raise ClientError("valgrind did not say how many instructions there were")
    return int(found[1].replace(",", ""))


def has_valgrind() -> bool:
    return shutil.which("valgrind") is not None


def _run(work: str, before: List[str], arguments: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.processes", work, json.dumps(arguments)]
    try:
        done = subprocess.run(
            [*before, *command],
            cwd=CHECKOUT,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LONGEST,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ClientError(f"{work} has not ended after {_LONGEST} s") from None
    if done.returncode:
        raise ClientError(done.stderr.strip()[-2000:])
    return done


def main() -> None:
    """The other side of :func:`in_process`."""
    module, _, name = sys.argv[1].partition(":")
    work = getattr(importlib.import_module(f"benchmarks.{module}"), name)
    print(json.dumps(work(**json.loads(sys.argv[2]))), flush=True)
    os._exit(0)  # Daemon threads and connection pools take their time to end.


if __name__ == "__main__":
    main()
