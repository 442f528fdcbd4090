"""What a browser makes of a piece of HTML, and how well it can be read."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any, Dict, List, Tuple

PAGES = {
    "white": ((255, 255, 255), (33, 33, 33)),
    "JupyterLab dark": ((17, 17, 17), (224, 224, 224)),
    "VS Code dark": ((30, 30, 30), (204, 204, 204)),
    "Colab dark": ((56, 56, 56), (227, 227, 227)),
}
"""Background and text of the pages that notebooks are shown on."""
_ALLOWED = {"b", "del", "details", "div", "ins", "pre", "section", "span", "style", "summary"}
_ALLOWED |= {"table", "tbody", "td", "th", "thead", "tr"}


class Page(HTMLParser):
    """The elements and the text of a piece of HTML.

    Attributes:
        elements: Tag and attributes of each element.
        texts: The text inside each of them, as parallel list, without that of elements in it.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: List[Tuple[str, Dict[str, Any]]] = []
        self.texts: List[str] = []
        self._open: List[int] = []
        self.feed(html)
        self.close()
        assert self._open == [], "an element is not closed"

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._open.append(len(self.elements))
        self.elements.append((tag, dict(attrs)))
        self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self._open.pop()][0] == tag

    def handle_data(self, data: str) -> None:
        self.texts[self._open[-1]] += data

    def tokens(self) -> List[Tuple[str, Dict[str, Any], str]]:
        """The elements of the first text of a heat map."""
        start = next(n for n, (_, at) in enumerate(self.elements) if at.get("dir") == "auto") + 1
        found = []
        for (tag, attributes), text in zip(self.elements[start:], self.texts[start:]):
            if tag == "div":
                break
            found.append((tag, attributes, text))
        return found


def check_harmless(html: str) -> Page:
    """Fail if the HTML has an element, a script, or an address that we did not write."""
    page = Page(html)
    assert {tag for tag, _ in page.elements} <= _ALLOWED
    for _, attributes in page.elements:
        assert set(attributes) <= {"class", "style", "dir", "tabindex", "title", "role", "scope"}
        assert "url(" not in attributes.get("style", "")
    return page


def contrast(style: str, page: str) -> float:
    """The contrast of text with this style, as WCAG 2 defines it; 4.5 is well readable."""
    background, text = PAGES[page]
    found = re.search(r"rgba\((\d+),(\d+),(\d+),([\d.]+)\)", style)
    if found:
        share = float(found[4])
        hue = [int(found[n]) for n in (1, 2, 3)]
        background = tuple(share * h + (1 - share) * b for h, b in zip(hue, background))  # type: ignore[assignment]
    lighter, darker = sorted((_luminance(background), _luminance(text)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: Any) -> float:
    linear = [
        c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4
        for c in (part / 255 for part in colour)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
