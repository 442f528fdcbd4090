"""The text that the fake server generates, its other routes, and its start and end."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from typing import Any, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_client import testing
from vllm_client.testing import FakeServer, pytest_plugin
from vllm_client.testing._engine.text import TEXT
from vllm_client.testing._engine.tokenizer import EOS, Tokenizer

fake_vllm = pytest_plugin.fake_vllm

QUESTION = "What is machine learning?"
WAIT = 10.0


def ask(
    server: FakeServer, path: str = "/v1/completions", method: str = "POST", **body: Any
) -> tuple[int, Any]:
    """Send one request; return the status, and the JSON or the data of each SSE event."""
    connection = http.client.HTTPConnection(server.url[len("http://") :], timeout=WAIT)
    sent = json.dumps(body) if method == "POST" else None
    connection.request(method, path, sent, {"Content-Type": "application/json"})
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    if (response.headers["content-type"] or "").startswith("text/event-stream"):
        return response.status, [each[len("data: ") :] for each in text.split("\n\n") if each]
    return response.status, json.loads(text) if text.startswith("{") else text


def choices(server: FakeServer, **body: Any) -> list[dict[str, Any]]:
    """The choices of a completion that is not streamed."""
    status, answer = ask(server, **{"prompt": QUESTION, **body})
    assert status == 200, answer
    return answer["choices"]


def text(server: FakeServer, **body: Any) -> str:
    """The text of the first choice."""
    return choices(server, **body)[0]["text"]


def events(server: FakeServer, **body: Any) -> list[dict[str, Any]]:
    """The events of a streamed completion, which must end in [DONE]."""
    status, data = ask(server, **{"prompt": QUESTION, "stream": True, **body})
    assert status == 200, data
    assert data[-1] == "[DONE]"
    return [json.loads(each) for each in data[:-1]]


def streamed_text(server: FakeServer, **body: Any) -> str:
    """The text of the first choice of a streamed completion."""
    found = (choice for event in events(server, **body) for choice in event["choices"])
    return "".join(choice["text"] for choice in found if choice["index"] == 0)


# --- the text ---------------------------------------------------------------------------------


def test_an_answer_keeps_to_the_question(fake_vllm: FakeServer) -> None:
    """At temperature 0, the text begins with the subject of the question."""
    answer = text(fake_vllm, temperature=0, max_tokens=500)
    assert answer.startswith(" Machine learning is")
    assert answer.endswith(".")


def test_an_answer_ends_with_a_sentence(fake_vllm: FakeServer) -> None:
    """With a large ``max_tokens``, the text stops by itself at the end of a sentence."""
    for seed in range(20):
        [choice] = choices(fake_vllm, max_tokens=2000, seed=seed)
        assert choice["finish_reason"] == "stop"
        assert choice["text"].endswith(".")


@pytest.mark.parametrize("prompt", ["Hi", "zzz", "The client", "a network", "1 + 1 =", "\u00e9\n"])
def test_greedy_answers_end(fake_vllm: FakeServer, prompt: str) -> None:
    """At temperature 0, the text ends for every prompt."""
    [choice] = choices(fake_vllm, prompt=prompt, temperature=0, max_tokens=2000)
    assert choice["finish_reason"] == "stop"


def test_a_prompt_is_continued_where_the_text_knows_it(fake_vllm: FakeServer) -> None:
    """A prompt that ends within a phrase of the model's text is continued."""
    assert text(fake_vllm, prompt="The client sends a request", seed=1).startswith(" over")


def test_an_answer_after_white_space_begins_without_a_space(fake_vllm: FakeServer) -> None:
    """After a prompt that ends with a space, the text begins without one."""
    assert not text(fake_vllm, prompt="Question: what is a server?\nAnswer: ").startswith(" ")


def test_max_tokens_is_sixteen_by_default(fake_vllm: FakeServer) -> None:
    """Without ``max_tokens``, or with null, a completion ends after sixteen tokens."""
    for body in ({}, {"max_tokens": None}):
        _, answer = ask(fake_vllm, prompt=QUESTION, **body)
        assert answer["usage"]["completion_tokens"] == 16
        assert answer["choices"][0]["finish_reason"] == "length"


def test_max_tokens_is_cut_down_to_the_context() -> None:
    """``max_tokens`` is reduced to the tokens that the context allows, without an error."""
    with FakeServer(max_model_len=10) as server:
        _, answer = ask(server, prompt="a a a a a a", max_tokens=9, ignore_eos=True)
        assert answer["usage"]["total_tokens"] == 10


def test_the_same_seed_gives_the_same_answer(fake_vllm: FakeServer) -> None:
    """Requests with the same seed get the same text, streamed or not."""
    whole = text(fake_vllm, seed=7, max_tokens=60)
    assert text(fake_vllm, seed=7, max_tokens=60) == whole
    assert streamed_text(fake_vllm, seed=7, max_tokens=60) == whole


def test_other_seeds_give_other_answers(fake_vllm: FakeServer) -> None:
    """Ten seeds produce more than three different texts."""
    assert len({text(fake_vllm, seed=seed, max_tokens=60) for seed in range(10)}) > 3


