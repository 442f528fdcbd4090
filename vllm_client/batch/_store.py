"""The output file of a run: every row at most once, whatever kills the process.

Lines are those of OpenAI's batch format as ``vllm run-batch`` writes them, with one more member at
the end that a resumed run reads: the number of the row and a digest of its request. A row counts
once its newline is in the file; a line without one is cut off before anything is appended.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from array import array
from pathlib import Path
from time import monotonic
from typing import Any, BinaryIO, Dict, List, Mapping, Optional, Tuple

from ..exceptions import BatchChangedError, BatchLockedError, InvalidAnswerError, VllmError
from ._order import LinePlaces
from ._rows import Job

_VERSION = 1
NEVER_SENT = 0
"""The digest of a row that could not be sent. Its line may be corrected: it is looked at again."""
_SCAN_SIZE = 1 << 22
_SYNC_SECONDS = 5.0
_MARK = re.compile(
    rb'"vllm_client":\{"index":(\d+),"attempts":\d+,"seconds":[0-9.]+,"digest":(\d+)\}\}\n'
)
_Known = Dict[str, Any]


class OutputFile:
    """An open output file, locked against other writers; to be used in ``with``.

    Args:
        path: The file. It is made if it does not exist, and continued if it does.
        settings: What must be the same in every run of this file: route and common fields.
        sync_every: After as many rows the file is forced to the disk.
        retry_failed: Whether rows are tried again that failed for good.

    Attributes:
        done: How many rows the file has from earlier runs.
        given_up: The digests of rows that failed for good in earlier runs, by row number.

    Raises:
        BatchLockedError: Another process writes this file.
        BatchChangedError: It was written with other settings, or not by a run.
    """

    def __init__(
        self,
        path: Path,
        settings: Mapping[str, Any],
        *,
        sync_every: int = 1000,
        retry_failed: bool = False,
    ) -> None:
        self.path = path
        self.errors_path = errors_path(path)
        self._meta_path = path.with_name(path.name + ".meta")
        self._sync_every = sync_every
        self._unsynced = 0
        self._synced_at = monotonic()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            self._lock()
            self._check_settings(settings)
            self._digests, self.done, self._end = scan(self._file, path)
            os.ftruncate(self._file, self._end)
            self.given_up = self._carry_failures_over(retry_failed)
            self._errors = self.errors_path.open("ab", buffering=0)
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> OutputFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _lock(self) -> None:
        if sys.platform == "win32":
            return
        import fcntl  # noqa: PLC0415 — missing on Windows

        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = self._read_meta().get("pid", "unknown")
            raise BatchLockedError(
                f"another process (pid {pid}) writes {self.path}: wait for it, or end it"
            ) from None

    def _read_meta(self) -> _Known:
        try:
            known: _Known = json.loads(self._meta_path.read_bytes())
        except (OSError, ValueError):
            return {}
        return known

    def _check_settings(self, settings: Mapping[str, Any]) -> None:
        """Compare with the settings of the runs before, or note them before the first row."""
        known = self._read_meta()
        wanted = json.loads(json.dumps({"version": _VERSION, **settings}))
        if os.fstat(self._file).st_size and not known:
            raise BatchChangedError(
                f"{self.path} exists and is no output of a run (it has no {self._meta_path.name}): "
                "choose another file, or remove it"
            )
        for name in sorted(wanted.keys() | known.keys() - {"pid"}) if known else ():
            if wanted.get(name) != known.get(name):
                raise BatchChangedError(
                    f"{self.path} was begun with {name} {known.get(name)!r}, not "
                    f"{wanted.get(name)!r}: choose another file, or use the same settings"
                )
        _replace(self._meta_path, json.dumps({**wanted, "pid": os.getpid()}).encode() + b"\n")

    def _carry_failures_over(self, retry_failed: bool) -> Dict[int, int]:
        """Keep the lines of rows that this run does not try again; returns their digests."""
        kept: Dict[int, int] = {}
        lines: List[bytes] = []
        for line in _whole_lines(self.errors_path):
            mark = json.loads(line)["vllm_client"]
            was_sent = mark["digest"] != NEVER_SENT
            tried_again = retry_failed or mark["retryable"] or self.digest(mark["index"])
            if was_sent and not tried_again:
                kept[mark["index"]] = mark["digest"]
                lines.append(line)
        _replace(self.errors_path, b"".join(lines))
        return kept

    def digest(self, index: int) -> int:
        """The digest of a row that the file has; 0 for any other."""
        return self._digests[index] if index < len(self._digests) else 0

    def check_same(self, job: Job) -> bool:
        """Whether an earlier run has finished this row.

        Raises:
            BatchChangedError: It has, but with another request.
        """
        known = self.digest(job.index)
        finished = known != 0 or job.index in self.given_up
        if finished and (known or self.given_up[job.index]) != stored_digest(job):
            raise BatchChangedError(
                f"row {job.index} (custom_id {job.custom_id!r}) is another request than the one "
                f"that {self.path} has for it: the input or the parameters have changed"
            )
        return finished

    def write(self, jobs: List[Job]) -> None:
        """Append finished rows: one write for all that have a response.

        Raises:
            OSError: The disk is full, or broken. The file then ends with a whole line.
        """
        self._append(b"".join(_line(job) for job in jobs if job.error is None))
        for job in jobs:
            if job.error is not None:
                self._errors.write(_error_line(job))
        self._unsynced += len(jobs)
        due = monotonic() - self._synced_at > _SYNC_SECONDS
        if jobs and (due or self._unsynced >= self._sync_every):
            self.sync()

    def _append(self, data: bytes) -> None:
        written = 0
        view = memoryview(data)
        try:
            while written < len(data):
                written += os.write(self._file, view[written:])
        except BaseException:
            written = data.rfind(b"\n", 0, written) + 1
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._end + written)
            raise
        finally:
            self._end += written

    def sync(self) -> None:
        """Force what was written to the disk."""
        os.fsync(self._file)
        self._unsynced, self._synced_at = 0, monotonic()

    def put_in_order(self) -> None:
        """Rewrite the file in the order of the input; needs as much disk space again."""
        temporary = self.path.with_name(self.path.name + ".ordered")
        with temporary.open("wb") as ordered, os.fdopen(os.dup(self._file), "rb") as lines:
            for place in _places(lines):
                lines.seek(place)
                ordered.write(lines.readline())
            ordered.flush()
            os.fsync(ordered.fileno())
        temporary.replace(self.path)

    def close(self) -> None:
        """Force everything to the disk and unlock the file."""
        with contextlib.suppress(OSError):
            self.sync()
        self._errors.close()
        os.close(self._file)


def errors_path(path: Path) -> Path:
    """Where the failed rows of an output file are: ``out.errors.jsonl`` for ``out.jsonl``."""
    return path.with_name(f"{path.name.removesuffix('.jsonl')}.errors.jsonl")


def stored_digest(job: Job) -> int:
    """The digest of a row as it is stored: 0 stands for no row, and for one that was not sent."""
    return (job.digest or 1) if job.content else NEVER_SENT


def scan(file: int, path: Path) -> Tuple[array[int], int, int]:
    """Read which rows an output file has.

    Returns:
        The digests by row number, 0 for rows that it does not have; how many rows it has; and
        where its last whole line ends.

    Raises:
        BatchChangedError: A line before the last one is not whole.
    """
    digests = array("I")
    count = lines = at = 0
    rest = b""
    while True:
        block = os.pread(file, _SCAN_SIZE, at + len(rest))
        end = block.rfind(b"\n") + 1
        whole, rest_after = rest + block[:end], block[end:]
        if not end:
            if not block:
                return digests, count, at
            rest += block
            continue
        found = _MARK.findall(whole)
        lines += whole.count(b"\n")
        for index, digest in found:
            count += _note(digests, int(index), int(digest))
        at += len(whole)
        if count != lines:
            raise BatchChangedError(
                f"{path} has a line before byte {at} that is no row of a run, or a row twice: "
                "set the file aside"
            )
        rest = rest_after


def _note(digests: array[int], index: int, digest: int) -> int:
    if index >= len(digests):
        digests.frombytes(bytes(4 * (index + 1 - len(digests))))
    if digests[index]:
        return 0
    digests[index] = digest
    return 1


def _places(lines: BinaryIO) -> LinePlaces:
    """Where the line of each row begins."""
    places, begin = LinePlaces(), 0
    lines.seek(0)
    for line in lines:
        found = _MARK.search(line, len(line) - min(len(line), 200))
        assert found is not None
        places.add(int(found[1]), begin)
        begin += len(line)
    return places


def _whole_lines(path: Path) -> List[bytes]:
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    return [line for line in lines if line.endswith(b"\n")]


def _replace(path: Path, content: bytes) -> None:
    """Write a small file so that after a crash it is the old one or the new one."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _line(job: Job) -> bytes:
    body = job.received
    if b"\n" in body:
        body = json.dumps(job.response.raw, ensure_ascii=False).encode("utf-8")
    names = job.index, _json(job.custom_id), _json(job.request_id)
    head = b'{"id":"row-%d","custom_id":%b,"response":{"status_code":200,"request_id":%b' % names
    return b'%b,"body":%b},"error":null,%b}\n' % (head, body, _mark(job))


