"""Ctrl-C in a notebook: a real kernel is interrupted in the middle of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Iterator, Tuple

import pytest

from vllm_client.batch._store import errors_path

from ..servers import Connection, WireServer
from ..threads import Tally, wait_until
from .answering import Answering

manager = pytest.importorskip(
    "jupyter_client.manager", reason="needs jupyter_client and ipykernel, of the extra dev"
)
pytest.importorskip("ipykernel", reason="needs ipykernel, of the extra dev")

START = "import threading, time\nfrom vllm_client import VllmClient\nclient = VllmClient({!r})"
THREADS = "[each.name for each in threading.enumerate() if each.name[:4] in ('vllm', 'TMon')]"
LONG = 60.0


class Kernel:
    """A kernel that runs one cell at a time."""

    def __init__(self) -> None:
        self._kernel = manager.KernelManager(kernel_name="python3")
        self._kernel.start_kernel(extra_arguments=["--log-level=50"])
        self._client = self._kernel.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=LONG)

    def begin(self, cell: str) -> None:
        self._cell = self._client.execute(cell)

    def interrupt(self) -> None:
        self._kernel.interrupt_kernel()

    def end(self) -> Tuple[str, str]:
        """Wait for the end of the cell. Returns the name of its error, and what it printed."""
        printed = ""
        while True:
            message = self._client.get_iopub_msg(timeout=LONG)
            content = message["content"]
            if message["parent_header"].get("msg_id") != self._cell:
                continue
            if message["msg_type"] == "stream":
                printed += content["text"]
            if message["msg_type"] == "display_data":
                printed += content["data"]["text/plain"] + "\n"
            if content.get("execution_state") == "idle":
                return self._error(), printed

    def _error(self) -> str:
        while True:
            reply = self._client.get_shell_msg(timeout=LONG)
            if reply["parent_header"].get("msg_id") == self._cell:
                return str(reply["content"].get("ename", ""))

    def run(self, cell: str) -> str:
        """Run a cell that prints, and return what it printed."""
        self.begin(cell)
        error, printed = self.end()
        assert not error, (error, printed)
        return printed.strip()

    def close(self) -> None:
        self._client.stop_channels()
        self._kernel.shutdown_kernel(now=True)
        self._kernel.cleanup_resources()


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    """A kernel of this interpreter."""
    started = Kernel()
    yield started
    started.close()


class Holding(Answering):
    """Answers the first ten prompts, and holds the others until the client has gone."""

    def __init__(self) -> None:
        super().__init__({str(number): [self._hold] for number in range(10, 100)})
        self.held, self.gone = Tally(), Tally()

    def _hold(self, connection: Connection) -> None:
        self.held.add()
        connection.wait_gone()
        self.gone.add()


def rows_in(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_interrupted_run(kernel: Kernel, output: Path) -> None:
    """An interrupted run() says how to go on, leaves nothing behind, and goes on."""
    server, cell = Holding(), f"report = client.batch.run(map(str, range(100)), {str(output)!r})"
    with WireServer(server) as wire:
        kernel.run(START.format(wire.base_url))
        kernel.begin(cell)
        assert server.held.wait(32)
        assert wait_until(lambda: rows_in(output) == 10)
        kernel.interrupt()
        error, printed = kernel.end()
        assert error == "KeyboardInterrupt"
        assert f"run the same again: it goes on with the rows that {output} lacks" in printed
        assert server.gone.wait(server.held.count)
        assert kernel.run(f"print({THREADS})") == "[]"
        server.outcomes.clear()
        result = kernel.run(f"{cell}\nprint(report.skipped, report.done, report.failed)")
        assert result == "10 100 0"
        kernel.run("client.close()")
    lines = output.read_bytes().splitlines()
    assert sorted(int(json.loads(line)["custom_id"]) for line in lines) == list(range(100))
    assert errors_path(output).read_bytes() == b""


BODIES = ["pass", "time.sleep(60)"]


@pytest.mark.parametrize("body", BODIES)
def test_interrupted_loop(kernel: Kernel, body: str) -> None:
    """An interrupted loop over rows leaves nothing behind, and the client stays usable."""
    server = Holding()
    loop = "for row in client.batch.completions(map(str, range(100)), max_concurrency=20):"
    with WireServer(server) as wire:
        kernel.run(START.format(wire.base_url))
        kernel.begin(f"{loop}\n    {body}")
        assert server.held.wait(10)
        kernel.interrupt()
        error, _ = kernel.end()
        assert error == "KeyboardInterrupt"
        assert server.gone.wait(server.held.count)
        assert kernel.run(f"print({THREADS})") == "[]"
        server.outcomes.clear()
        texts = kernel.run("print([row.text for row in client.batch.completions(['a', 'b'])])")
        assert texts == "['<a>', '<b>']"
        kernel.run("client.close()")


def test_bar_in_a_notebook(kernel: Kernel, output: Path) -> None:
    """With tqdm a notebook shows one bar, and nothing comes from another thread."""
    pytest.importorskip("tqdm")
    pytest.importorskip("ipywidgets")
    with WireServer(Answering()) as wire:
        kernel.run(START.format(wire.base_url))
        cell = f"client.batch.run(list(map(str, range(50))), {str(output)!r}, progress=True);"
        printed = kernel.run(cell)
        assert kernel.run(f"print({THREADS})") == "[]"
        kernel.run("client.close()")
    assert rows_in(output) == 50
    assert printed.count("| 0/50 ") == 1  # The widget, as it was when it was shown.
    assert printed.count("\n") == 0
