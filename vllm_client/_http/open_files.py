"""How many connections a process may open: each takes a file of the operating system."""

from __future__ import annotations

from typing import Optional

__all__ = ["most_connections"]


def most_connections() -> Optional[int]:
    """How many connections fit into the limit of open files, 1 or more; None without a limit.

    An eighth of the limit and 16 files are left to the rest of the program. Files that are open
    now are not counted, because many of them may be idle connections of the same client.
    """
    try:
        import resource  # noqa: PLC0415 — Windows has neither the module nor the limit.
    except ImportError:
        return None
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    return max(limit - limit // 8 - 16, 1)
