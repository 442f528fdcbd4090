"""Many log-likelihoods: order, failures, how much is in flight, and how a run ends."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import Any, Iterator, List

import pytest

from vllm_client import (
    AsyncVllmClient,
    BatchInputError,
    BatchStoppedError,
    ContextLengthError,
    LogLikelihoodFailure,
    VllmClient,
)

from ..servers import Connection, WireServer
from ..threads import WAIT
from .scoring import CONTEXT_LENGTH, Letters, ScoringServer, logprob, scoring, total

PAIRS = [(context, option) for context in ("ab", "cd", "ef") for option in "xyz"]


def expected(context: str, option: str) -> float:
    return total([ord(letter) for letter in context + option], len(context))


def test_in_order() -> None:
    """The results come in the order of the pairs, with their numbers."""
    with scoring(Letters()) as (client, server):
        results = list(client.evaluate.loglikelihoods(iter(PAIRS)))
    assert [result.logprob for result in results] == [expected(*pair) for pair in PAIRS]
    assert [result.index for result in results] == list(range(len(PAIRS)))
    assert all(result.ok for result in results)
    assert sorted(body["prompt"] for body in server.bodies("/tokenize")) == ["", "ab", "cd", "ef"]


def test_unordered() -> None:
    """Without order each pair comes once, and its number tells which it is."""
    with scoring(Letters()) as (client, _):
        results = list(client.evaluate.loglikelihoods(PAIRS, ordered=False))
    assert {result.index: result.logprob for result in results} == {
        number: expected(*pair) for number, pair in enumerate(PAIRS)
    }


def test_kinds_of_pairs() -> None:
    """A pair may be a tuple, a list, a dict, of texts, of token ids, or a conversation."""
    pairs: List[Any] = [
        ["ab", "c"],
        {"context": [1, 2], "continuation": [3]},
        {"messages": [{"role": "user", "content": "hi"}], "continuation": "yo"},
    ]
    with scoring(Letters()) as (client, _):
        results = list(client.evaluate.loglikelihoods(pairs, boundary="joint"))
    assert [result.tokens for result in results] == [["c"], ["\x03"], ["y", "o"]]


BAD = [
    ("ab", ""),
    ("ab", 3),
    "ab",
    7,
    {"context": "a", "continuations": "b"},
    {"context": "a"},
    ([1.5], [2]),
    ([1], ["x"]),
    {"messages": 5, "continuation": "b"},
    {"messages": [object()], "continuation": "b"},
]


@pytest.mark.parametrize("bad", BAD)
def test_invalid_pair(bad: Any) -> None:
    """An invalid pair is an error that names its number, or a failure in its place."""
    with scoring(Letters()) as (client, _):
        with pytest.raises(BatchInputError, match="pair 1: "):
            list(client.evaluate.loglikelihoods([("a", "b"), bad]))
        rows = [("a", "b"), bad, ("a", "c")]
        results = list(client.evaluate.loglikelihoods(rows, on_error="row"))
    assert [result.ok for result in results] == [True, False, True]
    assert isinstance(results[1], LogLikelihoodFailure)
    assert (results[1].index, type(results[1].error)) == (1, BatchInputError)


def test_refused_pair() -> None:
    """A pair that the server refuses raises its error, or is a failure in its place."""
    pairs = [("a", "b"), ("a" * CONTEXT_LENGTH, "b"), ("a", "c")]
    with scoring(Letters()) as (client, _):
        with pytest.raises(ContextLengthError):
            list(client.evaluate.loglikelihoods(pairs))
        results = list(client.evaluate.loglikelihoods(pairs, on_error="row"))
    assert isinstance(results[1].error, ContextLengthError)
    assert results[2].logprob == logprob(97, 99)


def test_input_that_raises() -> None:
    """An error of the input is raised after the results of the pairs before it."""

    def pairs() -> Iterator[Any]:
        yield "a", "b"
        raise OSError("the disk is gone")

    with scoring(Letters()) as (client, _):
        results = client.evaluate.loglikelihoods(pairs())
        assert next(results).logprob == logprob(97, 98)
        with pytest.raises(OSError, match="the disk is gone"):
            next(results)


def test_all_pairs_are_wrong() -> None:
    """A run whose first pairs are all refused in the same way ends."""
    pairs = (("a" * CONTEXT_LENGTH, "b") for _ in itertools.count())
    with scoring(Letters()) as (client, _):
        with pytest.raises(BatchStoppedError, match="status 400"):
            list(client.evaluate.loglikelihoods(pairs, on_error="row"))


def test_endless_input_and_break() -> None:
    """An endless input is read no further than there is room; leaving the loop ends the run."""
    read = 0

    def pairs() -> Iterator[Any]:
        nonlocal read
        while True:
            read += 1
            yield "a", "b"

    with scoring(Letters()) as (client, _):
        with client.evaluate.loglikelihoods(pairs(), max_concurrency=3) as results:
            for number, _result in enumerate(results):
                if number == 10:
                    break
    assert 11 <= read < 11 + 3 + 40


def test_in_flight() -> None:
    """No more than max_concurrency pairs are in flight, and the pairs share what is asked once."""
    served = ScoringServer(Letters())
    lock, together = threading.Lock(), threading.Barrier(2)
    most = current = 0

    def handler(connection: Connection) -> None:
        served(connection)

    def counted(path: str, body: Any) -> Any:
        nonlocal most, current
        if path == "/v1/completions":
            with lock:
                current += 1
                most = max(most, current)
            together.wait(WAIT)
            with lock:
                current -= 1
        return body

    served.change = counted
    with WireServer(handler) as wire, VllmClient(wire.base_url) as client:
        pairs = [("a", letter) for letter in "bcdefghi"]
        assert len(list(client.evaluate.loglikelihoods(pairs, max_concurrency=2))) == 8
        assert most == 2
        list(client.evaluate.loglikelihoods(pairs))
        assert most >= 2  # By default there are several; one alone would not pass the barrier.
    assert len(served.bodies("/tokenize")) == 2


def test_retry() -> None:
    """A pair whose request meets a busy server is tried again as a whole."""
    served = ScoringServer(Letters())
    refused: List[str] = []

    def handler(connection: Connection) -> None:
        if not refused:
            refused.append(connection.receive().path)
            connection.send_json({"error": "busy"}, "503 Service Unavailable")
        served(connection)

    with WireServer(handler) as wire, VllmClient(wire.base_url) as client:
        (result,) = client.evaluate.loglikelihoods([("a", "b")])
    assert result.logprob == logprob(97, 98)
    assert refused == ["/tokenize"]


@pytest.mark.parametrize(
    ("keywords", "error"),
    [
        ({"on_error": "ignore"}, ValueError),
        ({"max_concurrency": 0}, ValueError),
        ({"patience": -1}, ValueError),
        ({"boundary": "apart"}, ValueError),
        ({"truncate": "right"}, ValueError),
        ({"max_concurency": 3}, TypeError),
    ],
)
def test_refused_keywords(keywords: Any, error: Any) -> None:
    """A wrong keyword is an error before any pair is read."""
    with scoring(Letters()) as (client, _):
        with pytest.raises(error):
            client.evaluate.loglikelihoods([("a", "b")], **keywords)


async def both(client: AsyncVllmClient) -> Any:
    one = await client.evaluate.loglikelihood("ab", "c")
    many = [result async for result in client.evaluate.loglikelihoods(PAIRS)]
    choice = await client.evaluate.choose("ab", ["c", "d"])
    text = await client.evaluate.perplexity("abcd")
    return one, many, choice, text


def test_asyncio() -> None:
    """The asynchronous client has the same methods."""

    async def main(url: str) -> Any:
        async with AsyncVllmClient(url) as client:
            return await both(client)

    with WireServer(ScoringServer(Letters())) as wire:
        one, many, choice, text = asyncio.run(main(wire.base_url))
    assert one.logprob == expected("ab", "c")
    assert [result.logprob for result in many] == [expected(*pair) for pair in PAIRS]
    assert choice.logprobs == [expected("ab", "c"), expected("ab", "d")]
    assert text.tokens == 3


def test_close_from_outside() -> None:
    """Closing a run ends it; what is read then is an end."""
    with scoring(Letters()) as (client, _):
        results = client.evaluate.loglikelihoods(PAIRS)
        next(results)
        results.close()
        results.close()
        assert list(results) == []
