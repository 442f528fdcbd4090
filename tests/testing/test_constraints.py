"""What bears on the text of the fake server: penalties, bad words, repetition, regex, grammar."""

from __future__ import annotations

import random
import re
from collections import Counter
from typing import Any

import pytest

from vllm_client import BadRequestError, VllmClient
from vllm_client.testing import FakeServer, pytest_plugin
from vllm_client.testing._engine.patterns import text_for_pattern
from vllm_client.testing._wire.refusals import RefusalError

fake_vllm = pytest_plugin.fake_vllm

QUESTION = "What is machine learning?"
SEED = {"seed": 5, "max_tokens": 200, "ignore_eos": True}


@pytest.fixture
def client(fake_vllm: FakeServer) -> VllmClient:
    """A client of the fake server."""
    return VllmClient(fake_vllm.base_url)


def words(client: VllmClient, **params: Any) -> Counter[str]:
    """How often each word is in a long output."""
    answer = client.completions.create(prompt=QUESTION, **{**SEED, **params})
    return Counter(re.findall(r"\w+", answer.text))


# --- penalties and bad words ------------------------------------------------------------------


# The tokens "+" and "," are far likelier than all others, and the first a little likelier.
TWO_TOKENS: Any = {"temperature": 0, "max_tokens": 6, "logit_bias": {"50": 90, "51": 89}}


@pytest.mark.parametrize(
    ("prompt", "params", "text"),
    [
        ("One", {}, "++++++"),
        ("One", {"frequency_penalty": 2}, "+,+,+,"),
        ("One", {"presence_penalty": 2}, "+,++++"),
        ("One", {"repetition_penalty": 9}, "+,++++"),
        ("+", {"repetition_penalty": 9}, ",+++++"),
        (",", {"repetition_penalty": 0.1}, ",,,,,,"),
        ("+", {"frequency_penalty": 2, "presence_penalty": 2}, "+,+,+,"),
        ("One", {"frequency_penalty": -2}, "++++++"),
    ],
)
def test_a_penalty_changes_which_token_follows(
    client: VllmClient, prompt: str, params: Any, text: str
) -> None:
    """Penalties lower the weight of tokens of the output; the last one those of the prompt too."""
    assert client.completions.create(prompt=prompt, **TWO_TOKENS, **params).text == text


@pytest.mark.parametrize(
    "params", [{"frequency_penalty": -2}, {"presence_penalty": -2}, {"repetition_penalty": 0.3}]
)
def test_a_negative_penalty_makes_the_words_less_varied(client: VllmClient, params: Any) -> None:
    """Where the model has a choice, a negative penalty leads to fewer different words."""

    def variety(**params: Any) -> int:
        return sum(len(words(client, seed=seed, **params)) for seed in range(5))

    assert variety(**params) < variety()


@pytest.mark.parametrize(
    "params",
    [
        {"frequency_penalty": 0, "presence_penalty": 0, "repetition_penalty": 1},
        {"bad_words": [], "repetition_detection": {}},
        {"bad_words": ["zebra"]},
    ],
)
def test_what_has_no_effect_leaves_the_text(client: VllmClient, params: Any) -> None:
    """Fields at the values that change nothing give the text of a request without them."""
    assert words(client, **params) == words(client)


@pytest.mark.parametrize("penalty", [1, 1000])
def test_a_large_bias_is_cut_off(client: VllmClient, penalty: float) -> None:
    """A bias beyond 100 acts as 100, also with a penalty."""
    body: Any = {"prompt": "+", "temperature": 0, "max_tokens": 3, "repetition_penalty": penalty}
    bias = {"50": 5000, "51": -5000}
    answer = client.completions.create(**body, logit_bias=bias)
    cut = client.completions.create(**body, logit_bias={"50": 100, "51": -100})
    assert answer.text == cut.text
    assert "," not in answer.text


def test_log_probabilities_are_those_before_penalties(client: VllmClient) -> None:
    """A penalty changes the sampled token and not the log-probabilities."""
    likeliest = []
    for penalty, sampled in ((1, "+"), (9, ",")):
        answer = client.completions.create(
            prompt="+", **TWO_TOKENS, logprobs=3, repetition_penalty=penalty
        )
        assert answer.text[0] == sampled
        logprobs = answer.choices[0].logprobs
        assert logprobs is not None
        likeliest.append({k: v for k, v in logprobs["top_logprobs"][0].items() if k != sampled})
    assert likeliest[0] == likeliest[1]
    assert len(likeliest[0]) == 3


@pytest.mark.parametrize("word", ["the", " a", "model", "learning"])
def test_a_bad_word_does_not_occur(client: VllmClient, word: str) -> None:
    """A bad word is not in a long output that has it otherwise."""
    assert words(client)[word.strip()] > 0
    assert words(client, bad_words=[word])[word.strip()] == 0


