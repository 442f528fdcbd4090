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
import shutil
import sys
from array import array
from pathlib import Path
from time import monotonic
from typing import Any, BinaryIO, Dict, Iterable, Iterator, List, Mapping, Optional, Set, Tuple

from ..exceptions import BatchChangedError, BatchLockedError, InvalidAnswerError, VllmError
from ._appended import AppendedFile
from ._order import LinePlaces
from ._rows import Job

_VERSION = 2
"""Of the format. Since 2, digests tell rows by their names too; files of 1 go on as they are."""
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
        retried: The numbers of such rows that are tried once more.

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
        self.given_up: Dict[int, int] = {}
        self.retried: Set[int] = set()
        self._sync_every = sync_every
        self._unsynced = 0
        self._synced_at = monotonic()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            self._lock()
            known = self._known_settings()
            self._digests, self.done, end = scan(self._file, path)
            self._version = self._note_settings(known, settings)
            self._rows = AppendedFile(self._file, end)
            self._carry_failures_over(retry_failed)
            self._errors = _opened_errors(self.errors_path)
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
            known = json.loads(self._meta_path.read_bytes())
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    def _known_settings(self) -> _Known:
        """The settings of the runs before; empty if there were none."""
        known = self._read_meta()
        if os.fstat(self._file).st_size and not known:
            raise BatchChangedError(
                f"{self.path} exists and is no output of a run (it has no {self._meta_path.name}): "
                "choose another file, or remove it"
            )
        return known

    def _note_settings(self, known: _Known, settings: Mapping[str, Any]) -> int:
        """Compare with the settings of the runs before, and note them; returns their version.

        Before the first response, other settings are fine: the file has nothing of the old ones.
        """
        version = 1 if known.get("version") == 1 else _VERSION
        wanted = json.loads(json.dumps({"version": version, **settings}))
        changed = [
            name
            for name in sorted(wanted.keys() | known.keys() - {"pid"})
            if wanted.get(name) != known.get(name)
        ]
        if changed and self.done:
            name = changed[0]
            raise BatchChangedError(
                f"{self.path} was begun with {name} {known.get(name)!r}, not "
                f"{wanted.get(name)!r}: choose another file, or use the same settings"
            )
        if changed:
            wanted["version"] = _VERSION
            _replace(self.errors_path, ())
        _replace(self._meta_path, [_json({**wanted, "pid": os.getpid()}) + b"\n"])
        return int(wanted["version"])

    def _carry_failures_over(self, retry_failed: bool) -> None:
        """Keep the lines of rows that this run does not try again."""
        _replace(self.errors_path, self._kept_failures(retry_failed))

    def _kept_failures(self, retry_failed: bool) -> Iterator[bytes]:
        for line in _whole_lines(self.errors_path):
            index, digest, is_retryable = self._failure(line)
            if digest == NEVER_SENT or self.digest(index) or is_retryable:
                continue
            if retry_failed:
                self.retried.add(index)
            else:
                self.given_up[index] = digest
                yield line

    def _failure(self, line: bytes) -> Tuple[int, int, bool]:
        """The number of a failed row, its digest, and whether it is tried again in any case."""
        try:
            mark = json.loads(line)["vllm_client"]
            return int(mark["index"]), int(mark["digest"]), bool(mark["retryable"])
        except (ValueError, KeyError, TypeError) as error:
            text = line[:200].decode("utf-8", "replace")
            raise BatchChangedError(
                f"{self.errors_path} has a line that is no row of a run ({error!r}): set the file "
                f"aside; its rows are then sent again. The line is {text}"
            ) from error

    def digest(self, index: int) -> int:
        """The digest of a row that the file has; 0 for any other."""
        return self._digests[index] if index < len(self._digests) else 0

    def check_same(self, job: Job) -> bool:
        """Whether an earlier run has finished this row.

        Raises:
            BatchChangedError: It has, but with another request.
        """
        known = self.digest(job.index)
        given_up = self.given_up.get(job.index)
        if not known and given_up is None:
            return False
        if (known or given_up) != self._stored_digest(job):
            hint = "" if known else ". If you have corrected it, give retry_failed=True"
            raise BatchChangedError(
                f"row {job.index} (custom_id {job.custom_id!r}) is another request, or has another "
                f"custom_id, than {self.path} has for it: the input or the parameters have changed"
                + hint
            )
        return True

    def check_all_read(self, count: int) -> None:
        """Refuse an input that has fewer rows than an earlier one.

        Raises:
            BatchChangedError: It has ``count`` rows, and an earlier run finished later ones.
        """
        before = max(len(self._digests), 1 + max(self.given_up, default=-1))
        if count < before:
            raise BatchChangedError(
                f"the input has {count} rows, but {self.path} has row {before - 1} of an earlier "
                "run: the input has changed"
            )

    def _stored_digest(self, job: Job) -> int:
        """The digest of a row in the file: 0 stands for no row, and for one that was not sent."""
        if not job.content:
            return NEVER_SENT
        # Files of version 1 do not tell rows by their names.
        return (job.digest if self._version == 1 else job.named_digest) or 1

    def write(self, jobs: List[Job]) -> None:
        """Append finished rows: one write for all that have a response.

        Raises:
            OSError: The disk is full, or broken. The file then ends with a whole line.
        """
        well = [job for job in jobs if job.error is None]
        self._rows.append(b"".join(_line(job, self._stored_digest(job)) for job in well))
        if len(well) < len(jobs):
            wrong = [job for job in jobs if job.error is not None]
            self._errors.append(
                b"".join(_error_line(job, self._stored_digest(job)) for job in wrong)
            )
        self._unsynced += len(jobs)
        due = monotonic() - self._synced_at > _SYNC_SECONDS
        if jobs and (due or self._unsynced >= self._sync_every):
            self.sync()

    def sync(self) -> None:
        """Force what was written to the disk."""
        self._rows.sync()
        self._unsynced, self._synced_at = 0, monotonic()

    def put_in_order(self) -> None:
        """Rewrite the file in the order of the input; needs as much disk space again."""
        path = self.path.resolve()  # Through a link, not in its place.
        temporary = path.with_name(path.name + ".ordered")
        with temporary.open("wb") as ordered, os.fdopen(os.dup(self._file), "rb") as lines:
            for place in _places(lines):
                lines.seek(place)
                ordered.write(lines.readline())
            ordered.flush()
            os.fsync(ordered.fileno())
        shutil.copymode(path, temporary)
        temporary.replace(path)

    def close(self) -> None:
        """Force everything to the disk and unlock the file."""
        with contextlib.ExitStack() as stack:  # Ctrl-C may come while the disk is waited for.
            stack.callback(self._rows.close)
            stack.callback(self._errors.close)
            with contextlib.suppress(OSError):
                self.sync()


