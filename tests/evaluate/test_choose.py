"""Choices: which way is taken, and that all ways agree."""

from __future__ import annotations

import math
from typing import Any, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_client import BadRequestError, EvaluationError

from .scoring import CONTEXT_LENGTH, Letters, logprob, scoring, total

BOS = 1
LONG = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnop"


def by_prompt(context: str, option: str) -> float:
    ids = [ord(letter) for letter in context + option]
    return total(ids, len(context))


def test_labels() -> None:
    """Options of one token take one request for the next token."""
    with scoring(Letters()) as (client, server):
        choice = client.evaluate.choose("Q? ", ["A", "B", "C", "D"])
    expected = [logprob(ord(" "), ord(label)) for label in "ABCD"]
    assert choice.scores == choice.logprobs == expected
    assert choice.index == expected.index(max(expected))
    assert choice.best == "ABCD"[choice.index]
    assert (choice.method, choice.token_counts) == ("labels", [1, 1, 1, 1])
    assert math.isclose(sum(choice.probabilities), 1)
    assert choice.probabilities[choice.index] == max(choice.probabilities)
    (sent,) = server.bodies("/v1/completions")
    assert sent["prompt"] == [ord(letter) for letter in "Q? "]
    assert sent["logprob_token_ids"] == [65, 66, 67, 68]
    assert (sent["logprobs"], sent["max_tokens"]) == (1, 1)
    assert sent["return_tokens_as_token_ids"] is True
    # What a server's own defaults would change in probabilities that it sends as they are sampled.
    neutral = {"temperature": 1.0, "top_p": 1.0, "top_k": -1, "min_p": 0.0}
    penalties = {"repetition_penalty": 1.0, "frequency_penalty": 0.0, "presence_penalty": 0.0}
    assert sent.items() >= {**neutral, **penalties}.items()


def test_trie() -> None:
    """Longer options take one request with a prompt for each inner node of their tree."""
    with scoring(Letters()) as (client, server):
        choice = client.evaluate.choose(LONG, ["xy", "xz", "w"])
    assert choice.method == "trie"
    assert choice.scores == [by_prompt(LONG, option) for option in ("xy", "xz", "w")]
    (sent,) = server.bodies("/v1/completions")
    root = [ord(letter) for letter in LONG]
    assert sent["prompt"] == [root, [*root, ord("x")]]
    assert sent["logprob_token_ids"] == [119, 120, 121, 122]


def test_prompt() -> None:
    """Where their tree would cost more, the options are scored as prompts, in one request."""
    with scoring(Letters()) as (client, server):
        choice = client.evaluate.choose("ab", ["cd", "efg"])
    assert choice.method == "prompt"
    assert choice.scores == [by_prompt("ab", option) for option in ("cd", "efg")]
    (sent,) = server.bodies("/v1/completions")
    assert sent["prompt"] == [[97, 98, 99, 100], [97, 98, 101, 102, 103]]
    assert sent["prompt_logprobs"] == 0


OPTIONS = [
    ["x", "xy"],
    ["xy", "x", "xy"],
    ["x", "y" * 20],
    ["same", "same"],
    ["one"],
]


@pytest.mark.parametrize("options", OPTIONS)
def test_all_ways_agree(options: List[str]) -> None:
    """Prefixes of each other, equal and long options have the same scores in every way."""
    found = []
    for lacks in ([], ["logprob_token_ids"], ["logprob_token_ids", "prompt_logprobs"]):
        with scoring(Letters(), lacks=lacks) as (client, _):
            found.append(client.evaluate.choose(LONG, options))
    for choice in found:
        assert choice.scores == pytest.approx([by_prompt(LONG, each) for each in options], abs=1e-9)
    assert [choice.method for choice in found[1:]] == ["prompt", "prompt"]


@given(
    options=st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=6),
    pairs=st.sets(st.sampled_from(["aa", "ab", "ba", "bb", "zb"]), max_size=3),
)
def test_every_way_agrees(options: List[str], pairs: Any) -> None:
    """Whatever the tokenizer joins, the tree and the prompts give the same scores."""
    found = []
    for lacks in ([], ["logprob_token_ids"]):
        with scoring(Letters(*sorted(pairs)), lacks=lacks) as (client, _):
            found.append(client.evaluate.choose(LONG + "z", options))
    assert found[0].scores == pytest.approx(found[1].scores, abs=1e-9)
    assert found[0].index == found[1].index


def test_server_without_the_field_is_remembered() -> None:
    """A server that ignores logprob_token_ids is asked for it once."""
    with scoring(Letters(), lacks=["logprob_token_ids"]) as (client, server):
        for _ in range(2):
            assert client.evaluate.choose("Q? ", ["A", "B"]).method == "prompt"
    sent = server.bodies("/v1/completions")
    assert ["logprob_token_ids" in body for body in sent] == [True, False, False]


