"""The server of the examples: VLLM_BASE_URL if it is set, or else the embedded server."""

from __future__ import annotations

import contextlib
import os
from typing import Iterator

from vllm_client import VllmClient
from vllm_client.testing import FakeServer


@contextlib.contextmanager
def connected() -> Iterator[VllmClient]:
    """Yield a client of that server."""
    with contextlib.ExitStack() as stack:
        base_url = os.environ.get("VLLM_BASE_URL")
        if not base_url:
            base_url = stack.enter_context(FakeServer()).base_url
        yield stack.enter_context(VllmClient(base_url))
