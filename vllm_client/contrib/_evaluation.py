"""What lm-evaluation-harness asks of a model, without the harness: texts in, numbers out."""

from __future__ import annotations

import functools
import json
import logging
import math
from pathlib import Path
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
)

from attrs import evolve, frozen

from .._http.transport import Transport
from ..batch._engine import Settings
from ..batch._progress import Progress
from ..client import VllmClient
from ..evaluate._boundary import spans
from ..evaluate._many import Results
from ..evaluate._pairs import Pair, loglikelihood
from ..evaluate._scorer import Scorer
from ..exceptions import EvaluationError
from ..resources.completions import Completions
from ..types._json import JsonObject
from ._generation import cut_context, generation_fields
from ._scorers import Scorers
from ._tasks import ResultFile, Seen, Task, TaskRun

logger = logging.getLogger("vllm_client")

Tell = Callable[[int, Any], None]
"""Told the number and the value of each request, as it becomes known."""


@frozen
class Options:
    """The arguments of the model; see ``docs/lm-eval.md``."""

    model: str
    boundary: str = "joint"
    truncate: Optional[str] = None
    max_length: Optional[int] = None
    max_gen_toks: int = 256
    seed: int = 1234
    output: Optional[str] = None


class Evaluation:
    """Scores and completes the requests of an evaluation.

    Args:
        client: The server.
        scorers: What asks for scores.
        options: The arguments of the model.
        settings: Of the engine.
        progress: Whom to tell how far a kind of requests is.
    """

    def __init__(
        self,
        client: VllmClient,
        scorers: Scorers,
        options: Options,
        settings: Settings,
        progress: Progress = None,
    ) -> None:
        self._transport: Transport = client._transport
        self._scorers = scorers
        self._options = options
        self._settings = settings
        self.progress = progress

    def loglikelihoods(
        self, pairs: Sequence[Tuple[str, str]], tell: Tell = lambda _index, _value: None
    ) -> List[Tuple[float, bool]]:
        """The log-likelihood of each continuation after its context, and whether it is greedy.

        Raises:
            ValueError: A continuation is empty.
            EvaluationError: There is no exact score.
            VllmError: The server refused a request, or no complete response arrived.
        """
        run = self._run(
            "loglikelihood", len(pairs), lambda index, found: tell(index, _score_of(found))
        )
        results = run.results(self._pair_tasks(pairs))
        self._report(results)
        return [_score_of(found) for found in results]

    def rolling(
        self, texts: Sequence[str], tell: Tell = lambda _index, _value: None
    ) -> List[float]:
        """The log-likelihood of each text, in windows if it is longer than the context.

        Raises:
            EvaluationError: There is no exact score.
            VllmError: As for :meth:`loglikelihoods`.
        """
        owners: List[int] = []
        results = self._run("rolling", None).results(self._window_tasks(texts, owners))
        parts: Dict[int, List[float]] = {}
        for owner, found in zip(owners, results):
            parts.setdefault(owner, []).append(found["logprob"])
        sums = [math.fsum(parts.get(index, ())) for index in range(len(texts))]
        for index, value in enumerate(sums):
            tell(index, value)
        return sums

    def generations(
        self,
        requests: Sequence[Tuple[str, Mapping[str, Any]]],
        tell: Tell = lambda _index, _value: None,
    ) -> List[str]:
        """The text that the model writes after each context.

        Args:
            requests: Contexts, and the settings of the task for each.
            tell: Told each text.

        Raises:
            TypeError: A setting is no request field of vLLM.
            ContextLengthError: A context and its completion do not fit; see ``truncate``.
            VllmError: As for :meth:`loglikelihoods`.
        """
        run = self._run("generate", len(requests), lambda index, found: tell(index, found["text"]))
        results = run.results(self._generation_tasks(requests))
        self._report(results)
        return [str(found["text"]) for found in results]

    def _run(self, kind: str, total: Optional[int], seen: Optional[Seen] = None) -> TaskRun:
        run = TaskRun(self._transport, self._settings, self._file(kind), self.progress, total)
        return run if seen is None else evolve(run, seen=seen)

    def _file(self, kind: str) -> Optional[ResultFile]:
        """The file of a kind of requests: ``out.rolling.jsonl`` for ``out.jsonl``."""
        if self._options.output is None:
            return None
        path = Path(self._options.output)
        path = path.with_name(f"{path.name.removesuffix('.jsonl')}.{kind}.jsonl")
        path.parent.mkdir(parents=True, exist_ok=True)
        # What is cut is another request, or is told by its result; so truncate may change.
        options = self._options
        params = {
            "model": options.model,
            "boundary": options.boundary,
            "max_length": options.max_length,
            **self._scorers.facts(),
        }
        return ResultFile(path, {"route": f"lm_eval {kind}", "params": params})

    # Scores.

    def _pair_tasks(self, pairs: Iterable[Tuple[str, str]]) -> Iterator[Task]:
        for index, parts in enumerate(pairs):
            scorer, context, continuation = self._scorers.of_pair(*parts)
            try:
                pair = Pair(
                    str(context),
                    continuation,
                    boundary=self._options.boundary,
                    truncate=self._options.truncate,
                )
            except ValueError as error:
                raise ValueError(f"request {index}: {error}") from None
            key = {"context": pair.context, "continuation": continuation}
            yield Task(key, functools.partial(_score_pair, scorer, pair))

    def _report(self, results: Sequence[JsonObject]) -> None:
        """Tell how many requests were not scored, or completed, as they stand.

        Raises:
            EvaluationError: The file has some that an earlier run cut, and this one may not.
        """
        cut = [found["truncated_tokens"] for found in results if found.get("truncated_tokens")]
        if cut and self._options.truncate is None:
            raise EvaluationError(
                f"{len(cut)} contexts in the file of results were cut with truncate=left: give it "
                "again, or choose another file"
            )
        if cut:
            logger.warning(
                "%d of %d contexts were too long and were cut on the left, by %d tokens at most",
                len(cut),
                len(results),
                max(cut),
            )
        rescored = sum(1 for found in results if found.get("context_tokens_rescored"))
        if rescored:
            logger.warning(
                "in %d of %d requests a token spans the boundary of context and continuation; it "
                "was scored as a whole",
                rescored,
                len(results),
            )

    def _window_tasks(self, texts: Sequence[str], owners: List[int]) -> Iterator[Task]:
        """The windows of each text; ``owners`` gains the number of the text of each."""
        window = self._scorers.max_length() - 1  # One more is generated.
        lead = self._scorers.prefix()
        for owner, ids in enumerate(self._tokens(texts, [self._scorers.plain] * len(texts))):
            for sent, start in rolling_windows(ids, lead, window):
                owners.append(owner)
                perform = functools.partial(_score_ids, self._scorers.plain, sent, start)
                yield Task({"ids": sent, "start": start}, perform)

    def _tokens(self, texts: Iterable[str], scorers: Iterable[Scorer]) -> Iterator[List[int]]:
        """The tokens of texts, several asked for at a time."""
        tasks = (
            functools.partial(_encode, scorer, str(text)) for text, scorer in zip(texts, scorers)
        )
        with Results[List[int]](self._transport, tasks, self._settings) as found:
            yield from found

    # Completions.

    def _generation_tasks(
        self, requests: Sequence[Tuple[str, Mapping[str, Any]]]
    ) -> Iterator[Task]:
        occurrences: Dict[str, int] = {}
        for (prompt, cut), (context, given) in zip(self._prompts(requests), requests):
            name = json.dumps(given, sort_keys=True)
            known = generation_fields(given, self._options.max_gen_toks)
            fields = {"model": self._options.model, "prompt": prompt, **known}
            if not self._scorers.of_text(context).adds_special_tokens:
                fields["add_special_tokens"] = False
            seed = self._options.seed
            if fields["temperature"]:
                # The harness repeats a request to get several samples.
                before = occurrences.get(context + name, 0)
                occurrences[context + name] = before + 1
                seed += before
            fields = {"seed": seed, **fields}
            yield Task(fields, functools.partial(_complete, fields, cut))

    def _prompts(
        self, requests: Sequence[Tuple[str, Mapping[str, Any]]]
    ) -> Iterator[Tuple[Any, int]]:
        """What to send for each context, and how many of its tokens were cut."""
        if self._options.truncate is None:
            yield from ((str(context), 0) for context, _ in requests)
            return
        contexts = [context for context, _ in requests]
        tokens = self._tokens(contexts, [self._scorers.of_text(each) for each in contexts])
        for ids, (context, given) in zip(tokens, requests):  # So that tokens are read to the end.
            limit = generation_fields(given, self._options.max_gen_toks)["max_tokens"]
            lead = self._scorers.of_text(context).lead()
            kept = cut_context(ids, lead, self._scorers.max_length() - limit)
            cut = len(ids) - len(kept)
            yield (kept if cut else str(context)), cut


