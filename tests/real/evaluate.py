"""Checks of ``client.evaluate``: all ways of scoring agree on a real server."""

from __future__ import annotations

import math
import statistics
from time import perf_counter
from typing import Any, List, Tuple

from vllm_client import AsyncVllmClient, ContextLengthError, EvaluationError, VllmClient
from vllm_client.evaluate._scorer import Scorer, ScoringOptions

from .routes import GENERATING, in_asyncio, method
from .samples import HELLO
from .table import raised

CONTEXT = "One, two, Größe"
PAIRS: List[Tuple[str, str]] = [
    (CONTEXT, " and three"),
    ("Hello wor", "ld is"),
    ("Hello ", "Wörld 🎉"),
    ('{"a":', '"b"}'),
    ("(", "A)"),
    ("x", "y"),
]
LONG = "The cat sat on the mat and looked at me. " * 12
QUESTION = f"{LONG}Answer:"


@method("evaluate.loglikelihood", *GENERATING)
def _(client: VllmClient) -> str:
    for pair in PAIRS:
        found = client.evaluate.loglikelihood(*pair)
        ids = client.tokenizer.tokenize("".join(pair)).tokens
        assert list(found.token_ids) == ids[len(ids) - len(found) :]
        echoed = _echoed(client, ids)[len(ids) - len(found) :]
        assert math.isclose(found.logprob, math.fsum(echoed), abs_tol=1e-6)
        again = client.evaluate.loglikelihood(ids[: -len(found)], ids[-len(found) :])
        assert again.logprob == found.logprob
    return f"{len(PAIRS)} pairs equal to their echo"


def _echoed(client: VllmClient, ids: List[int]) -> List[float]:
    answer = client.completions.create(prompt=ids, max_tokens=1, echo=True, logprobs=0)
    logprobs: Any = answer.choices[0].logprobs
    return [value or 0.0 for value in logprobs["token_logprobs"][: len(ids)]]


@method("evaluate.loglikelihood, boundary='tokens'", *GENERATING)
def _(client: VllmClient) -> None:
    for context, continuation in PAIRS:
        found = client.evaluate.loglikelihood(context, continuation, boundary="tokens")
        own = client.tokenizer.tokenize(continuation, add_special_tokens=False).tokens
        assert list(found.token_ids) == own
        assert found.context_tokens_rescored == 0


@method("evaluate.loglikelihood, messages", *GENERATING)
def _(client: VllmClient) -> None:
    found = client.evaluate.loglikelihood(messages=HELLO, continuation="Good day")
    prompt = client.tokenizer.tokenize(messages=HELLO, add_generation_prompt=True).tokens
    start = len(prompt) - found.context_tokens_rescored
    again = client.evaluate.loglikelihood(prompt[:start], list(found.token_ids))
    assert math.isclose(found.logprob, again.logprob, abs_tol=1e-6)


@method("evaluate.loglikelihood, too long", *GENERATING)
def _(client: VllmClient) -> str:
    raised(ContextLengthError, lambda: client.evaluate.loglikelihood(LONG * 9, " b"))
    cut = client.evaluate.loglikelihood(LONG * 9, " b", truncate="left")
    assert cut.truncated_tokens
    error = raised(EvaluationError, lambda: client.evaluate.loglikelihood("", "b"))
    assert "bos_token_id" in str(error)
    return f"{cut.truncated_tokens} tokens left out"


@method("evaluate.loglikelihoods", *GENERATING)
def _(client: VllmClient) -> None:
    many = list(client.evaluate.loglikelihoods(PAIRS * 20))
    alone = [client.evaluate.loglikelihood(*pair).logprob for pair in PAIRS]
    for number, found in enumerate(many):
        assert found.ok
        # Sums may depend on what else is in the batch.
        assert math.isclose(found.logprob, alone[number % len(PAIRS)], rel_tol=1e-2)


@in_asyncio("evaluate.loglikelihoods", *GENERATING)
async def _(client: AsyncVllmClient) -> None:
    found = [each.index async for each in client.evaluate.loglikelihoods(PAIRS)]
    assert found == list(range(len(PAIRS)))


@in_asyncio("evaluate.loglikelihood", *GENERATING)
async def _(client: AsyncVllmClient) -> None:
    assert (await client.evaluate.loglikelihood(*PAIRS[0])).tokens


@method("evaluate.choose", *GENERATING)
def _(client: VllmClient) -> str:
    sets = (["A", "B", "C", "D"], [" yes", " no", " maybe not"], ["x", "xy", "xy"])
    methods = []
    for options in sets:
        choice = client.evaluate.choose(QUESTION, options)
        by_prompt = _by_prompt(client, QUESTION, options)
        assert all(
            math.isclose(one, other, abs_tol=1e-6) for one, other in zip(choice.logprobs, by_prompt)
        )
        methods.append(choice.method)
    return ", ".join(methods)


@in_asyncio("evaluate.choose", *GENERATING)
async def _(client: AsyncVllmClient) -> None:
    assert (await client.evaluate.choose(QUESTION, ["A", "B"])).method == "labels"


def _by_prompt(client: VllmClient, context: str, options: List[str]) -> List[float]:
    """The log-likelihoods of the options, all scored as prompts from the same token on."""
    choice = client.evaluate.choose(context, options)
    alone = client.tokenizer.tokenize(context).tokens
    start = len(alone) - choice.context_tokens_rescored
    wholes = [client.tokenizer.tokenize(context + option).tokens for option in options]
    plain = ScoringOptions(None, True, None, {}, {}, {})
    scorer = Scorer(client._transport, client.evaluate._cache, plain)
    return [math.fsum(each.columns(start).token_logprobs) for each in scorer.score_ids(wholes)]


@method("evaluate.choose, time beside prompts", *GENERATING)
def _(client: VllmClient) -> str:
    options = [" yes", " no", " maybe not", " never"]
    tree, prompts = [], []
    for number in range(5):
        context = f"{number} {QUESTION}"
        for way, times in ((client.evaluate.choose, tree), (_only_prompts(client), prompts)):
            begun = perf_counter()
            way(context, options)
            times.append(perf_counter() - begun)
    ratio = statistics.median(tree) / statistics.median(prompts)
    return f"{statistics.median(tree) * 1e3:.0f} ms, {ratio:.2f} of scoring the options as prompts"


def _only_prompts(client: VllmClient) -> Any:
    def way(context: str, options: List[str]) -> None:
        pairs = [(context, option) for option in options]
        for _ in client.evaluate.loglikelihoods(pairs):
            pass

    return way


@method("evaluate.perplexity", *GENERATING)
def _(client: VllmClient) -> str:
    text = LONG[:300]
    whole = client.evaluate.perplexity(text)
    ids = client.tokenizer.tokenize(text).tokens
    assert math.isclose(whole.nll, -math.fsum(_echoed(client, ids)), abs_tol=1e-5)
    parts = client.evaluate.perplexity(text, window=40, stride=20)
    assert parts.tokens == whole.tokens == len(ids) - 1
    return f"{parts.windows} windows"


@in_asyncio("evaluate.perplexity", *GENERATING)
async def _(client: AsyncVllmClient) -> None:
    assert (await client.evaluate.perplexity(CONTEXT)).tokens
