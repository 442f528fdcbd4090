"""The standard input and outputs: closed, full, broken, or in another encoding."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Iterator, List

import pytest

from vllm_client.cli import main
from vllm_client.testing import FakeServer

from ..threads import WAIT

FULL = Path("/dev/full")
needs_shell = pytest.mark.skipif(os.name == "nt", reason="these are the ways of a POSIX shell")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """An embedded server whose address is in VLLM_BASE_URL."""
    with FakeServer() as fake:
        monkeypatch.setenv("VLLM_BASE_URL", fake.base_url)
        # Python buffers its output, as it does for a user.
        monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
        yield fake


def shell(command: str, data: bytes = b"", **env: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of a shell; `vllm-client` in it is this one."""
    program = f"{sys.executable} -m vllm_client"
    return subprocess.run(
        ["sh", "-c", command.replace("vllm-client", program)],
        input=data,
        capture_output=True,
        timeout=3 * WAIT,
        check=False,
        env={**os.environ, **env},
    )


INPUTS = {
    "chat": 0,
    "complete": 1,
    "tokenize": 0,
    "detokenize": 0,
    "embed": 1,
    "score q": 1,
    "rerank q": 1,
    "score-text a": 1,
    "choose a": 1,
    "perplexity": 1,
    "bench -": 1,
}


@needs_shell
@pytest.mark.parametrize(("command", "status"), INPUTS.items())
def test_closed_input(server: FakeServer, command: str, status: int) -> None:
    """A closed standard input is an empty one: no traceback."""
    closed = shell(f"vllm-client {command} <&-")
    empty = shell(f"vllm-client {command} </dev/null")
    assert closed.returncode == empty.returncode == status
    assert closed.stdout == empty.stdout
    assert closed.stderr == empty.stderr
    assert b"Traceback" not in closed.stderr


@needs_shell
@pytest.mark.parametrize("command", ["complete x", "models"])
def test_closed_output(server: FakeServer, command: str) -> None:
    """A closed standard output takes nothing; the rest is as usual."""
    done = shell(f"vllm-client {command} >&- </dev/null")
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr


@needs_shell
def test_closed_errors(server: FakeServer) -> None:
    """Notes for a closed standard error do not get into the output."""
    server.enqueue(text="fine")
    done = shell("vllm-client complete x 2>&- </dev/null")
    assert (done.returncode, done.stdout) == (0, b"fine\n")


@needs_shell
@pytest.mark.skipif(not FULL.exists(), reason="there is no full device")
@pytest.mark.parametrize("command", ["complete x", "models", "--help"])
def test_full_disk(server: FakeServer, command: str) -> None:
    """Output that cannot be written is an error, on one line, also if Python buffered it."""
    done = shell(f"vllm-client {command} >/dev/full </dev/null")
    assert done.returncode == 1
    assert done.stderr.count(b"No space left") == 1
    assert b"Traceback" not in done.stderr
    assert b"ignored" not in done.stderr


@needs_shell
@pytest.mark.skipif(not FULL.exists(), reason="there is no full device")
def test_errors_that_cannot_be_written(server: FakeServer) -> None:
    """If not even the error can be printed, the status still tells it."""
    assert shell("vllm-client complete 2>/dev/full </dev/null").returncode == 1


@needs_shell
@pytest.mark.parametrize("command", ["models", "--help", "man", "complete x", "chat"])
def test_nobody_reads(server: FakeServer, command: str) -> None:
    """A reader that has gone ends the program in silence, with status 1."""
    server.always(text="word " * 5000)
    data = b"one\ntwo\n" if command == "chat" else b""
    done = shell(f"exec 3<&0; (vllm-client {command} <&3; echo $? >&2) | true", data)
    words = done.stderr.decode().split()
    assert words[-1] == "1", done.stderr
    assert "Traceback" not in words
    assert "ignored:" not in words
    assert len([each for each in server.requests if each.path.endswith("completions")]) <= 1


ENCODINGS: List[str] = ["utf-8", "cp437", "cp1252", "ascii"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_piped_text_is_utf8(server: FakeServer, encoding: str) -> None:
    """A pipe is read as UTF-8 whatever the locale, as files are; its mark is no character."""
    text = "\ufeffhéllo €\r\nline\r"
    shell("vllm-client complete Say:", text.encode(), PYTHONIOENCODING=encoding)
    assert server.requests[0].json["prompt"] == "Say:\nhéllo €\nline\n"


@pytest.mark.parametrize(("encoding", "char"), [("cp437", "é"), ("cp1252", "é"), ("cp932", "日")])
def test_piped_text_of_the_locale(server: FakeServer, encoding: str, char: str) -> None:
    """What is not UTF-8 is read in the encoding of the locale, line by line in chat."""
    server.always(text="fine")
    data = f"{char}\n".encode(encoding)
    shell("vllm-client complete", data, PYTHONIOENCODING=encoding)
    shell("vllm-client chat", data, PYTHONIOENCODING=encoding)
    assert server.requests[0].json["prompt"] == f"{char}\n"
    assert server.requests[1].json["messages"][0]["content"] == char


@pytest.mark.parametrize("command", ["complete", "chat", "embed"])
@pytest.mark.parametrize("env", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}])
def test_piped_bytes(server: FakeServer, command: str, env: dict[str, str]) -> None:
    """Bytes that are no text are an error that says so."""
    done = shell(f"vllm-client {command}", b"h\xe9\xff\n", **env)
    assert done.returncode == 1
    assert b"vllm-client: the standard input is no text in UTF-8" in done.stderr
    assert b"Traceback" not in done.stderr
    assert len(server.requests) == 0


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_own_words_are_ascii(server: FakeServer, encoding: str) -> None:
    """What the program itself prints has no character that an encoding lacks."""
    for command in ("chat", "embed x", "--help", "man", "completion zsh"):
        done = shell(f"vllm-client {command}", b"/help\n", PYTHONIOENCODING=encoding)
        assert done.returncode == 0
        assert b"\\u" not in done.stdout
        assert done.stdout.isascii()


class Full(io.RawIOBase):
    """A file on a full disk."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, _: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(("name", "command"), [("stdout", "models"), ("stderr", "complete")])
def test_own_files_of_a_process(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, name: str, command: str
) -> None:
    """The same in this process: what cannot be written is dropped when the program ends."""
    with open(os.devnull, "wb", buffering=0) as nothing:
        full = io.TextIOWrapper(io.BufferedWriter(Full(nothing.fileno())), line_buffering=True)
        with monkeypatch.context() as patch:
            patch.setattr(sys, name, full)
            assert main([command]) == 1
        with contextlib.suppress(OSError):
            full.close()


@pytest.mark.parametrize(
    ("encoding", "data", "status"),
    [("utf-8", b"h\xe9", 1), ("cp1252", b"h\xe9", 0), ("cp1252", "h\xe9".encode(), 0)],
)
def test_own_input_of_a_process(
    server: FakeServer,
    monkeypatch: pytest.MonkeyPatch,
    encoding: str,
    data: bytes,
    status: int,
) -> None:
    """The same in this process: UTF-8, else the encoding of the locale, else an error."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding=encoding))
    assert main(["complete"]) == status
    assert [request.json["prompt"] for request in server.requests] == ["hé"] * (1 - status)