def rolling_windows(
    ids: Sequence[int], lead: Sequence[int], window: int
) -> Iterator[Tuple[List[int], int]]:
    """The windows of a text as the harness makes them: full, with one token of context each.

    Args:
        ids: The tokens of the text.
        lead: The special token before the first one.
        window: The most tokens of a window, 2 or more.

    Returns:
        The tokens of each window, and the first of them that is scored.

    Raises:
        EvaluationError: There is no special token.
    """
    if not lead:
        raise EvaluationError(
            "nothing precedes the first token of a text, so it has no probability: give "
            "bos_token_id=… (this tokenizer adds none; the harness takes the token that ends a "
            "text)"
        )
    count = len(lead)
    whole = list(ids) if list(ids[:count]) == list(lead) else [*lead, *ids]
    if len(whole) > count:
        for begin, end, scored in spans(len(whole), window, window - 1):
            yield whole[begin:end], max(scored - begin, count)


def _score_of(found: JsonObject) -> Tuple[float, bool]:
    return found["logprob"], found["is_greedy"]


# By the transport of a worker: it retries nothing by itself, and is closed with the run.
def _score_pair(scorer: Scorer, pair: Pair, transport: Transport) -> JsonObject:
    found = loglikelihood(scorer.over(transport), pair)
    return {
        "logprob": found.logprob,
        "is_greedy": found.is_greedy,
        "tokens": len(found),
        "context_tokens_rescored": found.context_tokens_rescored,
        "truncated_tokens": found.truncated_tokens,
    }


def _score_ids(scorer: Scorer, ids: List[int], start: int, transport: Transport) -> JsonObject:
    columns = scorer.over(transport).score_ids([ids])[0].columns(start)
    return {"logprob": math.fsum(columns.token_logprobs), "tokens": len(columns)}


def _encode(scorer: Scorer, text: str, transport: Transport) -> List[int]:
    return scorer.over(transport).encode(text)


def _complete(fields: Dict[str, Any], cut: int, transport: Transport) -> JsonObject:
    completion = Completions(transport).create(**fields)
    return {
        "text": completion.text,
        "finish_reason": completion.choices[0].finish_reason,
        "truncated_tokens": cut,
    }
