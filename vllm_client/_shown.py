"""How objects show themselves: ``repr``, and what IPython and rich ask for, in one line or a table.

An object shows the fields that say something: none that is None, empty or at its default. Texts
and lists are shortened, and log-probabilities are counted.
"""

from __future__ import annotations

import functools
import reprlib
from typing import (
    Any,
    Callable,
    Dict,
    Hashable,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Sized,
    Tuple,
    TypeVar,
    cast,
)

import attrs

__all__ = ["Brief", "Items", "fields_of", "figure", "joined", "shown"]

_C = TypeVar("_C", bound=type)

Items = Iterable[Tuple[str, Any]]
"""Names and values. What has no name is shown alone."""

_LONGEST_TEXT = 80
"""Characters of a text; a longer one loses its middle."""
_LONGEST_LIST = 6
_LONGEST_LIST_OF_OBJECTS = 3
_LARGEST_TABLE = 20
_LONGEST_CELL = 500
_COUNTED = frozenset({"logprobs", "prompt_logprobs", "top_logprobs"})


class Brief:
    """A text that stands for a value, without quotation marks."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def figure(value: Optional[float], digits: int = 3) -> Optional[Brief]:
    """A measured number with few digits; None for None."""
    if value is None:
        return None
    return Brief(f"{value:.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}")


def fields_of(shown: object) -> Iterator[Tuple[str, Any]]:
    """The fields of an instance of an attrs class, but for those with ``repr=False``."""
    for name, default in _fields(cast("Hashable", type(shown))):
        value = getattr(shown, name)
        if value is not default and not _is_empty(value, default):
            yield name, value


def joined(shown: object, inner: str) -> Iterator[Tuple[str, Any]]:
    """As :func:`fields_of`, but the field ``inner`` is replaced by the fields of its object."""
    for name, value in fields_of(shown):
        if name == inner:
            yield from fields_of(value)
        else:
            yield name, value


@functools.cache
def _fields(cls: Hashable) -> List[Tuple[str, object]]:
    return [(each.name, each.default) for each in attrs.fields(cast("type", cls)) if each.repr]


def _is_empty(value: object, default: object) -> bool:
    if isinstance(value, (str, int, float)):
        return bool(value == default)
    return value is None or (isinstance(value, (list, dict)) and not value)


def shown(cls: _C) -> _C:
    """Let the instances of a class show themselves.

    They show what the method ``_shown_items`` of the class yields; without it, their fields. A
    class with ``_shown_rows`` is a table in a notebook if this yields the items of several rows.
    """
    methods: Dict[str, Callable[..., Any]] = {
        "__repr__": _repr,
        "__rich_repr__": _rich_repr,
        "_repr_pretty_": _repr_pretty,
    }
    if hasattr(cls, "_shown_rows"):
        methods["_repr_html_"] = _repr_html
    for name, method in methods.items():
        setattr(cls, name, method)
    return cls


def _items(shown: Any) -> Iterator[Tuple[str, Any]]:
    items: Callable[[], Items] = getattr(shown, "_shown_items", None) or (lambda: fields_of(shown))
    for name, value in items():
        if value is not None:
            yield name, _brief(name, value)


def _brief(name: str, value: Any) -> Any:
    """The value itself if it shows itself briefly, or what stands for it."""
    if name in _COUNTED:
        return _counted(value)
    if isinstance(value, list) and value and _shows_itself(value[0]):
        rest = len(value) - _LONGEST_LIST_OF_OBJECTS
        return value if rest <= 0 else [*value[:_LONGEST_LIST_OF_OBJECTS], Brief(f"… {rest} more")]
    return value if _shows_itself(value) else Brief(_SHORT.repr(value))


def _shows_itself(value: object) -> bool:
    return isinstance(value, (Brief, BaseException)) or type(value).__repr__ is _repr


def _counted(logprobs: Any) -> Brief:
    tokens = logprobs
    if isinstance(logprobs, Mapping):
        tokens = logprobs.get("tokens") or logprobs.get("content") or ()
    if not isinstance(tokens, Sized):  # A gateway's own idea of log-probabilities.
        return Brief(_SHORT.repr(logprobs))
    return Brief(f"<{len(tokens)} token{'' if len(tokens) == 1 else 's'}>")


class _Short(reprlib.Repr):
    """The repr of a value, with its middle or its end left out if it is long."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxlist = self.maxtuple = self.maxdict = _LONGEST_LIST
        self.maxother = _LONGEST_TEXT

    def repr_str(self, x: str, level: int) -> str:  # noqa: ARG002 — of the base class
        if len(x) <= _LONGEST_TEXT:
            return repr(x)
        half = _LONGEST_TEXT // 2
        return f"{x[:half]!r}…{x[-half // 2 :]!r}"

    def repr_list(self, x: List[Any], level: int) -> str:
        if len(x) <= self.maxlist or not isinstance(x[0], (int, float)):
            return super().repr_list(x, level)
        first = ", ".join(map(repr, x[: self.maxlist]))
        return f"[{first}, … {len(x) - self.maxlist} more]"


_SHORT = _Short()


def _repr(self: object) -> str:
    items = [f"{name}={value!r}" if name else repr(value) for name, value in _items(self)]
    return f"{type(self).__name__}({', '.join(items)})"


def _rich_repr(self: object) -> Iterator[Any]:
    for name, value in _items(self):
        yield (name, value) if name else value


def _repr_pretty(self: object, printer: Any, cycle: bool) -> None:
    # Only IPython calls it, whose printer breaks the line where it must.
    del cycle  # None of these classes can contain itself.
    opening = f"{type(self).__name__}("
    with printer.group(len(opening), opening, ")"):
        for number, (name, value) in enumerate(_items(self)):
            if number:
                printer.text(",")
                printer.breakable()
            printer.text(f"{name}=" if name else "")
            printer.pretty(value)


def _repr_html(self: Any) -> Optional[str]:
    """A table; None if it has less than two rows, and the notebook shows the text."""
    rows: List[Items] = list(self._shown_rows())
    if len(rows) < 2:
        return None
    table = [dict(row) for row in rows[:_LARGEST_TABLE]]
    names = list(dict.fromkeys(name for row in table for name in row))
    lines = [_table_row("th", names)]
    lines += [_table_row("td", [_cell(name, row.get(name)) for name in names]) for row in table]
    rest = len(rows) - len(table)
    more = f"<p>… {rest} more</p>" if rest > 0 else ""
    # Imported here because only a notebook needs it.
    from ._visible import UNTYPESET  # noqa: PLC0415

    return f'<table class="{UNTYPESET}">{"".join(lines)}</table>{more}'


def _cell(name: str, value: object) -> str:
    if isinstance(value, str):
        return value if len(value) <= _LONGEST_CELL else f"{value[:_LONGEST_CELL]}…"
    return "" if value is None else repr(_brief(name, value))


def _table_row(tag: str, texts: Iterable[str]) -> str:
    from ._visible import escaped  # noqa: PLC0415

    # Notebooks align cells on the right, which nobody can read if a text has several lines.
    style = "text-align:left;white-space:pre-wrap"
    cells = "".join(f'<{tag} style="{style}">{escaped(text)}</{tag}>' for text in texts)
    return f"<tr>{cells}</tr>"
