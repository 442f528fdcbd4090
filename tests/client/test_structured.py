"""Structured answers: a class as ``response_format``, and its instance in ``parsed``."""

from __future__ import annotations

import asyncio
import enum
import pickle
import sys
from dataclasses import dataclass, field
from typing import Any, Dict, List, Literal, Optional, Tuple, TypedDict, Union

import attrs
import pytest

from vllm_client import (
    AsyncVllmClient,
    ChatCompletion,
    Completion,
    InvalidAnswerError,
    StreamInterruptedError,
    VllmError,
)

from ..recorded import HELLO, answer, capture, chunk, delta, json_bytes, stream_bytes
from ..servers import Serve

PARIS = '{"city": "Paris", "n": 12}'


@attrs.define
class AttrsPlace:
    city: str
    n: int


@dataclass
class DataPlace:
    city: str
    n: int


class DictPlace(TypedDict):
    city: str
    n: int


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


@dataclass
class Country:
    """A country."""

    capital: AttrsPlace
    size: Size
    side: Literal["left", "right"]
    area: float = 0.0
    king: Optional[str] = None
    code: Union[int, str] = ""
    cities: List[DataPlace] = field(default_factory=list)
    corner: Tuple[float, float] = (0.0, 0.0)
    exports: Dict[str, bool] = field(default_factory=dict)


@dataclass
class Tree:
    value: int
    left: Optional[Tree] = None


@dataclass
class Unwritable:
    value: complex


@dataclass
class Misspelt:
    value: Intt  # type: ignore[name-defined]  # noqa: F821


EXPECTED = {AttrsPlace: AttrsPlace("Paris", 12), DataPlace: DataPlace("Paris", 12)}
each_class = pytest.mark.parametrize("kind", [AttrsPlace, DataPlace, DictPlace])


def place(kind: Any) -> Any:
    return EXPECTED.get(kind, {"city": "Paris", "n": 12})


def chat_answer(content: Optional[str], **message: Any) -> Any:
    """A response of /v1/chat/completions that is not streamed, decoded."""
    message = {"role": "assistant", "content": content, **message}
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


@each_class
def test_completion_is_parsed(serve: Serve, kind: Any) -> None:
    """create() sends the schema of a class, and the response has its instance."""
    served = serve(json_bytes(answer(PARIS)))
    completion = served.client.completions.create(prompt="x", response_format=kind)
    assert completion.parsed == completion.choices[0].parsed == place(kind)
    assert type(completion.parsed) is type(place(kind))
    sent = served.requests[0].json["response_format"]
    assert (sent["type"], sent["json_schema"]["name"]) == ("json_schema", kind.__name__)
    assert sent["json_schema"]["strict"] is True
    schema = sent["json_schema"]["schema"]
    assert schema["properties"] == {"city": {"type": "string"}, "n": {"type": "integer"}}
    assert schema["required"] == ["city", "n"]
    assert "$ref" not in schema
    assert "$defs" not in schema


@each_class
def test_real_chat_is_parsed(serve: Serve, kind: Any) -> None:
    """The captured answer of a real server to a schema is parsed."""
    served = serve(capture("chat_response_format_schema")[1])
    completion = served.client.chat.completions.create(messages=HELLO, response_format=kind)
    assert completion.parsed == place(kind)


def test_pydantic_model(serve: Serve) -> None:
    """A pydantic model, and a dataclass of pydantic, are read by pydantic."""
    pydantic = pytest.importorskip("pydantic", minversion="2")
    model = pydantic.create_model("Place", city=str, n=(int, pydantic.Field(gt=5)))
    served = serve(json_bytes(chat_answer(PARIS)), json_bytes(chat_answer('{"city": "", "n": 1}')))
    create = served.client.chat.completions.create
    assert create(messages=HELLO, response_format=model).parsed == model(city="Paris", n=12)
    assert served.requests[0].json["response_format"]["json_schema"]["schema"]["properties"][
        "n"
    ] == {"exclusiveMinimum": 5, "title": "N", "type": "integer"}
    with pytest.raises(InvalidAnswerError, match="greater than 5"):
        create(messages=HELLO, response_format=model)
    completion = create(messages=HELLO)
    assert completion.parsed_as(pydantic.dataclasses.dataclass(DataPlace)).n == 1


