"""``heatmap()``: how likely a model found each token of a text."""

from __future__ import annotations

import difflib
from typing import Any, Callable, Iterable, Iterator, List, Mapping, Optional, Sequence

from attrs import field, frozen

from .._visible import UNTYPESET, escaped, visible
from ..types.logprobs import TokenLogprob
from ._colours import DIFFERENCE, ENTROPY, PROBABILITY, Level, Scale
from ._scored import Part, logprob_of, probability, scored, scored_text
from ._scored import entropy as entropy_of

__all__ = ["Heatmap", "Spot", "heatmap"]

# The note on a token is its title, which a browser shows at the pointer. For those who have no
# pointer, the focus shows the same below the text. A style sheet cannot be inline; where a viewer
# drops it, only the notes at the focus are missing.
_STYLE = (
    "<style>.vllm-heatmap [tabindex]:focus{outline:2px solid currentColor;outline-offset:1px}"
    ".vllm-heatmap [tabindex]:focus::after{content:attr(title);position:absolute;left:0;right:0;"
    "bottom:0;padding:.5em .7em;white-space:normal;overflow-wrap:anywhere;font:.9em/1.4 "
    "sans-serif;text-decoration:none;background:#222;color:#fff;border-radius:4px;z-index:1}"
    ".vllm-heatmap .nl::before{content:'\\21B5';opacity:.6}"
    ".vllm-heatmap .nil::before{content:'\\25AB';opacity:.6}</style>"
)
_BOX = "position:relative;padding-bottom:.3em"
_TEXT = "white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.8;unicode-bidi:isolate"
# Below the legend, however many lines it has, is room for a note.
_FOOT = "margin-top:.8em;padding-bottom:4.2em;font-size:.85em;line-height:1.9"
_ONLY_IN = {
    # Without sides, which would stand between the letters of two tokens.
    "first": "text-decoration:none;border:1px dashed currentColor;border-width:1px 0",
    "second": "text-decoration:line-through",
}
_SWATCH = "padding:.1em .4em;margin-right:.4em;white-space:nowrap;display:inline-block"


@frozen
class Spot:
    """A piece of the text of a heat map.

    Attributes:
        text: What the model wrote. All spots together are the text.
        level: Its colour; None if there is no value.
        note: What is shown at the pointer or the focus; empty if there is nothing to tell.
        value: Its probability, entropy or difference; None if there is none.
        only_in: ``"first"`` or ``"second"`` for a token that only one of two answers has.
    """

    text: str
    level: Optional[Level] = None
    note: str = ""
    value: Optional[float] = None
    only_in: Optional[str] = None


@frozen
class Heatmap:
    """A text with a colour for each token. A notebook shows it; ``html`` is for files.

    Attributes:
        spots: The pieces of the text with their values.
        title: What the colours stand for.
    """

    spots: List[Spot] = field(repr=False)
    title: str = ""
    _levels: Sequence[Level] = field(factory=list, repr=False)

    @property
    def text(self) -> str:
        """The text of the answer; of two answers that of the first."""
        return "".join(spot.text for spot in self.spots if spot.only_in != "second")

    @property
    def html(self) -> str:
        """A piece of HTML without scripts, for a light or a dark page."""
        text = "".join(_span(spot) for spot in self.spots)
        legend = "".join(
            f'<span style="{_SWATCH};{level.style}">{escaped(level.label)}</span>'
            for level in self._levels
        )
        only_in = {spot.only_in for spot in self.spots}
        legend += "".join(
            f'<span style="{_SWATCH};{style}">only in the {which}</span>'
            for which, style in _ONLY_IN.items()
            if which in only_in
        )
        return (
            f'<div class="vllm-heatmap {UNTYPESET}" style="{_BOX}">{_STYLE}'
            f'<div dir="auto" style="{_TEXT}">{text}</div>'
            f'<div style="{_FOOT}">{escaped(self.title)}: {legend}</div></div>'
        )

    def _repr_html_(self) -> str:
        return self.html

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: ARG002 — IPython's signature
        printer.text(str(self))

    def __str__(self) -> str:
        lines = [f"{spot.text!r:>20}  {spot.note.partition(chr(10))[2]}" for spot in self.spots]
        return visible("\n".join([self.title, *(line.replace("\n", "  ") for line in lines)]))


def heatmap(
    answer: Any,
    other: Any = None,
    *,
    entropy: bool = False,
    index: int = 0,
    client: Any = None,
    **fields: Any,
) -> Heatmap:
    """Colour each token of an answer: the stronger the colour, the less likely the token was.

    The note at the pointer or at the keyboard's focus has the figures and the alternatives.

    Args:
        answer: A completion, a chat completion, one of their choices, a row of a batch, a list of
            the events of a stream or of ``TokenLogprob``, a result of ``client.evaluate``, or a
            text, which needs ``client``.
        other: The same, to compare with: blue where a token is more likely in ``answer``, orange
            where it is less likely. Tokens that only ``answer`` has stand between lines, those of
            ``other`` are struck out.
        entropy: Colour by the entropy in bits of what could have stood there. It is a lower bound,
            since a server sends only the most likely alternatives.
        index: The choice of an answer that has several.
        client: A ``VllmClient`` that scores a text. It sends the text as a prompt to
            ``/v1/completions`` with ``echo``.
        **fields: Further fields of that request, such as ``model``.

    Returns:
        An object that a notebook displays; ``str()`` is a table for a terminal.

    Raises:
        ValueError: There are no log-probabilities; the message tells how to ask for them.
        TypeError: It is none of these, or ``client`` or fields do not go with it.
        VllmError: The server refused to score a text.
    """
    if other is not None and entropy:
        raise ValueError("entropy=True colours one answer; leave it out to compare two")
    answers = [answer] if other is None else [answer, other]
    parts = _parts(answers, index, client, fields)
    if len(parts) == 2:
        return _differences(*parts)
    return _entropies(parts[0]) if entropy else _probabilities(parts[0])


