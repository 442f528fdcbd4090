"""The functions in which our client spends its time: ``python -m benchmarks.children.hot_path``.

Samples the innermost Python function after every millisecond of CPU time. The time of C functions
that it calls, such as the JSON scanner or ``recv``, counts as its own.
"""

from __future__ import annotations

import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Counter as Counts
from typing import List, Optional

from .. import clients
from ..processes import in_process, server
from ..recorded_streams import COMPLETIONS

_SHOWN = 16


def sampled(name: str, address: str, mode: str, events: int) -> List[List[object]]:
    """Return the functions and their shares, largest first. Runs in the client's process."""
    counts: Counts[str] = Counter()

    def sample(_: int, frame: Optional[FrameType]) -> None:
        if frame is not None:
            code = frame.f_code
            counts[f"{Path(code.co_filename).name}:{code.co_firstlineno} {code.co_name}"] += 1

    clients.read(name, f"{address}/burst/200/v1", COMPLETIONS, len)
    signal.signal(signal.SIGPROF, sample)
    signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)
    gap = "" if mode == "burst" else "/0"
    clients.read(name, f"{address}/{mode}/{events}{gap}/v1", COMPLETIONS, len)
    signal.setitimer(signal.ITIMER_PROF, 0)
    total = sum(counts.values())
    return [[place, count / total] for place, count in counts.most_common(_SHOWN)]


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else clients.OURS
    with server() as address:
        for mode, events in (("burst", 200_000), ("alone", 30_000)):
            print(f"{name}, {mode}:")
            function = "children.hot_path:sampled"
            shares = in_process(function, name=name, address=address, mode=mode, events=events)
            for place, share in shares:
                print(f"  {share:6.1%}  {place}")


if __name__ == "__main__":
    main()
