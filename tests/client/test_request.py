"""Requests: from keyword arguments to the body, and what is refused before it is sent."""

from __future__ import annotations

import copy
import json
from typing import Any, Dict, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_client import CompletionParams, VllmClient
from vllm_client._http.payload import encoded
from vllm_client._request import expected_choices, split, streamed
from vllm_client.params import REPLACED, RequestOptions, names
from vllm_client.resources.chat import check_chat, forces_calls
from vllm_client.resources.completions import check_completion

from ..recorded import chunk, json_bytes, stream_bytes
from ..servers import Connection, Serve, either, send_reply


def body_of(**given: Any) -> Dict[str, Any]:
    return split("create", given, CompletionParams)[0]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("max_token", "max_tokens"),
        ("maxTokens", "max_tokens"),
        ("temprature", "temperature"),
        ("structured_output", "structured_outputs"),
        ("promt", "prompt"),
        ("time_out", "timeout"),
        ("extra_bdy", "extra_body"),
        ("logit_biases", "logit_bias"),
    ],
)
def test_unknown_name_is_refused(name: str, nearest: str) -> None:
    """An unknown name raises TypeError with the nearest name and the use of extra_body."""
    with pytest.raises(TypeError) as caught:
        body_of(prompt="x", **{name: 1})
    assert f"create() got an unexpected keyword argument {name!r}" in str(caught.value)
    assert f"did you mean {nearest!r}?" in str(caught.value)
    assert f"extra_body={{{name!r}: …}}" in str(caught.value)


def test_far_away_name_is_refused() -> None:
    """An unknown name that resembles no field is refused without a suggestion."""
    with pytest.raises(TypeError, match="extra_body") as caught:
        body_of(zzzqqqxxx=1)
    assert "did you mean" not in str(caught.value)


def test_stream_names_itself() -> None:
    """The error for an unknown name names the method that was called."""
    with (
        VllmClient("h") as client,
        pytest.raises(TypeError, match=r"^stream\(\) got an unexpected"),
    ):
        client.completions.stream(prompt="x", max_token=1)
    with (
        VllmClient("h") as client,
        pytest.raises(TypeError, match=r"^create\(\) got an unexpected"),
    ):
        client.completions.create(prompt="x", max_token=1)


OLD = {
    "guided_json": '{"json": …}',
    "guided_regex": '{"regex": …}',
    "guided_choice": '{"choice": […]}',
    "guided_grammar": '{"grammar": …}',
    "guided_json_object": '{"json_object": True}',
    "guided_whitespace_pattern": '"whitespace_pattern": …}',
    "guided_decoding_backend": "--structured-outputs-config",
    "best_of": "use n instead",
    "structural_tag": '{"structural_tag": …}',
    "logits_processors": "logit_bias",
}


@pytest.mark.parametrize("name", OLD)
def test_old_name_is_refused_with_its_replacement(name: str) -> None:
    """A field that vLLM has removed is refused with its replacement and the last version."""
    assert set(OLD) == set(REPLACED)
    with pytest.raises(TypeError) as caught:
        body_of(prompt="x", **{name: 1})
    assert "use " in str(caught.value)
    assert OLD[name] in str(caught.value)
    last = "0.16" if name == "logits_processors" else "0.11"
    assert f"vLLM after {last} ignores it" in str(caught.value)
    with pytest.raises(TypeError, match=f"vLLM after {last} ignores it"):
        body_of(prompt="x", extra_body={name: 1})


def test_replacements_are_no_fields() -> None:
    """No current field is listed as removed."""
    assert not set(REPLACED) & set(names(CompletionParams))


def test_extra_body_wins() -> None:
    """extra_body takes precedence over keywords and may hold any name."""
    extra = {"max_tokens": 9, "guided_chips": {}, "prompt_logprobs": 3, "my-field": None}
    body = body_of(prompt="x", max_tokens=1, extra_body=extra)
    assert body == {"prompt": "x", **extra}


@pytest.mark.parametrize("extra", [None, {}])
def test_empty_extra_body(extra: Any) -> None:
    """An empty extra_body changes nothing."""
    assert body_of(prompt="x", extra_body=extra) == {"prompt": "x"}


@pytest.mark.parametrize("stream", [True, False, None])
def test_extra_body_without_stream(stream: Any) -> None:
    """`stream` in extra_body is refused: the method decides whether to stream."""
    with pytest.raises(ValueError, match="stream"):
        body_of(prompt="x", extra_body={"stream": stream})


