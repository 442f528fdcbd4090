"""The columns of a chunk: values beside its text that differ in each chunk.

They are what programs ask for with ``logprobs``, ``return_token_ids`` and
``continuous_usage_stats``. Hot path, measured, see docs/performance.md: a template
(``templates.py``) compares the JSON around the columns. A value whose JSON is known to be valid
stays text until a program uses it; any other value is decoded. A chunk with an unusual value is
left to the full parse, which decides what to refuse.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import (
    Any,
    Callable,
    Dict,
    Generic,
    List,
    Mapping,
    Optional,
    Protocol,
    Tuple,
    Type,
    TypeVar,
    Union,
)

from attrs import define

from ..events import Reasoning, tag_of
from ..types._json import JsonObject
from ..types.shared import JSONValue, Usage
from .accumulator import ChoicePieces
from .fast_json import loads, scan

E = TypeVar("E")
T = TypeVar("T")
Match = Callable[[str, str, str], Optional[E]]
"""Takes a text, the raw JSON of its chunk, and what follows the text in it. Returns the event; None
if the chunk differs outside its columns from the one that was learnt, or has an unusual value."""
_Read = Callable[[str], JSONValue]
"""The value of a column, or its JSON if that is valid. Raises ValueError for an unusual value."""

# At most 18 digits: Python refuses to read very long integers.
_INTEGER = "(?:0|[1-9][0-9]{0,17})"
_NUMBER = rf"-?{_INTEGER}(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?"
_STRING = r'"[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*)*"'
_COUNTS = re.compile(r'\{(?:[{}:,0-9]|null|"[a-z_]+")+')
_MOST_IDS = 4096
_ONE_ID = re.compile(_INTEGER)
_FAULTS = (ValueError, StopIteration, RecursionError)
_ONLY_LISTS = frozenset({list})


def _several(item: str) -> str:
    return f"{item}(?:,{item})*"


@lru_cache(maxsize=1)
def _logprobs_json() -> re.Pattern[str]:
    """What vLLM sends as log-probabilities of a completion and of a chat."""
    top = rf"\{{{_several(f'{_STRING}:{_NUMBER}')}\}}"
    completion = (
        rf'"text_offset":\[{_several(_INTEGER)}\],"token_logprobs":\[{_several(_NUMBER)}\]'
        rf',"tokens":\[{_several(_STRING)}\],"top_logprobs":\[{_several(top)}\]'
    )
    entry = rf'"token":{_STRING},"logprob":{_NUMBER},"bytes":\[(?:{_several(_INTEGER)})?\]'
    top = rf"(?:{_several(rf'{{{entry}}}')})?"
    content = _several(rf'\{{{entry},"top_logprobs":\[{top}\]\}}')
    return re.compile(rf'\{{(?:{completion}|"content":\[{content}\])\}}')


def _logprobs_reader(_: str) -> _Read:
    is_valid = _logprobs_json().fullmatch

    def read(part: str) -> JSONValue:
        if is_valid(part):
            return part
        value = _usual(dict, loads(part))
        if not _ONLY_LISTS.issuperset(map(type, value.values())):
            raise ValueError("the accumulator joins lists, whatever they hold, and nothing else")
        return value

    return read


def _usage_reader(learnt: str) -> _Read:
    if not _COUNTS.fullmatch(learnt):
        return _decoded_usage
    is_valid = re.compile(re.sub("[0-9]+", _INTEGER, re.escape(learnt))).fullmatch
    return lambda part: part if is_valid(part) else _decoded_usage(part)


def _decoded_usage(part: str) -> JSONValue:
    return _usual(dict, loads(part))


class _TokenIds(Dict[str, Tuple[int, ...]]):
    """The JSON of token ids, without its brackets → the ids. Remembers those of single tokens.

    Tokens repeat, and a dictionary is several times as fast as reading a number.
    """

    def __missing__(self, digits: str) -> Tuple[int, ...]:
        if not _ONE_ID.fullmatch(digits):
            value, end = scan(f"[{digits}]", 0)
            return tuple(_usual(list, value if end == len(digits) + 2 else None))
        if len(self) >= _MOST_IDS:
            self.clear()
        self[digits] = found = (int(digits),)
        return found


def _usual(expected: Type[T], value: JSONValue) -> T:
    if type(value) is expected and value:
        return value
    raise ValueError(f"not a {expected.__name__}, or empty: {value!r}")


_token_ids = _TokenIds()
# How each column is read. In the order of vLLM.
_READERS: Mapping[str, Callable[[str], _Read]] = {
    "logprobs": _logprobs_reader,
    "token_ids": lambda _: _token_ids.__getitem__,
    "usage": _usage_reader,
}


class HasUsage(Protocol):
    """Where the latest usage is kept."""

    latest_usage: Union[Usage, JsonObject, str, None]


@define(eq=False)
class Target(Generic[E]):
    """What a chunk with columns becomes.

    Args:
        event_class: The class of its event.
        pieces: The choice that its tokens belong to.
        texts: The texts of that choice.
        decoder: Keeps its usage.
    """

    event_class: Type[E]
    pieces: ChoicePieces
    texts: List[str]
    decoder: HasUsage


@define(eq=False)
class Columns(Generic[E]):
    """The columns of a chunk that was learnt."""

    match: Match[E]
    keys: List[str]
    around: List[str]
    """The JSON around the columns and their keys; another key could hide there."""


def find_columns(
    chunk: str, end: int, values: Mapping[str, JSONValue], target: Target[E]
) -> Optional[Columns[E]]:
    """Find the columns of a chunk that was parsed in full.

    Args:
        chunk: Its raw JSON.
        end: Where its text ends; vLLM sends the columns behind it.
        values: The key and the value of each column, as they were parsed. At least one.
        target: What a chunk like this one becomes.

    Returns:
        None if they are not where vLLM sends them.
    """
    keys = [name for name in _READERS if name in values]
    around: List[str] = []
    spans = [(end, end)]
    try:
        for key in keys:
            # Quotes inside a JSON string are escaped, so after a comma this can only be a key.
            around_key, opening, _ = chunk[end:].partition(f',"{key}":')
            begin = end + len(around_key) + len(opening)
            value, end = scan(chunk, begin)
            if value != values[key] or (key == "token_ids" and type(value) is not list):
                return None
            around.append(around_key)
            # The brackets of token ids belong to the JSON around them.
            inner = 1 if key == "token_ids" else 0
            spans.append((begin + inner, end - inner))
    except _FAULTS:
        return None
    between = [chunk[left[1] : right[0]] for left, right in zip(spans, spans[1:])]
    readers = [_READERS[key](chunk[slice(*span)]) for key, span in zip(keys, spans[1:])]
    numbers = [list(_READERS).index(key) for key in keys]
    match = _matcher(list(zip(numbers, readers, between)), chunk[spans[-1][1] :], target)
    return Columns(match, keys, [*around, chunk[end:]])


def _matcher(columns: List[Tuple[int, _Read, str]], after: str, target: Target[E]) -> Match[E]:
    """A function that matches chunks. ``columns``: number, reader, and the JSON before each."""
    before, (last, read_last, _) = columns[0][2], columns[-1]
    between = [(number, read, next_[2]) for (number, read, _), next_ in zip(columns, columns[1:])]
    around = len(before) + len(after)
    make_event = _event_maker(target)

    def match(text: str, chunk: str, rest: str) -> Optional[E]:
        # A wrong cut does no harm: JSON has one meaning, so if every part between pieces that are
        # known is one value, the cuts are right.
        part = rest.removeprefix(before).removesuffix(after)
        if len(rest) - len(part) != around:
            return None
        values: List[JSONValue] = [None, None, None]
        try:
            for number, read, behind in between:
                piece, _, part = part.partition(behind)
                values[number] = read(piece)
            values[last] = read_last(part)
        except _FAULTS:
            return None
        return make_event(text, chunk, values)

    return match


def _event_maker(target: Target[E]) -> Callable[[str, str, List[JSONValue]], E]:
    event_class, pieces, decoder = target.event_class, target.pieces, target.decoder
    append, add_ids = target.texts.append, pieces.token_ids.extend
    index, thinking = pieces.index, event_class is Reasoning
    new, tag = object.__new__, tag_of(event_class)

    def make_event(text: str, raw_chunk: str, values: List[JSONValue]) -> Any:
        logprobs, token_ids, usage = values
        event: Any = new(event_class)
        event.text = text
        event.index = index
        event._raw_chunk = raw_chunk
        event.type = tag
        append(text)
        pieces.thinking = thinking
        event.token_ids = None if token_ids is None else [*token_ids]
        if token_ids:
            add_ids(token_ids)
        if usage is not None:
            decoder.latest_usage = usage
        if type(logprobs) is str:
            event._logprobs_json = logprobs
        else:
            event.logprobs = logprobs
        if logprobs is not None:
            pieces.add_logprobs(logprobs)
        return event

    return make_event
