"""Rows of any shape → requests: who they are, what is sent, and what is wrong with them."""

from __future__ import annotations

import difflib
import logging
from array import array
from collections import abc
from numbers import Integral
from time import perf_counter
from typing import (
    Any,
    Callable,
    Collection,
    Dict,
    FrozenSet,
    Iterable,
    Iterator,
    Mapping,
    Optional,
    Set,
    Tuple,
)
from zlib import crc32

from attrs import define, field

from .._http.payload import encoded
from .._http.transport import Transport
from .._request import answer_type_of, check_alone
from ..exceptions import BatchInputError, VllmError
from .routes import ROUTES, Route, named_route, route_of_row

logger = logging.getLogger("vllm_client")

BLANK = object()
"""Stands for an empty line of a file: it is no row, but it counts as a line."""
_LINE_MEMBERS = {"custom_id", "method", "url", "body"}


@define(eq=False)
class Job:
    """One row: its request, and once it was sent its outcome.

    Attributes:
        index: The number of the row, from 0.
        custom_id: Its name; the number as text unless the row has one.
        body: The fields of its request; empty if the row is wrong.
        answer_type: The class that its ``response_format`` named.
        content: The same encoded.
        error: Why there is no response.
        response: The response.
        perform: Makes the response by requests of its own, instead of the one request above.
        received: The bytes of the response's body.
        attempts: How often it was sent and failed by its own fault.
        rejections: How often the server was too busy for it.
    """

    index: int
    custom_id: str
    route: Optional[Route] = None
    body: Dict[str, Any] = field(factory=dict)
    answer_type: Optional[type] = None
    content: bytes = b""
    error: Optional[BaseException] = None
    response: Any = None
    received: bytes = b""
    perform: Optional[Callable[[Transport], Any]] = None
    request_id: Optional[str] = None
    attempts: int = 0
    rejections: int = 0
    read_at: float = 0.0
    sent_at: float = 0.0
    ended_at: float = 0.0

    failed_before: bool = False
    """Whether an earlier run gave this row up, and it is tried once more."""

    @property
    def digest(self) -> int:
        """What tells whether a later run has the same request in this row."""
        return crc32(self.content)

    @property
    def named_digest(self) -> int:
        """The same of the request and the name of the row."""
        return crc32(self.custom_id.encode("utf-8", "surrogatepass"), self.digest)


class RowReader:
    """Reads an iterable of rows and makes a job of each.

    A row is a mapping of request fields; or the one field that its route is about (a text, token
    ids, messages); or a pair ``(custom_id, row)``; or a line of OpenAI's batch format.

    Args:
        rows: The rows; read one at a time.
        route: Their route; None takes it from each row.
        common: Request fields of all rows; a row may override them.
        strict: Whether a row that cannot be sent raises, instead of being a failed one.
        place: What a row is called in messages: ``"row"`` or ``"line"``.
        answer_type: The class of all rows, whose schema is the ``response_format`` in ``common``.
        fields: The names in ``common`` that are fields of some route.
    """

    def __init__(
        self,
        rows: Iterable[Any],
        route: Optional[Route],
        common: Mapping[str, Any],
        *,
        strict: bool = False,
        place: str = "row",
        answer_type: Optional[type] = None,
        fields: Collection[str] = (),
    ) -> None:
        self._rows = rows
        self._route = route
        self._common = dict(common)
        self._strict = strict
        self._place = place
        self._answer_type = answer_type
        self._fields = fields
        self._warned: Set[str] = set()
        self._ids = SeenIds()
        self._first_named: Optional[int] = None

    def __iter__(self) -> Iterator[Job]:
        """The jobs, in order.

        Raises:
            BatchInputError: A row cannot be sent, and ``strict`` is set.
        """
        index = 0
        for line, row in enumerate(self._rows, 1):
            if row is BLANK:
                continue
            job = Job(index, str(index), read_at=perf_counter())
            try:
                self._fill(job, row)
            except (VllmError, TypeError, ValueError) as error:
                place = f"line {line}" if self._place == "line" else f"row {index}"
                job.error = BatchInputError(f"{place}: {error}")
                if self._strict:
                    raise job.error from error
            index += 1
            yield job

    def _fill(self, job: Job, row: Any) -> None:
        if isinstance(row, BaseException):
            raise BatchInputError(str(row))
        custom_id, url, item = _parts_of(row)
        self._name(job, custom_id)
        job.route = self._route_of(url, item)
        fields = dict(job.route.fields_of(item))
        if fields.pop("stream", None):
            raise BatchInputError("a row cannot ask for a stream")
        _check_names(fields, job.route)
        body = {**self._common, **fields}
        job.answer_type = self._answer_type_of(job.route, fields, body)
        job.route.check(body)
        job.body, job.content = body, encoded(body)

    def _answer_type_of(
        self, route: Route, fields: Mapping[str, Any], body: Dict[str, Any]
    ) -> Optional[type]:
        if "response_format" in fields:
            return answer_type_of(body)
        if self._answer_type is None or "response_format" not in route.fields:
            return None
        check_alone(body)
        return self._answer_type

    def _name(self, job: Job, custom_id: object) -> None:
        """Give a row its name; rows without one have their number.

        Raises:
            BatchInputError: Another row has that name, or it is none.
        """
        if custom_id is None:
            if self._first_named is not None and not self._ids.add(job.custom_id):
                raise BatchInputError(
                    f"an earlier row has the custom_id {job.custom_id!r}, which is the number of "
                    "this one: give each row a custom_id, or none"
                )
            return
        if not isinstance(custom_id, (str, Integral)):
            raise BatchInputError(f"custom_id must be text or a number, not {custom_id!r}")
        job.custom_id = str(custom_id)
        if self._first_named is None:
            self._first_named = job.index  # All rows before have their numbers.
        if _is_number_below(job.custom_id, self._first_named) or not self._ids.add(job.custom_id):
            raise BatchInputError(f"custom_id {custom_id!r} stands at an earlier row already")

    def _route_of(self, url: Optional[str], item: object) -> Route:
        if self._route is not None:
            if url is not None and not self._route.is_at(url):
                raise BatchInputError(f"the row is for {url}, this run for {self._route.url}")
            return self._route
        route = named_route(url) if url is not None else route_of_row(item)
        if route is None:
            raise BatchInputError("the row does not tell its route: give route=…, or a url in it")
        if route.url not in self._warned:
            self._warned.add(route.url)
            _warn_of_unused(self._fields, route)
        return route