@pytest.mark.parametrize("extra", [[("stream", True)], "text", 5, [], {1: 2}])
def test_extra_body_is_a_dict(extra: Any) -> None:
    """extra_body must be a dict whose keys are strings."""
    with pytest.raises(TypeError, match="extra_body"):
        body_of(prompt="x", extra_body=extra)


def test_absent_is_not_sent() -> None:
    """Only given fields are sent, and None is sent as null."""
    assert body_of(prompt="x") == {"prompt": "x"}
    assert encoded(body_of(prompt="x", seed=None)) == b'{"prompt":"x","seed":null}'


def test_options_are_not_sent() -> None:
    """Headers, timeout and extra_body are options of the call, not fields of the body."""
    given = {"extra_headers": {"X-A": "1"}, "timeout": 3.0, "extra_body": {"a": 1}, "prompt": "x"}
    body, options = split("create", given, CompletionParams)
    assert body == {"prompt": "x", "a": 1}
    assert options == {"extra_headers": {"X-A": "1"}, "timeout": 3.0}
    assert set(names(RequestOptions)) == {"extra_headers", "timeout", "extra_body"}


class Ambiguous:
    """Like a NumPy array: without a truth value, not iterable, and not comparable."""

    def __bool__(self) -> bool:
        raise ValueError("the truth value of an array is ambiguous")

    def __eq__(self, other: object) -> bool:
        raise ValueError("the truth value of an array is ambiguous")

    __hash__ = None  # type: ignore[assignment]


def circle() -> Any:
    value: Any = []
    value.append(value)
    return value


def deep() -> Any:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    return value


UNSENDABLE = [
    pytest.param(float("nan"), ValueError, id="nan"),
    pytest.param([1.0, float("inf")], ValueError, id="infinity"),
    pytest.param(Ambiguous(), TypeError, id="array"),
    pytest.param([Ambiguous()], TypeError, id="list of arrays"),
    pytest.param(object(), TypeError, id="object"),
    pytest.param(b"bytes", TypeError, id="bytes"),
    pytest.param({1, 2}, TypeError, id="set"),
    pytest.param((number for number in [1]), TypeError, id="generator"),
    pytest.param("half \ud83d", ValueError, id="surrogate"),
    pytest.param({"\udc00": 1}, ValueError, id="surrogate key"),
    pytest.param({(1, 2): 3}, TypeError, id="tuple key"),
    pytest.param(circle(), ValueError, id="circle"),
    pytest.param(deep(), ValueError, id="depth"),
]


@pytest.mark.parametrize(("value", "kind"), UNSENDABLE)
@pytest.mark.parametrize("field", ["logit_bias", "n", "use_beam_search", "prompt_logprobs", "stop"])
def test_what_cannot_be_json_names_its_field(field: str, value: Any, kind: Any) -> None:
    """A value that is not JSON raises an error that begins with the name of its field."""
    # Nothing listens at this address, and nothing is sent to it.
    with VllmClient("http://127.0.0.1:9", max_retries=0) as client:
        for method in (client.completions.create, client.completions.stream):
            is_switch = field in {"use_beam_search", "prompt_logprobs"}
            if is_switch and method == client.completions.stream and isinstance(value, float):
                continue  # A number switches the field on, which a stream refuses first.
            with pytest.raises(kind, match=rf"^{field} ") as caught:
                method(prompt="x", seed=1, **{field: value})
            assert type(caught.value) is kind


def test_a_lone_surrogate_is_explained() -> None:
    """A lone surrogate raises a ValueError that explains it in plain words."""
    with pytest.raises(ValueError, match="prompt contains half a character") as caught:
        encoded({"model": "m", "prompt": "abc\ud83d"})
    assert type(caught.value) is ValueError


def test_unsendable_key_of_the_body() -> None:
    """A name that cannot be encoded is refused like a value."""
    with pytest.raises(ValueError, match="half a character"):
        encoded({"\ud83d": 1})


@pytest.mark.parametrize("body", [[float("nan")], object(), "\ud83d"])
def test_unsendable_body_that_is_no_object(body: Any) -> None:
    """A body of client.request() that is not JSON raises an error that names `json`."""
    with pytest.raises((TypeError, ValueError), match=r"^json "):
        encoded(body)


class Flaky(Dict[str, int]):
    """A dictionary that another thread changes during its first iteration."""

    looks = 0

    def items(self) -> Any:
        self.looks += 1
        if self.looks == 1:
            raise ValueError("changed meanwhile")
        return super().items()


