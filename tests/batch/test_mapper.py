"""``Mapper``: batches of rows as data engines hand them over. No engine runs here."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import subprocess
import sys
from typing import Any, Iterator, List

import pytest

from vllm_client import VllmClient
from vllm_client.batch import Mapper
from vllm_client.batch._shared import ServerSettings, SharedTransports, shared
from vllm_client.exceptions import BatchInputError, BatchStoppedError, VllmError
from vllm_client.testing import FakeServer

from ..servers import WireServer
from ..threads import Running
from .answering import Answering, broken, status

TOO_LONG = status("400 Bad Request", "too long")


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Close the connections that the mappers of a test leave open for the next batch."""
    yield
    shared.close_all()


@contextlib.contextmanager
def serving(**outcomes: Any) -> Iterator[Any]:
    """A server that answers the prompt ``x`` with the text ``<x>``."""
    handler = Answering(outcomes)
    with WireServer(handler) as server:
        server.answering = handler  # type: ignore[attr-defined]
        yield server


@pytest.fixture
def server() -> Iterator[Any]:
    """Such a server, to which the prompt ``long`` is too long."""
    with serving(long=[TOO_LONG] * 9) as started:
        yield started


def reasons(values: Any) -> List[str]:
    """The classes in an error column; empty where there is no error."""
    return ["" if value is None else value.partition(":")[0] for value in values]


# The kinds of data.

ASKED = ["a", "long", None, "d"]
TEXTS = ["<a>", None, None, "<d>"]
REASONS = ["", "BadRequestError", "BatchInputError", ""]


def test_a_list_of_dicts(server: Any) -> None:
    """Dicts come back in order, with a text or an error each; the input stays as it was."""
    rows = [{"id": n, "prompt": asked} for n, asked in enumerate(ASKED)]
    found = Mapper(server.base_url, max_tokens=3)(rows)
    assert [row["id"] for row in found] == [0, 1, 2, 3]
    assert [row["text"] for row in found] == TEXTS
    assert reasons(row["error"] for row in found) == REASONS
    assert "too long" in found[1]["error"]
    assert set(rows[0]) == {"id", "prompt"}
    sent = [request.json for request in server.requests]
    assert {"prompt": "a", "max_tokens": 3} in sent
    assert len(sent) == 3  # The row without a prompt was not sent.


def test_an_iterator_of_dicts(server: Any) -> None:
    """Dask's bags hand over iterators; a row that lacks the column has no value."""
    found = Mapper(server.base_url)(iter([{"prompt": "a"}, {"id": 1}]))
    assert [row["text"] for row in found] == ["<a>", None]
    assert reasons(row["error"] for row in found) == ["", "BatchInputError"]


def test_a_dict_of_lists(server: Any) -> None:
    """Columns of lists come back as columns of lists."""
    found = Mapper(server.base_url)({"prompt": ASKED, "id": (0, 1, 2, 3)})
    assert found["text"] == TEXTS
    assert reasons(found["error"]) == REASONS
    assert (found["prompt"], found["id"]) == (ASKED, (0, 1, 2, 3))


def test_a_dict_of_arrays(server: Any) -> None:
    """Arrays of NumPy come back as arrays; their values are sent as JSON."""
    numpy = pytest.importorskip("numpy")
    prompts = numpy.array(["a", [1, 2], numpy.array([3, 4]), numpy.float64("nan")], dtype=object)
    seeds = numpy.arange(4)
    mapper = Mapper(server.base_url, row_fields=["seed"])
    found = mapper({"prompt": prompts, "seed": seeds})
    assert isinstance(found["text"], numpy.ndarray)
    assert found["text"].tolist() == ["<a>", "<(1, 2)>", "<(3, 4)>", None]
    assert reasons(found["error"]) == ["", "", "", "BatchInputError"]
    sent = [(request.json["prompt"], request.json["seed"]) for request in server.requests]
    assert sorted(sent, key=str) == [("a", 0), ([1, 2], 1), ([3, 4], 2)]


