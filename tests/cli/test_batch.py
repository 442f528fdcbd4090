"""``vllm-client batch``: what it sends, what it prints, and its exit status."""

from __future__ import annotations

import gzip
import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from vllm_client import read_batch
from vllm_client.cli import INTERRUPTED, main
from vllm_client.cli.batch import FAILED_ROWS, LOCKED

from ..batch.answering import Answering, status
from ..servers import Connection, Serve, Served
from ..threads import WAIT, Running, Tally

Batch = Callable[..., int]


@pytest.fixture
def files(tmp_path: Path) -> Dict[str, Path]:
    """The input, a file of two rows, and the output, which does not exist yet."""
    rows = tmp_path / "in.jsonl"
    rows.write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    return {"in": rows, "out": tmp_path / "out.jsonl"}


def batch(served: Served, files: Dict[str, Path], *options: str) -> int:
    """Run the command on these files."""
    where = ["--base-url", served.base_url]
    return main(["batch", str(files["in"]), str(files["out"]), *where, *options])


def texts(path: Path) -> List[str]:
    return sorted(row.text for row in read_batch(path))


def test_all_rows_well(serve: Serve, files: Dict[str, Path], capsys: Any) -> None:
    """With a response for each row the status is 0; the summary is on stderr."""
    served = serve(handler=Answering())
    assert batch(served, files) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("done 2, failed 0, skipped 0 (finished before)\n")
    assert "output tokens/s\n" in err
    assert "failed rows" not in err
    assert texts(files["out"]) == ["<a>", "<b>"]


def test_some_rows_failed(serve: Serve, files: Dict[str, Path], capsys: Any) -> None:
    """With a failed row the status is 3, and the summary names the file of failed rows."""
    server = Answering({"b": [status("400 Bad Request")]})
    served = serve(handler=server)
    assert batch(served, files) == FAILED_ROWS == 3
    assert f"failed rows: {files['out'].parent / 'out.errors.jsonl'}\n" in capsys.readouterr().err
    assert batch(served, files) == FAILED_ROWS
    assert server.asked == {"a": 1, "b": 1}
    assert "done 1, failed 1, skipped 2" in capsys.readouterr().err
    assert batch(served, files, "--retry-failed") == 0
    assert server.asked == {"a": 1, "b": 2}
    assert "done 2, failed 0, skipped 1" in capsys.readouterr().err


def test_options(serve: Serve, files: Dict[str, Path]) -> None:
    """Fields are sent with every row; a value that is no JSON is a text."""
    served = serve(handler=Answering())
    fields = ["--set", "max_tokens=4", "--set", 'stop=["x"]', "--set", "user=me", "-s", "seed=null"]
    options = ["--route", "completions", "--max-concurrency", "1", "--temperature", "0", *fields]
    assert batch(served, files, *options, "--model", "m") == 0
    common = {"max_tokens": 4, "stop": ["x"], "user": "me", "seed": None, "temperature": 0.0}
    assert [request.json for request in served.requests] == [
        {"prompt": prompt, "model": "m", **common} for prompt in "ab"
    ]


