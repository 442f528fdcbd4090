"""What both generating routes need of a request and of the server."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Callable, Protocol, TypeVar

from .._wire.fields import Fields
from .generation import Limits, Writer
from .logprobs import Logprobs
from .model import Sampling, WordModel
from .text import TEXT
from .tokenizer import Tokenizer

__all__ = ["VERSION", "Engine"]

VERSION = "0.32.0+fake"

_TRIALS = 8
_TOKENIZER = Tokenizer(TEXT)
_MODEL = WordModel(_TOKENIZER, TEXT)


class _Written(Protocol):
    @property
    def text(self) -> str: ...


T = TypeVar("T", bound=_Written)


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
        self, fields: Fields, first: int, write: Callable[[int, random.Random, bool], T]
    ) -> list[T]:
        """Return `n` outputs, numbered from `first`; the same ones for the same seed.

        Args:
            fields: the request.
            first: the index of the first choice.
            write: gives the output of an index, from random numbers; it is told when what it
                gave is no other than a choice before.
        """
        seed = fields.get("seed", self._random.random())
        outputs: list[T] = []
        for number in range(fields.get("n", 1)):
            written = {output.text for output in outputs}
            for trial in range(_TRIALS):
                numbers = random.Random(f"{seed}/{number}/{trial}")
                outputs[number:] = [write(first + number, numbers, trial > 0)]
                # A small model repeats itself; who asks for several choices wants to see several.
                if outputs[number].text not in written:
                    break
        return outputs