def test_a_frame(server: Any) -> None:
    """A DataFrame keeps its index; the added columns have the same types in every frame."""
    pandas = pytest.importorskip("pandas")
    outputs = ["finish_reason", "prompt_tokens"]
    mapper = Mapper(server.base_url, extra_outputs=outputs, row_fields={"seed": "number"})
    frame = pandas.DataFrame({"prompt": ASKED, "number": [1, 2, 3, None]}, index=[5, 5, 8, 9])
    found = mapper(frame)
    assert found.index.tolist() == [5, 5, 8, 9]
    assert found["text"].tolist() == TEXTS
    assert reasons(found["error"]) == REASONS
    assert found["prompt_tokens"].isna().tolist() == [False, True, True, False]
    assert list(frame.columns) == ["prompt", "number"]
    whole = mapper(frame[:1])
    assert whole.dtypes.to_dict() == found.dtypes.to_dict() == mapper(frame[:0]).dtypes.to_dict()
    assert {"prompt": "d"} in [request.json for request in server.requests]  # No seed, no null.


@pytest.mark.parametrize("kind", ["Table", "RecordBatch"])
def test_arrow(server: Any, kind: str) -> None:
    """A table of Arrow, or a record batch, comes back with typed columns and its metadata."""
    arrow = pytest.importorskip("pyarrow")
    table = arrow.table({"prompt": ASKED}).replace_schema_metadata({"k": "v"})
    data = table if kind == "Table" else table.to_batches()[0]
    found = Mapper(server.base_url, extra_outputs=["completion_tokens"])(data)
    assert type(found) is type(data)
    assert found.column("text").to_pylist() == TEXTS
    assert found.column("completion_tokens").to_pylist() == [2, None, None, 2]
    assert reasons(found.column("error").to_pylist()) == REASONS
    assert [str(kind) for kind in found.schema.types] == ["string", "string", "string", "int64"]
    assert found.schema.metadata == {b"k": b"v"}


@pytest.mark.parametrize("data", [5, "text", ["text"], None])
def test_other_kinds(data: Any) -> None:
    """Data of another kind is refused with those that are taken."""
    with pytest.raises(TypeError, match="dict"):
        Mapper("localhost:1")(data)


def test_empty_data() -> None:
    """Data without rows comes back with the columns, and nothing is sent."""
    mapper = Mapper("localhost:1", extra_outputs=["response"])
    assert mapper([]) == []
    assert mapper({}) == {"text": [], "error": [], "response": []}
    assert mapper({"prompt": []}) == {"prompt": [], "text": [], "error": [], "response": []}


WRONG_DATA = [
    ({"question": ["a"]}, r"no column 'prompt', only \['question'\]"),
    ({"prompt": ["a"], "error": ["b"]}, "has a column 'error' already"),
    ({"prompt": ["a"], "id": []}, "differ in length: {'prompt': 1, 'id': 0}"),
]


@pytest.mark.parametrize(("data", "message"), WRONG_DATA, ids=range(len(WRONG_DATA)))
def test_columns_that_do_not_fit(data: Any, message: str) -> None:
    """Data that lacks a column, or has one that would be added, is refused as a whole."""
    with pytest.raises(BatchInputError, match=message):
        Mapper("localhost:1")(data)


def test_no_library_of_data_is_imported(server: Any) -> None:
    """A program that uses none of the libraries does not import them."""
    program = """
import sys
from vllm_client.batch import Mapper
assert Mapper(sys.argv[1])([{"prompt": "a"}])[0]["text"] == "<a>"
print({"numpy", "pandas", "pyarrow", "ray", "dask"} & set(sys.modules))
"""
    assert run_program(program, server.base_url) == "set()\n"


# Routes, fields and further columns.


def test_columns_have_other_names(server: Any) -> None:
    """Every column can be named."""
    mapper = Mapper(
        server.base_url, "question", "answer", "why", extra_outputs={"finish_reason": "end"}
    )
    (found,) = mapper([{"question": "a", "text": 1}])
    assert found == {"question": "a", "text": 1, "answer": "<a>", "why": None, "end": "stop"}


def test_the_whole_response(server: Any) -> None:
    """The extra output ``response`` is the response of the server as JSON text."""
    (found,) = Mapper(server.base_url, extra_outputs=["response"])([{"prompt": "ä"}])
    assert json.loads(found["response"])["choices"][0]["text"] == "<ä>"
    assert "<ä>" in found["response"]


