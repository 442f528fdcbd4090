"""Real vLLM servers: the kinds that are tested, and how one is started and stopped."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import IO, Any, Dict, List, Mapping, Optional, Sequence

from attrs import define, evolve, field, frozen

from vllm_client import APIConnectionError, APIStatusError, VllmClient

START = 300.0
"""Seconds that a server may take until it is healthy."""
STOP = 30.0
"""Seconds that a server may take to end after SIGTERM; then it is killed."""

# The models are small and local: a server must not look for anything else.
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
}
_SMALL = "--dtype bfloat16 --enforce-eager --max-model-len 1024 --max-num-seqs 16"


@frozen
class Kind:
    """A way to start a server.

    Attributes:
        name: What ``--kind`` and the table call it.
        flags: What is added to the command.
        environment: What is added to the environment.
        model: The folder of its model: ``"text"`` or ``"embedding"``.
        api_key: The key that clients must send.
    """

    name: str
    flags: str = ""
    environment: Mapping[str, str] = field(factory=dict)
    model: str = "text"
    api_key: Optional[str] = None

    def without(self, unknown: Sequence[str]) -> Kind:
        """The same without these flags, which an older server does not know."""
        flags = re.split(r" (?=--)", self.flags)
        return evolve(self, flags=" ".join(f for f in flags if f.partition(" ")[0] not in unknown))


KINDS = [
    Kind("plain", "--sse-keep-alive-interval 1"),
    Kind(
        "parsers",
        "--enable-auto-tool-choice --tool-call-parser hermes --reasoning-parser qwen3 "
        "--enable-request-id-headers --enable-prompt-tokens-details --enable-per-request-metrics "
        "--enable-server-load-tracking --enable-tokenizer-info-endpoint --enable-scale-out "
        "--scheduling-policy priority --sse-keep-alive-interval 1 --trust-request-chat-template "
        "--enable-prompt-embeds",
        {"VLLM_SERVER_DEV_MODE": "1", "VLLM_ENABLE_RESPONSES_API_STORE": "1"},
    ),
    Kind(
        "lora",
        "--enable-lora --max-lora-rank 8 --enable-force-include-usage",
        {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"},
        api_key="sk-real",
    ),
    Kind(
        "pooling",
        "--runner pooling --convert embed",
        {"VLLM_SERVER_DEV_MODE": "1"},
        model="embedding",
    ),
]


@frozen
class Paths:
    """Where the program and the models are.

    Attributes:
        vllm: The command ``vllm``.
        models: The folder that ``make_models.py`` filled.
        logs: The folder that the servers write their logs to.
    """

    vllm: Path
    models: Path
    logs: Path


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@define
class Server:
    """A running server of one kind, and a client of it."""

    kind: Kind
    paths: Paths
    port: int = field(factory=_free_port)
    process: Optional[subprocess.Popen[bytes]] = None
    _log: Optional[IO[bytes]] = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def log(self) -> Path:
        return self.paths.logs / f"{self.kind.name}.log"

    def client(self, **settings: Any) -> VllmClient:
        """A new client of this server."""
        settings = {"api_key": self.kind.api_key or "", "timeout": 60, **settings}
        return VllmClient(self.base_url, **settings)

    def start(self) -> None:
        """Start the server, and wait until it is healthy."""
        self._log = self.log.open("ab")
        self.process = subprocess.Popen(
            self._command(),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **_OFFLINE, **self.kind.environment, **self._key()},
            start_new_session=True,  # SIGKILL leaves its workers behind: their group ends them.
        )
        try:
            self._wait_healthy()
        except BaseException:
            self.stop()
            raise

    def _command(self) -> List[str]:
        address = ["--host", "127.0.0.1", "--port", str(self.port)]
        model = str(self.paths.models / self.kind.model)
        served = [str(self.paths.vllm), "serve", model, "--served-model-name", "tiny"]
        return [*served, *address, *_SMALL.split(), *self.kind.flags.split()]

    def _key(self) -> Dict[str, str]:
        return {"VLLM_API_KEY": self.kind.api_key} if self.kind.api_key else {}

    def _wait_healthy(self) -> None:
        until = time.monotonic() + START
        while time.monotonic() < until:
            if self.is_alive:
                return
            if self.process is None or self.process.poll() is not None:
                raise SystemExit(f"the server {self.kind.name} ended: see {self.log}")
            time.sleep(1)
        raise SystemExit(f"the server {self.kind.name} is not healthy after {START} s")

    @property
    def is_alive(self) -> bool:
        """Whether the server answers that it is healthy."""
        with self.client(max_retries=0, timeout=5) as client:
            try:
                client.request("GET", "/health")
            except (APIConnectionError, APIStatusError):
                return False
        return True

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the server alone, not to its workers."""
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the server with this signal, and then its workers."""
        if self.process is None:
            return
        self.process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None
        if self._log is not None:
            self._log.close()

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