def test_the_server_is_seeded() -> None:
    """Servers with the same seed generate the same texts for requests without a seed."""
    with FakeServer(seed=3) as first, FakeServer(seed=3) as second:
        assert [text(first) for _ in range(3)] == [text(second) for _ in range(3)]


def test_temperature_zero_is_deterministic(fake_vllm: FakeServer) -> None:
    """At temperature 0, the seed does not change the text."""
    answers = {text(fake_vllm, temperature=0, seed=seed, max_tokens=60) for seed in range(5)}
    assert len(answers) == 1


@pytest.mark.parametrize("body", [{"top_k": 1}, {"top_p": 0.01}, {"min_p": 1}])
def test_truncated_sampling_is_greedy(fake_vllm: FakeServer, body: dict[str, Any]) -> None:
    """If only the likeliest token remains, the text is the one of temperature 0."""
    greedy = text(fake_vllm, temperature=0, max_tokens=40)
    assert text(fake_vllm, max_tokens=40, **body) == greedy


def test_choices_differ(fake_vllm: FakeServer) -> None:
    """The choices of a request have different texts and are numbered."""
    found = choices(fake_vllm, n=4, prompt="The client sends a request", max_tokens=6)
    assert [choice["index"] for choice in found] == [0, 1, 2, 3]
    assert len({choice["text"] for choice in found}) == 4


def test_prompts_are_numbered_before_choices(fake_vllm: FakeServer) -> None:
    """With several prompts, the index is prompt number * n + choice number."""
    found = choices(fake_vllm, prompt=["One", "Two"], n=2, echo=True)
    assert [choice["index"] for choice in found] == [0, 1, 2, 3]
    assert [choice["text"][:3] for choice in found] == ["One", "One", "Two", "Two"]


def test_ignore_eos_goes_on_to_the_limit(fake_vllm: FakeServer) -> None:
    """With ``ignore_eos`` the text has ``max_tokens`` tokens."""
    _, answer = ask(fake_vllm, prompt=QUESTION, max_tokens=1000, ignore_eos=True)
    assert answer["usage"]["completion_tokens"] == 1000
    assert answer["choices"][0]["finish_reason"] == "length"


def test_min_tokens_puts_off_the_end(fake_vllm: FakeServer) -> None:
    """Neither EOS nor a stop string ends a text before ``min_tokens``."""
    body = {"min_tokens": 150, "max_tokens": 2000, "stop": "e"}
    _, answer = ask(fake_vllm, prompt=QUESTION, **body)
    assert answer["usage"]["completion_tokens"] >= 150
    assert answer["choices"][0]["stop_reason"] == "e"


def test_logit_bias_reaches_any_token(fake_vllm: FakeServer) -> None:
    """A strong bias towards EOS ends the text at once."""
    [choice] = choices(fake_vllm, logit_bias={str(EOS): 100})
    assert (choice["text"], choice["finish_reason"]) == ("", "stop")


def test_allowed_token_ids_are_the_only_ones(fake_vllm: FakeServer) -> None:
    """Only tokens of ``allowed_token_ids`` are generated."""
    ids = fake_ids(" network server")
    [choice] = choices(fake_vllm, allowed_token_ids=ids, return_token_ids=True)
    assert set(choice["token_ids"]) <= set(ids)


def test_a_lone_allowed_eos_ends_even_a_text_that_ignores_it(fake_vllm: FakeServer) -> None:
    """If EOS is the only allowed token, it is generated although ``ignore_eos`` is set."""
    body = {"allowed_token_ids": [EOS], "ignore_eos": True, "max_tokens": 3}
    assert choices(fake_vllm, **body)[0]["finish_reason"] == "length"


def test_listed_token_ids_stand_in_place_of_the_likeliest(fake_vllm: FakeServer) -> None:
    """``logprob_token_ids`` lists the sampled token and these, and nothing else."""
    asked = {"logprobs": 5, "logprob_token_ids": [20, 21], "return_tokens_as_token_ids": True}
    [choice] = choices(fake_vllm, **asked, max_tokens=1, temperature=0)
    sampled = choice["logprobs"]["tokens"][0]
    assert list(choice["logprobs"]["top_logprobs"][0]) == [sampled, "token_id:20", "token_id:21"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"logprob_token_ids": [1]}, "`logprobs` must be set"),
        ({"logprob_token_ids": [1] * 129, "logprobs": 1}, "greater than max allowed: 128"),
        ({"logprob_token_ids": [10**6], "logprobs": 1}, "out-of-vocab"),
    ],
)
def test_listed_token_ids_are_checked(fake_vllm: FakeServer, fields: Any, message: str) -> None:
    """The refusals of ``logprob_token_ids`` are those of vLLM."""
    status, body = ask(fake_vllm, prompt="Hello", **fields)
    assert status == 400
    assert message in body["error"]["message"]


def fake_ids(words: str) -> list[int]:
    """The token ids of a text."""
    return Tokenizer(TEXT).encode(words)


# --- stops ------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_cuts_the_text_before_it(fake_vllm: FakeServer, stream: bool) -> None:
    """A stop string across several tokens is found, and no part of it is sent."""
    body = {"temperature": 0, "max_tokens": 60}
    whole = text(fake_vllm, **body)
    at = len(whole) // 2
    stop = whole[at : at + 9]
    get = streamed_text if stream else text
    assert get(fake_vllm, stop=[stop, "zzz"], **body) == whole[: whole.index(stop)]