def test_row_fields_override_the_common_ones(server: Any) -> None:
    """A field from a column replaces the common one, except where its value is missing."""
    mapper = Mapper(server.base_url, max_tokens=9, row_fields={"max_tokens": "most"})
    mapper([{"prompt": "a", "most": 1}, {"prompt": "b", "most": None}])
    sent = {request.json["prompt"]: request.json["max_tokens"] for request in server.requests}
    assert sent == {"a": 1, "b": 9}


def test_a_field_that_is_misspelt_in_a_row(server: Any) -> None:
    """A value that is a dict of fields may be wrong; that is the failure of its row."""
    found = Mapper(server.base_url)([{"prompt": {"prompt": "a", "max_token": 1}}])
    assert "did you mean 'max_tokens'" in found[0]["error"]


def test_chat(server: Any) -> None:
    """With the route chat, a text is one message of the user."""
    (found,) = Mapper(server.base_url, route="chat")([{"prompt": "a"}])
    assert found["text"] == "<a>"
    assert server.requests[0].json == {"messages": [{"role": "user", "content": "a"}]}
    assert server.requests[0].path == "/v1/chat/completions"


def test_messages(server: Any) -> None:
    """The nulls that a column of dicts has for absent members are not sent."""
    user = {"role": "user", "content": "a", "name": None, "tool_calls": None}
    call = {"id": "x", "function": {"name": "f", "arguments": "{}"}}
    assistant = {"role": "assistant", "content": None, "name": None, "tool_calls": [call]}
    (found,) = Mapper(server.base_url, messages="talk")([{"talk": [assistant, user]}])
    assert found["text"] == "<a>"
    assert server.requests[0].json["messages"] == [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "user", "content": "a"},
    ]


EMBEDDED = ["a", ["b", "c"], "d"]


def test_embeddings_in_lists() -> None:
    """Vectors come as base64 and are lists of floats; a row has one input."""
    with FakeServer("tiny") as server, VllmClient(server.base_url) as client:
        outputs = ["prompt_tokens"]
        mapper = Mapper(
            server.base_url, route="embeddings", extra_outputs=outputs, max_concurrency=1
        )
        found = mapper({"prompt": EMBEDDED})
        expected = client.embeddings.create(input=["a", "d"]).data
        sent = server.requests[0].json
    assert sent == {"input": "a", "encoding_format": "base64"}
    assert found["embedding"] == [expected[0].embedding, None, expected[1].embedding]
    assert reasons(found["error"]) == ["", "BatchInputError", ""]
    assert "one input" in found["error"][1]
    assert found["prompt_tokens"][1] is None


def test_embeddings_in_arrays() -> None:
    """Vectors are arrays in a frame, float32 in Arrow, and lists in arrays of NumPy."""
    pandas, arrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    with FakeServer("tiny") as server:
        mapper = Mapper(server.base_url, route="embeddings", encoding_format="float")
        frame = mapper(pandas.DataFrame({"prompt": EMBEDDED}))
        table = mapper(arrow.table({"prompt": ["a", "d"]}))
        columns = mapper({"prompt": frame["prompt"].to_numpy()})
        assert server.requests[0].json["encoding_format"] == "float"
    assert str(table.schema.field("embedding").type).endswith("float>")
    assert str(frame["embedding"][0].dtype) == "float32"
    first, missing, last = columns["embedding"]
    assert missing is frame["embedding"][1] is None
    assert first == frame["embedding"][0].tolist() == table.column("embedding")[0].as_py()
    assert last == frame["embedding"][2].tolist()


