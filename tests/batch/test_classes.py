"""A class as ``response_format`` of many rows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import attrs
import pytest
from typing_extensions import TypedDict

from vllm_client import BatchChangedError, BatchInputError, InvalidAnswerError, read_batch
from vllm_client.batch._store import errors_path

from ..recorded import answer
from ..servers import Connection, Serve
from .answering import Answering, chat_answer

pytest.importorskip("msgspec")


@dataclass
class City:
    name: str


@attrs.define
class Country:
    name: str


class Person(TypedDict):
    name: str


@dataclass
class Number:
    value: int


def named(connection: Connection) -> None:
    """An outcome: the prompt as a name in JSON."""
    body = connection.request.json
    is_chat = "messages" in body
    prompt = body["messages"][-1]["content"] if is_chat else body["prompt"]
    text = json.dumps({"name": prompt})
    connection.send_json(chat_answer(text) if is_chat else answer(text))


def naming(*prompts: str) -> Answering:
    return Answering({prompt: [named] * 9 for prompt in prompts})


@pytest.mark.parametrize("answer_type", [City, Country, Person])
def test_class_of_all_rows(serve: Serve, answer_type: Any) -> None:
    """A class is sent as its schema, and each response is read as its instance."""
    served = serve(handler=naming("Rome", "Oslo"))
    rows = list(served.client.batch.chat(["Rome", "Oslo"], response_format=answer_type))
    assert [row.response.choices[0].message.content for row in rows] == [
        '{"name": "Rome"}',
        '{"name": "Oslo"}',
    ]
    assert [row.response.parsed for row in rows] == [
        answer_type(name="Rome"),
        answer_type(name="Oslo"),
    ]
    sent = served.requests[0].json["response_format"]
    assert sent["type"] == "json_schema"
    assert sent["json_schema"]["schema"]["properties"] == {"name": {"type": "string"}}


def test_class_of_pydantic(serve: Serve) -> None:
    """A pydantic model does as well."""
    pydantic = pytest.importorskip("pydantic")
    model = pydantic.create_model("Town", name=(str, ...))
    served = serve(handler=naming("Rome"))
    (row,) = served.client.batch.completions(["Rome"], response_format=model)
    assert row.response.parsed == model(name="Rome")
    schema = served.requests[0].json["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["name"]["type"] == "string"


def test_class_of_one_row(serve: Serve) -> None:
    """A row may name another class than the others, a schema, or none."""
    schema = {"type": "json_object"}
    rows = [
        {"prompt": "Rome"},
        {"prompt": "Italy", "response_format": Country},
        {"prompt": "x", "response_format": schema},
        {"prompt": "y", "response_format": None},
    ]
    served = serve(handler=naming("Rome", "Italy", "x", "y"))
    done = list(served.client.batch.completions(rows, response_format=City, max_concurrency=1))
    parsed = [row.response.parsed for row in done]
    assert parsed == [City("Rome"), Country("Italy"), None, None]
    sent = [request.json["response_format"] for request in served.requests]
    assert [each["json_schema"]["name"] for each in sent[:2]] == ["City", "Country"]
    assert sent[2:] == [schema, None]


def test_answer_that_does_not_fit(serve: Serve, output: Path) -> None:
    """An answer that does not fit is a failed row that keeps the answer, and is not sent again."""
    server = naming("Rome")
    client = serve(handler=server).client
    good, bad = client.batch.completions(["Rome", "x"], response_format=City)
    assert good.response.parsed == City("Rome")
    assert isinstance(bad.error, InvalidAnswerError)
    assert bad.error.partial.text == "<x>"
    for _ in range(2):
        report = client.batch.run(["Rome", "x"], output, response_format=City)
        assert (report.done, report.failed) == (1, 1)
    assert server.asked["x"] == 2
    (line,) = map(json.loads, errors_path(output).read_bytes().splitlines())
    assert line["response"]["body"] == answer("<x>")
    assert line["error"]["type"] == "InvalidAnswerError"
    first, second = read_batch(output)
    assert first.response.parsed_as(City) == City("Rome")
    assert isinstance(second.error, InvalidAnswerError)
    assert (second.error.text, second.error.partial.text) == ("<x>", "<x>")


def test_resume_with_a_class(serve: Serve, output: Path) -> None:
    """The schema stands in the meta file: the same class goes on, and another one is refused."""
    client = serve(handler=naming("Rome", "Oslo")).client
    client.batch.run(["Rome"], output, response_format=City, route="completions")
    meta = json.loads(output.with_name("out.jsonl.meta").read_bytes())
    assert meta["params"]["response_format"]["json_schema"]["name"] == "City"
    report = client.batch.run(["Rome", "Oslo"], output, response_format=City, route="completions")
    assert (report.skipped, report.done) == (1, 2)
    with pytest.raises(BatchChangedError, match="begun with params"):
        client.batch.run(["Rome"], output, response_format=Number, route="completions")


def test_class_among_other_routes(serve: Serve, output: Path) -> None:
    """A class of all rows is for rows that are texts; a row of another route fails by itself."""
    client = serve(handler=naming("Rome")).client
    rows = [{"prompt": "Rome"}, {"input": "x"}]
    report = client.batch.run(rows, output, response_format=City, stop_after_failures=None)
    assert (report.done, report.failed) == (1, 1)


def test_no_class(serve: Serve) -> None:
    """What is no class with a schema is refused before anything is sent, or is a failed row."""
    served = serve(handler=Answering())
    with pytest.raises(TypeError, match="form of an answer must be"):
        served.client.batch.completions(["a"], response_format=int)
    (row,) = served.client.batch.completions([{"prompt": "a", "response_format": int}])
    assert isinstance(row.error, BatchInputError)
    (row,) = served.client.batch.completions([{"prompt": "a", "echo": True}], response_format=City)
    assert "echo puts the prompt before the text" in str(row.error)
    assert served.requests == []