def test_the_stop_string_is_the_reason(fake_vllm: FakeServer) -> None:
    """``stop_reason`` is the stop string that was found; ``stop`` may be a single string."""
    [choice] = choices(fake_vllm, stop="is", max_tokens=100, temperature=0)
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", "is")


def test_a_stop_string_may_be_kept(fake_vllm: FakeServer) -> None:
    """With ``include_stop_str_in_output`` the text ends with the stop string."""
    body = {"stop": "earning is", "include_stop_str_in_output": True, "temperature": 0}
    assert text(fake_vllm, **body) == " Machine learning is"
    assert streamed_text(fake_vllm, **body) == " Machine learning is"


def test_a_stop_token_is_left_out_of_the_text(fake_vllm: FakeServer) -> None:
    """A stop token is the ``stop_reason`` and one of the token ids, but not in the text."""
    [stop] = fake_ids(" is")
    body = {"stop_token_ids": [stop], "temperature": 0, "return_token_ids": True}
    [choice] = choices(fake_vllm, **body)
    assert (choice["text"], choice["stop_reason"]) == (" Machine learning", stop)
    assert choice["token_ids"][-1] == stop
    [kept] = choices(fake_vllm, **body, include_stop_str_in_output=True)
    assert kept["text"] == " Machine learning is"


# --- echo, token ids and log-probabilities ----------------------------------------------------


def test_echo_puts_the_prompt_first(fake_vllm: FakeServer) -> None:
    """With ``echo`` the prompt precedes the text, in a stream within the first event."""
    assert text(fake_vllm, echo=True).startswith(QUESTION)
    assert events(fake_vllm, echo=True)[0]["choices"][0]["text"] == f"{QUESTION} Machine"


def test_echo_with_token_ids_leaves_the_text_out(fake_vllm: FakeServer) -> None:
    """As in vLLM, ``echo`` with ``return_token_ids`` returns the prompt only as ids."""
    [choice] = choices(fake_vllm, echo=True, return_token_ids=True)
    assert not choice["text"].startswith(QUESTION)
    assert choice["prompt_token_ids"] == fake_ids(QUESTION)


def test_a_prompt_can_be_scored(fake_vllm: FakeServer) -> None:
    """``echo`` with ``max_tokens`` 0 returns only the prompt, with its log-probabilities."""
    _, answer = ask(fake_vllm, prompt=QUESTION, echo=True, max_tokens=0, logprobs=1)
    assert answer["choices"][0]["text"] == QUESTION
    assert answer["choices"][0]["logprobs"]["token_logprobs"][0] is None
    assert answer["usage"]["completion_tokens"] == 1


def test_logprobs_are_parallel_lists(fake_vllm: FakeServer) -> None:
    """Each token has a text, a log-probability, the likeliest other tokens and an offset."""
    [choice] = choices(fake_vllm, logprobs=3, seed=1)
    lists = choice["logprobs"]
    assert "".join(lists["tokens"]) == choice["text"]
    starts = [choice["text"][offset:] for offset in lists["text_offset"]]
    assert all(map(str.startswith, starts, lists["tokens"]))
    assert all(value <= 0 for value in lists["token_logprobs"])
    assert all(3 <= len(top) <= 4 for top in lists["top_logprobs"])
    for token, value, top in zip(lists["tokens"], lists["token_logprobs"], lists["top_logprobs"]):
        assert top[token] == value


def test_streamed_logprobs_add_up(fake_vllm: FakeServer) -> None:
    """The streamed lists together equal those of the response without a stream."""
    body = {"logprobs": 1, "seed": 1, "echo": True, "n": 2}
    whole = choices(fake_vllm, **body)[1]["logprobs"]
    parts = [event["choices"][0] for event in events(fake_vllm, **body)]
    lists = [part["logprobs"] for part in parts if part["index"] == 1]
    for name, expected in whole.items():
        assert [each for part in lists for each in part[name]] == expected


def test_tokens_may_be_written_as_ids(fake_vllm: FakeServer) -> None:
    """``return_tokens_as_token_ids`` writes ``token_id:N`` instead of texts."""
    body = {"logprobs": 1, "return_tokens_as_token_ids": True, "return_token_ids": True}
    [choice] = choices(fake_vllm, **body)
    expected = [f"token_id:{id_}" for id_ in choice["token_ids"]]
    assert choice["logprobs"]["tokens"] == expected


def test_prompt_logprobs_have_a_rank(fake_vllm: FakeServer) -> None:
    """``prompt_logprobs`` ranks each token of the prompt except the first."""
    [choice] = choices(fake_vllm, prompt="The network can zqj", prompt_logprobs=1)
    first, *rest = choice["prompt_logprobs"]
    assert first is None
    assert all(any(entry["rank"] == 1 for entry in each.values()) for each in rest)
    assert rest[0][str(fake_ids(" network")[0])]["decoded_token"] == " network"


