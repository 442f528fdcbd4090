"""When the rows of a run are written to its file."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any, List

from ..recorded import answer
from ..servers import Connection, Serve
from ..threads import WAIT, Running, Tally, wait_until
from .answering import Answering, status


def test_a_finished_row_does_not_wait_for_a_retry(serve: Serve, output: Path) -> None:
    """A row is written before the run waits, also if what arrived behind it is tried again."""
    received, refused = Tally(), Tally()
    go, one_is_sent, release = threading.Event(), threading.Event(), threading.Event()
    refusal = status("503 Service Unavailable")

    def first(connection: Connection) -> None:
        received.wait(5)
        connection.send_json(answer("<0>"))

    def second(connection: Connection) -> None:
        received.add()
        go.wait(WAIT)
        connection.send_json(answer("<1>"))
        one_is_sent.set()

    def busy(connection: Connection) -> None:
        received.add()
        one_is_sent.wait(WAIT)
        refusal(connection)
        refused.add()

    def held(connection: Connection) -> None:
        release.wait(3 * WAIT)
        connection.send_json(answer("late"))

    def progress(_: object) -> None:
        go.set()  # What follows arrives while the thread of the run is here.
        refused.wait(4)

    def written() -> List[Any]:
        return [json.loads(line)["custom_id"] for line in output.read_bytes().splitlines()]

    others = {str(number): [busy, held] for number in range(2, 6)}
    batch = serve(handler=Answering({"0": [first], "1": [second], **others})).client.batch
    running = Running(lambda: batch.run(map(str, range(6)), output, progress=progress))
    assert wait_until(lambda: output.exists() and sorted(written()) == ["0", "1"])
    release.set()
    assert running.result().failed == 0
