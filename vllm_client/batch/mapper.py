"""``Mapper``: a function over batches of rows for Ray Data, Dask and Spark."""

from __future__ import annotations

import json
from collections import deque
from typing import (
    Any,
    Callable,
    Deque,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Union,
)

from .._http.headers import Headers
from .._http.settings import DEFAULT_MAX_RESPONSE_BYTES, DEFAULT_TIMEOUT, new_transport
from ..exceptions import BatchInputError, VllmError
from ..resources._vectors import input_count
from ..timeouts import TimeoutTypes
from ..types.embedding import EmbeddingResponse
from ._rows import check_common
from ._shared import ServerSettings, shared
from ._tables import Column, Table, table_of
from .resource import Batch
from .routes import CHAT, COMPLETIONS, EMBEDDINGS, Route, named_route
from .rows import BatchRow

__all__ = ["Mapper"]

_ROUTES = (COMPLETIONS, CHAT, EMBEDDINGS)
_NOT_HERE = {"strict": "a failed row is a value", "progress": "the engine shows it"}


class Mapper:
    """Sends each row of a batch to a vLLM server, and adds columns with the outcome.

    It is made for ``map_batches`` of Ray Data, ``map_partitions`` of Dask and, with
    :meth:`batches`, for ``mapInPandas`` of Spark; see ``docs/batch.md``. It can be pickled: the
    pickle holds its settings, and so the key. The mappers of a process that have the same server
    settings share their connections, which stay open from batch to batch.

    Args:
        base_url: As for ``VllmClient``. A default from the environment is read here, and not where
            the mapper is used; the same holds for ``api_key``.
        prompt: The column with what a row asks for: a text, or a list of token ids. With
            ``route="chat"`` a text is one message of the user.
        output: The column to add for the text of the first choice, or for the vector. The default
            is ``"text"``, and ``"embedding"`` for embeddings.
        error: The column to add for the reason of a failure, such as ``"ContextLengthError: …"``.
        messages: The column with lists of messages, instead of ``prompt``. The route is then chat.
        route: ``"completions"``, which is the default, ``"chat"`` or ``"embeddings"``.
        row_fields: Columns with request fields of each row, such as ``["seed"]``; or a dict from
            field to column. Where the value is missing, the common one holds.
        extra_outputs: More to add: ``"finish_reason"``, ``"prompt_tokens"``,
            ``"completion_tokens"`` and ``"response"`` (the whole response as JSON text); or a dict
            from one of these to the name of the column.
        api_key: As for ``VllmClient``. It is never shown.
        timeout: As for ``VllmClient``.
        max_retries: How often a row is tried again that failed by its own fault, 0 or more.
        headers: As for ``VllmClient``.
        max_response_bytes: As for ``VllmClient``.
        **params: The request fields of all rows, and the settings of
            :class:`~vllm_client.params.batch.BatchParams`, but ``strict`` and ``progress``.
            ``max_concurrency`` bounds each call; ``stop_after_failures`` is None unless it is set,
            because the rows of one batch may well all be wrong.

    Raises:
        BatchInputError: A field or a route is misspelt.
        TypeError, ValueError: An argument is invalid.
    """

    def __init__(
        self,
        base_url: Optional[str] = None,
        prompt: str = "prompt",
        output: Optional[str] = None,
        error: str = "error",
        *,
        messages: Optional[str] = None,
        route: Optional[str] = None,
        row_fields: Union[Sequence[str], Mapping[str, str]] = (),
        extra_outputs: Union[Sequence[str], Mapping[str, str]] = (),
        api_key: Optional[str] = None,
        timeout: TimeoutTypes = DEFAULT_TIMEOUT,
        max_retries: int = 2,
        headers: Optional[Headers] = None,
        max_response_bytes: int = DEFAULT_MAX_RESPONSE_BYTES,
        **params: Any,
    ) -> None:
        transport = new_transport(
            base_url, api_key, timeout, max_retries, headers, None, max_response_bytes
        )
        self._server = ServerSettings.of(transport)
        chosen = _chosen_route(route, prompt, messages)
        self._route_name = chosen.name
        self._prompt = messages or prompt
        self._row_fields = _named("row_fields", row_fields)
        self._params = _checked_params(chosen, params, self._row_fields)
        Batch(transport)._new_run(chosen, dict(self._params))  # Raises if a setting is wrong.
        self._error = error
        self._output = output or ("embedding" if chosen is EMBEDDINGS else "text")
        self._extra_outputs = _named("extra_outputs", extra_outputs)
        _check_outputs(chosen, self._extra_outputs, [*self._added, self._prompt])

    def __call__(self, data: Any) -> Any:
        """Send the rows of a batch.

        A failed row has a text in the error column and None in the others; a row that did not fail
        has None in the error column. No row raises an exception.

        Args:
            data: A dict of columns (lists or arrays of NumPy), a list of dicts, a DataFrame of
                pandas, or a table of Arrow. It is not changed. An empty one is not sent, so
                ``mapper(frame[:0])`` shows the columns and their types.

        Returns:
            The data, rows in the same order, with the columns added; of the same kind.

        Raises:
            BatchInputError: The data lacks a column, or has a column that would be added.
            BatchStoppedError: The server was away for longer than ``patience``. No row is
                returned: let the engine run the task again.
            TypeError: The data is of another kind.
        """
        (result,) = self.batches([data])
        return result

    def batches(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Send the rows of many batches; requests go on across the borders of batches.

        It keeps as many requests in flight with small batches as with large ones, and is the
        function for Spark: ``frame.mapInPandas(mapper.batches, schema)``.

        Args:
            batches: Any iterable, read as far ahead as there is room. Each is as for a call.

        Returns:
            An iterator over the results, in order, each as of a call. Break off, and the requests
            in flight are cancelled.

        Raises:
            BatchError, TypeError: While it is read: as a call.
        """
        waiting: Deque[Table] = deque()
        finished: List[BatchRow] = []
        route = named_route(self._route_name)
        rows = self._rows(batches, waiting, route)
        batch = Batch(shared.get(self._server))
        params = dict(self._params)
        with batch._rows(route, rows, ordered=True, input_thread=False, params=params) as answered:
            for row in answered:
                finished.append(row)
                yield from self._whole_batches(waiting, finished)
        yield from self._whole_batches(waiting, finished)

    def close(self) -> None:
        """Close the connections of this process. The next call opens others.

        Mappers with the same server settings share them, and their requests in flight fail. It
        need not be called: the connections are closed when the process exits.
        """
        shared.close(self._server)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._server.base_url!r}, route={self._route_name!r})"

    @property
    def _added(self) -> List[str]:
        return [self._output, self._error, *self._extra_outputs.values()]

    def _rows(self, batches: Iterable[Any], waiting: Deque[Table], route: Route) -> Iterator[Any]:
        for data in batches:
            table = table_of(data)
            self._check_columns(table)
            waiting.append(table)
            yield from self._requests(table, route)

    def _check_columns(self, table: Table) -> None:
        if not (table.names or table.count):
            return  # An empty list has no columns, and lacks none.
        for name in [self._prompt, *self._row_fields.values()]:
            if name not in table.names:
                raise BatchInputError(f"the data has no column {name!r}, only {table.names}")
        for name in self._added:
            if name in table.names:
                raise BatchInputError(
                    f"the data has a column {name!r} already: remove it, or name the columns to "
                    "add with output=…, error=… and extra_outputs={…}"
                )

    def _requests(self, table: Table, route: Route) -> Iterator[Any]:
        """The request fields of each row, or the error of one that has none."""
        if not table.count:
            return
        columns = {field: table.column(name) for field, name in self._row_fields.items()}
        for at, asked in enumerate(table.column(self._prompt)):
            given = {name: values[at] for name, values in columns.items()}
            fields = {name: value for name, value in given.items() if value is not None}
            try:
                yield {**_fields_of(route, asked), **fields}
            except (VllmError, ValueError, TypeError) as error:
                yield error

    def _whole_batches(self, waiting: Deque[Table], finished: List[BatchRow]) -> Iterator[Any]:
        while waiting and len(finished) >= waiting[0].count:
            table = waiting.popleft()
            rows = finished[: table.count]
            del finished[: table.count]
            yield table.with_columns(self._columns(rows))

    def _columns(self, rows: List[BatchRow]) -> Dict[str, Column]:
        vectors = self._route_name == EMBEDDINGS.name
        outputs = [_output_of(row) if row.ok else None for row in rows]
        columns = {
            self._output: Column("vector" if vectors else "text", outputs),
            self._error: Column("text", [_reason(row) for row in rows]),
        }
        for kind, name in self._extra_outputs.items():
            values = [_EXTRA_OUTPUTS[kind](row) if row.ok else None for row in rows]
            columns[name] = Column("count" if kind.endswith("tokens") else "text", values)
        return columns


def _chosen_route(name: Optional[str], prompt: str, messages: Optional[str]) -> Route:
    if messages is not None and prompt != "prompt":
        raise ValueError("the rows are in one column: set prompt=… or messages=…, not both")
    route = named_route(name or (COMPLETIONS if messages is None else CHAT).name)
    if route not in _ROUTES or (messages is not None and route is not CHAT):
        known = "'chat'" if messages is not None else ", ".join(repr(r.name) for r in _ROUTES)
        raise ValueError(f"route must be one of {known}, not {name!r}")
    return route


def _named(argument: str, names: Union[Sequence[str], Mapping[str, str]]) -> Dict[str, str]:
    """A dict from what is meant to the column; a list has the same name for both."""
    if isinstance(names, str):
        raise TypeError(f"{argument} must be a list of names, or a dict, not {names!r}")
    return dict(names) if isinstance(names, Mapping) else {name: name for name in names}


def _checked_params(
    route: Route, params: Mapping[str, Any], row_fields: Mapping[str, str]
) -> Dict[str, Any]:
    """The parameters of each run.

    Raises:
        BatchInputError: A field is not of the route, or not for all rows.
    """
    for name, reason in _NOT_HERE.items():
        if name in params:
            raise BatchInputError(f"a mapper does not take {name}: {reason}")
    if route.row_field in params:
        raise BatchInputError(
            f"{route.row_field} differs from row to row: name its column, with prompt=… or "
            "messages=…"
        )
    check_common(row_fields, route)
    defaults: Dict[str, Any] = {"stop_after_failures": None}
    if route is EMBEDDINGS:
        defaults["encoding_format"] = "base64"  # A quarter of the bytes of decimal numbers.
    return {**defaults, **params}


def _check_outputs(route: Route, outputs: Mapping[str, str], names: List[str]) -> None:
    """Refuse further columns that the route cannot fill, and columns of the same name."""
    known = [name for name in _EXTRA_OUTPUTS if route is not EMBEDDINGS or name in _OF_EMBEDDINGS]
    unknown = next((name for name in outputs if name not in known), None)
    if unknown is not None:
        raise ValueError(
            f"extra_outputs of {route.name} are {', '.join(known)}, and not {unknown!r}"
        )
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise ValueError(f"two columns would have the name {double!r}: choose another for one")


def _fields_of(route: Route, asked: Any) -> Mapping[str, Any]:
    """The request fields for a value of the column.

    Raises:
        BatchInputError: It stands for no request.
    """
    if asked is None:
        raise BatchInputError("there is no value")
    fields = route.fields_of(asked)
    if route is CHAT:
        return {**fields, "messages": _without_nulls(fields.get("messages"))}
    if route is EMBEDDINGS and input_count(dict(fields)) != 1:
        raise BatchInputError("a row has one input, and not a list of texts")
    return fields


def _without_nulls(value: Any) -> Any:
    # A column of dicts has the same members in each row, so some are null, which vLLM refuses.
    if isinstance(value, list):
        return [_without_nulls(each) for each in value]
    if not isinstance(value, dict):
        return value
    kept = {name: each for name, each in value.items() if each is not None or name == "content"}
    return {name: _without_nulls(each) for name, each in kept.items()}


def _output_of(row: BatchRow) -> Any:
    return row.response.data[0] if isinstance(row.response, EmbeddingResponse) else row.text


def _reason(row: BatchRow) -> Optional[str]:
    return None if row.error is None else f"{type(row.error).__name__}: {row.error}"


def _finish_reason(row: BatchRow) -> Optional[str]:
    choices = getattr(row.response, "choices", None)
    return choices[0].finish_reason if choices else None


_EXTRA_OUTPUTS: Dict[str, Callable[[BatchRow], Any]] = {
    "finish_reason": _finish_reason,
    "prompt_tokens": lambda row: row.usage and row.usage.prompt_tokens,
    "completion_tokens": lambda row: row.usage and row.usage.completion_tokens,
    "response": lambda row: json.dumps(row.response.raw, ensure_ascii=False),
}
_OF_EMBEDDINGS = {"prompt_tokens", "response"}
