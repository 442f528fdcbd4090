"""The colours of a heat map, for pages of any colour and readers of any eyes.

A colour is a hue and how much of it lies over the page. The text keeps the colour of the page, so
one map serves light and dark pages. Orange and blue are told apart by every kind of colour-blind
reader (Okabe and Ito), and each level has an underline of its own, which needs no colour at all.
"""

from __future__ import annotations

from typing import List, Sequence, Tuple

from attrs import frozen

__all__ = ["Level", "Scale"]

ORANGE = (230, 159, 0)
BLUE = (0, 114, 178)
_STEPS = (0.0, 0.1, 0.17, 0.24, 0.31, 0.38)
"""How much of the hue lies over the page. With more, text on a dark page is hard to read."""
_LINES = ("", "", "dotted 1px", "dashed 1px", "solid 1px", "double 3px")


@frozen
class Level:
    """One step of a scale.

    Attributes:
        label: Which values it stands for.
        colour: Red, green, blue, each from 0 to 255.
        opacity: How much of the colour lies over the page, from 0 to 1.
        line: The underline, in the words of CSS; may be empty.
        over: Whether the line is above the text.
    """

    label: str
    colour: Tuple[int, int, int] = ORANGE
    opacity: float = 0.0
    line: str = ""
    over: bool = False

    @property
    def style(self) -> str:
        """The level as an inline style."""
        parts: List[str] = []
        if self.opacity:
            red, green, blue = self.colour
            parts.append(f"background-color:rgba({red},{green},{blue},{self.opacity})")
        if self.line:
            side = "overline" if self.over else "underline"
            parts.append(f"text-decoration:{side} {self.line}")
        return ";".join(parts)


@frozen
class Scale:
    """Values and the levels between them.

    Attributes:
        title: What the values are.
        bounds: Ascending. A value below the first has the first level, and so on.
        levels: One more than there are bounds.
    """

    title: str
    bounds: Sequence[float]
    levels: Sequence[Level]

    def level(self, value: float) -> Level:
        """The level of a value."""
        return self.levels[sum(value >= bound for bound in self.bounds)]


def _levels(labels: Sequence[str], colour: Tuple[int, int, int], over: bool) -> List[Level]:
    steps = zip(labels, _STEPS, _LINES)
    return [Level(label, colour, opacity, line, over) for label, opacity, line in steps]


_SHARES = ("≥ 90 %", "50–90 %", "20–50 %", "5–20 %", "1–5 %", "< 1 %")
_BITS = ("< 0.25 bit", "0.25–0.5", "0.5–1", "1–2", "2–3", "≥ 3 bits")
_LESS = ("", "−0.1 to −0.5", "−0.5 to −1", "−1 to −2", "−2 to −4", "−4 nats or less")
_MORE = ("", "+0.1 to +0.5", "+0.5 to +1", "+1 to +2", "+2 to +4", "+4 nats or more")
_NATS = (0.1, 0.5, 1.0, 2.0, 4.0)

PROBABILITY = Scale(
    "probability of the token",
    (0.01, 0.05, 0.2, 0.5, 0.9),
    _levels(_SHARES, ORANGE, over=False)[::-1],
)
ENTROPY = Scale(
    "entropy at the token",
    (0.25, 0.5, 1.0, 2.0, 3.0),
    _levels(_BITS, ORANGE, over=False),
)
DIFFERENCE = Scale(
    "difference to the other answer",
    [-bound for bound in reversed(_NATS)] + list(_NATS),
    [
        *reversed(_levels(_LESS, ORANGE, over=False)[1:]),
        Level("equal to 0.1 nat"),
        *_levels(_MORE, BLUE, over=True)[1:],
    ],
)