def test_usage_counts_each_prompt_once(fake_vllm: FakeServer) -> None:
    """Usage counts a prompt once, however large ``n`` is, and the tokens of all choices."""
    _, answer = ask(fake_vllm, prompt=["a b", "c"], n=3, max_tokens=2, ignore_eos=True)
    assert answer["usage"]["prompt_tokens"] == 3
    assert answer["usage"]["completion_tokens"] == 12


def test_a_character_appears_with_its_last_byte(fake_vllm: FakeServer) -> None:
    """The token with the last byte of a character shows it; an incomplete one is dropped."""
    fake_vllm.enqueue(text="\u00e9\u4e16")
    parts = [event["choices"][0]["text"] for event in events(fake_vllm)]
    assert parts == ["", "\u00e9", "", "", "\u4e16", ""]
    half = fake_ids("\u00e9")[:1]
    assert text(fake_vllm, allowed_token_ids=half, max_tokens=1) == ""


# --- prompts ----------------------------------------------------------------------------------


def test_token_ids_are_a_prompt(fake_vllm: FakeServer) -> None:
    """A prompt may be a list of token ids or a list of such lists."""
    ids = fake_ids(QUESTION)
    expected = text(fake_vllm, seed=1, echo=True)
    assert text(fake_vllm, prompt=ids, seed=1, echo=True) == expected
    assert len(choices(fake_vllm, prompt=[ids, ids])) == 2


def test_prompts_can_be_truncated(fake_vllm: FakeServer) -> None:
    """``truncate_prompt_tokens`` keeps the end of the prompt; -1 keeps the context length."""
    body = {"prompt": "a b c d e f", "echo": True, "max_tokens": 1}
    assert text(fake_vllm, **body, truncate_prompt_tokens=2).startswith(" e f")
    assert text(fake_vllm, **body, truncate_prompt_tokens=99).startswith("a b c d e f")
    with FakeServer(max_model_len=8) as server:
        _, answer = ask(server, prompt="a " * 20, truncate_prompt_tokens=-1, max_tokens=1)
    assert "max_tokens must be at least 1, got 0." in answer["error"]["message"]


# --- streams ----------------------------------------------------------------------------------


def test_choices_take_turns(fake_vllm: FakeServer) -> None:
    """The events of several choices alternate, and each choice has its own end."""
    found = [event["choices"][0] for event in events(fake_vllm, n=2, max_tokens=3)]
    assert [choice["index"] for choice in found] == [0, 1, 0, 1, 0, 1]
    assert [choice["finish_reason"] for choice in found[-2:]] == ["length", "length"]


def test_usage_is_streamed_on_request(fake_vllm: FakeServer) -> None:
    """Usage is in the last event, and with ``continuous_usage_stats`` in every event."""
    last = events(fake_vllm, stream_options={"include_usage": True})[-1]
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 16)
    options = {"include_usage": True, "continuous_usage_stats": True}
    running = events(fake_vllm, stream_options=options, n=2)
    assert [event["usage"]["completion_tokens"] for event in running[:4]] == [1, 1, 2, 2]
    assert running[-1]["usage"]["completion_tokens"] == 32


def test_stream_interval_groups_tokens(fake_vllm: FakeServer) -> None:
    """The first event has one token, the others have ``stream_interval`` tokens."""
    body = {"stream_interval": 6, "return_token_ids": True, "ignore_eos": True}
    found = [event["choices"][0]["token_ids"] for event in events(fake_vllm, **body)]
    assert [len(ids) for ids in found] == [1, 6, 6, 3]


def test_the_request_id_is_part_of_the_id(fake_vllm: FakeServer) -> None:
    """The id contains ``X-Request-Id``, which takes precedence over ``request_id``."""
    _, answer = ask(fake_vllm, prompt="Hi", request_id="mine")
    assert answer["id"] == "cmpl-mine"
    connection = http.client.HTTPConnection(fake_vllm.url[7:], timeout=WAIT)
    headers = {"Content-Type": "application/json", "X-Request-ID": "traced"}
    body = json.dumps({"prompt": "Hi", "request_id": "mine"})
    connection.request("POST", "/v1/completions", body, headers)
    assert json.load(connection.getresponse())["id"] == "cmpl-traced"
    connection.close()


# --- constraints ------------------------------------------------------------------------------


def test_a_choice_is_one_of_those_given(fake_vllm: FakeServer) -> None:
    """With ``structured_outputs.choice`` the text is one of the strings and ends with EOS."""
    [choice] = choices(fake_vllm, structured_outputs={"choice": ["red", "green"]})
    assert choice["text"] in ("red", "green")
    assert choice["finish_reason"] == "stop"


SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"enum": ["Oslo", "Paris"]},
        "colour": {"enum": ["red"]},
        "kind": {"const": "report"},
        "days": {"type": "integer", "minimum": 3, "maximum": 9},
        "degrees": {"type": "number", "exclusiveMinimum": 4},
        "sure": {"type": "boolean"},
        "nothing": {"type": "null"},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 3}, "minItems": 2},
        "note": {"anyOf": [{"type": ["string", "null"], "minLength": 9}, {"type": "null"}]},
        "free": True,
    },
}
VALUE = {
    "city": "Paris",
    "colour": "red",
    "kind": "report",
    "days": 5,
    "degrees": 5.0,
    "sure": True,
    "nothing": None,
    "tags": ["Par", "Par"],
    "note": "Paris....",
    "free": "Paris",
}