def test_an_error_of_no_single_field() -> None:
    """An encoding error that no single field causes is raised unchanged."""
    with pytest.raises(ValueError, match="changed meanwhile"):
        encoded({"logit_bias": Flaky({"5": 1})})


CHAT = [
    ({}, TypeError, "needs messages"),
    ({"messages": None}, TypeError, "needs messages"),
    ({"messages": "Hello"}, TypeError, "needs messages"),
    ({"messages": {"role": "user", "content": "x"}}, TypeError, "needs messages"),
    ({"messages": []}, ValueError, "messages is an empty list"),
    ({"messages": ()}, ValueError, "messages is an empty list"),
    ({"messages": [{}], "tools": []}, ValueError, "tools is an empty list"),
]


@pytest.mark.parametrize(("body", "kind", "message"), CHAT)
def test_chat_that_is_refused(body: Any, kind: Any, message: str) -> None:
    """A chat without messages, or with an empty list of tools, is refused."""
    with pytest.raises(kind, match=message):
        check_chat(body)


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": "x"}], "tools": None},
        {"messages": ({},), "tools": [{}]},
        {"messages": Ambiguous()},
        {"messages": [{}], "tools": Ambiguous()},
    ],
)
def test_chat_that_is_sent(body: Any) -> None:
    """Messages and tools of any other type are left to the server."""
    before = list(body)
    check_chat(body)
    assert list(body) == before


@pytest.mark.parametrize(
    ("choice", "forced"),
    [
        ("required", True),
        ({"type": "function", "function": {"name": "f"}}, True),
        ("auto", False),
        ("none", False),
        (None, False),
        (Ambiguous(), False),
    ],
)
def test_forced_calls(choice: Any, forced: bool) -> None:
    """tool_choice forces calls if it is "required" or a named function."""
    assert forces_calls({"tool_choice": choice}) is forced
    assert forces_calls({}) is False


def test_body_is_short_utf8() -> None:
    """The body is UTF-8 without spaces."""
    assert encoded({"prompt": "é 😀", "n": [1, 2]}) == '{"prompt":"é 😀","n":[1,2]}'.encode()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc"), inner),
    max_leaves=10,
)


@given(value=JSON)
def test_body_arrives_as_it_was(value: Any) -> None:
    """Any JSON value is encoded so that it decodes to the same value."""
    assert json.loads(encoded({"prompt": value})) == {"prompt": value}


@pytest.mark.parametrize("body", [{}, {"prompt": None}, {"model": "m", "prompt_embeds": None}])
def test_missing_prompt(body: Mapping[str, Any]) -> None:
    """A completion without a prompt is a TypeError."""
    with pytest.raises(TypeError, match="prompt"):
        check_completion(body)


@pytest.mark.parametrize("prompt", [[], ()])
def test_empty_list_of_prompts(prompt: Any) -> None:
    """An empty list of prompts is a ValueError."""
    with pytest.raises(ValueError, match="prompt is an empty list"):
        check_completion({"prompt": prompt})


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": ""},
        {"prompt": "x"},
        {"prompt": [1]},
        {"prompt": Ambiguous()},
        {"prompt_embeds": "AAAA"},
        body_of(extra_body={"prompt": "x"}),
    ],
)
def test_some_prompt_is_enough(body: Mapping[str, Any]) -> None:
    """Prompts of any other type are left to the server."""
    before = dict(body)
    check_completion(body)
    assert list(body) == list(before)


@pytest.mark.parametrize("value", [True, 1])
def test_beam_search_is_not_streamed(value: Any) -> None:
    """Beam search cannot be streamed."""
    with pytest.raises(ValueError, match="beam search cannot be streamed"):
        streamed({"prompt": "x", "use_beam_search": value})


@pytest.mark.parametrize("value", [1, -1, True])
def test_prompt_logprobs_are_not_streamed(value: Any) -> None:
    """Log-probabilities of the prompt cannot be streamed."""
    with pytest.raises(ValueError, match="prompt_logprobs cannot be streamed"):
        streamed({"prompt": "x", "prompt_logprobs": value})


@pytest.mark.parametrize("value", [0, None, False])
@pytest.mark.parametrize("field", ["use_beam_search", "prompt_logprobs"])
def test_switched_off_is_streamed(field: str, value: Any) -> None:
    """A field that is switched off does not prevent a stream."""
    assert streamed({"prompt": "x", field: value})[field] == value


