"""sseclient-py as the reader of the fields of events that are known to be whole.

A shortcut past its search for the ends of events, which have been found, and past its log, which
at DEBUG takes several times as long as the rest. ``ENABLED = False`` leaves sseclient-py as it is;
tests hold the two against each other.
"""

from __future__ import annotations

from itertools import chain
from typing import Any, Iterable, Iterator, List

import sseclient

if not hasattr(sseclient.SSEClient, "events"):
    raise ImportError(
        "the module 'sseclient' is not that of sseclient-py but of another distribution: "
        "pip uninstall sseclient, then pip install --force-reinstall sseclient-py"
    )

ENABLED = "_read" in sseclient.SSEClient.events.__code__.co_names
"""False where a release of sseclient-py reads by another name."""


class _Silent:
    debug = staticmethod(lambda *_: None)


class _WholeEvents(sseclient.SSEClient):
    def __init__(self, events: Iterator[bytes]) -> None:
        super().__init__(events)
        self._whole = events
        self._logger = _Silent

    def _read(self) -> Iterator[bytes]:
        return self._whole


def fields_of(arrivals: Iterable[List[bytes]]) -> Iterator[Any]:
    """The sseclient event of each event, some of them without data.

    Args:
        arrivals: Whole events, as many as came at a time, without the blank lines that end them.

    Raises:
        UnicodeDecodeError: An event is not UTF-8.
    """
    events = chain.from_iterable(arrivals)
    if ENABLED:
        return _WholeEvents(events).events()
    return sseclient.SSEClient(event + b"\n\n" for event in events).events()