@pytest.mark.parametrize(
    "constraint",
    [
        {"structured_outputs": {"json": SCHEMA}},
        {"structured_outputs": {"json": json.dumps(SCHEMA)}},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
    ],
)
def test_json_fits_its_schema(fake_vllm: FakeServer, constraint: dict[str, Any]) -> None:
    """The generated JSON fits the schema and uses words and numbers of the prompt."""
    answer = text(fake_vllm, prompt="5 days in Paris", max_tokens=200, **constraint)
    assert json.loads(answer) == VALUE


@pytest.mark.parametrize(
    "constraint",
    [
        {"structured_outputs": {"json_object": True}},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {}}},
    ],
)
def test_without_a_schema_the_json_is_an_object(
    fake_vllm: FakeServer, constraint: dict[str, Any]
) -> None:
    """Without a schema, the object contains a word of the prompt, else the word ``text``."""
    assert json.loads(text(fake_vllm, **constraint)) == {"answer": "learning"}
    assert json.loads(text(fake_vllm, prompt="?", **constraint)) == {"answer": "text"}


def test_a_constraint_that_is_met_ends_the_answer(fake_vllm: FakeServer) -> None:
    """A text that meets its constraint ends, also with ``ignore_eos``."""
    body = {"structured_outputs": {"choice": ["red"]}, "ignore_eos": True}
    assert choices(fake_vllm, **body)[0]["finish_reason"] == "stop"


def test_plain_text_is_no_constraint(fake_vllm: FakeServer) -> None:
    """The response format ``text`` changes nothing."""
    assert text(fake_vllm, response_format={"type": "text"}, seed=1) == text(fake_vllm, seed=1)


# --- refusals that no capture shows -----------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"structured_outputs": {"structural_tag": "{}"}}, "This stand-in for vLLM cannot follow"),
        ({"bad_words": "the"}, "Input should be a valid list"),
        ({"bad_words": [""]}, "bad_words cannot contain an empty string. Got bad_words=['']"),
        ({"repetition_detection": 5}, "Input should be a valid dictionary"),
        ({"repetition_detection": {"max_pattern_size": -1}}, "max_pattern_size, min_pattern_size"),
        (
            {"repetition_detection": {"max_pattern_size": 2, "min_pattern_size": 3}},
            "min_pattern_size <= max_pattern_size",
        ),
        ({"repetition_detection": {"max_pattern_size": 2}}, "min_count must be >= 2"),
        ({"response_format": {"type": "structural_tag"}}, "This stand-in for vLLM cannot follow"),
        ({"structured_outputs": {"json": {}, "choice": ["a"]}}, "You can only use one kind"),
        ({"n": 20000}, "n must be at most 16384, got 20000."),
        ({"n": 2, "temperature": 0}, "n must be 1 when using greedy sampling, got 2."),
        ({"presence_penalty": 3}, "presence_penalty must be in [-2, 2], got 3.0."),
        ({"repetition_penalty": 0}, "repetition_penalty must be greater than zero, got 0.0."),
        ({"temperature": 3}, "temperature must be in [0, 2], got 3.0."),
        ({"top_p": 0}, "top_p must be in (0, 1], got 0.0."),
        ({"top_k": -2}, "top_k must be 0 (disable), or at least 1, got -2."),
        ({"min_p": 2}, "min_p must be in [0, 1], got 2.0."),
        ({"min_tokens": -1}, "min_tokens must be greater than or equal to 0, got -1."),
        ({"stop": [""]}, "stop cannot contain an empty string."),
        ({"stream_interval": 0}, "stream_interval must be at least 1, got 0."),
        ({"logprobs": -2}, "`logprobs` must be a positive value or -1."),
        ({"logprobs": -1}, "Requested sample logprobs of"),
        ({"prompt_logprobs": -2}, "`prompt_logprobs` must be a positive value or -1."),
        ({"prompt_logprobs": 21}, "Requested prompt logprobs of 21"),
        ({"prompt": ["a"] * 1025}, "prompt list length 1025 exceeds the maximum allowed"),
        ({"n": []}, "Input should be a valid integer"),
        ({"n": 1.5}, "got a number with a fractional part"),
        ({"temperature": []}, "Input should be a valid number"),
        ({"stream": "perhaps"}, "unable to interpret input"),
        ({"stream": []}, "Input should be a valid boolean"),
        ({"model": 5}, "Input should be a valid string"),
        ({"logit_bias": 5}, "Input should be a valid dictionary"),
        ({"stop_token_ids": 5}, "Input should be a valid list"),
        ({"stop": ["a", 5]}, "Input should be a valid string"),
        ({"prompt": 5}, "Input should be a valid list"),
        ({"prompt": ["a", 5]}, "Input should be a valid list"),
        ({"logit_bias": {"5": "much"}}, "Input should be a valid number"),
        ({"structured_outputs": {"choice": []}}, "choice must be a list of strings"),
        ({"structured_outputs": {"json": "{"}}, "Grammar error"),
        ({"logit_bias": {"--5": 1}}, "cannot be converted to integer token IDs: ['--5']"),
        ({"logit_bias": {"-5": 1}}, "token_id(s) [-5] in logit_bias contain out-of-vocab"),
        ({"truncate_prompt_tokens": -2}, "Input should be greater than or equal to -1"),
        ({"truncate_prompt_tokens": 0}, "The decoder prompt cannot be empty"),
        ({"response_format": {"type": "json_schema", "json_schema": 5}}, "valid dictionary"),
        ({"response_format": {"type": "json_schema"}}, "field must be provided."),
        ({"structured_outputs": {"json": {"enum": "red"}}}, "enum must be an array"),
        ({"structured_outputs": {"json": {"anyOf": {}}}}, "anyOf must be an array"),
        ({"structured_outputs": {"json": {"properties": []}}}, "properties must be an object"),
        ({"structured_outputs": {"json": {"minLength": "5"}}}, "minLength must be an integer"),
        ({"structured_outputs": {"json": {"minimum": "5"}}}, "minimum must be a number"),
        ({"structured_outputs": {"json": {"type": []}}}, "Invalid type: []"),
    ],
)
def test_it_refuses(fake_vllm: FakeServer, body: dict[str, Any], message: str) -> None:
    """An invalid request gets a 400 whose message names the reason."""
    status, answer = ask(fake_vllm, **{"prompt": "Hi", **body})
    assert status == 400
    assert message in answer["error"]["message"]


