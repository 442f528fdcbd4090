"""How many requests may be in flight: slow start, additive increase, multiplicative decrease.

Pure: no clock, no threads. As in TCP, the limit grows while nothing is rejected and shrinks at
most once a round trip, because all requests of one burst are rejected for the same reason.
"""

from __future__ import annotations

_FIRST = 32
_DECREASE = 0.7


class ConcurrencyLimit:
    """The limit of one run.

    Args:
        ceiling: The largest limit, 1 or more.
        adaptive: Whether rejections lower the limit; without, it is always the ceiling.

    Attributes:
        current: How many requests may be in flight now.
        rejections: How often the server was too busy.
    """

    def __init__(self, ceiling: int, *, adaptive: bool = True) -> None:
        self.current = min(ceiling, _FIRST) if adaptive else ceiling
        self.rejections = 0
        self._ceiling = ceiling
        self._adaptive = adaptive
        self._was_rejected = False  # Until then the limit doubles with each window of answers.
        self._answered = 0
        self._lowered_at = float("-inf")

    def lower_ceiling(self, ceiling: int) -> None:
        """Never allow more than this, 1 or more, from now on."""
        self._ceiling = min(self._ceiling, ceiling)
        self.current = min(self.current, self._ceiling)

    def on_answer(self, sent_at: float) -> None:
        """A request was answered. ``sent_at`` is when it was sent, in seconds of any clock."""
        if self.current >= self._ceiling or sent_at < self._lowered_at:
            return  # An answer from before the last decrease says nothing about the limit now.
        self._answered += 1
        if self._answered < self.current:
            return
        self._answered = 0
        grown = self.current + 1 if self._was_rejected else self.current * 2
        self.current = min(grown, self._ceiling)

    def on_rejection(self, sent_at: float, now: float) -> None:
        """The server rejected a request because it is too busy.

        Args:
            sent_at: When the request was sent.
            now: When the rejection arrived, by the same clock.
        """
        self.rejections += 1
        self._answered = 0
        self._was_rejected = True
        if not self._adaptive or sent_at < self._lowered_at:
            return
        self.current = max(int(self.current * _DECREASE), 1)
        self._lowered_at = now