def test_usage_is_requested() -> None:
    """A stream requests usage unless the caller sets stream_options."""
    assert streamed({"prompt": "x"}) == {
        "prompt": "x",
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize("given", [None, {}, {"include_usage": False}])
def test_stream_options_of_the_caller(given: Any) -> None:
    """stream_options of the caller are sent unchanged, None too."""
    assert streamed({"prompt": "x", "stream_options": given})["stream_options"] == given


PROMPTS = [
    ("a text", 1),
    ("", 1),
    (["a"], 1),
    (["a", "b", "c"], 3),
    (("a", "b"), 2),
    ([1, 2, 3], 1),
    ([1.0, 2.0], 1),
    ([[1, 2], [3]], 2),
    ([(1,), (2,)], 2),
    (None, 1),
    ([], 1),
]
NUMBERS = [
    (1, 1),
    (2, 2),
    ("2", 2),
    (" 3 ", 3),
    (2.0, 2),
    (True, 1),
    (None, 1),
    (0, 1),
    (-3, 1),
    ("many", 1),
    ([], 1),
    ([2], 1),
    ({}, 1),
    (float("nan"), 1),
    (float("inf"), 1),
]


@pytest.mark.parametrize(("prompt", "prompts"), PROMPTS)
@pytest.mark.parametrize(("number", "outputs"), NUMBERS)
def test_expected_choices(prompt: Any, prompts: int, number: Any, outputs: int) -> None:
    """A stream expects prompts × n choices, counted as the server counts them."""
    assert expected_choices({"prompt": prompt, "n": number}) == prompts * outputs
    assert expected_choices({"prompt": prompt}) == prompts


@pytest.mark.parametrize(
    ("body", "choices"),
    [
        ({"prompt_embeds": "AAAA"}, 1),
        ({"prompt_embeds": ["AAAA", "BBBB"], "n": 2}, 4),
        ({"prompt_embeds": ["AAAA"], "prompt": ["a", "b"]}, 3),
        ({"prompt_embeds": [], "prompt": "a"}, 1),
        ({"prompt_embeds": "AAAA", "prompt": None}, 1),
        ({}, 1),
    ],
)
def test_expected_choices_of_embeddings(body: Mapping[str, Any], choices: int) -> None:
    """Prompt embeddings count as prompts."""
    assert expected_choices(body) == choices


def finishing(connection: Connection) -> None:
    """Answer with one choice for each prompt."""
    prompts = connection.request.json["prompt"]
    number = len(prompts) if isinstance(prompts, list) else 1
    chunks = [chunk("t", index=index, finish="stop") for index in range(number)]
    whole = {**chunks[0], "choices": [data["choices"][0] for data in chunks]}
    send_reply(connection, either(stream_bytes(*chunks, "[DONE]"), json_bytes(whole)))


def test_arguments_are_not_changed(serve: Serve) -> None:
    """The arguments of the caller, nested dicts included, are not changed."""
    preset: CompletionParams = {
        "prompt": ["a", "b"],
        "stop": ["."],
        "logit_bias": {"5": 1.0},
        "extra_body": {"a": {"b": [1]}},
        "extra_headers": {"X-A": "1", "User-Agent": None},
    }
    before = copy.deepcopy(preset)
    served = serve(finishing)
    served.client.completions.create(**preset)
    assert served.client.completions.stream(**preset).collect().choices[1].text == "t"
    served.client.completions.create(**preset, max_tokens=5, timeout=5)
    assert preset == before
    plain = {"prompt": ["a", "b"], "stop": ["."], "logit_bias": {"5": 1.0}, "a": {"b": [1]}}
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    sent = [request.json for request in served.requests]
    assert sent == [plain, {**plain, **usage}, {**plain, "max_tokens": 5}]
    assert served.requests[0].headers["x-a"] == "1"


def test_stream_keyword_is_the_stream_method(serve: Serve) -> None:
    """create(stream=True) sends and yields the same as stream()."""
    served = serve(finishing)
    asked = served.client.completions.create(prompt="x", stream=True)
    with asked:
        events = list(asked)
    with served.client.completions.stream(prompt="x") as same:
        assert list(same) == events
    assert served.requests[0].body == served.requests[1].body
    assert [event.type for event in events] == ["text", "finish_reason", "done"]
    assert served.requests[0].headers["accept"] == "text/event-stream"


def test_stream_false_is_not_sent(serve: Serve) -> None:
    """create(stream=False) does not send `stream`."""
    served = serve(finishing)
    assert served.client.completions.create(prompt="x", stream=False).text == "t"
    assert served.requests[0].json == {"prompt": "x"}