WRONG_SETTINGS = [
    ({"max_token": 3}, "no field 'max_token'; did you mean 'max_tokens'"),
    ({"max_concurency": 3}, "no field 'max_concurency'"),
    ({"row_fields": ["sed"]}, "no field 'sed'; did you mean 'seed'"),
    ({"row_fields": "seed"}, "row_fields must be a list of names"),
    ({"route": "score"}, "route must be one of 'completions', 'chat', 'embeddings', not 'score'"),
    ({"route": "nope"}, "know no route 'nope'"),
    ({"route": "embeddings", "messages": "m"}, "route must be one of 'chat'"),
    ({"prompt": "p", "messages": "m"}, "set prompt=… or messages=…, not both"),
    ({"route": "embeddings", "input": "text"}, "input differs from row to row"),
    ({"extra_outputs": ["usage"]}, "extra_outputs of completions are finish_reason, prompt_tokens"),
    (
        {"route": "embeddings", "extra_outputs": ["finish_reason"]},
        "of embeddings are prompt_tokens, response, and not",
    ),
    ({"prompt": "text"}, "two columns would have the name 'text'"),
    ({"output": "error"}, "two columns would have the name 'error'"),
    ({"strict": True}, "does not take strict: a failed row is a value"),
    ({"progress": True}, "does not take progress"),
    ({"max_concurrency": 0}, "max_concurrency must be an int, 1 or greater"),
    ({"patience": -1}, "patience must be seconds"),
    ({"max_retries": -1}, "max_retries must be an int"),
    ({"base_url": "ftp://x"}, "is not the address of a server"),
    ({"api_key": "ä"}, "api_key contains characters"),
]


@pytest.mark.parametrize(("settings", "message"), WRONG_SETTINGS, ids=range(len(WRONG_SETTINGS)))
def test_wrong_settings(settings: Any, message: str) -> None:
    """What is wrong in the settings is refused when the mapper is made."""
    with pytest.raises((TypeError, ValueError), match=message):
        Mapper(**settings)


# What ends a call.


def test_a_server_that_is_away() -> None:
    """A server that is away for longer than ``patience`` raises, and fails no row."""
    with serving(a=[broken] * 9) as server:
        server.answering.health = [broken] * 99
        with pytest.raises(BatchStoppedError, match="has been away for 0 s"):
            Mapper(server.base_url, patience=0)([{"prompt": "a"}])


def test_rows_that_all_fail() -> None:
    """A batch whose rows all fail is no error, unless ``stop_after_failures`` is set."""
    rows = [{"prompt": "long"}] * 30
    with serving(long=[TOO_LONG] * 99) as server:
        found = Mapper(server.base_url)(rows)
        assert reasons(row["error"] for row in found) == ["BadRequestError"] * 30
        with pytest.raises(BatchStoppedError, match="the first 3 rows all failed"):
            Mapper(server.base_url, stop_after_failures=3)(rows)


def test_close_from_another_thread(server: Any) -> None:
    """close() ends what the process has in flight; the next call opens new connections."""
    mapper = Mapper(server.base_url)
    server.answering.hold.clear()
    running = Running(lambda: mapper([{"prompt": "a"}]))
    assert server.answering.wait_asked(1)
    mapper.close()
    mapper.close()  # There is nothing left to close.
    with pytest.raises(VllmError, match="closed"):
        running.result()
    server.answering.hold.set()
    assert mapper([{"prompt": "b"}])[0]["text"] == "<b>"


# Batches in a row.


def test_requests_cross_the_borders_of_batches(server: Any) -> None:
    """A stream of small batches has as many requests in flight as one large batch."""
    server.answering.hold.clear()
    batches = [[{"prompt": "a"}], [], [{"prompt": "b"}, {"prompt": "c"}], [{"prompt": "d"}], []]
    mapper = Mapper(server.base_url, max_concurrency=4)
    running = Running(lambda: list(mapper.batches(iter(batches))))
    assert server.answering.wait_asked(4)
    server.answering.hold.set()
    found = running.result()
    assert [[row["text"] for row in batch] for batch in found] == [
        ["<a>"],
        [],
        ["<b>", "<c>"],
        ["<d>"],
        [],
    ]


def test_batches_are_read_as_there_is_room(server: Any) -> None:
    """An endless stream of batches may be left at any time."""
    read: List[int] = []

    def endless() -> Iterator[Any]:
        while True:
            read.append(1)
            yield [{"prompt": "a"}]

    mapper = Mapper(server.base_url, max_concurrency=2, buffer_bytes=1)
    results = mapper.batches(endless())
    assert next(results)[0]["text"] == "<a>"
    assert next(results)[0]["text"] == "<a>"
    results.close()  # type: ignore[attr-defined]
    assert len(read) <= 6  # Taken: 2, in flight: 2, finished and waiting: 1, just read: 1.