def test_server_that_refuses_the_field() -> None:
    """A server that refuses logprob_token_ids is asked in another way."""
    with scoring(Letters(), refuses=["logprob_token_ids"]) as (client, _):
        assert client.evaluate.choose("Q? ", ["A", "B"]).method == "prompt"


def test_other_refusals() -> None:
    """A refusal for another reason stays the server's error."""
    with scoring(Letters(), refuses=["min_p"]) as (client, _):
        with pytest.raises(BadRequestError, match="min_p"):
            client.evaluate.choose("Q? ", ["A", "B"])


def test_no_top_logprobs() -> None:
    """A response without any top_logprobs counts as one of a server that lacks the field."""

    def without(path: str, body: Any) -> Any:
        for choice in body.get("choices", ()):
            choice["logprobs"] = None
        return body

    with scoring(Letters()) as (client, server):
        server.change = without
        assert client.evaluate.choose("Q? ", ["A", "B"]).method == "prompt"


def test_scores_that_are_no_logarithms() -> None:
    """Values above 0 are an error here too."""

    def logits(path: str, body: Any) -> Any:
        for choice in body.get("choices", ()):
            choice["logprobs"]["top_logprobs"][0]["token_id:65"] = 1.5
        return body

    with scoring(Letters()) as (client, server):
        server.change = logits
        with pytest.raises(EvaluationError, match="logprobs-mode"):
            client.evaluate.choose("Q? ", ["A", "B"])


def test_many_labels() -> None:
    """More ids than vLLM takes in a request take several requests."""
    labels = [[id_] for id_ in range(10, 310)]
    with scoring(Letters(*map("x{}".format, range(200)))) as (client, server):
        choice = client.evaluate.choose([1, 2], labels)
    assert choice.logprobs == [logprob(2, id_) for (id_,) in labels]
    counts = [len(body["logprob_token_ids"]) for body in server.bodies("/v1/completions")]
    assert counts == [128, 128, 44]


def test_many_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """More nodes than vLLM takes prompts take several requests."""
    monkeypatch.setattr("vllm_client.evaluate._choosing._MOST_PROMPTS", 2)
    options = ["ax", "bx", "cx"]
    with scoring(Letters()) as (client, server):
        choice = client.evaluate.choose(LONG, options)
    assert choice.scores == [by_prompt(LONG, option) for option in options]
    counts = [len(body["prompt"]) for body in server.bodies("/v1/completions")]
    assert counts == [2, 2]


def test_same_characters_for_all() -> None:
    """If a token spans the boundary with one option, all are charged for the context's end."""
    with scoring(Letters("zA")) as (client, _):
        choice = client.evaluate.choose("xyz", ["A", "B"])
    assert choice.context_tokens_rescored == 1
    assert choice.logprobs == [
        logprob(ord("y"), 128),
        logprob(ord("y"), ord("z")) + logprob(ord("z"), ord("B")),
    ]
    assert choice.token_counts == [1, 2]


def test_space_at_the_end_of_a_context() -> None:
    """A space that the tokenizer joins to an option is pointed out here too."""
    with scoring(Letters(" A")) as (client, _):
        with pytest.warns(UserWarning, match="ends with a space"):
            client.evaluate.choose("xyz ", ["A", "B"])


def test_normalize() -> None:
    """Scores are divided by tokens or by bytes of the options, the sums stay."""
    options = ["é", "ab"]
    with scoring(Letters("ab")) as (client, _):
        plain = client.evaluate.choose(LONG, options)
        by_token = client.evaluate.choose(LONG, options, normalize="token")
        by_byte = client.evaluate.choose(LONG, options, normalize="byte")
    assert by_token.scores == plain.logprobs == by_token.logprobs
    assert by_byte.scores == [logprob / 2 for logprob in plain.logprobs]
    assert (plain.normalize, by_byte.normalize) == (None, "byte")
    ratio = by_byte.probabilities[0] / by_byte.probabilities[1]
    assert ratio == pytest.approx(math.exp(by_byte.scores[0] - by_byte.scores[1]))


def test_ties() -> None:
    """Of equal options the first one is the best, and the others are named."""
    with scoring(Letters()) as (client, _):
        choice = client.evaluate.choose("Q? ", ["B", "A", "B", "A"])
        alone = client.evaluate.choose("Q? ", ["B"])
    assert choice.ties == [choice.index + 2]
    assert choice.index in {0, 1}
    assert (alone.ties, alone.probabilities) == ([], [1.0])


