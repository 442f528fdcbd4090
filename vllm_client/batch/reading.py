"""``read_batch``: the rows of an output file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Iterator, List, Type, Union

from .. import exceptions
from ..exceptions import APIStatusError, BatchError, InvalidAnswerError, VllmError
from ._order import LinePlaces
from ._store import errors_path
from .routes import ROUTES, Route
from .rows import BatchRow

__all__ = ["read_batch"]


def read_batch(
    path: Union[str, Path], *, ordered: bool = False, failed: bool = True
) -> Iterator[BatchRow]:
    """The rows of an output file of ``client.batch.run``, read one at a time.

    Args:
        path: The output file.
        ordered: Whether rows come in the order of the input; this keeps 8 bytes a row in memory.
            Without, rows come as they finished, and the failed ones at the end.
        failed: Whether to give the failed rows too, which are in ``….errors.jsonl``.

    Raises:
        BatchError: A line is no row of a run.
        OSError: The file cannot be read.
    """
    paths = [Path(path)]
    if failed and errors_path(paths[0]).exists():
        paths.append(errors_path(paths[0]))
    if ordered:
        yield from _in_order(paths)
        return
    for each in paths:
        with each.open("rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):  # A torn line is no row yet.
                    yield _row(line, each)


def _in_order(paths: List[Path]) -> Iterator[BatchRow]:
    places, count = LinePlaces(), len(paths)
    files = [path.open("rb") for path in paths]
    try:
        for number, (file, path) in enumerate(zip(files, paths)):
            at = 0
            for line in file:
                if line.endswith(b"\n"):
                    places.add(_row(line, path).index, at * count + number)
                at += len(line)
        for place in places:
            at, number = divmod(place, count)
            files[number].seek(at)
            yield _row(files[number].readline(), paths[number])
    finally:
        for file in files:
            file.close()


def _row(line: bytes, path: Path) -> BatchRow:
    try:
        raw = json.loads(line)
        mark = raw.get("vllm_client") or {}
        custom_id = str(raw["custom_id"])
        index = mark["index"] if mark else -1
        seconds, attempts = mark.get("seconds", 0.0), mark.get("attempts", 1)
        if raw.get("error"):
            return BatchRow(index, custom_id, None, _error(raw), attempts, seconds)
        body = raw["response"]["body"]
        return BatchRow(index, custom_id, _route(body).from_raw(body), None, attempts, seconds)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        text = line[:200].decode("utf-8", "replace")
        raise BatchError(
            f"{path} has a line that is no row of a run ({error!r}): {text}"
        ) from error


def _route(body: Any) -> Route:
    """The route whose response this is."""
    for route in ROUTES.values():
        if route.recognises(body):
            return route
    raise ValueError(f"no response of a route that batches know: {body!r:.100}")


def _error(raw: Any) -> VllmError:
    error, response = raw["error"], raw.get("response") or {}
    error = error.get("error", error)  # As vllm run-batch writes it.
    kind, message, status = (
        _class_of(error.get("type")),
        error["message"],
        response.get("status_code"),
    )
    if status == 200:  # A whole answer that did not fit its class.
        answer = _route(response["body"]).from_raw(response["body"])
        return InvalidAnswerError(message, text=answer.text, partial=answer)
    if status is None:
        return BatchError(message) if issubclass(kind, APIStatusError) else kind(message)
    body = response.get("body")
    told = body.get("error") if isinstance(body, dict) else None
    told = told if isinstance(told, dict) else {}
    return (kind if issubclass(kind, APIStatusError) else APIStatusError)(
        message.removeprefix(f"{status}: "),
        status_code=status,
        error_type=told.get("type"),
        param=told.get("param"),
        code=told.get("code"),
        body=body,
        request_id=response.get("request_id"),
    )


def _class_of(name: Any) -> Type[VllmError]:
    """The class of our errors that has this name."""
    found = getattr(exceptions, name, None) if name in exceptions.__all__ else None
    return found if isinstance(found, type) else BatchError
