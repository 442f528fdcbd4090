"""Where the lines of rows are, in eight bytes a row."""

from __future__ import annotations

from array import array
from typing import Iterator


class LinePlaces:
    """The places of lines by row number, whatever the order in which they are noted."""

    def __init__(self) -> None:
        self._by_row = array("Q")  # The place and 1; 0 where there is none.
        self._others = array("Q")

    def add(self, row: int, place: int) -> None:
        """Note where the line of a row is; a negative number is that of no row."""
        missing = row + 1 - len(self._by_row)
        if missing > 0:
            self._by_row.frombytes(bytes(8 * missing))
        if row < 0 or self._by_row[row]:
            self._others.append(place)
        else:
            self._by_row[row] = place + 1

    def __iter__(self) -> Iterator[int]:
        """The places: first of lines without a row of their own, as noted, then those of rows."""
        yield from self._others
        for place in self._by_row:
            if place:
                yield place - 1