def _parts(
    answers: Sequence[Any], index: int, client: Any, fields: Mapping[str, Any]
) -> List[List[Part]]:
    has_text = any(isinstance(each, str) for each in answers)
    if has_text is (client is None) or (fields and client is None):
        raise TypeError(
            "a text needs client=, which goes with nothing else, and only then there are further "
            "fields: heatmap('Some text', client=client, model='m')"
        )
    return [
        scored_text(each, client, fields) if isinstance(each, str) else scored(each, index)
        for each in answers
    ]


def _probabilities(parts: Iterable[Part]) -> Heatmap:
    def value(token: TokenLogprob) -> Optional[float]:
        logprob = logprob_of(token)
        return None if logprob is None else probability(logprob)

    return _map(parts, PROBABILITY, value)


def _entropies(parts: Sequence[Part]) -> Heatmap:
    if all(part.token is None or entropy_of(part.token) is None for part in parts):
        raise ValueError(
            "entropy needs alternatives: ask for logprobs=5 (completions) or top_logprobs=5 (chat)"
        )
    return _map(parts, ENTROPY, entropy_of)


def _map(
    parts: Iterable[Part], scale: Scale, value_of: Callable[[TokenLogprob], Optional[float]]
) -> Heatmap:
    spots: List[Spot] = []
    for part in parts:
        value = None if part.token is None else value_of(part.token)
        level = None if value is None else scale.level(value)
        spots.append(Spot(part.text, level, _note(part.token), value))
    return Heatmap(spots, scale.title, scale.levels)


def _note(token: Optional[TokenLogprob]) -> str:
    """The token, its figures, and its alternatives, one on a line."""
    if token is None:
        return ""
    bits = entropy_of(token)
    more = "" if bits is None else f", entropy at least {bits:.2f} bits"
    others = [other for other in token.top_logprobs if other.token != token.token]
    # The point divides them where the note is one line.
    alternatives = [f"· {_share(logprob_of(other))}  {other.token!r}" for other in others]
    return "\n".join([repr(token.token), f"{_figures(logprob_of(token))}{more}", *alternatives])


def _figures(logprob: Optional[float]) -> str:
    if logprob is None:
        return "no probability was sent, as for the first token of a prompt"
    return f"{_share(logprob)} (log-probability {logprob:.3f})"


def _share(logprob: Optional[float]) -> str:
    return "?" if logprob is None else f"{100 * probability(logprob):.3g} %"


def _differences(first: Sequence[Part], second: Sequence[Part]) -> Heatmap:
    mine, theirs = ([part.text for part in parts] for parts in (first, second))
    matcher = difflib.SequenceMatcher(None, mine, theirs, autojunk=False)
    spots: List[Spot] = []
    for kind, start, end, begin, stop in matcher.get_opcodes():
        if kind == "equal":
            spots += map(_difference, first[start:end], second[begin:stop])
        else:
            spots += _only(second[begin:stop], "second")
            spots += _only(first[start:end], "first")
    return Heatmap(spots, DIFFERENCE.title, DIFFERENCE.levels)


def _difference(mine: Part, theirs: Part) -> Spot:
    here, there = logprob_of(mine.token), logprob_of(theirs.token)
    if here is None or there is None:
        return Spot(mine.text, None, _note(mine.token))
    value = 0.0 if here == there else here - there  # Both may be minus infinity.
    note = "\n".join(
        [
            repr(mine.text),
            f"{value:+.3f} nats: {_share(here)} here, {_share(there)} in the other",
        ]
    )
    return Spot(mine.text, DIFFERENCE.level(value), note, value)


def _only(parts: Iterable[Part], which: str) -> Iterator[Spot]:
    return (
        Spot(part.text, None, f"{_note(part.token)}\n· only in the {which}", None, which)
        for part in parts
    )


def _span(spot: Spot) -> str:
    tag = {None: "span", "first": "ins", "second": "del"}[spot.only_in]
    style = spot.level.style if spot.level else ""
    if spot.only_in:
        style = _ONLY_IN[spot.only_in]
    attributes = f' style="{style}"' if style else ""
    if spot.note:
        attributes += f' tabindex="0" title="{escaped(spot.note)}"'
    mark = "nil" if not spot.text else "nl" if spot.text.startswith("\n") else ""
    if mark:
        attributes += f' class="{mark}"'
    return f"<{tag}{attributes}>{escaped(spot.text)}</{tag}>"