def errors_path(path: Path) -> Path:
    """Where the failed rows of an output file are: ``out.errors.jsonl`` for ``out.jsonl``."""
    return path.with_name(f"{path.name.removesuffix('.jsonl')}.errors.jsonl")


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


def _whole_lines(path: Path) -> Iterator[bytes]:
    with contextlib.suppress(FileNotFoundError), path.open("rb") as lines:
        yield from (line for line in lines if line.endswith(b"\n"))


def _opened_errors(path: Path) -> AppendedFile:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    return AppendedFile(file, os.fstat(file).st_size)


def _replace(path: Path, lines: Iterable[bytes]) -> None:
    """Write a file so that after a crash it is the old one or the new one."""
    temporary = path.with_name(path.name + ".new")
    try:
        with temporary.open("wb") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _line(job: Job, digest: int) -> bytes:
    body = job.received
    if not body.startswith(b"{") or b"\n" in body or b"\r" in body:
        body = json.dumps(job.response.raw, ensure_ascii=False).encode("utf-8")
    names = job.index, _json(job.custom_id), _json(job.request_id)
    head = b'{"id":"row-%d","custom_id":%b,"response":{"status_code":200,"request_id":%b' % names
    seconds = max(job.ended_at - job.sent_at, 0.0)
    mark = b'"vllm_client":{"index":%d,"attempts":%d,"seconds":%.4f,"digest":%d}' % (
        job.index,
        job.attempts + 1,
        seconds,
        digest,
    )
    return b'%b,"body":%b},"error":null,%b}\n' % (head, body, mark)


def _error_line(job: Job, digest: int) -> bytes:
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
            "digest": digest,
            "retryable": is_retryable,
        },
    }
    return _json(line) + b"\n"


# json.dumps would make one for each value.
_encoder = json.JSONEncoder(ensure_ascii=False, default=str, separators=(",", ":"))


def _json(value: Optional[object]) -> bytes:
    return _encoder.encode(value).encode("utf-8", "backslashreplace")