def test_values_are_read_loosely(fake_vllm: FakeServer) -> None:
    """As in vLLM, numbers may be strings, ints may be whole floats, bools may be words."""
    body = {"max_tokens": "3", "temperature": "0", "n": 1.0, "ignore_eos": "yes", "echo": "no"}
    _, answer = ask(fake_vllm, prompt=QUESTION, **body)
    assert answer["usage"]["completion_tokens"] == 3


# --- other routes -----------------------------------------------------------------------------


def test_it_identifies_itself_as_a_fake(fake_vllm: FakeServer) -> None:
    """The version, the fingerprint and the ``server`` header differ from a real server's."""
    assert ask(fake_vllm, "/version", "GET") == (200, {"version": "0.32.0+fake"})
    _, answer = ask(fake_vllm, prompt="Hi")
    assert "stand-in" in answer["system_fingerprint"]
    connection = http.client.HTTPConnection(fake_vllm.url[7:], timeout=WAIT)
    connection.request("GET", "/health")
    assert "stand-in" in connection.getresponse().headers["server"]
    connection.close()


def test_models_are_all_listed() -> None:
    """Every served name is listed and accepted; responses contain the first."""
    with FakeServer(models=["first", "second"]) as server:
        _, listed = ask(server, "/v1/models", "GET")
        assert [card["id"] for card in listed["data"]] == ["first", "second"]
        _, answer = ask(server, prompt="Hi", model="second")
        assert answer["model"] == server.model == "first"


def test_tokenize_and_detokenize_are_inverse(fake_vllm: FakeServer) -> None:
    """``/detokenize`` returns the text whose ids ``/tokenize`` returned."""
    given = "Hello, w\u00f6rld \U0001f600!\n"
    _, answer = ask(fake_vllm, "/tokenize", prompt=given, return_token_strs=True)
    assert answer["count"] == len(answer["tokens"]) == len(answer["token_strs"])
    assert ask(fake_vllm, "/detokenize", tokens=answer["tokens"]) == (200, {"prompt": given})


def test_detokenize_shows_special_tokens(fake_vllm: FakeServer) -> None:
    """Special tokens are part of the text of ``/detokenize``, as on a real server."""
    message = {"role": "user", "content": "Hi"}
    _, answer = ask(fake_vllm, "/tokenize", messages=[message])
    _, text = ask(fake_vllm, "/detokenize", tokens=answer["tokens"])
    assert text["prompt"].startswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>")


def test_unknown_tokens_have_no_text(fake_vllm: FakeServer) -> None:
    """A token id outside the vocabulary is refused."""
    status, answer = ask(fake_vllm, "/detokenize", tokens=[10**6])
    assert (status, answer["error"]["message"]) == (400, "Token id 1000000 is out of vocabulary")


def test_finished_requests_are_counted(fake_vllm: FakeServer) -> None:
    """``/metrics`` counts finished requests by finish reason, and tokens."""
    choices(fake_vllm, n=2)
    choices(fake_vllm, logit_bias={str(EOS): 100})
    metrics = counters(fake_vllm)
    assert metrics['request_success_total{engine="0",finished_reason="length"'] == 2
    assert metrics['request_success_total{engine="0",finished_reason="stop"'] == 1
    assert metrics['prompt_tokens_total{engine="0"'] == 10
    assert metrics['generation_tokens_total{engine="0"'] == 33
    assert metrics['num_requests_running{engine="0"'] == 0


def counters(server: FakeServer) -> dict[str, float]:
    """The metrics by name and labels, without the label of the model."""
    _, page = ask(server, "/metrics", "GET")
    lines = [line.partition(",model_name=") for line in page.splitlines() if line[0] != "#"]
    return {name[len("vllm:") :]: float(rest.split()[-1]) for name, _, rest in lines}


