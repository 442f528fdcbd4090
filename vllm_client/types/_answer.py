"""What all responses have in common."""

from __future__ import annotations

import copy
from typing import Any, ClassVar, Dict, Iterator, Optional, Tuple, Union

from .._habits import ANSWER_HABITS, habits
from .._shown import Items, fields_of, joined
from ..timings import Timings
from .shared import JSONValue

# Shown after what the answer says, or not at all.
_LAST = ("model", "id", "request_id")
_NOT_SHOWN = frozenset({*_LAST, "created", "choices"})


@habits(**ANSWER_HABITS)
class Answer:
    """A response of the server.

    Attributes:
        raw: The decoded JSON as the server sent it.
    """

    # No field of attrs: it is no part of the data, and pickles and asdict() do not contain it.
    __slots__ = ("_sent",)

    raw: Dict[str, JSONValue]
    _sent: Union[Timings, Tuple[float, float, float]]

    @property
    def timings(self) -> Optional[Timings]:
        """When the request was sent and the response was there.

        None if the response did not come from one request: read from a file, unpickled, or of
        several requests.
        """
        sent = getattr(self, "_sent", None)
        if isinstance(sent, tuple):  # Made on its first use, because few programs use it.
            started, ended, called = sent
            sent = Timings(started, ended=ended, called=called, server=self.raw.get("metrics"))
            sent.end(getattr(self, "usage", None))
            self._sent = sent
        return sent

    def _set_timings(self, timings: Timings) -> None:
        timings.server = self.raw.get("metrics")
        self._sent = timings

    def to_dict(self) -> Dict[str, JSONValue]:
        """The response as plain dictionaries and lists: a copy of ``raw``."""
        return copy.deepcopy(self.raw)


def timed(answer: object, started: float, ended: float, called: float) -> None:
    """Let a response know when its request was sent and when it was there, by ``perf_counter``."""
    if isinstance(answer, Answer):
        answer._sent = (started, ended, called)


class TextAnswer(Answer):
    """A response whose ``str()`` is its text."""

    __slots__ = ()

    def __str__(self) -> str:
        answer: Any = self
        return str(answer.text)


class ChoiceAnswer(TextAnswer):
    """A response with choices. Of a single one it shows the fields as its own."""

    __slots__ = ()

    def _shown_items(self) -> Items:
        answer: Any = self
        if [choice.index for choice in answer.choices] == [0]:
            yield from (item for item in _of_choice(answer.choices[0]) if item[0] != "index")
        else:
            yield "choices", answer.choices
        yield from others(self)

    def _shown_rows(self) -> Iterator[Items]:
        answer: Any = self
        return (list(_of_choice(choice)) for choice in answer.choices)


class ListAnswer(Answer):
    """A response with a list: a table in a notebook."""

    __slots__ = ()
    _list_name: ClassVar[str] = "data"

    def _shown_items(self) -> Items:
        return others(self)

    def _shown_rows(self) -> Iterator[Items]:
        return (joined(each, "document") for each in getattr(self, self._list_name))


def others(answer: object) -> Items:
    """The fields of a response but its choices: first what it says, then what names it."""
    yield from (item for item in fields_of(answer) if item[0] not in _NOT_SHOWN)
    yield from ((name, getattr(answer, name, None) or None) for name in _LAST)


def _of_choice(choice: object) -> Iterator[Tuple[str, Any]]:
    return joined(choice, "message")
