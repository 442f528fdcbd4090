"""The generation settings of a task of lm-evaluation-harness as request fields."""

from __future__ import annotations

import functools
import logging
from typing import Any, Dict, List, Mapping, Sequence

from ..exceptions import EvaluationError

logger = logging.getLogger("vllm_client")

_MAX_TOKENS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""The names that tasks use, in the order in which the harness prefers them."""


def generation_fields(given: Mapping[str, Any], max_gen_toks: int) -> Dict[str, Any]:
    """The fields of a completion.

    Decoding is greedy unless the task says ``do_sample`` or nothing, and a ``temperature``.

    Args:
        given: The settings of the task.
        max_gen_toks: The most tokens to generate if the task does not tell.

    Raises:
        ValueError: ``until`` or a number has another type.
    """
    fields = dict(given)
    limits = [fields.pop(name, None) for name in _MAX_TOKENS]
    limit = next((each for each in limits if each is not None), max_gen_toks)
    if fields.get("num_beams") == 1:
        del fields["num_beams"]
    fields["stop"] = _stops(fields.pop("until", None))
    fields["temperature"] = _temperature(fields.pop("do_sample", None), fields.get("temperature"))
    return {**fields, "max_tokens": int(limit)}


def _stops(until: Any) -> List[str]:
    stops = [until] if isinstance(until, str) else list(until or ())
    if not all(isinstance(stop, str) for stop in stops):
        raise ValueError(f"until must be a text or a list of texts, not {until!r}")
    return [stop for stop in stops if stop]


@functools.lru_cache(maxsize=64)
def _warn_once(message: str, *values: object) -> None:
    logger.warning(message, *values)


def _temperature(do_sample: Any, temperature: Any) -> float:
    if do_sample is False:
        if temperature:
            _warn_once("do_sample is false, so temperature %s is not used", temperature)
        return 0.0
    if do_sample and not temperature:
        _warn_once(
            "do_sample is true without a temperature: decoding is greedy, as by the harness's own "
            "local-completions; set temperature=1.0 for sampling"
        )
    return float(temperature or 0.0)


def cut_context(ids: Sequence[int], lead: Sequence[int], longest: int) -> List[int]:
    """The last ``longest`` tokens of a context; special tokens in front stay.

    Raises:
        EvaluationError: Nothing of the context would be left.
    """
    if len(ids) <= longest:
        return list(ids)
    kept = len(lead) if list(ids[: len(lead)]) == list(lead) else 0
    if longest <= kept:
        raise EvaluationError(
            "max_gen_toks leaves no room for the context: the two must fit into max_length"
        )
    return [*ids[:kept], *ids[len(ids) - longest + kept :]]