def _mark(job: Job) -> bytes:
    seconds = max(job.ended_at - job.sent_at, 0.0)
    return b'"vllm_client":{"index":%d,"attempts":%d,"seconds":%.4f,"digest":%d}' % (
        job.index,
        job.attempts + (job.error is None),
        seconds,
        stored_digest(job),
    )


def _error_line(job: Job) -> bytes:
    error: Any = job.error
    status = getattr(error, "status_code", None)
    response = None
    if status is not None:
        body = error.body
        response = {"status_code": status, "request_id": error.request_id, "body": body}
    elif isinstance(error, InvalidAnswerError):
        response = {"status_code": 200, "request_id": job.request_id, "body": job.response.raw}
    is_retryable = isinstance(error, VllmError) and error.is_retryable
    line = {
        "id": f"row-{job.index}",
        "custom_id": job.custom_id,
        "response": response,
        "error": {"message": str(error), "type": type(error).__name__, "code": status},
        "vllm_client": {
            "index": job.index,
            "attempts": job.attempts,
            "seconds": round(max(job.ended_at - job.sent_at, 0.0), 4),
            "digest": stored_digest(job),
            "retryable": is_retryable,
        },
    }
    return _json(line) + b"\n"


# json.dumps would make one for each value.
_encoder = json.JSONEncoder(ensure_ascii=False, default=str, separators=(",", ":"))


def _json(value: Optional[object]) -> bytes:
    return _encoder.encode(value).encode("utf-8", "backslashreplace")
