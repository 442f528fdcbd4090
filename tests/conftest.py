"""Fixtures for every test: a clean environment, a check for threads left over, and a server."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import Any, Iterator, List, Optional

import hypothesis
import pytest

from vllm_client import VllmClient
from vllm_client._decoding import fast_json, sse_fields, templates
from vllm_client._http import direct, framing

from .servers import Handler, Reply, Serve, Served, WireServer, replying
from .threads import WAIT

SHORTCUTS: List[Any] = [direct, framing, sse_fields, fast_json, templates]
"""Modules with a faster way beside the plain one; ``--plain`` switches the faster way off."""

# Tests must not fail because the machine is busy. The coverage gate must not depend on chance
# either: there Hypothesis tries the same examples each time.
CALM = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.register_profile("calm", CALM)
hypothesis.settings.register_profile("gate", CALM, derandomize=True)
hypothesis.settings.load_profile("gate" if os.environ.get("HYPOTHESIS_GATE") else "calm")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--plain", action="store_true", help="switch the faster ways off")


def pytest_configure(config: pytest.Config) -> None:
    # A shell without job control starts its background jobs deaf to Ctrl-C, and the programs that
    # the tests start and interrupt would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("--plain"):
        for shortcut in SHORTCUTS:
            shortcut.ENABLED = False


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """Hide the machine's proxies, keys, addresses and .netrc from the test."""
    for name in (
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "VLLM_API_KEY",
        "VLLM_BASE_URL",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
    ):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """Check that every thread the test started has ended."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(WAIT)
        assert not thread.is_alive(), f"the thread {thread.name} has not ended"


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server that sends exact bytes, and a client of it; both end with the test.

    The server answers successive requests with the replies, and further requests with the last
    one. A reply is a whole response in bytes, made by ``stream_bytes`` or ``json_bytes`` in
    ``recorded.py``. ``servers.py`` has replies that stall, break off or reset the connection.
    Keyword arguments go to ``VllmClient``::

        def test_a_stream_without_an_end_raises(serve: Serve) -> None:
            served = serve(stream_bytes(chunk("Hel")), max_retries=0)
            with served.client.completions.stream(prompt="x") as stream:
                with pytest.raises(StreamInterruptedError):
                    stream.collect()
            assert served.requests[0].json["prompt"] == "x"

    Where a test needs each byte of a connection, it passes a function of the connection as
    ``handler=``, and no replies. ``tls=`` is the ``SSLContext`` of a server with TLS.
    """
    with contextlib.ExitStack() as stack:

        def start(
            *replies: Reply, handler: Optional[Handler] = None, tls: Any = None, **settings: Any
        ) -> Served:
            server = stack.enter_context(WireServer(handler or replying(*replies), tls))
            client = stack.enter_context(VllmClient(server.base_url, **settings))
            return Served(server, client)

        yield start
