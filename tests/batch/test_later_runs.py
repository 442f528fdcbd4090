"""What a later run of the same output file may change, and what it refuses."""

from __future__ import annotations

import errno
import json
import os
import threading
from pathlib import Path
from typing import Any, List

import pytest

from vllm_client import BatchChangedError, BatchStoppedError, read_batch
from vllm_client.batch._appended import AppendedFile
from vllm_client.batch._store import errors_path

from ..servers import Serve
from ..threads import Running, wait_until
from .answering import Answering, Outcome, status

REFUSED = status("400 Bad Request", "too long")


class Refusing(dict):  # type: ignore[type-arg]
    """The outcomes of a server that always refuses the prompts that begin with ``bad``."""

    def get(self, prompt: Any, default: Any = None) -> List[Outcome]:
        return [REFUSED] if str(prompt).startswith("bad") else []


def refusing() -> Answering:
    return Answering(Refusing(bad=[]))


def test_fewer_rows(serve: Serve, output: Path) -> None:
    """An input that ends before the rows that earlier runs finished has changed."""
    client = serve(handler=refusing()).client
    client.batch.run(["a", "b", "c"], output)
    for rows in (["a", "b"], []):
        with pytest.raises(BatchChangedError, match=f"has {len(rows)} rows, but .* has row 2"):
            client.batch.run(rows, output)
    assert client.batch.run(["a", "b", "c"], output).skipped == 3


def test_fewer_rows_than_have_failed(serve: Serve, output: Path) -> None:
    """Rows that failed for good count as well; an input that raises has not ended."""
    client = serve(handler=refusing()).client
    client.batch.run(["a", "bad"], output)
    with pytest.raises(BatchChangedError, match=r"has 1 rows, but .* has row 1"):
        client.batch.run(["a"], output)

    def raising() -> Any:
        yield "a"
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        client.batch.run(raising(), output)


@pytest.mark.parametrize("names", [["0", "1"], ["x", "y"], [None, None]])
def test_other_names(serve: Serve, output: Path, names: List[Any]) -> None:
    """The same requests under other names are another input: the file would have the old names."""
    client = serve(handler=Answering()).client
    client.batch.run([("a", "x"), ("b", "y")], output)
    with pytest.raises(BatchChangedError, match=r"row 0 .* another custom_id"):
        client.batch.run(list(zip(names, "xy")), output)
    assert client.batch.run([("a", "x"), ("b", "y")], output).skipped == 2


def test_names_that_are_the_numbers(serve: Serve, output: Path) -> None:
    """A row without a name has its number as the name, so it may be written out."""
    client = serve(handler=Answering()).client
    client.batch.run(["x", "y"], output)
    assert client.batch.run([("0", "x"), (1, "y")], output).skipped == 2


def test_file_of_the_first_version(serve: Serve, output: Path) -> None:
    """A file that was begun before names were part of the digests goes on as it is."""
    client = serve(handler=Answering()).client
    client.batch.run([("a", "x")], output)
    meta = output.with_name("out.jsonl.meta")
    meta.write_text(json.dumps({**json.loads(meta.read_text()), "version": 1}))
    line = json.loads(output.read_text())
    line["vllm_client"]["digest"] = 1683433559  # The CRC of b'{"prompt":"x"}'.
    output.write_text(json.dumps(line, separators=(",", ":")) + "\n")
    rows = [("a", "x"), ("b", "x")]
    assert client.batch.run(rows, output).skipped == 1
    digests = [
        json.loads(line)["vllm_client"]["digest"] for line in output.read_text().splitlines()
    ]
    assert digests == [1683433559] * 2
    assert client.batch.run(rows, output).skipped == 2


def test_other_settings_before_the_first_response(serve: Serve, output: Path) -> None:
    """While a file has no response, a wrong model name may be corrected."""
    not_found = status("404 Not Found", "The model `x` does not exist.")
    client = serve(handler=Answering({"a": [not_found] * 20})).client
    with pytest.raises(BatchStoppedError):
        client.batch.run(["a"] * 30, output, model="x", max_concurrency=1)
    assert client.batch.run(["a"] * 30, output, model="m").done == 30
    assert errors_path(output).read_bytes() == b""
    with pytest.raises(BatchChangedError, match="begun with params"):
        client.batch.run(["a"] * 30, output, model="x", max_concurrency=1)