def test_a_bad_phrase_does_not_occur(client: VllmClient) -> None:
    """Of several words only the sequence is forbidden."""
    body = {"prompt": QUESTION, "temperature": 0, "max_tokens": 8}
    plain = client.completions.create(**body).text
    assert plain.startswith(" Machine learning is")
    text = client.completions.create(**body, bad_words=["Machine learning"]).text
    assert "Machine learning" not in text
    assert text.startswith(" Machine")


def test_bad_words_hold_where_nothing_else_would_follow(client: VllmClient) -> None:
    """If only a bad word may follow, the text goes on somewhere else instead of ending."""
    body = {"prompt": "The client sends a request over the", "temperature": 0, "max_tokens": 5}
    assert client.completions.create(**body).text.startswith(" network")
    answer = client.completions.create(**body, bad_words=["network"])
    assert "network" not in answer.text
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 5


def test_bad_words_hold_in_a_chat(client: VllmClient) -> None:
    """A bad word is not the first word of an answer either, where it has no space before it."""
    body: Any = {"messages": [{"role": "user", "content": QUESTION}], "temperature": 0}
    first = client.chat.completions.create(**body, max_tokens=1).text
    assert first == "Machine"
    assert client.chat.completions.create(**body, bad_words=[first]).text[:7] != first


# --- repetition -------------------------------------------------------------------------------


def test_a_repetition_ends_the_output(client: VllmClient) -> None:
    """An output that repeats itself ends after ``min_count`` repetitions, streamed or not."""
    body: Any = {"prompt": "One", "temperature": 0, "max_tokens": 50, "logit_bias": {"50": 100}}
    detection: Any = {"max_pattern_size": 4, "min_count": 3}
    plain = client.completions.create(**body)
    assert (plain.finish_reason, len(plain.text)) == ("length", 50)
    answer = client.completions.create(**body, repetition_detection=detection)
    with client.completions.stream(**body, repetition_detection=detection) as stream:
        streamed = stream.collect()
    for found in (answer, streamed):
        assert found.text == plain.text[:3]
        assert found.finish_reason == "repetition"
        assert found.choices[0].stop_reason == "repetition_detected"


def test_short_patterns_may_be_excluded(client: VllmClient) -> None:
    """``min_pattern_size`` counts tokens: four equal tokens are two patterns of two."""
    body: Any = {"prompt": "One", "temperature": 0, "max_tokens": 50, "logit_bias": {"50": 100}}
    detection: Any = {"max_pattern_size": 4, "min_pattern_size": 2, "min_count": 2}
    assert len(client.completions.create(**body, repetition_detection=detection).text) == 4
    later = client.completions.create(**body, repetition_detection=detection, min_tokens=9)
    assert (len(later.text), later.finish_reason) == (9, "repetition")


def test_an_output_without_repetition_goes_on(client: VllmClient) -> None:
    """Text that does not repeat itself ends as without the field."""
    detection: Any = {"max_pattern_size": 3, "min_count": 4}
    body: Any = {"prompt": QUESTION, "seed": 1, "max_tokens": 30}
    answer = client.completions.create(**body, repetition_detection=detection)
    assert answer == client.completions.create(**body) or answer.finish_reason != "repetition"
    assert answer.text == client.completions.create(**body).text


# --- regular expressions ----------------------------------------------------------------------

