"""Perplexity: each token is scored once, in as many windows as it takes."""

from __future__ import annotations

import math
from typing import Any, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_client import EvaluationError
from vllm_client.evaluate._boundary import spans

from .scoring import CONTEXT_LENGTH, Letters, scoring, total

BOS = 1
TEXT = "the cat sat\non the mat."


def ids_of(text: str) -> List[int]:
    return [ord(letter) for letter in text]


def test_short_text() -> None:
    """A text that fits takes one request; its first token has no probability."""
    with scoring(Letters()) as (client, server):
        result = client.evaluate.perplexity(TEXT)
    assert result.nll == -total(ids_of(TEXT), 1)
    assert (result.tokens, result.unscored_tokens, result.windows) == (len(TEXT) - 1, 1, 1)
    assert (result.bytes, result.words, result.bos_token_id) == (len(TEXT), 6, None)
    assert result.per_token == result.nll / result.tokens
    assert result.per_byte == result.nll / result.bytes
    assert result.per_word == result.nll / 6
    assert result.bits_per_byte == result.per_byte / math.log(2)
    assert result.perplexity == math.exp(result.per_token)
    assert (result.window, result.stride) == (CONTEXT_LENGTH - 1, (CONTEXT_LENGTH - 1) // 2)
    assert "".join(result.columns.tokens) == TEXT[1:]
    assert [body["prompt"] for body in server.bodies("/v1/completions")] == [ids_of(TEXT)]


def test_special_token_in_front() -> None:
    """With a token in front, each token of the text is scored."""
    with scoring(Letters(bos=BOS)) as (client, _):
        added = client.evaluate.perplexity(TEXT)
    with scoring(Letters()) as (client, _):
        given_ = client.evaluate.perplexity(TEXT, bos_token_id=BOS)
    for result in (added, given_):
        assert result.nll == -total([BOS, *ids_of(TEXT)], 1)
        assert (result.tokens, result.unscored_tokens) == (len(TEXT), 0)
        assert result.bos_token_id == BOS


@pytest.mark.parametrize("bos", [None, BOS])
def test_windows(bos: Any) -> None:
    """A long text is scored in windows, with context before each and the token in front."""
    text = "".join(chr(97 + number % 26) for number in range(100))
    with scoring(Letters(bos=bos)) as (client, server):
        result = client.evaluate.perplexity(text, window=30, stride=10)
    lead = [] if bos is None else [bos]
    # Of a bigram model the context is the token before, so all windows agree with the whole.
    assert result.nll == pytest.approx(-total([*lead, *ids_of(text)], 1), abs=1e-9)
    assert list(result.columns.token_ids) == ids_of(text)[1 - len(lead) :]
    sent = [body["prompt"] for body in server.bodies("/v1/completions")]
    assert all(len(prompt) <= 30 and prompt[: len(lead)] == lead for prompt in sent)
    assert result.windows == len(sent) == (9 if bos else 8)
    assert (result.window, result.stride) == (30, 10)


@given(total=st.integers(1, 200), window=st.integers(2, 50), data=st.data(), lead=st.integers(0, 1))
def test_each_token_once(total: int, window: int, data: Any, lead: int) -> None:
    """Whatever the sizes, the windows score each token once, with context before it."""
    stride = data.draw(st.integers(1, window - 1))
    scored: List[int] = []
    for begin, end, first in spans(total, window, stride):
        assert 0 < end - begin <= window
        assert begin < first or begin == first == 0
        scored += range(first, end)
    assert scored == list(range(total))


def test_token_ids() -> None:
    """Token ids are scored as they are; bytes and words are those of the scored tokens."""
    with scoring(Letters()) as (client, _):
        result = client.evaluate.perplexity(ids_of("ab cd"))
    assert result.nll == -total(ids_of("ab cd"), 1)
    assert (result.bytes, result.words) == (4, 2)


def test_token_ids_with_a_special_token() -> None:
    """Token ids that begin with the tokenizer's special token keep it in front of each window."""
    with scoring(Letters(bos=BOS)) as (client, server):
        result = client.evaluate.perplexity([BOS, *ids_of("abcdefgh")], window=5, stride=2)
        without = client.evaluate.perplexity(ids_of("abc"))
    sent = [body["prompt"] for body in server.bodies("/v1/completions")]
    assert all(prompt[0] == BOS for prompt in sent[:-1])
    assert (result.tokens, result.bos_token_id) == (8, BOS)
    assert (without.tokens, without.bos_token_id) == (2, None)


def test_messages() -> None:
    """Of a conversation, all tokens are scored that the template makes of it."""
    with scoring(Letters()) as (client, server):
        result = client.evaluate.perplexity(messages=[{"role": "user", "content": "hi"}])
    assert result.nll == -total(ids_of("u:hi\n"), 1)
    assert server.bodies("/tokenize")[0]["add_generation_prompt"] is False


def test_beyond_numbers() -> None:
    """A perplexity that no number can hold is infinity."""

    def impossible(path: str, body: Any) -> Any:
        if path == "/v1/completions":
            body["choices"][0]["prompt_logprobs"][1]["98"]["logprob"] = -9999.0
        return body

    with scoring(Letters()) as (client, server):
        server.change = impossible
        result = client.evaluate.perplexity("ab")
    assert (result.nll, result.perplexity) == (9999.0, math.inf)


def test_by_echo() -> None:
    """An older server is read by its echo, and the result says so."""
    with scoring(Letters(), lacks=["prompt_logprobs"]) as (client, _):
        result = client.evaluate.perplexity(TEXT)
    assert result.method == "echo"
    assert result.nll == -total(ids_of(TEXT), 1)


def test_no_ranks() -> None:
    """Without ranks from the server there is no such column."""
    with scoring(Letters(), lacks=["ranks"]) as (client, _):
        assert client.evaluate.perplexity(TEXT, window=10, stride=5).columns.ranks is None


@pytest.mark.parametrize(
    ("text", "keywords", "error"),
    [
        ("", {}, ValueError),
        ([], {}, ValueError),
        (None, {}, TypeError),
        ("abc", {"window": 1}, ValueError),
        ("abc", {"window": 8, "stride": 8}, ValueError),
        ("abc", {"window": 8, "stride": 0}, ValueError),
        ("abc", {"truncate": "left"}, ValueError),
        ("abc", {"window": 8.0}, TypeError),
        ("abc", {"window": 8, "stride": "4"}, TypeError),
        ("abc", {"window": True}, TypeError),
        ("a", {}, EvaluationError),
    ],
)
def test_refused(text: Any, keywords: Any, error: Any) -> None:
    """What has no perplexity is refused before it is scored."""
    with scoring(Letters()) as (client, server):
        with pytest.raises(error):
            client.evaluate.perplexity(text, **keywords)
    assert server.bodies("/v1/completions") == []


def test_unknown_context_length() -> None:
    """A server that does not tell the length of its context needs window=…"""
    with scoring(Letters(), lacks=["max_model_len"]) as (client, _):
        with pytest.raises(EvaluationError, match="window="):
            client.evaluate.perplexity(TEXT)
        assert client.evaluate.perplexity(TEXT, window=50).tokens == len(TEXT) - 1