def test_schema_of_nested_classes(serve: Serve) -> None:
    """The schema has nested classes, defaults, choices and docstrings."""
    text = """{"capital": {"city": "Oslo", "n": 1}, "size": "large", "side": "left", "code": 47,
        "cities": [{"city": "Bergen", "n": 2}], "corner": [1, 2.5], "exports": {"fish": true}}"""
    served = serve(json_bytes(answer(text)))
    completion = served.client.completions.create(prompt="x", response_format=Country)
    assert completion.parsed == Country(
        AttrsPlace("Oslo", 1),
        Size.LARGE,
        "left",
        code=47,
        cities=[DataPlace("Bergen", 2)],
        corner=(1.0, 2.5),
        exports={"fish": True},
    )
    schema = served.requests[0].json["response_format"]["json_schema"]["schema"]
    assert schema["description"] == "A country."
    assert schema["required"] == ["capital", "size", "side"]
    assert schema["properties"]["capital"] == {"$ref": "#/$defs/AttrsPlace"}
    assert schema["properties"]["side"] == {"enum": ["left", "right"]}
    assert schema["$defs"]["Size"]["enum"] == ["large", "small"]
    assert sorted(schema["$defs"]) == ["AttrsPlace", "DataPlace", "Size"]


def test_schema_that_contains_itself(serve: Serve) -> None:
    """A class that refers to itself keeps its own definition."""
    served = serve(json_bytes(answer('{"value": 1, "left": {"value": 2}}')))
    completion = served.client.completions.create(prompt="x", response_format=Tree)
    assert completion.parsed == Tree(1, Tree(2))
    schema = served.requests[0].json["response_format"]["json_schema"]["schema"]
    assert schema["$defs"]["Tree"]["properties"] == schema["properties"]


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (str, "must be a dict of the API, or a pydantic model, an attrs class"),
        ("json_object", "not 'json_object'"),
        (DataPlace("x", 1), "not DataPlace"),
        (Unwritable, "Unwritable has no JSON schema"),
        (Misspelt, "Misspelt has no JSON schema: name 'Intt' is not defined"),
    ],
)
def test_what_has_no_schema(serve: Serve, wanted: Any, reason: str) -> None:
    """What has no JSON schema is a TypeError, and nothing is sent."""
    served = serve(json_bytes(answer(PARIS)))
    with pytest.raises(TypeError, match=reason):
        served.client.completions.create(prompt="x", response_format=wanted)
    with pytest.raises(TypeError, match=reason):
        served.client.completions.stream(prompt="x", response_format=wanted)
    assert served.requests == []


def test_dict_and_none_are_sent_as_they_are(serve: Serve) -> None:
    """A dict or None as ``response_format`` is sent unchanged, and nothing is parsed."""
    served = serve(json_bytes(answer(PARIS)))
    for given in ({"type": "json_object"}, None):
        completion = served.client.completions.create(
            prompt="x",
            response_format=given,  # type: ignore[arg-type]
        )
        assert completion.parsed is None
        assert served.requests[-1].json["response_format"] == given


def test_echo_fits_no_class(serve: Serve) -> None:
    """With ``echo`` the text is not JSON alone: the request is refused."""
    served = serve(json_bytes(answer(PARIS)))
    with pytest.raises(ValueError, match="echo puts the prompt before the text"):
        served.client.completions.create(prompt="x", response_format=DataPlace, echo=True)
    assert served.requests == []


@pytest.mark.parametrize("finish", ["stop", "length"])
@pytest.mark.parametrize("text", ['{"city": "Par', '{"city": "Paris", "n": "12"}', "", "[]"])
def test_text_that_does_not_fit(serve: Serve, text: str, finish: str) -> None:
    """A text that does not fit is an error with the whole answer, and tells if it was cut."""
    served = serve(json_bytes(answer(text, finish)))
    with pytest.raises(InvalidAnswerError, match="choice 0 is not a JSON DataPlace") as raised:
        served.client.completions.create(prompt="x", response_format=DataPlace)
    error = raised.value
    assert isinstance(error, VllmError)
    assert not error.is_retryable
    assert (error.text, error.index, error.finish_reason) == (text, 0, finish)
    assert isinstance(error.partial, Completion)
    assert error.partial.text == text
    assert ("cut the text" in str(error)) == (finish == "length")
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.text, str(copy), copy.partial.text) == (text, str(error), text)


def test_text_that_is_too_deep(serve: Serve) -> None:
    """A text that is nested too deeply does not fit."""
    depth = 100_000
    served = serve(json_bytes(answer('{"value": 1, "left": ' * depth + "null" + "}" * depth)))
    with pytest.raises(InvalidAnswerError, match="choice 0 is not a JSON Tree"):
        served.client.completions.create(prompt="x", response_format=Tree)


def test_each_choice_is_parsed(serve: Serve) -> None:
    """Each choice is parsed; the first that does not fit is the error, the others stay parsed."""
    texts = ['{"city": "Oslo", "n": 1}', "?", PARIS]
    choices = [chunk(text, index=at, finish="stop") for at, text in enumerate(texts)]
    body = {**choices[0], "choices": [each["choices"][0] for each in choices]}
    served = serve(json_bytes(body))
    with pytest.raises(InvalidAnswerError, match="choice 1 is not") as raised:
        served.client.completions.create(prompt="x", n=3, response_format=DataPlace)
    parsed = [choice.parsed for choice in raised.value.partial.choices]
    assert parsed == [DataPlace("Oslo", 1), None, DataPlace("Paris", 12)]