PATTERNS = [
    r"yes|no|",
    r"^\d{4}-\d{2}-\d{2}$",
    r"[a-z]+@[a-z]+\.com",
    r"(?:ab)*c??d+?",
    r"\w+\s\S[^\"a-z]?",
    r"(?P<year>20\d\d) (un|deux){2,}",
    r'"[^"]*"',
    r"[]x][^]]",
    r"a{2}b{1,3}c{2,4}?d{0}",
    r"\x41\u0042\.\n?",
    r"größer.",
    r"x{a}",
    r"",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_text_matches_its_pattern(pattern: str) -> None:
    """Whatever the random numbers, the whole text matches the pattern."""
    for seed in range(40):
        assert re.fullmatch(pattern, text_for_pattern(pattern, random.Random(seed)))


def test_a_pattern_leaves_choices_open() -> None:
    """Other random numbers give other texts of the same pattern."""
    texts = {text_for_pattern("yes|no", random.Random(seed)) for seed in range(20)}
    assert texts == {"yes", "no"}


@pytest.mark.parametrize("pattern", [r"(?=a)a", r"(?i)a", r"a\b", r"(a)\1", "[é]", "a^b", r"\Aa"])
def test_other_patterns_are_refused(pattern: str) -> None:
    """A pattern with other parts is refused, with what the stand-in knows."""
    with pytest.raises(RefusalError, match="cannot follow the pattern"):
        text_for_pattern(pattern, random.Random(0))


def test_a_regex_is_honoured(client: VllmClient) -> None:
    """The output of both routes matches ``structured_outputs.regex``."""
    regex: Any = {"regex": r"\d{3}-[A-F]+"}
    completion = client.completions.create(prompt="Hi", structured_outputs=regex)
    messages: Any = [{"role": "user", "content": "Hi"}]
    with client.chat.completions.stream(messages=messages, structured_outputs=regex) as stream:
        answer = stream.collect()
    for found in (completion, answer):
        assert re.fullmatch(regex["regex"], found.text)
        assert found.finish_reason == "stop"


# --- grammars ---------------------------------------------------------------------------------

GRAMMARS = {
    """
    root ::= select ";"?   # a comment
    select ::= "SELECT " column " from " [a-z]+
             | "DROP " column
    column ::= "col_1" | "col_2"
    """: r"(SELECT (col_1|col_2) from [a-z]+|DROP (col_1|col_2));?",
    """
    ?start: greeting ", " NAME "!"  // a comment
    greeting: "Hello" | "Good\\tday"
    NAME: /[A-Z][a-z]{2,5}/
    """: r"(Hello|Good\tday), [A-Z][a-z]{2,5}!",
    'root ::= ("a" "b"){2} "."+': r"(ab){2}\.+",
}


@pytest.mark.parametrize(("grammar", "pattern"), GRAMMARS.items())
def test_a_grammar_is_honoured(client: VllmClient, grammar: str, pattern: str) -> None:
    """The output follows the grammar, in the notation of GBNF or Lark."""
    for seed in range(10):
        answer = client.completions.create(
            prompt="Hi", seed=seed, max_tokens=99, structured_outputs={"grammar": grammar}
        )
        assert re.fullmatch(pattern, answer.text)


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        ("root ::= (", "Invalid grammar specification"),
        ("rule ::= 'a'", "Invalid grammar specification"),
        ('rule ::= "a"', "no rule is called root or start"),
        ('root ::= "a" other', "no rule is called other"),
        (r'root ::= "\q"', "Invalid grammar specification"),
        ("start: /[/", "Invalid grammar specification"),
        ('root ::= "a" | "b" root', "whose rules contain themselves, as root does"),
        ('%import common.NUMBER\nstart: "a"', "cannot read '%import common"),
    ],
)
def test_other_grammars_are_refused(client: VllmClient, grammar: str, message: str) -> None:
    """A grammar that is malformed or recursive is refused with status 400."""
    with pytest.raises(BadRequestError) as raised:
        client.completions.create(prompt="Hi", structured_outputs={"grammar": grammar})
    assert message in raised.value.message


def test_a_malformed_regex_is_refused(client: VllmClient) -> None:
    """A malformed regex is refused with status 400 and the reason."""
    with pytest.raises(BadRequestError, match=r'invalid regex "\(\(": missing \)'):
        client.completions.create(prompt="Hi", structured_outputs={"regex": "(("})


# --- vLLM 0.33 --------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [True, False])
def test_the_versions_of_the_weights(client: VllmClient, asked: bool) -> None:
    """``return_weight_versions`` adds the span of all tokens, streamed or not, in both routes."""
    body: Any = {"max_tokens": 5, "seed": 1, "n": 2, "return_weight_versions": asked}
    messages: Any = [{"role": "user", "content": QUESTION}]
    with client.completions.stream(prompt=QUESTION, **body) as stream:
        texts = [stream.collect(), client.completions.create(prompt=QUESTION, **body)]
    with client.chat.completions.stream(messages=messages, **body) as chat_stream:
        chats = [
            chat_stream.collect(),
            client.chat.completions.create(messages=messages, **body),
        ]
    span = {"version": "default", "start": 0, "end": 5}
    for answer in (*texts, *chats):
        for choice in answer.choices:
            assert choice.weight_versions == ([span] if asked else None)


def test_special_tokens_may_be_null(client: VllmClient) -> None:
    """``skip_special_tokens=None`` is accepted, as by vLLM 0.33."""
    answer = client.completions.create(prompt="Hi", seed=1, skip_special_tokens=None)
    assert answer.text == client.completions.create(prompt="Hi", seed=1).text


def test_excluded_reasoning_leaves_null_content(client: VllmClient) -> None:
    """If all tokens were reasoning that the request excludes, create() and collect() agree."""
    body: Any = {
        "messages": [{"role": "user", "content": QUESTION}],
        "chat_template_kwargs": {"enable_thinking": True},
        "include_reasoning": False,
        "max_tokens": 4,
    }
    for max_tokens in (4, 60):
        body["max_tokens"] = max_tokens
        whole = client.chat.completions.create(**body, seed=2)
        with client.chat.completions.stream(**body, seed=2) as stream:
            streamed = stream.collect()
        assert streamed.content == whole.content
        assert (whole.content is None) is (max_tokens == 4)
        assert streamed.reasoning is None
