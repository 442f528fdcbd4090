"""Habits of other clients: what works here too, and what leads to its replacement."""

from __future__ import annotations

import copy
import json
import pickle
import re
from typing import Any, List

import pytest

from vllm_client import (
    AsyncVllmClient,
    ChatCompletion,
    Completion,
    Content,
    Done,
    Text,
    ToolCall,
    ToolCallDelta,
    Usage,
    VllmClient,
)
from vllm_client.types import ChatCompletionChoice, ChatCompletionMessage, CompletionChoice

from ..conftest import Serve
from ..recorded import HELLO, chunk, json_bytes, stream_bytes

CALL = ToolCall("c1", "add", '{"a": 1}')
MESSAGE = ChatCompletionMessage(content=None, reasoning="Hm", tool_calls=[CALL])
CLIENT = VllmClient("http://127.0.0.1:1")
ASYNC_CLIENT = AsyncVllmClient("http://127.0.0.1:1")
HINTS: List[Any] = [
    (Text("a"), "choices", "event.index is its number"),
    (Text("a"), "delta", "such as event.text"),
    (Content("a"), "content", "use event.text"),
    (ToolCallDelta(0), "function", "use event.name and event.arguments"),
    (Usage(), "choices", "look at event.type"),
    (Done(), "choices", "look at event.type"),
    (CALL, "choices", "look at event.type"),
    (CALL, "function", "use name, and arguments or parse_args()"),
    (CALL, "model_dump", "use raw()"),
    (MESSAGE, "model_dump", "append the message itself to messages"),
    (MESSAGE, "reasoning_content", "use reasoning"),
    (ChatCompletionChoice(0, MESSAGE), "text", "use message.content"),
    (CompletionChoice(0, ""), "message", "use text"),
    (Completion("", "", 0, []), "model_dump", "use to_dict()"),
    (ChatCompletion("", "", 0, []), "system_fingerprint", "raw['system_fingerprint']"),
    (ChatCompletion("", "", 0, []), "get", "answer.choices"),
]
CLIENT_HINTS: List[Any] = [
    (CLIENT, "beta", "create(response_format=…) with a class"),
    (CLIENT, "copy", "use with_options()"),
    (CLIENT.chat, "create", "use client.chat.completions.create()"),
    (ASYNC_CLIENT, "close", "use await client.aclose()"),
    (ASYNC_CLIENT.chat, "stream", "use client.chat.completions.stream()"),
]


@pytest.mark.parametrize(
    ("value", "name", "hint"), HINTS, ids=[f"{type(v).__name__}.{n}" for v, n, _ in HINTS]
)
def test_a_name_of_another_client_leads_to_its_replacement(
    value: object, name: str, hint: str
) -> None:
    """An attribute that openai's objects have raises an error that names the replacement."""
    with pytest.raises(AttributeError) as caught:
        getattr(value, name)
    message = str(caught.value)
    assert message.startswith(f"{type(value).__name__!r} object has no attribute {name!r}: ")
    assert hint in message
    assert not hasattr(value, name)
    assert name not in dir(value)
    assert hint in (getattr(type(value), name).__doc__ or "")


@pytest.mark.parametrize(
    ("value", "name", "hint"),
    CLIENT_HINTS,
    ids=[f"{type(v).__name__}.{n}" for v, n, _ in CLIENT_HINTS],
)
def test_a_client_leads_to_its_methods(value: object, name: str, hint: str) -> None:
    """A name of openai's client raises an error with the replacement, and no class lists it."""
    with pytest.raises(AttributeError, match=f"has no attribute {name!r}: .*{re.escape(hint)}"):
        getattr(value, name)
    assert name not in dir(type(value))
    with pytest.raises(AttributeError, match=r"^'[A-Za-z]+' object has no attribute 'other'$"):
        getattr(value, "other")  # noqa: B009


def test_completion_names_what_exists() -> None:
    """dir(), and so completion in a notebook, names the attributes that exist."""
    names = dir(Text("a"))
    assert {"text", "index", "chunk", "type", "__eq__"} <= set(names)
    assert "to_dict" in dir(Completion("", "", 0, []))


@pytest.mark.parametrize("value", [Completion("", "", 0, []), MESSAGE, Text("a"), CALL, Usage()])
def test_a_subscript_leads_to_the_attribute(value: Any) -> None:
    """A subscript, as openai's dictionaries before 1.0 had it, names the attribute to use."""
    name = type(value).__name__
    with pytest.raises(TypeError) as caught:
        value["choices"]
    assert str(caught.value) == (
        f"{name!r} object is not subscriptable: it has attributes, so write .choices instead of "
        "['choices']"
    )
    with pytest.raises(TypeError, match=f"^'{name}' object is not subscriptable$"):
        value[0]
    with pytest.raises(TypeError):
        list(value)


def test_other_unknown_names_are_as_usual() -> None:
    """A misspelt attribute raises the usual error, and hints hinder neither pickle nor copy."""
    event: Any = Text("a")
    with pytest.raises(AttributeError, match="'Text' object has no attribute 'tetx'"):
        _ = event.tetx
    assert copy.deepcopy(event) == pickle.loads(pickle.dumps(event)) == event


