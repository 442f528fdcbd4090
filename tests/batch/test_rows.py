"""Rows of any shape become requests, or say what is wrong with them."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, List

import pytest

from vllm_client.batch._rows import BLANK, Job, RowReader, SeenIds, check_rows
from vllm_client.batch.routes import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    RERANK,
    ROUTES,
    SCORE,
    Route,
    named_route,
)
from vllm_client.exceptions import BatchInputError


def jobs_of(rows: List[Any], route: Any = COMPLETIONS, **common: Any) -> List[Job]:
    return list(RowReader(rows, route, common))


SHAPES = [
    ("text", {"prompt": "text"}, "0"),
    ([1, 2], {"prompt": [1, 2]}, "0"),
    ((1, 2), {"prompt": (1, 2)}, "0"),
    ({"prompt": "a", "seed": 3}, {"prompt": "a", "seed": 3}, "0"),
    (("id7", "text"), {"prompt": "text"}, "id7"),
    ((7, {"prompt": "a"}), {"prompt": "a"}, "7"),
    (("id7", (1, 2)), {"prompt": (1, 2)}, "id7"),
    ((7, (1, 2)), {"prompt": (1, 2)}, "7"),
    (("id7", MappingProxyType({"prompt": "a"})), {"prompt": "a"}, "id7"),
    ((None, "text"), {"prompt": "text"}, "0"),
    ({"custom_id": "c", "prompt": "a"}, {"prompt": "a"}, "c"),
    ({"prompt": "a", "stream": False}, {"prompt": "a"}, "0"),
    (
        {"custom_id": "c", "method": "POST", "url": "/v1/completions", "body": {"prompt": "a"}},
        {"prompt": "a"},
        "c",
    ),
]


@pytest.mark.parametrize(("row", "body", "custom_id"), SHAPES)
def test_shapes_of_rows(row: Any, body: Any, custom_id: str) -> None:
    """A row is a prompt, a mapping of fields, a pair with an id, or a line of the batch format."""
    (job,) = jobs_of([row], max_tokens=4)
    assert job.error is None
    assert (job.body, job.custom_id, job.index) == ({"max_tokens": 4, **body}, custom_id, 0)


def test_pair_with_an_array() -> None:
    """A pair may have an array or an id of NumPy, and the elements of an array are no pair."""
    numpy = pytest.importorskip("numpy")
    rows = [("a", numpy.array([1, 2])), tuple(numpy.array([3, 4])), (numpy.int64(7), "text")]
    pair, tokens, numbered = jobs_of(rows)
    assert (numbered.custom_id, numbered.body) == ("7", {"prompt": "text"})
    assert (pair.custom_id, pair.content) == ("a", b'{"prompt":[1,2]}')
    assert (tokens.custom_id, tokens.content) == ("1", b'{"prompt":[3,4]}')


def test_rows_of_chat() -> None:
    """A row of chat is a list of messages; a text is one message of the user."""
    messages = [{"role": "user", "content": "hi"}]
    first, second, third = jobs_of([messages, "hi", {"messages": messages}], CHAT)
    assert first.body == second.body == third.body == {"messages": messages}
    two = ({"role": "system", "content": "s"}, *messages)
    tuples = jobs_of([two, ("a", two)], CHAT)
    assert [(job.custom_id, job.body) for job in tuples] == [(n, {"messages": two}) for n in "0a"]


def test_a_row_overrides_the_common_fields() -> None:
    """A field of a row replaces the common one."""
    first, second = jobs_of([{"prompt": "a", "max_tokens": 1}, "b"], max_tokens=9)
    assert (first.body["max_tokens"], second.body["max_tokens"]) == (1, 9)


WRONG = [
    ({"prompt": "a", "max_token": 1}, "row 0: .*no field 'max_token'; did you mean 'max_tokens'"),
    ({"prompt": "a", "zzz": 1}, "no field 'zzz' "),
    ({"max_tokens": 1}, "needs prompt"),
    ({"prompt": "a", "stream": True}, "stream"),
    (5, "must be a mapping of its fields, or its prompt, not int"),
    (None, "not NoneType"),
    (b"bytes", "not bytes"),
    (("a", None), "row 0: .*not NoneType"),
    (("a", 5), "not int"),
    ((1.5, "a"), "custom_id must be text or a number"),
    ({"prompt": object()}, "prompt cannot be sent as JSON"),
    ({"custom_id": 1.5, "prompt": "a"}, "custom_id must be text or a number"),
    ({"url": "/v1/chat/completions", "body": {"messages": []}}, "this run for /v1/completions"),
    (BatchInputError("it is not JSON"), "row 0: it is not JSON"),
]


@pytest.mark.parametrize(("row", "message"), WRONG, ids=range(len(WRONG)))
def test_wrong_rows(row: Any, message: str) -> None:
    """A row that cannot be sent is a failed row that says what is wrong."""
    wrong, right = jobs_of([row, "fine"])
    with pytest.raises(BatchInputError, match=message):
        raise wrong.error  # type: ignore[misc]
    assert (right.error, right.index) == (None, 1)


def test_strict() -> None:
    """With strict, the first wrong row raises, after the rows before it."""
    jobs = iter(RowReader(["a", 5, "b"], COMPLETIONS, {}, strict=True))
    assert next(jobs).body == {"prompt": "a"}
    with pytest.raises(BatchInputError, match="row 1: a row of /v1/completions must be"):
        next(jobs)


def test_lines_are_numbered_with_blank_ones() -> None:
    """An empty line is no row, but counts in the number of a line."""
    reader = RowReader(["a", BLANK, 5], COMPLETIONS, {}, place="line")
    first, second = reader
    assert (first.index, second.index) == (0, 1)
    assert str(second.error).startswith("line 3: ")


def test_duplicate_ids() -> None:
    """A custom id that stands at an earlier row is refused, also as a number."""
    rows = [("a", "x"), (7, "x"), ("a", "y"), ("7", "z")]
    jobs = jobs_of(rows)
    assert [job.error is None for job in jobs] == [True, True, False, False]
    assert [job.custom_id for job in jobs] == ["a", "7", "a", "7"]


NUMBERS = [
    (["x", ("0", "y"), ("2", "z"), ("03", "a"), "b"], [1]),  # The first row has the number 0.
    ([("1", "x"), "y", ("5", "z"), "a"], [1]),
    ([("a", "x"), "y", ("1", "z")], [2]),
    (["x", ("9" * 5000, "y")], []),
]


@pytest.mark.parametrize(("rows", "wrong"), NUMBERS, ids=range(len(NUMBERS)))
def test_ids_that_are_numbers_of_rows(rows: List[Any], wrong: List[int]) -> None:
    """Two rows never have the same name, also if one has its number and one names it."""
    jobs = jobs_of(rows)
    assert [job.index for job in jobs if job.error is not None] == wrong
    names = [job.custom_id for job in jobs if job.error is None]
    assert len(set(names)) == len(names)


def test_route_of_each_row() -> None:
    """Without a common route, each row tells its own by its url or its fields."""
    message = [{"role": "user", "content": "x"}]
    line = {"url": "/v1/chat/completions", "body": {"messages": message}}
    ranking = {"query": "q", "documents": ["a"]}
    rows = [line, {"prompt": "a"}, {"messages": message}, message, "text"]
    jobs = jobs_of([*rows, {"input": "a"}, ranking, {"seed": 1}], None)
    routes = [job.route for job in jobs]
    assert routes == [CHAT, COMPLETIONS, CHAT, CHAT, COMPLETIONS, EMBEDDINGS, RERANK, None]
    assert "does not tell its route" in str(jobs[-1].error)


@pytest.mark.parametrize("url", ["/v2/rerank", "/v1/rerank", "/rerank"])
def test_prefixes_of_routes(url: str) -> None:
    """As in vllm run-batch, scores and ranks have several URLs."""
    row = {"url": url, "body": {"query": "q", "documents": ["a"]}}
    assert [job.route for job in jobs_of([row], None) + jobs_of([row], RERANK)] == [RERANK] * 2


@pytest.mark.parametrize("name", ["chat", "/v1/chat/completions", "chat/completions"])
def test_named_route(name: str) -> None:
    """A route is known by the name of its method, by its URL and by its path."""
    assert named_route(name) is CHAT


def test_unknown_route() -> None:
    """A route that batches do not know is refused with those they know."""
    with pytest.raises(BatchInputError, match="'/v1/completions', '/v1/chat/completions'"):
        named_route("/v1/audio/speech")
    (job,) = jobs_of([{"url": "/v1/nope", "body": {}}], None)
    assert "know no route '/v1/nope'" in str(job.error)


NO_INPUT = [
    ("text", "not str"),
    (b"text", "not bytes"),
    ({"prompt": "a"}, "not dict"),
    (5, "not int"),
]


@pytest.mark.parametrize(("rows", "message"), NO_INPUT, ids=range(len(NO_INPUT)))
def test_what_is_no_input(rows: Any, message: str) -> None:
    """What would be iterated over as something else than rows is refused."""
    with pytest.raises(BatchInputError, match=message):
        check_rows(rows)


def test_a_table_is_no_input() -> None:
    """A DataFrame is refused with the way to its rows: as an iterable it is its column names."""
    pandas = pytest.importorskip("pandas")
    with pytest.raises(BatchInputError, match=r'a DataFrame is a table.*to_dict\("records"\)'):
        check_rows(pandas.DataFrame({"prompt": ["a"]}))


def test_common_field_that_a_route_does_not_have(caplog: pytest.LogCaptureFixture) -> None:
    """If rows tell their routes, a warning per route names the common fields it does not have."""
    rows = [{"prompt": "a"}, {"input": "b"}, {"prompt": "c"}, "d"]
    common = {"max_completion_tokens": 3, "seed": 1, "mine": 2}
    fields = {"max_completion_tokens", "seed"}
    assert all(job.error is None for job in RowReader(rows, None, common, fields=fields))
    first, second = caplog.messages
    assert "/v1/completions has no field 'max_completion_tokens', so" in first
    assert "/v1/embeddings has no field 'max_completion_tokens', 'seed', so" in second


def test_digest_tells_requests_apart() -> None:
    """The digest of a row is the same for the same request, and another for another."""
    first, again = jobs_of(["a", "b"]), jobs_of(["a", "c"])
    assert first[0].digest == again[0].digest
    assert first[1].digest != again[1].digest


def test_many_ids() -> None:
    """Ids are told apart, however many there are, with few bytes each."""
    seen = SeenIds()
    assert all(seen.add(f"id-{number}") for number in range(5000))
    assert not any(seen.add(f"id-{number}") for number in range(5000))
    assert seen._slots.itemsize * len(seen._slots) <= 5000 * 32


def test_every_route_is_whole() -> None:
    """Each route knows its fields, and none of the options of a call."""
    for route in ROUTES.values():
        assert isinstance(route, Route)
        assert "timeout" not in route.fields
        assert "model" in route.fields


WRONG_POOLING = [
    (EMBEDDINGS, {"input": []}, "list of inputs is empty"),
    (EMBEDDINGS, {"input": "a", "encoding_format": "bytes"}, "as JSON"),
    (SCORE, "text", "must be a mapping of its fields, not str"),
    (SCORE, {"queries": "a"}, "exactly one pair"),
    (RERANK, {"query": "a"}, "needs query=… and documents"),
]


@pytest.mark.parametrize(("route", "row", "message"), WRONG_POOLING)
def test_wrong_rows_of_pooling_models(route: Route, row: Any, message: str) -> None:
    """A row of a pooling model that cannot be sent says what is wrong."""
    (job,) = jobs_of([row], route)
    assert message in str(job.error)