@settings(deadline=None)
@given(st.text())
def test_any_text_survives_the_tokenizer(given_text: str) -> None:
    """Decoding the token ids of any text returns this text."""
    tokenizer = Tokenizer("Some words to know.")
    ids = tokenizer.encode(given_text)
    assert tokenizer.decode(ids) == given_text
    assert all(0 <= id_ < tokenizer.vocab_size for id_ in ids)


def test_half_a_character_in_json_is_replaced(fake_vllm: FakeServer) -> None:
    """A lone surrogate, which JSON allows, becomes ``?``."""
    status, answer = ask(fake_vllm, prompt="Hi", model="\ud800")
    assert (status, answer["error"]["message"][:12]) == (404, "The model `?")
    assert text(fake_vllm, prompt="\ud800", echo=True).startswith("?")


# --- recorded requests ------------------------------------------------------------------------


def test_requests_are_recorded(fake_vllm: FakeServer) -> None:
    """Requests are recorded in order, with method, path, query, headers and body."""
    ask(fake_vllm, "/v1/completions?a=1", prompt="Hi")
    ask(fake_vllm, "/health", "GET")
    first, second = fake_vllm.requests
    assert (first.method, first.path, first.query) == ("POST", "/v1/completions", "a=1")
    assert first.headers["CONTENT-type"] == "application/json"
    assert "content-length" in first.headers
    assert "X-Nothing" not in first.headers
    assert len(first.headers) == len(list(first.headers))
    assert first.json == json.loads(first.body) == {"prompt": "Hi"}
    assert (second.method, second.json) == ("GET", None)
    assert fake_vllm.requests[-1:] == [second]
    assert "Content-Type" in repr(first.headers)
    assert repr(second) in repr(fake_vllm.requests)
    fake_vllm.requests.clear()
    assert len(fake_vllm.requests) == 0


def test_requests_can_be_waited_for(fake_vllm: FakeServer) -> None:
    """``wait_for`` returns when another thread's request has arrived."""
    thread = threading.Thread(target=ask, args=(fake_vllm,), kwargs={"prompt": "Hi"})
    thread.start()
    fake_vllm.wait_for(1, timeout=WAIT)
    assert fake_vllm.requests[0].json == {"prompt": "Hi"}
    thread.join()


def test_waiting_has_a_time_limit(fake_vllm: FakeServer) -> None:
    """``wait_for`` and ``wait_for_abort`` raise a TimeoutError with the number that arrived."""
    with pytest.raises(TimeoutError, match="0 of 1 requests"):
        fake_vllm.wait_for(1, timeout=0)
    with pytest.raises(TimeoutError, match="0 of 1 clients"):
        fake_vllm.wait_for_abort(timeout=0)


# --- the connection ---------------------------------------------------------------------------


@pytest.fixture
def connection(fake_vllm: FakeServer) -> Iterator[socket.socket]:
    """A plain socket connection to the server."""
    host, _, port = fake_vllm.url[len("http://") :].partition(":")
    with socket.create_connection((host, int(port)), timeout=WAIT) as connected:
        yield connected


def received(connection: socket.socket) -> bytes:
    """All bytes until the server closes the connection."""
    parts = []
    while True:
        part = connection.recv(65536)
        if not part:
            return b"".join(parts)
        parts.append(part)


def test_one_connection_serves_many_requests(fake_vllm: FakeServer) -> None:
    """After a response, streamed or not, the connection serves the next request."""
    connection = http.client.HTTPConnection(fake_vllm.url[7:], timeout=WAIT)
    sockets = set()
    for stream in (False, True, False):
        body = json.dumps({"prompt": "Hi", "stream": stream})
        connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        sockets.add(connection.sock)
        assert connection.getresponse().read()
    assert len(sockets) == 1
    connection.close()


def test_requests_may_be_sent_ahead(connection: socket.socket) -> None:
    """Requests sent before the previous response arrives are served in order."""
    get = b"GET /v1/models HTTP/1.1\r\n\r\n"
    connection.sendall(get + b"GET /version HTTP/1.1\r\nConnection: close\r\n\r\n")
    answer = received(connection)
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.endswith(b'{"version":"0.32.0+fake"}')


def test_a_chunked_request_is_read(fake_vllm: FakeServer, connection: socket.socket) -> None:
    """A request body with chunked transfer encoding is read."""
    head = b"POST /v1/completions HTTP/1.1\r\nContent-Type: application/json\r\n"
    head += b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    connection.sendall(head + b'b\r\n{"prompt": \r\n5;x=y\r\n"Hi"}\r\n0\r\n\r\n')
    assert received(connection).startswith(b"HTTP/1.1 200 OK")
    assert fake_vllm.requests[0].json == {"prompt": "Hi"}


def test_the_trailer_of_a_chunked_request_is_read(
    fake_vllm: FakeServer, connection: socket.socket
) -> None:
    """The request that follows a trailer is answered."""
    head = b"POST /v1/completions HTTP/1.1\r\nContent-Type: application/json\r\n"
    head += b"Transfer-Encoding: chunked\r\n\r\n"
    connection.sendall(head + b'10\r\n{"prompt": "Hi"}\r\n0\r\na: b\r\nc: d\r\n\r\n')
    connection.sendall(b"GET /version HTTP/1.1\r\nConnection: close\r\n\r\n")
    answer = received(connection)
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.endswith(b'{"version":"0.32.0+fake"}')
    assert [request.path for request in fake_vllm.requests] == ["/v1/completions", "/version"]


