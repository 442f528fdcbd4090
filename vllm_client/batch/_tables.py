"""The kinds of data that engines hand to a mapper: columns are read, and others are added.

NumPy, pandas and Arrow are not imported here. Data of such a kind can only arrive in a process that
has imported its library, so it is looked up among the imported modules.
"""

from __future__ import annotations

import itertools
import math
import sys
from abc import ABC, abstractmethod
from typing import Any, Dict, Iterable, List, Literal, Mapping, Optional, Sequence

from attrs import frozen

from ..exceptions import BatchInputError


@frozen
class Column:
    """A column to add.

    Attributes:
        kind: Of its values, where they are not None: ``"text"`` is str, ``"count"`` is int, and
            ``"vector"`` an :class:`~vllm_client.types.Embedding`.
        values: One for each row.
    """

    kind: Literal["text", "count", "vector"]
    values: Sequence[Any]

    def lists(self) -> List[Any]:
        """The values; a vector as a list of floats."""
        if self.kind != "vector":
            return list(self.values)
        return [None if vector is None else vector.embedding for vector in self.values]


class Table(ABC):
    """Rows with named columns.

    Attributes:
        count: How many rows there are.
        names: The names of the columns.
    """

    count: int
    names: Sequence[Any]

    @abstractmethod
    def column(self, name: str) -> List[Any]:
        """The values of a column as Python objects; a missing one is None."""

    @abstractmethod
    def with_columns(self, columns: Mapping[str, Column]) -> Any:
        """A copy of the data with these columns added, of the kind of the data."""


def table_of(data: Any) -> Table:
    """Data of any of the kinds that mappers take.

    Raises:
        TypeError: It is none of them.
        BatchInputError: Its columns differ in length.
    """
    pandas, arrow = sys.modules.get("pandas"), sys.modules.get("pyarrow")
    if pandas is not None and isinstance(data, pandas.DataFrame):
        return _Frame(data)
    if arrow is not None and isinstance(data, (arrow.Table, arrow.RecordBatch)):
        return _Arrow(data)
    if isinstance(data, Mapping):
        return _Columns(data)
    if isinstance(data, Iterable) and not isinstance(data, (str, bytes)):
        return _Rows(data)
    raise TypeError(
        "a mapper takes a dict of columns, a list of dicts, a pandas DataFrame or an Arrow table, "
        f"not {type(data).__name__}"
    )


class _Rows(Table):
    """A list of dicts. Dask's bags hand over iterators of them."""

    def __init__(self, rows: Iterable[Any]) -> None:
        self._rows = list(rows)
        wrong = next((row for row in self._rows if not isinstance(row, Mapping)), None)
        if wrong is not None:
            raise TypeError(f"each row of a list must be a dict, not {type(wrong).__name__}")
        self.count = len(self._rows)
        self.names = list(dict.fromkeys(itertools.chain.from_iterable(self._rows)))

    def column(self, name: str) -> List[Any]:
        return [cell(row.get(name)) for row in self._rows]

    def with_columns(self, columns: Mapping[str, Column]) -> Any:
        added = {name: column.lists() for name, column in columns.items()}
        return [
            {**row, **{name: values[at] for name, values in added.items()}}
            for at, row in enumerate(self._rows)
        ]


class _Columns(Table):
    """A dict of lists, or of arrays of NumPy, as Ray hands over."""

    def __init__(self, data: Mapping[Any, Any]) -> None:
        self._data = data
        lengths = {name: len(values) for name, values in data.items()}
        if len(set(lengths.values())) > 1:
            raise BatchInputError(f"the columns differ in length: {lengths}")
        self.count = max(lengths.values(), default=0)
        self.names = list(data)

    def column(self, name: str) -> List[Any]:
        return [cell(value) for value in self._data[name]]

    def with_columns(self, columns: Mapping[str, Column]) -> Any:
        numpy = sys.modules.get("numpy")
        has_arrays = numpy is not None and any(
            isinstance(values, numpy.ndarray) for values in self._data.values()
        )
        added: Dict[str, Any] = {}
        for name, column in columns.items():
            added[name] = _object_array(numpy, column) if has_arrays else column.lists()
        return {**self._data, **added}


def _object_array(numpy: Any, column: Column) -> Any:
    # Of objects, also without a None: the batches of a data set must have the same type.
    values = numpy.empty(len(column.values), dtype=object)
    for at, value in enumerate(column.lists()):  # One by one, or vectors would be a matrix.
        values[at] = value  # A list: Ray joins no blocks of arrays and of None.
    return values


class _Frame(Table):
    """A DataFrame of pandas."""

    def __init__(self, frame: Any) -> None:
        self._frame = frame
        self.count = len(frame)
        self.names = list(frame.columns)

    def column(self, name: str) -> List[Any]:
        series = self._frame[name]
        return [
            None if missing else cell(value)
            for value, missing in zip(series.tolist(), series.isna().tolist())
        ]

    def with_columns(self, columns: Mapping[str, Column]) -> Any:
        series, index = sys.modules["pandas"].Series, self._frame.index
        # The types are fixed, or a frame with a failure would differ from one without.
        return self._frame.assign(
            **{
                name: series(
                    _arrays(column),
                    index=index,
                    dtype="Int64" if column.kind == "count" else object,
                )
                for name, column in columns.items()
            }
        )


def _arrays(column: Column) -> List[Any]:
    """The values; a vector as an array of NumPy, which pandas needs anyway."""
    if column.kind != "vector":
        return list(column.values)
    return [None if vector is None else vector.to_numpy() for vector in column.values]


class _Arrow(Table):
    """A table or a record batch of Arrow."""

    def __init__(self, table: Any) -> None:
        self._table = table
        self.count = table.num_rows
        self.names = table.schema.names

    def column(self, name: str) -> List[Any]:
        return [cell(value) for value in self._table.column(name).to_pylist()]

    def with_columns(self, columns: Mapping[str, Column]) -> Any:
        arrow = sys.modules["pyarrow"]
        types = {
            "text": arrow.string(),
            "count": arrow.int64(),
            "vector": arrow.list_(arrow.float32()),
        }
        schema, arrays = self._table.schema, list(self._table.columns)
        for name, column in columns.items():
            schema = schema.append(arrow.field(name, types[column.kind]))
            arrays.append(arrow.array(column.lists(), types[column.kind]))
        return type(self._table).from_arrays(arrays, schema=schema)


def cell(value: Any) -> Any:
    """A value as Python's own types, which can be sent as JSON; one that is missing is None."""
    is_nan = isinstance(value, float) and math.isnan(value)
    return None if is_nan else _plain(value)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (str, int, float)):
        return value
    to_list: Optional[Any] = getattr(value, "tolist", None)  # Arrays and numbers of NumPy.
    if to_list is not None:
        value = to_list()
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    return value