def test_a_stream_leads_to_its_methods(serve: Serve) -> None:
    """The names of other clients' streams lead to collect() and text_deltas()."""
    served = serve(stream_bytes(chunk("a", finish="stop"), "[DONE]"))
    with served.client.completions.stream(prompt="x") as stream:
        with pytest.raises(AttributeError, match=r"use text_deltas\(\)"):
            getattr(stream, "text_stream")  # noqa: B009
        assert stream.collect_text() == "a"


def test_a_message_continues_the_conversation(serve: Serve) -> None:
    """A message of a response is sent as it is: role, content and tool calls, no reasoning."""
    choice = {
        "index": 0,
        "finish_reason": "tool_calls",
        "message": {
            "role": "assistant",
            "content": None,
            "reasoning": "Hm",
            "tool_calls": [CALL.raw()],
        },
    }
    served = serve(json_bytes({"choices": [choice]}))
    messages: List[Any] = [*HELLO]
    answer = served.client.chat.completions.create(messages=messages)
    messages += [answer.message, answer.tool_calls[0].result(1)]
    served.client.chat.completions.create(messages=messages)
    sent = served.requests[1].json["messages"]
    assert sent == [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [CALL.raw()]},
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
    ]
    assert sent[1] == answer.message.to_dict() == answer.assistant_message()
    assert answer.message.to_dict(reasoning=True)["reasoning"] == "Hm"


def test_tool_calls_in_a_message_are_sent(serve: Serve) -> None:
    """A message that a program makes may hold the tool calls of a response."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"content": "a"}}
    served = serve(json_bytes({"choices": [choice]}))
    message = {"role": "assistant", "tool_calls": [CALL]}
    served.client.chat.completions.create(messages=[message])
    assert served.requests[0].json["messages"][0]["tool_calls"] == [CALL.raw()]


def test_numbers_of_numpy_are_values(serve: Serve) -> None:
    """Numbers and arrays of NumPy are sent as JSON, wherever they stand."""
    numpy = pytest.importorskip("numpy")
    choices = [{"index": index, "text": "", "finish_reason": "stop"} for index in range(2)]
    served = serve(json_bytes({"choices": choices}))
    create = served.client.completions.create
    values: Any = {
        "temperature": numpy.float32(0.5),
        "n": numpy.int64(2),
        "echo": numpy.bool_(True),
        "stop": numpy.array(["a", "b"]),
        "logit_bias": {"5": numpy.float64(1.5)},
        "vllm_xargs": {"list": [numpy.int8(1)]},
    }
    create(prompt=[numpy.int64(7), numpy.int64(8)], **values)
    assert served.requests[0].json == {
        "prompt": [7, 8],
        "temperature": 0.5,
        "n": 2,
        "echo": True,
        "stop": ["a", "b"],
        "logit_bias": {"5": 1.5},
        "vllm_xargs": {"list": [1]},
    }
    create(prompt=numpy.array([[1, 2], [3, 4]]))
    assert served.requests[1].json == {"prompt": [[1, 2], [3, 4]]}
    create(prompt=numpy.array([1, 2]), n=2)
    assert served.requests[2].json == {"prompt": [1, 2], "n": 2}
    with pytest.raises(ValueError, match="temperature cannot be sent as JSON"):
        create(prompt="x", temperature=numpy.float64("nan"))


def test_a_column_of_pandas_is_a_list_of_prompts(serve: Serve) -> None:
    """A column of a data frame is sent as a list, and each of its prompts must be answered."""
    pandas = pytest.importorskip("pandas")
    choices = [{"index": index, "text": "", "finish_reason": "stop"} for index in range(2)]
    served = serve(
        json_bytes({"choices": choices}),
        stream_bytes(chunk("a", finish="stop"), chunk("b", index=1, finish="stop"), "[DONE]"),
    )
    column = pandas.Series(["a", "b"], index=[7, 8])
    assert len(served.client.completions.create(prompt=column).choices) == 2
    assert served.requests[0].json == {"prompt": ["a", "b"]}
    with served.client.completions.stream(prompt=column) as stream:
        assert [choice.text for choice in stream.collect().choices] == ["a", "b"]


@pytest.mark.parametrize("value", [object(), {1, 2}, Text, b"bytes"])
def test_other_objects_are_refused(serve: Serve, value: object) -> None:
    """What has no form as JSON is refused before it is sent, with the name of its field."""
    served = serve(json_bytes({}))
    text = f"user cannot be sent as JSON: Object of type {type(value).__name__} is not JSON"
    with pytest.raises(TypeError, match=text):
        served.client.completions.create(prompt="x", user=value)  # type: ignore[call-overload]
    assert served.requests == []


def test_a_class_with_tolist_is_no_value(serve: Serve) -> None:
    """A class of NumPy instead of a number is refused with the name of its field."""
    numpy = pytest.importorskip("numpy")
    served = serve(json_bytes({}))
    with pytest.raises(TypeError, match="seed cannot be sent as JSON: Object of type type"):
        served.client.completions.create(prompt="x", seed=numpy.int64)


def test_usage_as_a_dictionary() -> None:
    """The counts are JSON, without the tag of the event."""
    plain = Usage(1, 2, 3, {"cached_tokens": 1}).to_dict()
    assert json.loads(json.dumps(plain)) == {
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "total_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 1},
        "completion_tokens_details": None,
    }