CHUNKED = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        CHUNKED + b"-1\r\n",
        CHUNKED + b"0x1\r\na\r\n",
        CHUNKED + b"\r\n",
        b"nonsense\r\n\r\n",
        b"\xff\xfe / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n",
    ],
)
def test_malformed_http_is_refused(connection: socket.socket, sent: bytes) -> None:
    """A malformed request gets a 400 with plain text, and the server closes the connection."""
    connection.sendall(sent)
    answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request")
    assert answer.endswith(b"Invalid HTTP request received.")


def test_a_client_that_half_closes_gets_nothing(
    fake_vllm: FakeServer, connection: socket.socket
) -> None:
    """As in vLLM, a client that shuts down only its sending side counts as aborted."""
    fake_vllm.enqueue(stall_after=0)
    body = b'{"prompt": "Hi"}'
    head = b"POST /v1/completions HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: "
    connection.sendall(head + str(len(body)).encode() + b"\r\n\r\n" + body)
    connection.shutdown(socket.SHUT_WR)
    assert received(connection) == b""
    fake_vllm.wait_for_abort(timeout=WAIT)


def test_an_incomplete_request_is_ignored(fake_vllm: FakeServer, connection: socket.socket) -> None:
    """An incomplete request is neither recorded nor answered."""
    connection.sendall(b"POST /v1/completions HTTP/1.1\r\nContent-Length: 9\r\n\r\n{")
    connection.shutdown(socket.SHUT_WR)
    assert received(connection) == b""
    assert len(fake_vllm.requests) == 0


def test_each_event_is_one_chunk(fake_vllm: FakeServer, connection: socket.socket) -> None:
    """Each HTTP chunk of a stream is one SSE event; the last chunk is empty."""
    body = b'{"prompt": "Hi", "stream": true, "max_tokens": 2}'
    head = b"POST /v1/completions HTTP/1.1\r\nContent-Type: application/json\r\n"
    head += b"Connection: close\r\nContent-Length: "
    connection.sendall(head + str(len(body)).encode() + b"\r\n\r\n" + body)
    _, _, chunked = received(connection).partition(b"\r\n\r\n")
    assert chunked.endswith(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
    assert chunked.count(b"data: {") == chunked.count(b"}\n\n\r\n") == 2


# --- start and close --------------------------------------------------------------------------


def test_the_fixture_is_a_running_server(fake_vllm: FakeServer) -> None:
    """``fake_vllm`` is a running ``FakeServer``."""
    assert ask(fake_vllm, "/health", "GET") == (200, "")
    assert fake_vllm.base_url == f"{fake_vllm.url}/v1"


def test_starting_and_closing_can_be_repeated() -> None:
    """``start`` and ``close`` are idempotent, and a closed server can be started again."""
    server = FakeServer()
    server.close()
    assert server.start() is server
    url = server.url
    server.start()
    assert server.url == url
    assert url in repr(server)
    server.close()
    server.close()
    assert "closed" in repr(server)
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.base_url
    with server:
        assert ask(server, "/ping", "GET")[0] == 200


def test_closing_leaves_no_thread() -> None:
    """When ``close`` returns, the threads of all connections have ended."""
    before = set(threading.enumerate())
    with FakeServer() as server:
        host, _, port = server.url[7:].partition(":")
        idle = [socket.create_connection((host, int(port))) for _ in range(3)]
        ask(server, "/health", "GET")
    assert set(threading.enumerate()) == before
    for connection in idle:
        connection.close()


def test_a_reset_connection_disturbs_no_other_client(fake_vllm: FakeServer) -> None:
    """A client that resets its connection does not disturb other clients."""
    host, _, port = fake_vllm.url[7:].partition(":")
    connection = socket.create_connection((host, int(port)), timeout=WAIT)
    connection.sendall(b"GET /health HTTP/1.1\r\n\r\n")
    assert connection.recv(65536)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()
    assert ask(fake_vllm, "/health", "GET")[0] == 200


def test_the_public_names_are_there() -> None:
    """Every name in ``vllm_client.testing.__all__`` exists."""
    assert all(hasattr(testing, name) for name in testing.__all__)


def test_schema_with_references() -> None:
    """References of a schema are followed; a schema that contains itself is refused."""
    place = {"type": "object", "properties": {"city": {"enum": ["Oslo"]}}}
    tree = {"type": "object", "properties": {"left": {"$ref": "#/$defs/tree"}}}
    with FakeServer() as server:

        def ask_for(name: str) -> Any:
            schema = {"$ref": f"#/$defs/{name}", "$defs": {"place": place, "tree": tree}}
            constraint = {"json": schema}
            return ask(server, prompt="x", max_tokens=50, structured_outputs=constraint)

        assert ask_for("place")[1]["choices"][0]["text"] == '{"city": "Oslo"}'
        for name in ("tree", "nothing"):
            status, body = ask_for(name)
            message = f"This stand-in for vLLM cannot follow the reference #/$defs/{name}"
            assert (status, body["error"]["message"]) == (400, message)