def _parts_of(row: Any) -> Tuple[object, Optional[str], Any]:
    """The custom id of a row and its URL, if it has them, and the row itself."""
    if _is_pair(row):
        return row[0], None, row[1]
    if not isinstance(row, abc.Mapping):  # typing.Mapping takes ten times as long.
        return None, None, row
    if isinstance(row.get("body"), abc.Mapping) and row.keys() <= _LINE_MEMBERS:
        return row.get("custom_id"), row.get("url"), row["body"]
    if "custom_id" in row:
        row = dict(row)
        return row.pop("custom_id"), None, row
    return None, None, row


def _is_pair(row: object) -> bool:
    """Whether a row is ``(custom_id, row)``, and not two token ids or two messages."""
    if not isinstance(row, tuple) or len(row) != 2:
        return False
    first, second = row
    if isinstance(first, str):
        return True
    return not (
        isinstance(first, abc.Mapping)
        or (isinstance(first, Integral) and isinstance(second, Integral))
    )


def _is_number_below(text: str, limit: int) -> bool:
    """Whether a text is the name of a row below this number that has no name of its own."""
    is_number = len(text) < 20 and text.isdecimal()
    return is_number and int(text) < limit and str(int(text)) == text


def check_rows(rows: object, what: str = "the rows must be") -> None:
    """Refuse what would be iterated over as something else than rows.

    Raises:
        BatchInputError: A text, one row by itself, a table, or nothing that can be iterated over.
    """
    if isinstance(rows, (str, bytes, bytearray, abc.Mapping)) or not hasattr(rows, "__iter__"):
        raise BatchInputError(f"{what} an iterable of rows, not {type(rows).__name__}")
    if not callable(getattr(rows, "columns", print)):  # Frames of pandas and polars, for example.
        raise BatchInputError(
            f"a {type(rows).__name__} is a table, which iterates over its columns: give one of "
            'them, or its rows as dicts, such as frame.to_dict("records")'
        )


def check_common(common: Mapping[str, Any], route: Optional[Route]) -> None:
    """Refuse misspelt fields of all rows before any row is read.

    Raises:
        BatchInputError: A name is no field of the route, or, if each row tells its own, of any.
    """
    if route is not None:
        _check_names(common, route)
        return
    known = frozenset().union(*(each.fields for each in ROUTES.values()))
    _refuse_unknown(common, known, "no route of a batch has a")


def _warn_of_unused(fields: Collection[str], route: Route) -> None:
    """Tell which fields of all rows mean nothing to the rows of one route."""
    unused = sorted(name for name in fields if name not in route.fields)
    if unused:
        logger.warning(
            "%s has no field %s, so vLLM ignores it there: set it in the rows of other routes",
            route.url,
            ", ".join(map(repr, unused)),
        )


def _check_names(fields: Mapping[str, Any], route: Route) -> None:
    _refuse_unknown(fields, route.fields, f"{route.url} has no")


def _refuse_unknown(fields: Mapping[str, Any], known: FrozenSet[str], says: str) -> None:
    unknown = next((name for name in fields if name not in known), None)
    if unknown is None:
        return
    near = difflib.get_close_matches(str(unknown), sorted(known), 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise BatchInputError(f"{says} field {unknown!r}{hint} (vLLM would ignore it silently)")


class SeenIds:
    """The ids of the rows so far, 16 to 32 bytes each: a set of strings would take a hundred."""

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 * 1024))
        self._count = 0

    def add(self, custom_id: str) -> bool:
        """Note an id. Returns False if it was there before."""
        mark = (hash(custom_id) & 0xFFFFFFFFFFFFFFFF) or 1
        if not self._put(self._slots, mark):
            return False
        self._count += 1
        if 2 * self._count > len(self._slots):
            self._grow()
        return True

    def _grow(self) -> None:
        larger = array("Q", bytes(16 * len(self._slots)))
        for mark in self._slots:
            if mark:
                self._put(larger, mark)
        self._slots = larger

    @staticmethod
    def _put(slots: array[int], mark: int) -> bool:
        mask = len(slots) - 1
        at = mark & mask
        while slots[at]:
            if slots[at] == mark:
                return False
            at = (at + 1) & mask
        slots[at] = mark
        return True
