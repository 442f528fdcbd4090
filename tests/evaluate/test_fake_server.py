"""The embedded server: its own tables give the same scores as the client reads."""

from __future__ import annotations

import math
from typing import Any, Iterator, List, Sequence

import pytest

from vllm_client import BadRequestError, VllmClient
from vllm_client.testing import FakeServer
from vllm_client.testing._engine.generation import Writer
from vllm_client.testing._engine.model import WordModel
from vllm_client.testing._engine.text import TEXT
from vllm_client.testing._engine.tokenizer import Tokenizer

TOKENIZER = Tokenizer(TEXT)
MODEL = WordModel(TOKENIZER, TEXT)
WRITER = Writer(TOKENIZER, MODEL)
UNLISTED = -18.5
CONTEXT = "Machine learning is a field of study in which"


def own_scores(ids: Sequence[int], start: int) -> List[float]:
    """The log-probabilities that the word model computes for these tokens."""
    scores = []
    for number in range(start, len(ids)):
        ranking = dict(MODEL.ranking(WRITER.next_weights(ids[:number])))
        scores.append(ranking.get(ids[number], UNLISTED))
    return scores


@pytest.fixture
def client() -> Iterator[VllmClient]:
    with FakeServer() as server, VllmClient(server.base_url) as made:
        yield made


@pytest.mark.parametrize("continuation", [" a computer", " data.", " qq \u00e9", "es"])
def test_loglikelihood(client: VllmClient, continuation: str) -> None:
    """A log-likelihood is the sum of the model's own table."""
    result = client.evaluate.loglikelihood(CONTEXT, continuation)
    whole, alone = TOKENIZER.encode(CONTEXT + continuation), TOKENIZER.encode(CONTEXT)
    start = len(alone) - result.context_tokens_rescored
    assert list(result.token_ids) == whole[start:]
    assert list(result.token_logprobs) == own_scores(whole, start)
    assert "".join(result.tokens) == TOKENIZER.decode(whole[start:])


def test_what_it_generates_is_greedy(client: VllmClient) -> None:
    """The token that is generated at temperature 0 has rank 1 and the same log-probability."""
    made = client.completions.create(prompt=CONTEXT, max_tokens=1, temperature=0, logprobs=0)
    scored = client.evaluate.loglikelihood(CONTEXT, made.text)
    assert scored.is_greedy
    assert scored.logprob == made.choices[0].logprobs["token_logprobs"][0]


@pytest.mark.parametrize("options", [[" a", " the", " data"], [" a", " a computer", " the data"]])
def test_choose(client: VllmClient, options: Any) -> None:
    """A choice has the sums of the model's own table."""
    choice = client.evaluate.choose(CONTEXT, options)
    start = len(TOKENIZER.encode(CONTEXT)) - choice.context_tokens_rescored
    sums = [math.fsum(own_scores(TOKENIZER.encode(CONTEXT + option), start)) for option in options]
    assert choice.logprobs == pytest.approx(sums, abs=1e-6)


def test_wrong_token_ids_do_not_change_the_way(client: VllmClient) -> None:
    """Options that are no tokens of the model are refused, and the next choice is as cheap."""
    with pytest.raises(BadRequestError, match="out-of-vocab"):
        client.evaluate.choose([300], [[10**6], [301]])
    assert client.evaluate.choose([300], [[301], [302]]).method == "labels"


def test_perplexity(client: VllmClient) -> None:
    """The perplexity of a text of the model is that of its own table."""
    text = " ".join(TEXT.split()[:30])
    result = client.evaluate.perplexity(text)
    ids = TOKENIZER.encode(text)
    assert result.nll == pytest.approx(-math.fsum(own_scores(ids, 1)), abs=1e-9)


def test_messages(client: VllmClient) -> None:
    """An answer of a conversation can be scored."""
    messages: Any = [{"role": "user", "content": "What is machine learning?"}]
    result = client.evaluate.loglikelihood(messages=messages, continuation="A field of study.")
    assert "".join(result.tokens) == "A field of study."
    assert result.context_tokens_rescored == 0
