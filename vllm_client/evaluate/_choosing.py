"""Which option: the scores of several continuations by the cheapest exact way."""

from __future__ import annotations

import math
from typing import Any, Dict, Iterator, List, Optional, Sequence, Set, Tuple

from attrs import frozen

from ._boundary import common_prefix
from ._pairs import Part, check_scored, context_ids, cut_left, whole_ids, with_lead
from ._scorer import MOST_NEXT_TOKENS, Scorer
from .results import Choice, softmax

LABELS = "labels"
TRIE = "trie"
PROMPT = "prompt"
_BLOCK = 16
"""Tokens of a block of vLLM's prefix cache: on average, half of one is computed again."""
_MOST_PROMPTS = 1024
"""How many prompts vLLM takes in one request."""
_EQUAL = 1e-9

Path = Tuple[int, ...]
Scores = Dict[Tuple[Path, int], float]
"""The log-probability of a token after the root and a path of further tokens."""


@frozen
class Question:
    """What :func:`choose` decides.

    Attributes:
        context: A text, tokens, or the messages of a conversation.
        options: Texts, or tokens after tokens.
        is_chat: Whether the context is messages.
        normalize: What a log-likelihood is divided by: None, ``"token"`` or ``"byte"``.
        truncate: ``"left"`` cuts a context that is too long.
    """

    context: Any
    options: List[Part]
    is_chat: bool
    normalize: Optional[str] = None
    truncate: Optional[str] = None

    def __attrs_post_init__(self) -> None:
        if not self.options:
            raise ValueError("options is empty: there is nothing to choose from")
        if any(len(option) == 0 for option in self.options):
            raise ValueError("an option is empty: there is nothing to score")
        is_text = self.is_chat or isinstance(self.context, str)
        if any(isinstance(option, str) != is_text for option in self.options):
            raise TypeError("context and options must all be texts, or all token ids")
        if self.normalize not in {None, "token", "byte"}:
            raise ValueError(f"normalize must be None, 'token' or 'byte', not {self.normalize!r}")
        if self.normalize == "byte" and not is_text:
            raise ValueError("normalize='byte' needs options that are texts")
        if self.truncate not in {None, "left"}:
            raise ValueError(f"truncate must be None or 'left', not {self.truncate!r}")


def choose(scorer: Scorer, question: Question) -> Choice:
    """Score all options and choose the best.

    Raises:
        EvaluationError: There is no exact score.
        VllmError: The server refused a request.
    """
    root, tails, rescored, cut = _split(scorer, question)
    logprobs, method = _scored(scorer, root, tails)
    scores = [
        logprob / _divisor(question, number, tails[number])
        for number, logprob in enumerate(logprobs)
    ]
    highest = max(scores)
    index = scores.index(highest)
    least = highest - _EQUAL  # Compared in this way, -inf is equal to -inf.
    ties = [number for number, score in enumerate(scores) if number != index and score >= least]
    return Choice(
        question.options[index],
        index,
        scores,
        softmax(scores),
        ties,
        logprobs,
        [len(tail) for tail in tails],
        rescored,
        cut,
        question.normalize,
        scorer.bos_of(root),
        method,
    )


def _split(scorer: Scorer, question: Question) -> Tuple[List[int], List[Path], int, int]:
    """The tokens that all options follow, those of each option, and what became of the context.

    Every option is charged for the same characters: all begin where the first of them must.
    """
    context = context_ids(scorer, question.context, is_chat=question.is_chat)
    wholes = [
        whole_ids(scorer, question.context, option, is_chat=question.is_chat)
        for option in question.options
    ]
    start = min(common_prefix(context, whole) for whole in wholes)
    for whole, option in zip(wholes, question.options):
        check_scored(start, whole, option)
    if start < len(context):
        scorer.warn_of_space(question.context)
    tails = [tuple(whole[start:]) for whole in wholes]
    root, _ = with_lead(scorer, context[:start], start)
    cut = 0
    if question.truncate is not None:
        longest = max(tails, key=len)
        sent, cut = cut_left(scorer, [*root, *longest], len(root))
        root = sent[: len(root) - cut]
    return root, tails, len(context) - start, cut


def _divisor(question: Question, number: int, tail: Path) -> int:
    if question.normalize == "token":
        return len(tail)
    option = question.options[number]
    if question.normalize == "byte" and isinstance(option, str):
        return len(option.encode())
    return 1


def _scored(scorer: Scorer, root: List[int], tails: Sequence[Path]) -> Tuple[List[float], str]:
    """The log-likelihood of each option, and the way it was found."""
    nodes = _trie(tails)
    by_prompt = sum(len(root) + len(tail) for tail in tails)
    by_trie = len(root) + sum(len(path) + _BLOCK // 2 for path in nodes)
    if len(nodes) == 1 or by_trie <= by_prompt:
        found = _ask_nodes(scorer, root, nodes)
        if found is not None:
            sums = [_sum_along(tail, found) for tail in tails]
            return sums, LABELS if len(nodes) == 1 else TRIE
    scores = scorer.score_ids([[*root, *tail] for tail in tails])
    return [math.fsum(each.columns(len(root)).token_logprobs) for each in scores], PROMPT


def _trie(tails: Sequence[Path]) -> Dict[Path, Set[int]]:
    """The inner nodes of the tree of the options, and the tokens that follow each."""
    nodes: Dict[Path, Set[int]] = {}
    for tail in tails:
        for depth, id_ in enumerate(tail):
            nodes.setdefault(tail[:depth], set()).add(id_)
    return nodes


def _sum_along(tail: Path, found: Scores) -> float:
    return math.fsum(found[tail[:depth], id_] for depth, id_ in enumerate(tail))


def _ask_nodes(scorer: Scorer, root: List[int], nodes: Dict[Path, Set[int]]) -> Optional[Scores]:
    """The log-probabilities of all edges of the tree; None if the server has no such request."""
    found: Scores = {}
    for paths, ids in _requests(nodes):
        answers = scorer.score_next([[*root, *path] for path in paths], ids)
        if answers is None:
            return None
        for path, answer in zip(paths, answers):
            found.update({(path, id_): answer[id_] for id_ in nodes[path].intersection(ids)})
    return found


def _requests(nodes: Dict[Path, Set[int]]) -> Iterator[Tuple[List[Path], List[int]]]:
    """Nodes that fit into one request, and the tokens that follow any of them."""
    paths: List[Path] = []
    ids: Set[int] = set()
    for path, children in _small_nodes(nodes):
        if paths and (len(ids | children) > MOST_NEXT_TOKENS or len(paths) == _MOST_PROMPTS):
            yield paths, sorted(ids)
            paths, ids = [], set()
        paths.append(path)
        ids |= children
    yield paths, sorted(ids)


def _small_nodes(nodes: Dict[Path, Set[int]]) -> Iterator[Tuple[Path, Set[int]]]:
    for path, children in nodes.items():
        ordered = sorted(children)
        for begin in range(0, len(ordered), MOST_NEXT_TOKENS):
            yield path, set(ordered[begin : begin + MOST_NEXT_TOKENS])
