"""The entrance to the text generator: reads the fields that bear on it, and numbers the choices."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Callable, Protocol, TypeVar

from .._wire.request_fields import RequestFields
from .generation import Limits, Writer
from .logprobs import Logprobs
from .model import Sampling, WordModel
from .penalties import Penalties, RepetitionLimit
from .text import TEXT
from .tokenizer import Tokenizer

__all__ = ["VERSION", "Engine"]

VERSION = "0.32.0+fake"

_MAX_TRIALS = 8
_TOKENIZER = Tokenizer(TEXT)
_MODEL = WordModel(_TOKENIZER, TEXT)


class _HasText(Protocol):
    @property
    def text(self) -> str: ...


T = TypeVar("T", bound=_HasText)


class Engine:
    """The served model: its names, its context length, its tokenizer and its random numbers.

    ``adapters`` maps the names of loaded adapters to their paths. They change no text.
    """

    def __init__(
        self, models: Sequence[str], max_model_len: int, max_logprobs: int, seed: int
    ) -> None:
        self.models = list(models)
        self.adapters: dict[str, str] = {}
        self.max_model_len = max_model_len
        self.max_logprobs = max_logprobs
        self.tokenizer = _TOKENIZER
        self.writer = Writer(_TOKENIZER, _MODEL)
        self._random = random.Random(seed)

    def logprobs_for(self, fields: RequestFields) -> Logprobs:
        """Return the writer of log-probabilities for a request."""
        as_ids = fields.get("return_tokens_as_token_ids", False)
        listed_ids = fields.get("logprob_token_ids")
        return Logprobs(self.tokenizer, _MODEL, self.writer, as_ids=as_ids, listed_ids=listed_ids)

    def limits_for(self, fields: RequestFields, max_tokens: int) -> Limits:
        """Return when each choice of a request ends, and how its tokens are sampled."""
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
            penalties=self._penalties(fields),
            repetition=RepetitionLimit(**fields.get("repetition_detection", {})),
        )

    def _penalties(self, fields: RequestFields) -> Penalties:
        encode = self.tokenizer.encode
        words = [word.lstrip() for word in fields.get("bad_words", ())]
        return Penalties(
            fields.get("frequency_penalty", 0.0),
            fields.get("presence_penalty", 0.0),
            fields.get("repetition_penalty", 1.0),
            # A word has one token at the beginning of a text and another one after a space.
            [encode(spaced) for word in words for spaced in (word, f" {word}")],
        )

    def choices(
        self,
        fields: RequestFields,
        first_index: int,
        write: Callable[[int, random.Random, bool], T],
    ) -> list[T]:
        """Return ``n`` choices. The same seed returns the same choices.

        Args:
            fields: The fields of the request.
            first_index: The index of the first choice.
            write: Called with the index of a choice, random numbers, and whether an earlier call
                for this index returned the text of another choice. Returns the choice.
        """
        seed = fields.get("seed", self._random.random())
        outputs: list[T] = []
        for number in range(fields.get("n", 1)):
            earlier_texts = {output.text for output in outputs}
            for trial in range(_MAX_TRIALS):
                rng = random.Random(f"{seed}/{number}/{trial}")
                outputs[number:] = [write(first_index + number, rng, trial > 0)]
                # The word model is small and often repeats itself, but choices should differ.
                if outputs[number].text not in earlier_texts:
                    break
        return outputs
