"""One stream of many events: all at once, or each event in a read of its own."""

from __future__ import annotations

import hashlib
import time
from typing import Any, Dict, List

from .. import clients


def timed(name: str, server: str, mode: str, kind: str, events: int, number: int) -> Dict[str, Any]:
    """Read a stream and return its CPU and wall time. Runs in the client's process.

    ``number`` is the last one in the path of this mode; see ``replay_server``.
    """
    warm_up = 0 if mode == "alone" else number
    clients.read(name, _url(server, mode, 200, warm_up), kind, len)  # Imports, caches.
    return _measured(name, _url(server, mode, events, number), kind)


def counted(name: str, server: str, mode: str, kind: str, events: int, number: int = 0) -> str:
    """Read a stream without a warm-up. Runs under valgrind, which counts the whole process."""
    return str(_measured(name, _url(server, mode, events, number), kind)["digest"])


def _url(server: str, mode: str, events: int, number: int) -> str:
    return f"{server}/{mode}/{events}/{number}/v1"


def _measured(name: str, url: str, kind: str) -> Dict[str, Any]:
    texts: List[str] = []
    wall, cpu = time.perf_counter(), time.process_time()
    clients.read(name, url, kind, texts.append)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    # The digest proves that all clients have read the same text.
    return {"cpu": cpu, "wall": wall, "digest": hashlib.md5("".join(texts).encode()).hexdigest()}