def test_corrected_row_that_was_refused(serve: Serve, output: Path) -> None:
    """A row that the server refused may be corrected with ``retry_failed``, as the error says."""
    client = serve(handler=refusing()).client
    client.batch.run(["a", "bad"], output)
    with pytest.raises(BatchChangedError, match="corrected it, give retry_failed=True"):
        client.batch.run(["a", "good"], output)
    with pytest.raises(BatchChangedError, match=r"have changed$"):
        client.batch.run(["b", "bad"], output)
    assert client.batch.run(["a", "good"], output, retry_failed=True).done == 2


def test_many_failed_rows_are_tried_again(serve: Serve, output: Path) -> None:
    """Rows that failed before do not stop a run when they fail once more; others still do."""
    rows = [f"bad{number}" if number % 2 else f"{number}" for number in range(60)]
    client = serve(handler=refusing()).client
    assert client.batch.run(rows, output).failed == 30
    report = client.batch.run(rows, output, retry_failed=True)
    assert (report.read, report.done, report.failed) == (30, 30, 30)
    with pytest.raises(BatchStoppedError):
        client.batch.run(rows + ["bad"] * 30, output, retry_failed=True)


@pytest.mark.parametrize("line", ["noise", "{}", '{"vllm_client":{"index":1}}', "5"])
def test_file_of_failed_rows_that_is_broken(serve: Serve, output: Path, line: str) -> None:
    """A line among the failed rows that is none is an error that quotes it, and nothing is lost."""
    client = serve(handler=refusing()).client
    client.batch.run(["a", "bad"], output)
    errors = errors_path(output)
    errors.write_text(line + "\n" + errors.read_text())
    before = errors.read_bytes(), sorted(output.parent.iterdir())
    with pytest.raises(BatchChangedError, match=r"out\.errors\.jsonl has a line that is no row"):
        client.batch.run(["a", "bad"], output)
    assert (errors.read_bytes(), sorted(output.parent.iterdir())) == before
    errors.unlink()
    assert client.batch.run(["a", "bad"], output).failed == 1


def test_settings_that_are_broken(serve: Serve, output: Path) -> None:
    """A file whose settings are no object is not continued."""
    client = serve(handler=Answering()).client
    client.batch.run(["a"], output)
    output.with_name("out.jsonl.meta").write_text("5")
    with pytest.raises(BatchChangedError, match=r"has no out\.jsonl\.meta"):
        client.batch.run(["a"], output)


def test_full_disk_among_failed_rows(
    serve: Serve, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of a line does not stay in the file of failed rows, where it would join the next."""
    client = serve(handler=refusing()).client
    plain, room = os.write, [60]

    def write(file: int, data: Any) -> int:
        if not room[0]:
            room[0] = 10_000
            raise OSError(errno.ENOSPC, "No space left on device")
        size = min(room[0], len(data))
        room[0] -= size
        return plain(file, data[:size])

    rows = ["bad0", "bad1", "bad2"]
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", write)
        with pytest.raises(OSError, match="No space left"):
            client.batch.run(rows, output, max_concurrency=1)
    for line in errors_path(output).read_text().splitlines(keepends=True):
        assert line.endswith("\n")
        json.loads(line)
    assert client.batch.run(rows, output).failed == 3


def test_interrupt_while_the_file_is_closed(
    serve: Serve, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while the disk is waited for at the end leaves no lock: the same call goes on."""
    client = serve(handler=Answering()).client

    def interrupted(_file: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(AppendedFile, "sync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.batch.run(["a"], output)
    assert client.batch.run(["a"], output).skipped == 1


def test_interrupt_while_a_thread_starts(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while a worker starts ends the run and all its threads, that one too."""
    client = serve(handler=Answering()).client
    start, started = threading.Thread.start, []

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        if thread.name == "vllm_client-batch":
            started.append(thread)
            if len(started) == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    run = Running(lambda: list(client.batch.completions(list("abcdefgh"))))
    with pytest.raises(KeyboardInterrupt):
        run.result()
    assert wait_until(lambda: not any(thread.is_alive() for thread in started))


def test_order_behind_a_link(serve: Serve, output: Path) -> None:
    """A link stays one when its file is put in order, and the file keeps its permissions."""
    target = output.parent / "disk" / "rows.jsonl"
    target.parent.mkdir()
    target.touch(mode=0o600)
    output.symlink_to(target)
    client = serve(handler=Answering()).client
    client.batch.run([str(number) for number in range(40)], output, ordered=True)
    assert output.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o600
    assert [row.index for row in read_batch(output)] == list(range(40))
    assert list(target.parent.iterdir()) == [target]