def test_frames_of_different_kinds_in_a_row(server: Any) -> None:
    """Each batch comes back as the kind that it was."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"prompt": ["a"]})
    first, second = Mapper(server.base_url).batches([frame, {"prompt": ["b"]}])
    assert (first["text"].tolist(), second["text"]) == (["<a>"], ["<b>"])


# Processes.


def test_a_mapper_is_pickled_with_its_settings(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy sends what the original would, whatever the environment of its process is."""
    monkeypatch.setenv("VLLM_BASE_URL", server.base_url)
    monkeypatch.setenv("VLLM_API_KEY", "secret-1")
    mapper = Mapper(max_tokens=3, headers={"X-Team": "blue"}, output="answer")
    monkeypatch.setenv("VLLM_BASE_URL", "http://localhost:1")
    monkeypatch.setenv("VLLM_API_KEY", "secret-2")
    copy = pickle.loads(pickle.dumps(mapper))
    assert copy([{"prompt": "a"}])[0]["answer"] == "<a>"
    (request,) = server.requests
    assert request.headers["authorization"] == "Bearer secret-1"
    assert request.headers["x-team"] == "blue"
    assert request.json["max_tokens"] == 3


def test_a_mapper_without_a_key_takes_none_from_a_worker(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No key when the mapper is made is no key where it is used."""
    copy = pickle.dumps(Mapper(server.base_url))
    monkeypatch.setenv("VLLM_API_KEY", "of-the-worker")
    pickle.loads(copy)([{"prompt": "a"}])
    assert "authorization" not in server.requests[0].headers


def test_the_key_is_in_the_pickle_and_nowhere_else() -> None:
    """The pickle has the key; no repr has it, nor a header."""
    mapper = Mapper("localhost:1", api_key="secret-1", headers={"X-Key": "secret-2"})
    assert b"secret-1" in pickle.dumps(mapper)
    shown = repr(mapper) + repr(vars(mapper)) + repr(shared.get(mapper._server))
    assert "secret" not in shown
    assert repr(mapper) == "Mapper('http://localhost:1/v1', route='completions')"


def test_connections_are_shared_in_a_process(server: Any) -> None:
    """Batches, and the copies of a mapper, use the same connection one after the other."""
    mapper = Mapper(server.base_url, api_key="k", headers={"A": "1", "B": "2"}, max_concurrency=1)
    for _ in range(3):
        copy = pickle.loads(pickle.dumps(mapper))
        assert copy([{"prompt": "a"}])[0]["error"] is None
    assert server.connections == 1
    Mapper(server.base_url, api_key="other")([{"prompt": "a"}])
    assert server.connections == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_opens_its_own_connections(server: Any) -> None:
    """After a fork parent and child use the mapper, each over connections of its own."""
    mapper = Mapper(server.base_url, max_concurrency=1)
    mapper([{"prompt": "a"}])
    with shared._lock:  # As another thread may hold it.
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = int(mapper([{"prompt": "child"}])[0]["text"] != "<child>")
            finally:
                os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert mapper([{"prompt": "b"}])[0]["text"] == "<b>"
    assert server.connections == 2
    assert server.answering.asked["child"] == 1


def test_a_forked_process_forgets_the_transports() -> None:
    """What the parent had is not closed in the child, and not used."""
    transports = SharedTransports()
    settings = ServerSettings.of(VllmClient("localhost:1")._transport)
    first = transports.get(settings)
    transports.after_fork()
    assert transports.get(settings) is not first
    assert not first.session.is_closed
    transports.close_all()


def run_program(program: str, *arguments: str) -> str:
    """What a program prints; it must succeed and print nothing on stderr."""
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_connections_are_closed_when_the_process_exits(server: Any) -> None:
    """At exit the connections are closed, without a word."""
    program = """
import atexit, sys
atexit.register(lambda: print(transport.session.is_closed))
from vllm_client.batch import Mapper, _shared
mapper = Mapper(sys.argv[1])
mapper([{"prompt": "a"}])
transport = _shared.shared.get(mapper._server)
print(transport.session.is_closed)
"""
    assert run_program(program, server.base_url) == "False\nTrue\n"