def test_prompts_from_standard_input(
    serve: Serve, files: Dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """- is standard input, and with --prompts each line is a prompt; --shard takes every Nth."""
    files["in"] = Path("-")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\nb\nc\nd\n")))
    assert batch(serve(handler=Answering()), files, "--prompts", "--shard", "1/2") == 0
    assert texts(files["out"]) == ["<b>", "<d>"]


def test_no_standard_output(
    serve: Serve, files: Dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """OUT must be a file; a `-` would be a file of this name, which nobody wants."""
    served = serve(handler=Answering())
    files["out"] = Path("-")
    assert batch(served, files) == 1
    assert "OUT must be a file" in capsys.readouterr().err
    assert not Path("-").exists()
    assert served.requests == []


def test_ordered(serve: Serve, files: Dict[str, Path]) -> None:
    """With --ordered the file is in the order of the input, whatever finished first."""
    later = Tally()

    def after_b(connection: Connection) -> None:
        assert later.wait()
        connection.send_json(ANSWER)

    def then_a(connection: Connection) -> None:
        connection.send_json(ANSWER)
        later.add()

    served = serve(handler=Answering({"a": [after_b], "b": [then_a]}))
    assert batch(served, files, "--ordered") == 0
    assert [row.index for row in read_batch(files["out"])] == [0, 1]


ANSWER = {
    "object": "text_completion",
    "choices": [{"index": 0, "text": "x", "finish_reason": "length"}],
}


def test_rows_cut_by_max_tokens_are_counted(
    serve: Serve, files: Dict[str, Path], capsys: Any
) -> None:
    """The summary tells how many texts max_tokens cut."""
    cut = [lambda connection: connection.send_json(ANSWER)]
    assert batch(serve(handler=Answering({"a": cut})), files) == 0
    assert "1 cut by max_tokens\n" in capsys.readouterr().err


def test_progress(serve: Serve, files: Dict[str, Path], capsys: Any) -> None:
    """--progress shows on stderr how many rows of how many are finished."""
    assert batch(serve(handler=Answering()), files, "--progress") == 0
    err = capsys.readouterr().err
    assert "2/2" in err or "2 of 2 rows" in err


def test_locked(serve: Serve, files: Dict[str, Path], capsys: Any) -> None:
    """While another process writes the file the status is 75, and the message names it."""
    server = Answering()
    server.hold.clear()
    served = serve(handler=server)
    other = subprocess.Popen(command(served, files))
    try:
        assert server.wait_asked(1)
        assert batch(served, files) == LOCKED == 75
        assert f"pid {other.pid}" in capsys.readouterr().err
    finally:
        server.hold.set()
        assert other.wait(WAIT) == 0


def command(served: Served, files: Dict[str, Path], *options: str) -> List[str]:
    """The command as a process of its own."""
    paths = [str(files["in"]), str(files["out"])]
    where = ["--base-url", served.base_url]
    return [sys.executable, "-m", "vllm_client", "batch", *paths, *where, *options]


def test_ctrl_c(serve: Serve, files: Dict[str, Path]) -> None:
    """Ctrl-C keeps what is written, tells how to resume, and the same command goes on."""
    silent = Tally()
    gone = Tally()

    def no_answer(connection: Connection) -> None:
        silent.add()
        assert connection.wait_gone()
        gone.add()

    server = Answering({"b": [no_answer]})
    served = serve(handler=server)
    running = subprocess.Popen(
        command(served, files, "--max-concurrency", "1"), stderr=subprocess.PIPE, text=True
    )
    talk = Running(lambda: running.communicate(timeout=6 * WAIT))
    assert silent.wait()
    while not gone.count:  # A signal just before a blocking wait is noticed after it.
        os.kill(running.pid, signal.SIGINT)
        gone.wait(seconds=1)
    _, err = talk.result()
    assert running.returncode == INTERRUPTED
    assert f"run the same again: it goes on with the rows that {files['out']} lacks" in err
    assert "Traceback" not in err
    assert texts(files["out"]) == ["<a>"]
    assert batch(served, files, "--max-concurrency", "1") == 0
    assert server.asked == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "max_tokens"], "write FIELD=JSON"),
        (["--set", "=1"], "write FIELD=JSON"),
        (["--set", 'stop=["x"'], "stop is not JSON"),
        (["--shard", "8/8"], "write K/N"),
        (["--shard", "1"], "write K/N"),
        (["--shard", "a/b"], "write K/N"),
    ],
)
def test_options_that_cannot_be_read(
    serve: Serve, files: Dict[str, Path], capsys: Any, options: List[str], message: str
) -> None:
    """An option that cannot be read is a usage error; nothing is sent and no file is made."""
    served = serve(handler=Answering())
    with pytest.raises(SystemExit) as ended:
        batch(served, files, *options)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert served.requests == []
    assert not files["out"].exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "max_tokns=1"], "did you mean 'max_tokens'?"),
        (["--route", "nonsense"], "'nonsense'"),
        (["--max-concurrency", "0"], "max_concurrency must be"),
    ],
)
def test_options_that_the_run_refuses(
    serve: Serve, files: Dict[str, Path], capsys: Any, options: List[str], message: str
) -> None:
    """A misspelt field, route or number is status 1 and a message; nothing is sent."""
    served = serve(handler=Answering())
    assert batch(served, files, *options) == 1
    assert message in capsys.readouterr().err
    assert served.requests == []
    assert not files["out"].exists()


def test_an_input_that_does_not_exist(serve: Serve, files: Dict[str, Path], capsys: Any) -> None:
    """A missing input is status 1 and a message without a traceback."""
    files["in"].unlink()
    assert batch(serve(handler=Answering()), files) == 1
    assert str(files["in"]) in capsys.readouterr().err


@pytest.mark.parametrize("fault", ["cut", "no gzip", "damaged"])
def test_a_compressed_input(serve: Serve, files: Dict[str, Path], capsys: Any, fault: str) -> None:
    """A .gz file is decompressed; one that is cut or damaged is an error after its whole rows."""
    whole = gzip.compress(b"".join(b'{"prompt": "%d"}\n' % number for number in range(9999)))
    packed = {"cut": whole[:-100], "no gzip": b"no", "damaged": whole[:99] + b"\xff" + whole[100:]}
    files["in"] = files["in"].with_name("in.jsonl.gz")
    files["in"].write_bytes(packed[fault])
    served = serve(handler=Answering())
    assert batch(served, files, "--shard", "0/5000") == 1
    assert "no whole file of gzip" in capsys.readouterr().err
    files["in"].write_bytes(whole)
    assert batch(served, files, "--shard", "0/5000") == 0
