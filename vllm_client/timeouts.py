"""How long a call may take."""

from __future__ import annotations

from typing import Optional, Tuple, TypeVar, Union

from attrs import Attribute, field, frozen

__all__ = ["Timeout", "TimeoutTypes"]

_T = TypeVar("_T")


def _check_limit(_: object, attribute: Attribute[_T], value: _T) -> None:
    check_seconds(attribute.name, value)


def check_seconds(name: str, value: object) -> None:
    """Refuse what is no time limit.

    Raises:
        ValueError: It is neither None nor a number above 0.
    """
    if value is None:
        return
    # bool is an int, so Timeout(connect=True) would pass as 1 second: refuse it.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e9:
        raise ValueError(
            f"{name} must be a number of seconds above 0, or None for no limit, not {value!r}"
        )


@frozen
class Timeout:
    """The time limits of one call, in seconds. None means no limit.

    Args:
        connect: Time to open a connection.
        read: Longest wait for more data. The server sends nothing before the first token, so
            allow for time in the queue. Until the first event a keep-alive comment restarts this
            limit; after it only events do.
        total: Time for the whole call: every attempt, the pauses between attempts, and reading
            to the end. If the server sends keep-alive comments while the request waits in its
            queue, only this limit ends the wait.
    """

    connect: Optional[float] = field(default=5.0, validator=_check_limit)
    read: Optional[float] = field(default=600.0, validator=_check_limit)
    total: Optional[float] = field(default=None, validator=_check_limit)

    @classmethod
    def of(cls, value: TimeoutTypes) -> Timeout:
        """Convert the value of a ``timeout`` argument to a ``Timeout``.

        As in requests, a number limits both connecting and each wait for data, and a pair is
        ``(connect, read)``. None removes every limit.

        Raises:
            ValueError: A limit is not a number above 0, or a tuple is not a pair.
        """
        if isinstance(value, Timeout):
            return value
        if isinstance(value, (tuple, list)):
            if len(value) != 2:
                raise ValueError(f"a timeout tuple must be a pair (connect, read), not {value!r}")
            return cls(value[0], value[1])
        # Checked here so that the message names the argument; the validators name `connect`.
        check_seconds("timeout", value)
        return cls(value, value)


TimeoutTypes = Union[None, float, Tuple[Optional[float], Optional[float]], Timeout]
"""What a ``timeout`` argument accepts: seconds, ``(connect, read)``, a ``Timeout`` or None."""
