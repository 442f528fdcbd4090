"""The distributions of a load as an SVG."""

from __future__ import annotations

from typing import Dict, List, Sequence

from ._figures import LABELS, percentile

__all__ = ["chart"]

_WIDTH, _HEIGHT, _GAP = 300, 150, 60
_STYLE = """
text { font: 12px sans-serif; fill: #333 } .axis { stroke: #999; fill: none }
.curve { stroke: #0072b2; stroke-width: 2; fill: none } .mark { stroke: #d55e00 }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .curve { stroke: #56b4e9 } }
"""
_MOST_POINTS = 200


def chart(seconds: Dict[str, List[float]]) -> str:
    """An SVG with a panel for each measure: which share of the values is below how many ms."""
    panels = [_panel(name, values) for name, values in seconds.items() if values]
    rows = (len(panels) + 1) // 2
    width, height = 2 * (_WIDTH + _GAP) + _GAP, rows * (_HEIGHT + _GAP) + _GAP
    placed = [
        f'<g transform="translate({_GAP + number % 2 * (_WIDTH + _GAP)} '
        f'{_GAP // 2 + number // 2 * (_HEIGHT + _GAP)})">{panel}</g>'
        for number, panel in enumerate(panels)
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">'
    return "\n".join([head, f"<style>{_STYLE}</style>", *placed, "</svg>\n"])


def _panel(name: str, values: Sequence[float]) -> str:
    most = max(values) or 1.0
    shares = [number / _MOST_POINTS for number in range(_MOST_POINTS + 1)]
    points = " ".join(_point(percentile(values, share), share, most) for share in shares)
    marks = [_mark(label, percentile(values, share), most) for label, share in _MARKED.items()]
    title = f"{LABELS[name]}: median {1000 * percentile(values, 0.5):.1f} ms, "
    title += f"p99 {1000 * percentile(values, 0.99):.1f} ms"
    return "".join(
        [
            f'<text y="-8">{title}</text>',
            f'<path class="axis" d="M0 0V{_HEIGHT}H{_WIDTH}"/>',
            *marks,
            f'<polyline class="curve" points="{points}"/>',
            '<text x="-8" y="10" text-anchor="end">100 %</text>',
            f'<text x="-8" y="{_HEIGHT}" text-anchor="end">0 %</text>',
            f'<text y="{_HEIGHT + 16}">0</text>',
            f'<text x="{_WIDTH}" y="{_HEIGHT + 16}" text-anchor="end">{1000 * most:.1f} ms</text>',
        ]
    )


_MARKED = {"median": 0.5, "p99": 0.99}


def _point(value: float, share: float, most: float) -> str:
    return f"{_WIDTH * value / most:.1f},{_HEIGHT * (1 - share):.1f}"


def _mark(label: str, value: float, most: float) -> str:
    x = f"{_WIDTH * value / most:.1f}"
    return f'<path class="mark" d="M{x} 0V{_HEIGHT}"><title>{label}</title></path>'