def impossible(value: Any) -> Any:
    """Change responses: all tokens that were asked for have this log-probability."""

    def change(path: str, body: Any) -> Any:
        for choice in body.get("choices", ()):
            for top in (choice["logprobs"] or {}).get("top_logprobs", ()):
                top.update({name: value for name in top if name != "token_id:5"})
            for entry in choice["prompt_logprobs"] or [None]:
                for own in (entry or {}).values():
                    own["logprob"] = value
        return body

    return change


@pytest.mark.parametrize("lacks", [[], ["logprob_token_ids"]])
def test_impossible_options(lacks: List[str]) -> None:
    """Options that are all impossible are equal: the first one, and the others are ties."""
    with scoring(Letters(), lacks=lacks) as (client, server):
        server.change = impossible(-math.inf)
        choice = client.evaluate.choose("Q? ", ["A", "B"])
    assert (choice.best, choice.ties, choice.probabilities) == ("A", [1], [0.5, 0.5])
    assert choice.scores == [-math.inf, -math.inf]


@pytest.mark.parametrize("lacks", [[], ["logprob_token_ids"]])
def test_scores_that_are_no_numbers(lacks: List[str]) -> None:
    """NaN is no score: nothing would be the best option."""
    with scoring(Letters(), lacks=lacks) as (client, server):
        server.change = impossible(math.nan)
        with pytest.raises(EvaluationError, match="NaN"):
            client.evaluate.choose("Q? ", ["A", "B"])
        with pytest.raises(EvaluationError, match="NaN"):
            client.evaluate.loglikelihood("a", "b")


def test_scores_that_are_missing() -> None:
    """A null in the place of a score is no score: the options are scored in the other way."""
    with scoring(Letters()) as (client, server):

        def change(path: str, body: Any) -> Any:
            for choice in body.get("choices", ()):
                if choice["logprobs"]:
                    choice["logprobs"]["top_logprobs"][0]["token_id:65"] = None
            return body

        server.change = change
        assert client.evaluate.choose("Q? ", ["A", "B"]).method == "prompt"


def test_special_token_in_front() -> None:
    """An empty context needs a token in front, and the result names it."""
    with scoring(Letters(bos=BOS)) as (client, _):
        assert client.evaluate.choose("", ["A", "B"]).bos_token_id == BOS
    with scoring(Letters()) as (client, _):
        with pytest.raises(EvaluationError, match="bos_token_id"):
            client.evaluate.choose("", ["A", "B"])
        choice = client.evaluate.choose("", ["A", "B"], bos_token_id=7)
    assert choice.logprobs == [logprob(7, 65), logprob(7, 66)]


def test_messages() -> None:
    """The options are answers of a conversation."""
    with scoring(Letters()) as (client, server):
        choice = client.evaluate.choose(
            messages=[{"role": "user", "content": "hi"}], options=["A", "B"]
        )
    assert server.bodies("/v1/chat/completions") == []
    assert choice.best in {"A", "B"}
    assert choice.logprobs == [logprob(ord(":"), 65), logprob(ord(":"), 66)]


def test_truncated() -> None:
    """truncate="left" cuts the context so that the longest option fits."""
    with scoring(Letters()) as (client, server):
        choice = client.evaluate.choose("a" * 80, ["b", "cd"], truncate="left")
    assert choice.truncated_tokens == 80 + 2 - (CONTEXT_LENGTH - 1)
    assert len(server.bodies("/v1/completions")[0]["prompt"][0]) == CONTEXT_LENGTH - 3


@pytest.mark.parametrize(
    ("context", "options", "keywords", "error"),
    [
        ("a", [], {}, ValueError),
        ("a", ["b", ""], {}, ValueError),
        ("a", ["b", [1]], {}, TypeError),
        ([1], ["b"], {}, TypeError),
        ("a", "AB", {}, TypeError),
        ("a", ["b"], {"normalize": "tokens"}, ValueError),
        ([1], [[2]], {"normalize": "byte"}, ValueError),
        ("a", ["b"], {"truncate": "right"}, ValueError),
        (None, ["b"], {}, TypeError),
    ],
)
def test_refused(context: Any, options: Any, keywords: Any, error: Any) -> None:
    """What cannot be chosen from is refused before anything is sent."""
    with scoring(Letters()) as (client, server):
        with pytest.raises(error):
            client.evaluate.choose(context, options, **keywords)
    assert server.requests == []


def test_option_without_tokens() -> None:
    """An option of which the tokenizer makes no token is an error, not the winner."""

    class Stripping(Letters):
        def encode(self, text: str, special: bool = True) -> Any:
            return super().encode(text.rstrip(), special)

    with scoring(Stripping()) as (client, _):
        with pytest.raises(EvaluationError, match="no token of the continuation"):
            client.evaluate.choose("ab", ["c", " "])
