"""What both generating routes need of a request and of the server."""

from __future__ import annotations

import random
import time
import uuid
from dataclasses import dataclass
from typing import Any, Callable, Iterator, Mapping, Sequence

from .fields import Fields
from .generation import Limits, Output, Token, Writer
from .logprobs import Logprobs
from .model import Sampling, WordModel
from .recorded import RecordedRequest
from .text import TEXT
from .tokenizer import Tokenizer

__all__ = ["FINGERPRINT", "VERSION", "Engine", "Envelope", "token_groups", "usage"]

VERSION = "0.32.0+fake"
FINGERPRINT = "fake-vllm (a stand-in, not vLLM)"

_TRIALS = 8
_TOKENIZER = Tokenizer(TEXT)
_MODEL = WordModel(_TOKENIZER, TEXT)


class Engine:
    """The model that is served: its names, its length, its tokenizer and its random numbers."""

    def __init__(
        self, models: Sequence[str], max_model_len: int, max_logprobs: int, seed: int
    ) -> None:
        self.models = list(models)
        self.max_model_len = max_model_len
        self.max_logprobs = max_logprobs
        self.tokenizer = _TOKENIZER
        self.writer = Writer(_TOKENIZER, _MODEL)
        self._random = random.Random(seed)

    def logprobs(self, fields: Fields) -> Logprobs:
        """Return what writes the log-probabilities of a request."""
        as_ids = fields.get("return_tokens_as_token_ids", False)
        return Logprobs(self.tokenizer, _MODEL, as_ids=as_ids)

    def limits(self, fields: Fields, max_tokens: int) -> Limits:
        """Return when the answer to a request ends, and how its tokens are chosen."""
        names = ("temperature", "top_k", "top_p", "min_p")
        bias = {int(id_): float(value) for id_, value in fields.get("logit_bias", {}).items()}
        sampling = Sampling(
            **{name: fields[name] for name in names if name in fields},
            logit_bias=bias,
            allowed_token_ids=frozenset(fields.get("allowed_token_ids", ())),
        )
        return Limits(
            max_tokens=max_tokens,
            min_tokens=fields.get("min_tokens", 0),
            stop=fields.get("stop", ()),
            stop_token_ids=frozenset(fields.get("stop_token_ids", ())),
            include_stop=fields.get("include_stop_str_in_output", False),
            ignore_eos=fields.get("ignore_eos", False),
            sampling=sampling,
        )

    def choices(
        self, fields: Fields, first: int, write: Callable[[int, random.Random], Output]
    ) -> list[Output]:
        """Return `n` outputs, numbered from `first`; the same ones for the same seed.

        Args:
            fields: the request.
            first: the index of the first choice.
            write: gives the output of one index and its random numbers.
        """
        seed = fields.get("seed", self._random.random())
        outputs: list[Output] = []
        for number in range(fields.get("n", 1)):
            written = {output.text for output in outputs}
            for trial in range(_TRIALS):
                output = write(first + number, random.Random(f"{seed}/{number}/{trial}"))
                # A small model repeats itself; who asks for several choices wants to see several.
                if output.text not in written:
                    break
            outputs.append(output)
        return outputs


@dataclass(frozen=True)
class Envelope:
    """The fields that all events of a stream, and the whole answer, have in common."""

    id: str
    object: str
    created: int
    model: str

    @classmethod
    def of(
        cls, engine: Engine, request: RecordedRequest, fields: Fields, prefix: str, object: str
    ) -> Envelope:
        """Return the envelope for a request; its X-Request-Id wins over the field."""
        given = request.headers.get("X-Request-Id") or fields.get("request_id")
        id_ = given or uuid.uuid4().hex[:16]
        return cls(f"{prefix}-{id_}", object, int(time.time()), engine.models[0])

    def around(self, choices: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
        """Return one event, or a whole answer."""
        head = {"id": self.id, "object": self.object, "created": self.created}
        return {**head, "model": self.model, "choices": choices, **more}


def token_groups(output: Output, interval: int) -> Iterator[Sequence[Token]]:
    """Return the tokens of each event: the first comes by itself, then so many at a time."""
    tokens = output.tokens
    yield tokens[:1]
    for start in range(1, len(tokens), interval):
        yield tokens[start : start + interval]
    # An abort comes between two tokens, so it has an event of its own.
    if output.finish_reason == "abort" and tokens:
        yield []


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, Any]:
    """Return the counts in the order in which vLLM writes them."""
    total = prompt_tokens + completion_tokens
    counts = {"prompt_tokens": prompt_tokens, "total_tokens": total}
    return {**counts, "completion_tokens": completion_tokens}