def test_stream_is_parsed_when_it_is_collected(serve: Serve) -> None:
    """collect() parses the joined text; collect_text() and the snapshot leave it as it is."""
    chunks = [chunk(PARIS[:9]), chunk(PARIS[9:]), chunk(finish="stop"), "[DONE]"]
    served = serve(stream_bytes(*chunks))
    with served.client.completions.stream(prompt="x", response_format=DataPlace) as stream:
        assert stream.collect().parsed == DataPlace("Paris", 12)
        assert stream.snapshot.parsed is None
    assert served.requests[0].json["response_format"]["json_schema"]["name"] == "DataPlace"


def test_chat_stream_is_parsed(serve: Serve) -> None:
    """collect() of a chat parses the content."""
    served = serve(stream_bytes(delta(content=PARIS), delta(finish="stop"), "[DONE]"))
    chat = served.client.chat.completions
    with chat.stream(messages=HELLO, response_format=AttrsPlace) as stream:
        assert stream.collect().parsed == AttrsPlace("Paris", 12)


def test_stream_whose_text_does_not_fit(serve: Serve) -> None:
    """collect() raises with the whole answer; collect_text() returns the text."""
    served = serve(stream_bytes(chunk("Hi"), chunk(finish="length"), "[DONE]"))
    with served.client.completions.stream(prompt="x", response_format=DataPlace) as stream:
        assert stream.collect_text() == "Hi"
        with pytest.raises(InvalidAnswerError, match="cut the text") as raised:
            stream.collect()
    assert raised.value.partial.text == "Hi"


def test_incomplete_stream_is_not_parsed(serve: Serve) -> None:
    """A stream that breaks off raises what it raises without a class."""
    served = serve(stream_bytes(chunk(PARIS)))
    with served.client.completions.stream(prompt="x", response_format=DataPlace) as stream:
        with pytest.raises(StreamInterruptedError):
            stream.collect()


def test_tool_call_instead_of_text(serve: Serve) -> None:
    """A choice that calls a tool instead has no instance, and is no error."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    served = serve(json_bytes(chat_answer(None, tool_calls=[call])), json_bytes(chat_answer(None)))
    create = served.client.chat.completions.create
    completion = create(messages=HELLO, response_format=DataPlace)
    assert completion.parsed is None
    with pytest.raises(InvalidAnswerError) as raised:
        create(messages=HELLO, response_format=DataPlace)
    assert raised.value.text == ""


def test_parsed_as(serve: Serve) -> None:
    """parsed_as() reads the text of choice 0 as any class, whatever was asked for."""
    served = serve(json_bytes(answer(PARIS)), json_bytes(chat_answer("?")))
    completion = served.client.completions.create(prompt="x")
    assert completion.parsed_as(DataPlace) == DataPlace("Paris", 12)
    assert completion.parsed_as(DictPlace)["n"] == 12
    chat = served.client.chat.completions.create(messages=HELLO)
    with pytest.raises(InvalidAnswerError) as raised:
        chat.parsed_as(AttrsPlace)
    assert raised.value.partial is chat
    with pytest.raises(TypeError, match="not <class 'int'>"):
        chat.parsed_as(int)


def test_answer_without_choices_has_nothing_parsed() -> None:
    """An early snapshot has no instance."""
    assert Completion("", "", 0, []).parsed is None
    chat = ChatCompletion("", "", 0, [])
    assert chat.parsed is None
    with pytest.raises(InvalidAnswerError):
        chat.parsed_as(DataPlace)


def test_library_that_is_missing(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without msgspec the error names the extra, and nothing is sent."""
    monkeypatch.setitem(sys.modules, "msgspec", None)
    served = serve(json_bytes(answer(PARIS)))
    with pytest.raises(ImportError, match=r"vllm-sync-client\[structured\]"):
        served.client.completions.create(prompt="x", response_format=DataPlace)
    assert served.requests == []


async def parsed_async(base_url: str) -> Any:
    async with AsyncVllmClient(base_url) as client:
        whole = await client.completions.create(prompt="x", response_format=DataPlace)
        async with client.completions.stream(prompt="x", response_format=DataPlace) as stream:
            collected = await stream.collect()
        async with client.completions.stream(prompt="x", response_format=AttrsPlace) as stream:
            text = await stream.collect_text()
            with pytest.raises(InvalidAnswerError):
                await stream.collect()
    return whole.parsed, collected.parsed, text


def test_async_answers_are_parsed(serve: Serve) -> None:
    """The asynchronous client parses as the synchronous one does."""
    ends = chunk(finish="stop"), "[DONE]"
    served = serve(
        json_bytes(answer(PARIS)),
        stream_bytes(chunk(PARIS), *ends),
        stream_bytes(chunk("?"), *ends),
    )
    place = DataPlace("Paris", 12)
    assert asyncio.run(parsed_async(served.server.base_url)) == (place, place, "?")
