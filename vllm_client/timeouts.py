"""How long a call may take."""

from __future__ import annotations

from typing import Any, Optional, Tuple, Union

from attrs import field, frozen


def _check_limit(_: Any, attribute: Any, value: Any) -> None:
    if value is None:
        return
    # bool is an int, and Timeout(connect=True) is a slip of the pen.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e9:
        raise ValueError(
            f"{attribute.name} has to be a number of seconds above 0, or None for no limit; "
            f"it is {value!r}"
        )


@frozen
class Timeout:
    """Limits of one call, in seconds; None means no limit.

    Args:
        connect: To open a connection.
        read: The longest silence on the wire. Nothing comes before the first token, so it has to
            allow for queueing; keep-alive comments count as life.
        total: The whole call: every attempt, the pauses between them, and reading to the end.
            The only limit that ends a request which waits in a queue that sends keep-alives.
    """

    connect: Optional[float] = field(default=5.0, validator=_check_limit)
    read: Optional[float] = field(default=600.0, validator=_check_limit)
    total: Optional[float] = field(default=None, validator=_check_limit)

    @classmethod
    def of(cls, value: TimeoutTypes) -> Timeout:
        """A ``Timeout`` from what a ``timeout`` argument may be.

        A number limits connecting and each silence, as in requests; a pair is ``(connect, read)``;
        None lifts every limit.
        """
        if isinstance(value, Timeout):
            return value
        if isinstance(value, (tuple, list)):
            if len(value) != 2:
                raise ValueError(f"a timeout pair is (connect, read), not {value!r}")
            return cls(value[0], value[1])
        return cls(value, value)


TimeoutTypes = Union[None, float, Tuple[Optional[float], Optional[float]], Timeout]
"""What a ``timeout`` argument may be."""
