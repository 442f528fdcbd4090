"""sseclient-py as the reader of the fields of SSE events that are known to be complete.

Hot path, measured, see docs/performance.md: a subclass bypasses the search of sseclient-py for the
ends of events, which have been found already, and its log, which at DEBUG takes several times as
long as the rest. ``ENABLED = False`` uses sseclient-py unchanged; tests compare the two.
"""

from __future__ import annotations

from itertools import chain
from typing import Iterable, Iterator, List

import sseclient

if not hasattr(sseclient.SSEClient, "events"):
    raise ImportError(
        "the module 'sseclient' belongs to another distribution than sseclient-py: "
        "pip uninstall sseclient, then pip install --force-reinstall sseclient-py"
    )

ENABLED = "_read" in sseclient.SSEClient.events.__code__.co_names
"""False also for a release of sseclient-py that reads by a method of another name."""


class _SilentLogger:
    debug = staticmethod(lambda *_: None)


class _CompleteEvents(sseclient.SSEClient):
    """Overrides the private ``_read``, which yields the bytes of one event at a time."""

    def __init__(self, events: Iterator[bytes]) -> None:
        super().__init__(events)
        self._complete_events = events
        self._logger = _SilentLogger

    def _read(self) -> Iterator[bytes]:
        return self._complete_events


def fields_of(arrivals: Iterable[List[bytes]]) -> Iterator[sseclient.Event]:
    """The sseclient event of each SSE event. Some have no data.

    Args:
        arrivals: Complete events, as many as arrived together, without the blank lines that end
            them.

    Raises:
        UnicodeDecodeError: An event is not UTF-8.
    """
    events = chain.from_iterable(arrivals)
    if ENABLED:
        return _CompleteEvents(events).events()
    return sseclient.SSEClient(event + b"\n\n" for event in events).events()
