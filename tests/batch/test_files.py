"""``client.batch.run``: the files, resuming, and what is refused."""

from __future__ import annotations

import contextlib
import errno
import functools
import gzip
import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, Iterator, List

import pytest

from vllm_client import (
    BatchChangedError,
    BatchError,
    BatchInputError,
    BatchLockedError,
    BatchProgress,
    Completion,
    ContextLengthError,
    GenerationAbortedError,
    InvalidResponseError,
    NotFoundError,
    PermissionDeniedError,
    read_batch,
)
from vllm_client.batch import _progress, _store
from vllm_client.batch._store import errors_path

from ..recorded import answer
from ..servers import Connection, Serve
from ..threads import Running
from .answering import Answering, broken, chat_answer, status


def lines(path: Path) -> List[Dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def ids(path: Path) -> List[str]:
    return sorted(line["custom_id"] for line in lines(path))


def write_lines(path: Path, rows: List[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_lines_of_the_output(serve: Serve, output: Path) -> None:
    """A line has what vllm run-batch writes, and at its end what a resumed run reads."""
    client = serve(handler=Answering()).client
    report = client.batch.run([("id é", "a")], output, max_tokens=4)
    (line,) = lines(output)
    mark = line.pop("vllm_client")
    assert line.pop("id") == "row-0"
    assert line == {
        "custom_id": "id é",
        "response": {"status_code": 200, "request_id": "r1", "body": answer("<a>")},
        "error": None,
    }
    assert (mark["index"], mark["attempts"]) == (0, 1)
    assert (report.read, report.done, report.failed, report.skipped) == (1, 1, 0, 0)
    assert (report.output, report.errors) == (str(output), str(errors_path(output)))
    assert errors_path(output).name == "out.errors.jsonl"
    assert errors_path(output).read_bytes() == b""


def test_body_with_line_ends(serve: Serve, output: Path) -> None:
    """A response that is written over several lines becomes one line."""

    def pretty(connection: Connection) -> None:
        body = json.dumps(answer("x"), indent=1).encode()
        head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body)
        connection.send(head + body)

    serve(handler=Answering({"a": [pretty]})).client.batch.run(["a"], output)
    (line,) = lines(output)
    assert line["response"]["body"] == answer("x")


@pytest.mark.parametrize("line_end", [b"\n", b"\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_lines_are_whole_for_other_tools(
    serve: Serve, output: Path, mark: bytes, line_end: bytes
) -> None:
    """A body with a byte order mark, or with any end of line, is still one line of JSON."""
    body = mark + json.dumps(answer("x"), indent=1).encode().replace(b"\n", line_end)
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body)
    server = Answering({"a": [lambda connection: connection.send(head + body)]})
    serve(handler=server).client.batch.run(["a"], output)
    (line,) = output.read_text().splitlines()
    assert json.loads(line)["response"]["body"]["choices"][0]["text"] == "x"


def test_batch_format_in(serve: Serve, output: Path, tmp_path: Path) -> None:
    """A file in OpenAI's batch format is read line by line; each line names its route."""
    message = [{"role": "user", "content": "hi"}]
    rows = [
        {"custom_id": "a", "url": "/v1/completions", "method": "POST", "body": {"prompt": "x"}},
        {"custom_id": "b", "url": "/v1/chat/completions", "body": {"messages": message}},
        {"prompt": "y"},
    ]
    source = write_lines(tmp_path / "in.jsonl", rows)
    served = serve(handler=Answering())
    report = served.client.batch.run(source, str(output))
    assert report.done == 3
    assert {request.path for request in served.requests} == {
        "/v1/completions",
        "/v1/chat/completions",
    }
    texts = {row.custom_id: row.text for row in read_batch(output)}
    assert texts == {"a": "<x>", "b": "<hi>", "2": "<y>"}


def test_prompts_of_an_editor(serve: Serve, output: Path, tmp_path: Path) -> None:
    """A byte order mark is no part of a prompt, and an empty line is no prompt."""
    source = tmp_path / "in.txt"
    source.write_bytes(b"\xef\xbb\xbfa\r\n\r\nb\n  \n")
    told: List[BatchProgress] = []
    client = serve(handler=Answering()).client
    client.batch.run(source, output, prompts=True, progress=told.append)
    assert [row.text for row in read_batch(output, ordered=True)] == ["<a>", "<b>"]
    assert told[-1].total == 2
    source.write_bytes(b'\xef\xbb\xbf\n{"prompt": "c"}')
    assert client.batch.run(source, tmp_path / "other.jsonl").done == 1


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_source_without_rows(serve: Serve, output: Path, tmp_path: Path, content: bytes) -> None:
    """A file without rows is a run without rows."""
    source = tmp_path / "in.jsonl"
    source.write_bytes(content)
    report = serve(handler=Answering()).client.batch.run(source, output)
    assert (report.read, report.done, report.failed) == (0, 0, 0)
    assert list(read_batch(output)) == []


@pytest.mark.parametrize("name", ["none.jsonl", "."])
def test_source_that_cannot_be_read(serve: Serve, tmp_path: Path, name: str) -> None:
    """A source that is not there, or is a folder, is an error before any file is made."""
    source, output = tmp_path / name, tmp_path / "out.jsonl"
    with pytest.raises(OSError, match=r"No such file|Is a directory"):
        serve(handler=Answering()).client.batch.run(source, output)
    assert list(tmp_path.iterdir()) == []


def test_compressed_output_is_refused(serve: Serve, tmp_path: Path) -> None:
    """The output is not compressed, so a name that says so is refused."""
    output = tmp_path / "out.jsonl.gz"
    with pytest.raises(BatchInputError, match=r"without \.gz"):
        serve(handler=Answering()).client.batch.run(["a"], output)
    assert not output.exists()


def test_prompts_compressed_and_from_standard_input(
    serve: Serve, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines may be prompts as they stand; files may be compressed, or be standard input."""
    client = serve(handler=Answering()).client
    packed = tmp_path / "in.txt.gz"
    packed.write_bytes(gzip.compress("é x\r\ny\n".encode()))
    client.batch.run(packed, output, prompts=True, progress=lambda _: None)
    assert {row.text for row in read_batch(output)} == {"<é x>", "<y>"}
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"prompt": "z"}\n\n')))
    other = tmp_path / "other.jsonl"
    client.batch.run("-", other, progress=lambda _: None)
    assert [row.text for row in read_batch(other)] == ["<z>"]


def test_resume(serve: Serve, output: Path) -> None:
    """The same call again sends only what the file lacks; a longer input is fine."""
    server = Answering()
    client = serve(handler=server).client
    client.batch.run(map(str, range(30)), output)
    before = output.read_bytes()
    report = client.batch.run(map(str, range(40)), output)
    assert (report.read, report.skipped, report.done) == (10, 30, 40)
    assert output.read_bytes().startswith(before)
    assert ids(output) == sorted(map(str, range(40)))
    assert set(server.asked.values()) == {1}


@pytest.mark.parametrize("size", range(1, 160, 7))
def test_torn_tail(serve: Serve, output: Path, size: int) -> None:
    """A line without its end is cut off before anything is appended."""
    client = serve(handler=Answering()).client
    client.batch.run(["a", "b"], output, max_concurrency=1)
    whole = output.read_bytes()
    output.write_bytes(whole[:-size])
    report = client.batch.run(["a", "b"], output)
    assert (report.skipped, report.read) == (1, 1)
    assert ids(output) == ["0", "1"]


def test_failed_rows(serve: Serve, output: Path) -> None:
    """Failed rows go to a file of their own, with the server's words; wrong rows as well."""
    refused = status("400 Bad Request", "too long")
    server = Answering({"bad": [refused] * 9})
    client = serve(handler=server).client
    report = client.batch.run(["a", "bad", 5], output)
    assert (report.read, report.done, report.failed) == (3, 1, 2)
    assert ids(output) == ["0"]
    first, second = sorted(lines(errors_path(output)), key=lambda line: line["custom_id"])
    assert first["response"]["status_code"] == 400
    assert first["response"]["body"]["error"]["message"] == "too long"
    assert first["error"]["type"] == "BadRequestError"
    assert second["response"] is None
    assert "row 2" in second["error"]["message"]
    again = client.batch.run(["a", "bad", 5], output)
    assert (again.read, again.skipped, again.done, again.failed) == (1, 2, 1, 2)
    assert server.asked["bad"] == 1
    third = client.batch.run(["a", "bad", 5], output, retry_failed=True)
    assert (third.read, third.skipped, third.failed) == (2, 1, 2)
    assert server.asked["bad"] == 2


def test_retryable_failures_are_tried_again(serve: Serve, output: Path) -> None:
    """A resumed run tries rows again whose failure may pass, and forgets the failure."""
    server = Answering({"b": [status("500 Oops")]})
    client = serve(handler=server, max_retries=0).client
    assert client.batch.run(["a", "b"], output).failed == 1
    report = client.batch.run(["a", "b"], output)
    assert (report.read, report.skipped, report.done, report.failed) == (1, 1, 2, 0)
    assert errors_path(output).read_bytes() == b""


def test_changed_input(serve: Serve, output: Path) -> None:
    """A row that is another request than before is refused; so is one that had failed."""
    server = Answering({"bad": [status("400 Bad Request")]})
    client = serve(handler=server).client
    client.batch.run(["a", "bad"], output)
    with pytest.raises(BatchChangedError, match=r"row 0 .*another request"):
        client.batch.run(["x", "bad"], output)
    with pytest.raises(BatchChangedError, match="row 1"):
        client.batch.run(["a", "y"], output)
    assert sum(server.asked.values()) == 2


CHANGES = [
    ({"max_tokens": 5}, "params"),
    ({"max_tokens": 4, "route": "completions"}, "route"),
    ({"max_tokens": 4, "shard": (0, 2)}, "shard"),
]


@pytest.mark.parametrize(("changes", "name"), CHANGES)
def test_changed_settings(serve: Serve, output: Path, changes: Any, name: str) -> None:
    """Other parameters, route or shard than those the file was begun with are refused."""
    client = serve(handler=Answering()).client
    client.batch.run(["a"], output, max_tokens=4)
    with pytest.raises(BatchChangedError, match=f"begun with {name} "):
        client.batch.run(["a"], output, **changes)


def test_file_of_somebody_else(serve: Serve, output: Path) -> None:
    """A file that is no output of a run is left as it is."""
    output.write_text("my notes\n")
    client = serve(handler=Answering()).client
    with pytest.raises(BatchChangedError, match=r"has no out\.jsonl\.meta"):
        client.batch.run(["a"], output)
    assert output.read_text() == "my notes\n"


@pytest.mark.parametrize("change", ["noise", "twice"])
def test_broken_line_in_the_middle(serve: Serve, output: Path, change: str) -> None:
    """A line that is no row, or a row twice, before the end is an error, and nothing is cut."""
    client = serve(handler=Answering()).client
    client.batch.run(["a", "b"], output)
    first, second = output.read_bytes().splitlines(keepends=True)
    output.write_bytes(first + (b"noise\n" if change == "noise" else first) + second)
    before = output.read_bytes()
    with pytest.raises(BatchChangedError, match="line before byte"):
        client.batch.run(["a", "b"], output)
    assert output.read_bytes() == before


def test_long_lines_are_scanned(
    serve: Serve, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines longer than a block of the scan, and ends of lines between blocks, are found."""
    monkeypatch.setattr(_store, "_SCAN_SIZE", 100)
    client = serve(handler=Answering()).client
    client.batch.run(map(str, range(9)), output)
    assert client.batch.run(map(str, range(9)), output).skipped == 9


def test_two_writers(serve: Serve, output: Path) -> None:
    """While one process writes a file, another one is refused and told the first one's number."""
    server = Answering()
    server.hold.clear()
    client = serve(handler=server).client
    writer = Running(lambda: client.batch.run(["a"], output))
    assert server.wait_asked(1)
    with pytest.raises(BatchLockedError, match=rf"pid {os.getpid()}\) writes"):
        client.batch.run(["a"], output)
    server.hold.set()
    assert writer.result().done == 1


def test_lock_ends_with_the_process(serve: Serve, output: Path) -> None:
    """A lock of a process that was killed does not hold the next one up."""
    code = (
        "import fcntl, os, sys; f = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT); "
        "fcntl.flock(f, fcntl.LOCK_EX); print('locked', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(output)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        client = serve(handler=Answering()).client
        with pytest.raises(BatchLockedError, match="pid unknown"):
            client.batch.run(["a"], output)
        holder.kill()
    assert client.batch.run(["a"], output).done == 1


def test_full_disk(serve: Serve, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk ends the run with that error; the file ends with a whole line and resumes."""
    client = serve(handler=Answering()).client
    client.batch.run(["a"], output)
    whole = output.read_bytes()
    plain, room = os.write, [10]

    def write(file: int, data: Any) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        size, room[0] = min(room[0], len(data)), 0
        return plain(file, data[:size])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write)
        with pytest.raises(OSError, match="No space left"):
            client.batch.run(["a", "b"], output)
    assert output.read_bytes() == whole
    assert client.batch.run(["a", "b"], output).done == 2


def test_input_that_raises(serve: Serve, output: Path) -> None:
    """When the input raises, the rows that were read are in the file."""

    def rows() -> Iterator[str]:
        yield "a"
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        serve(handler=Answering()).client.batch.run(rows(), output)
    assert ids(output) == ["0"]


def test_interrupt(serve: Serve, output: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Ctrl-C keeps the rows that were written, and a message says how to go on."""

    def rows() -> Iterator[str]:
        yield from ["a", "b"]

    def interrupt(progress: BatchProgress) -> None:
        if progress.done:
            raise KeyboardInterrupt

    client = serve(handler=Answering()).client
    with caplog.at_level(logging.WARNING), pytest.raises(KeyboardInterrupt):
        client.batch.run(rows(), output, progress=interrupt, max_concurrency=1)
    assert str(output) in caplog.text
    assert "0" in ids(output)
    assert client.batch.run(rows(), output).done == 2


def test_in_order(serve: Serve, output: Path) -> None:
    """With ordered=True the file is put into the order of the input, and can be continued."""
    server = Answering({"0": [broken]})  # So it finishes last.
    client = serve(handler=server).client
    client.batch.run(map(str, range(20)), output, ordered=True)
    assert [line["custom_id"] for line in lines(output)] == [str(n) for n in range(20)]
    report = client.batch.run(map(str, range(22)), output, ordered=True)
    assert (report.skipped, report.done) == (20, 22)


def test_shards(serve: Serve, tmp_path: Path) -> None:
    """Shards take every row of the input once, each in its own file."""
    server = Answering()
    client = serve(handler=server).client
    found = []
    for part in range(3):
        path = tmp_path / f"out-{part}.jsonl"
        client.batch.run(map(str, range(10)), path, shard=(part, 3))
        found += ids(path)
    assert sorted(found) == [str(number) for number in range(10)]


WRONG = [
    ({"shard": (3, 3)}, "shard must be"),
    ({"shard": "3/8"}, "shard must be"),
    ({"shard": (0.5, 2)}, "shard must be"),
    ({"shard": (1,)}, "shard must be"),
    ({"patience": float("nan")}, "patience must be"),
    ({"progress": "yes"}, "progress must be"),
    ({"sync_every": 0}, "sync_every"),
    ({"route": "nope"}, "know no route"),
    ({"route": "chat", "top_kk": 1}, "did you mean 'top_k'"),
]


@pytest.mark.parametrize(("settings", "message"), WRONG)
def test_wrong_arguments(serve: Serve, output: Path, settings: Any, message: str) -> None:
    """A wrong argument is refused before a file is made."""
    client = serve(handler=Answering()).client
    with pytest.raises((ValueError, TypeError), match=message):
        client.batch.run(["a"], output, **settings)
    assert not output.exists()


def test_common_field_without_a_route(
    serve: Serve, output: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A common field that the route of the rows does not have is not ignored without a word."""
    client = serve(handler=Answering()).client
    client.batch.run(["a"], output, max_completion_tokens=3, extra_body={"mine": 1})
    assert "no field 'max_completion_tokens', so" in caplog.text


def test_source_that_is_no_input(serve: Serve, output: Path) -> None:
    """A source that is neither a path nor an iterable is refused."""
    client = serve(handler=Answering()).client
    for source in (5, b"in.jsonl", {"prompt": "a"}):
        with pytest.raises(BatchInputError, match="must be a path or an iterable"):
            client.batch.run(source, output)  # type: ignore[arg-type]


def test_line_that_is_no_json(serve: Serve, output: Path, tmp_path: Path) -> None:
    """A line that is no JSON is a failed row, named with the number of its line."""
    source = tmp_path / "in.jsonl"
    source.write_bytes(b'{"prompt": "a"}\n\n{"prompt": \n')
    report = serve(handler=Answering()).client.batch.run(source, output)
    assert (report.done, report.failed) == (1, 1)
    (line,) = lines(errors_path(output))
    assert "line 3: it is not JSON" in line["error"]["message"]


def test_sync(serve: Serve, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is forced to the disk after so many rows, and when the run ends."""
    synced: List[int] = []
    plain = os.fsync

    def fsync(file: int) -> None:
        synced.append(os.fstat(file).st_ino)
        plain(file)

    monkeypatch.setattr(os, "fsync", fsync)
    client = serve(handler=Answering()).client
    client.batch.run(map(str, range(10)), output, sync_every=2, max_concurrency=1)
    assert synced.count(output.stat().st_ino) >= 5


def test_progress_of_a_resumed_run(serve: Serve, output: Path, tmp_path: Path) -> None:
    """Resumed rows are told apart, and are not part of the rate."""
    source = write_lines(tmp_path / "in.jsonl", [{"prompt": str(n)} for n in range(12)])
    client = serve(handler=Answering()).client
    client.batch.run([{"prompt": str(n)} for n in range(10)], output)
    told: List[BatchProgress] = []
    client.batch.run(source, output, progress=told.append)
    last = told[-1]
    assert (last.done, last.resumed, last.total) == (12, 10, 12)
    assert last.rows_per_second == pytest.approx(2 / last.elapsed)
    assert "10 resumed" in str(last)


@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_progress_as_lines(
    serve: Serve,
    output: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    seconds: float,
) -> None:
    """Without tqdm, progress=True prints lines on stderr, every few seconds and at the end."""
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    monkeypatch.setattr(_progress, "_LINE_SECONDS", seconds)
    serve(handler=Answering()).client.batch.run(["a", "b"], output, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith("2 of 2 rows, 0 failed")
    assert (len(err.splitlines()) > 1) == (seconds == 0)


def test_progress_as_a_bar(
    serve: Serve,
    output: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With tqdm, progress=True is a bar; resumed rows are there from the beginning."""
    tqdm = pytest.importorskip("tqdm")
    monkeypatch.setattr(tqdm.tqdm, "monitor_interval", 0)  # Else a thread of tqdm's stays.
    client = serve(handler=Answering()).client
    client.batch.run(["a", "b"], output, progress=True)
    client.batch.run(["a", "b", "c"], output, progress=True)
    assert "3/3" in capsys.readouterr().err


def test_the_rate_of_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    """Resumed rows stand at the beginning of a bar, and do not count as rows of this run."""
    tqdm = pytest.importorskip("tqdm")
    made = type("Bar", (tqdm.tqdm,), {"monitor_interval": 0})
    bar = _progress._Bar(functools.partial(made, mininterval=0), 2000)
    bar(BatchProgress(1000, 0, 1000, 2000, 0, 1, 0.1, 0.0, 0.0, None))
    assert not bar._bar.format_dict["rate"]
    bar.close()
    assert "1000/2000" in capsys.readouterr().err


def test_read_batch(serve: Serve, output: Path) -> None:
    """The rows are read as they finished, or in order; the failed ones with their error."""
    server = Answering({"1": [status("400 Bad Request", "no")], "0": [broken]})
    client = serve(handler=server).client
    client.batch.run([*map(str, range(6)), 7], output)
    rows = list(read_batch(output, ordered=True))
    assert [row.index for row in rows] == list(range(7))
    assert isinstance(rows[0].response, Completion)
    assert (rows[0].text, rows[0].attempts) == ("<0>", 2)
    assert rows[1].error is not None
    assert (rows[1].ok, getattr(rows[1].error, "status_code", None)) == (False, 400)
    assert isinstance(rows[6].error, BatchError)
    assert {row.index for row in read_batch(output)} == set(range(7))
    assert [row.index for row in read_batch(output, failed=False, ordered=True)] == [0, 2, 3, 4, 5]


def test_read_batch_of_a_torn_file(serve: Serve, output: Path) -> None:
    """A line without its end is no row yet."""
    serve(handler=Answering()).client.batch.run(["a", "b"], output, max_concurrency=1)
    output.write_bytes(output.read_bytes()[:-3])
    assert len(list(read_batch(output))) == 1
    assert len(list(read_batch(output, ordered=True))) == 1


def test_read_batch_of_another_tool(output: Path) -> None:
    """The output of vllm run-batch is read as well."""
    body = {**answer("x"), "object": "text_completion"}
    response = {"status_code": 200, "request_id": "r", "body": body}
    write_lines(output, [{"id": "vllm-1", "custom_id": "a", "response": response, "error": None}])
    (row,) = read_batch(output)
    assert (row.custom_id, row.text, row.index) == ("a", "x", -1)


def test_read_batch_of_failures_of_another_tool(output: Path) -> None:
    """The failed rows of vllm run-batch are read as well; it keeps them in the output."""
    told = {"message": "no model", "type": "NotFoundError", "param": None, "code": 404}
    failed = {"status_code": 404, "request_id": "r", "body": None}
    line = {"id": "vllm-1", "custom_id": "a", "response": failed, "error": {"error": told}}
    write_lines(output, [line])
    (row,) = read_batch(output)
    assert isinstance(row.error, NotFoundError)
    assert str(row.error) == "404: no model"


def test_read_batch_keeps_the_classes_of_errors(serve: Serve, output: Path) -> None:
    """An error that is read from a file has the class and the text that it had in the run."""
    half = answer("x")
    half["choices"][0]["finish_reason"] = None
    too_long = "This model's maximum context length is 512 tokens"
    server = Answering(
        {
            "long": [status("400 Bad Request", too_long)],
            "html": [lambda connection: connection.send_json("no", "403 Forbidden")],
            "abort": [lambda connection: connection.send_json(answer("x", "abort"))] * 9,
            "half": [lambda connection: connection.send_json(half)],
        }
    )
    client = serve(handler=server, max_retries=1).client
    client.batch.run(["long", "html", "abort", "half", 5], output)
    errors = [row.error for row in read_batch(output, ordered=True)]
    for_good = [ContextLengthError, PermissionDeniedError, GenerationAbortedError]
    assert [type(error) for error in errors] == [*for_good, InvalidResponseError, BatchInputError]
    assert [error is not None and error.is_retryable for error in errors] == [0, 0, 1, 0, 0]
    assert str(errors[0]).startswith(f"400: {too_long} (POST")
    assert getattr(errors[0], "code", None) == 400


def test_responses_that_do_not_name_their_object(serve: Serve, output: Path) -> None:
    """A response is read whether or not it has the member ``object``."""
    bodies = [
        answer("text"),
        chat_answer("words"),
        {"data": [{"index": 0, "embedding": [0.5]}], "model": "m"},
        {"data": [{"index": 0, "score": 0.5}], "model": "m"},
        {
            "results": [{"index": 0, "relevance_score": 0.5, "document": {"text": "d"}}],
            "model": "m",
        },
    ]
    for body in bodies:
        body.pop("object", None)
    lines = [
        {"custom_id": "a", "response": {"status_code": 200, "body": body}, "error": None}
        for body in bodies
    ]
    write_lines(output, lines)
    kinds = [type(row.response).__name__ for row in read_batch(output)]
    assert kinds[:2] == ["Completion", "ChatCompletion"]
    assert kinds[2:] == ["EmbeddingResponse", "ScoreResponse", "RerankResponse"]


NO_ROWS: List[Any] = [{}, [], {"custom_id": "a", "response": None, "error": None}, 5]


@pytest.mark.parametrize("line", NO_ROWS)
def test_read_batch_of_no_rows(output: Path, line: Any) -> None:
    """A line that is no row of a run is an error that quotes it."""
    write_lines(output, [line])
    with pytest.raises(BatchError, match="no row of a run"):
        list(read_batch(output))


def test_unknown_response(output: Path) -> None:
    """A response of a route that batches do not know is an error."""
    response = {"status_code": 200, "request_id": "r", "body": {"object": "x"}}
    write_lines(output, [{"custom_id": "a", "response": response, "error": None}])
    with pytest.raises(BatchError, match="route that batches know"):
        list(read_batch(output))


def test_closed_on_the_way_in(serve: Serve, output: Path) -> None:
    """A file that cannot be opened raises, and leaves no lock behind."""
    errors_path(output).mkdir()
    client = serve(handler=Answering()).client
    with pytest.raises(OSError, match=r"out\.errors"):
        client.batch.run(["a"], output)
    with contextlib.suppress(OSError):
        errors_path(output).rmdir()
    assert client.batch.run(["a"], output).done == 1


def test_system_without_locks(serve: Serve, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows, which has no such locks, a run works without."""
    monkeypatch.setattr(_store, "sys", SimpleNamespace(platform="win32"))
    assert serve(handler=Answering()).client.batch.run(["a"], output).done == 1


def test_corrected_row(serve: Serve, output: Path) -> None:
    """A row that could not be sent may be corrected: the resumed run sends it."""
    client = serve(handler=Answering()).client
    assert client.batch.run(["a", {"promt": "b"}], output).failed == 1
    report = client.batch.run(["a", {"prompt": "b"}], output)
    assert (report.read, report.skipped, report.done, report.failed) == (1, 1, 2, 0)
    assert errors_path(output).read_bytes() == b""


def test_prompt_that_is_no_utf8(serve: Serve, output: Path, tmp_path: Path) -> None:
    """A prompt in another encoding is a failed row; its characters are not guessed."""
    source = tmp_path / "in.txt"
    source.write_bytes("caf\u00e9\n".encode("latin-1") + b"tea\n")
    served = serve(handler=Answering())
    report = served.client.batch.run(source, output, prompts=True)
    assert (report.done, report.failed) == (1, 1)
    assert "line 1: it is not UTF-8" in errors_path(output).read_text()
    assert [request.json["prompt"] for request in served.requests] == ["tea"]


def test_progress_of_a_shard(serve: Serve, output: Path) -> None:
    """The total of a shard is what falls to it."""
    told: List[BatchProgress] = []
    client = serve(handler=Answering()).client
    rows = [str(number) for number in range(10)]
    client.batch.run(rows, output, shard=(1, 4), progress=told.append)
    assert (told[-1].done, told[-1].total) == (3, 3)


def test_lines_of_other_programs_and_of_two_runs(tmp_path: Path) -> None:
    """Read in order, lines without a number and those of a number that was there are not lost."""
    marks = [{"index": 1}, None, {"index": 0}, {"index": 1}]
    lines = []
    for number, mark in enumerate(marks):
        body = {**answer("x"), "object": "text_completion"}
        line = {"custom_id": str(number), "response": {"status_code": 200, "body": body}}
        lines.append(json.dumps({**line, "vllm_client": mark} if mark else line) + "\n")
    path = tmp_path / "out.jsonl"
    path.write_text("".join(lines))
    assert [row.custom_id for row in read_batch(path, ordered=True)] == ["1", "3", "2", "0"]
