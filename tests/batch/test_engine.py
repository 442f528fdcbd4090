"""``client.batch.completions`` and ``.chat``: order, limits, retries, and how a run ends."""

from __future__ import annotations

import gc
import itertools
import sqlite3
import threading
import time
from typing import Any, Iterator, List

import pytest

from vllm_client import (
    APIConnectionError,
    APITimeoutError,
    BadRequestError,
    BatchInputError,
    BatchStoppedError,
    InvalidResponseError,
    RateLimitError,
    StreamConsumedError,
)
from vllm_client.batch import BatchProgress, _engine

from ..recorded import answer
from ..servers import Connection, Serve
from ..threads import Running
from .answering import Answering, broken, status

BUSY = status("503 Service Unavailable", "queue full")


def texts(rows: Any) -> List[str]:
    return [row.text for row in rows]


def test_rows_in_order(serve: Serve) -> None:
    """Every prompt is sent once, and the rows come in the order of the input."""
    server = Answering()
    served = serve(handler=server)
    prompts = [f"p{number}" for number in range(200)]
    rows = list(served.client.batch.completions(prompts, max_tokens=4, timeout=20))
    assert texts(rows) == [f"<{prompt}>" for prompt in prompts]
    assert [row.index for row in rows] == list(range(200))
    assert all(row.ok and row.error is None and row.attempts == 1 for row in rows)
    assert set(server.asked.values()) == {1}
    assert served.requests[0].json["max_tokens"] == 4
    assert rows[0].usage is not None
    assert rows[0].usage.total_tokens == 3
    assert rows[0].duration > 0


def test_rows_as_they_finish(serve: Serve) -> None:
    """With ordered=False a slow row does not hold the others back."""
    server = Answering()
    release = threading.Event()

    def slow(connection: Connection) -> None:
        release.wait(10)
        connection.send_json(answer("slow"))

    server.outcomes = {"p0": [slow]}
    client = serve(handler=server).client
    with client.batch.completions([f"p{n}" for n in range(9)], ordered=False) as rows:
        first = [next(rows).index for _ in range(8)]
        release.set()
        last = next(rows)
    assert sorted(first) == list(range(1, 9))
    assert (last.index, last.text) == (0, "slow")


def test_chat(serve: Serve) -> None:
    """Conversations are continued; rows may carry their own id."""
    served = serve(handler=Answering())
    rows = list(served.client.batch.chat([("a", "hi"), [{"role": "user", "content": "ho"}]]))
    assert [(row.custom_id, row.text) for row in rows] == [("a", "<hi>"), ("1", "<ho>")]
    assert served.requests[0].path == "/v1/chat/completions"


def test_no_more_in_flight_than_asked_for(serve: Serve) -> None:
    """At most max_concurrency requests are in flight; the input is read no further ahead."""
    server = Answering()
    server.hold.clear()
    read: List[int] = []

    def prompts() -> Iterator[str]:
        for number in range(50):
            read.append(number)
            yield f"p{number}"

    client = serve(handler=server).client
    rows = client.batch.completions(prompts(), max_concurrency=5)
    reader = Running(lambda: list(rows))
    assert server.wait_asked(5)
    assert len(read) == 5
    server.hold.set()
    assert len(reader.result()) == 50
    assert server.most_at_once == 5


def test_endless_input(serve: Serve) -> None:
    """An endless input may be broken off; nothing is left running."""
    server = Answering()
    client = serve(handler=server).client
    prompts = map(str, itertools.count())
    with client.batch.completions(prompts, max_concurrency=4, ordered=False) as rows:
        taken = list(itertools.islice(rows, 10))
    assert all(row.text == f"<{row.index}>" for row in taken)
    assert sum(server.asked.values()) <= 14


def test_input_is_read_in_the_thread_that_iterates(serve: Serve) -> None:
    """A cursor that is tied to its thread works as an input."""
    database = sqlite3.connect(":memory:")
    cursor = database.execute("select 'a' union select 'b'")
    rows = serve(handler=Answering()).client.batch.completions(text for (text,) in cursor)
    assert texts(rows) == ["<a>", "<b>"]
    database.close()


def test_failed_row_does_not_end_the_run(serve: Serve) -> None:
    """A row that the server refuses, and one that cannot be sent, are rows with an error."""
    server = Answering({"bad": [status("400 Bad Request", "too long")]})
    client = serve(handler=server).client
    first, second, third, fourth = client.batch.completions(["a", "bad", 5, "b"])
    assert (first.ok, fourth.ok) == (True, True)
    assert isinstance(second.error, BadRequestError)
    assert (second.text, second.usage, second.response, second.attempts) == ("", None, None, 1)
    assert isinstance(third.error, BatchInputError)
    assert third.attempts == 0
    assert server.asked["bad"] == 1


@pytest.mark.parametrize("line", ["500 Oops", "408 Timeout"])
def test_retries(serve: Serve, line: str) -> None:
    """A failure that may pass is tried again, as often as the client retries."""
    outcomes = {"a": [status(line)] * 2, "b": [status(line)] * 3}
    server = Answering({key: list(value) for key, value in outcomes.items()})
    client = serve(handler=server, max_retries=2).client
    rows = client.batch.completions(["a", "b"])
    first, second = rows
    assert (first.text, first.attempts) == ("<a>", 3)
    assert (second.ok, second.attempts) == (False, 3)
    assert rows.report().retries == 4


def test_incomplete_response_is_no_success(serve: Serve) -> None:
    """A response without its finish reason is a failed row; an aborted one is sent again."""

    def incomplete(connection: Connection) -> None:
        connection.send_json({**answer("half"), "choices": [{"index": 0, "text": "half"}]})

    def aborted(connection: Connection) -> None:
        connection.send_json(answer("half", finish="abort"))

    server = Answering({"a": [incomplete], "b": [aborted]})
    first, second = serve(handler=server).client.batch.completions(["a", "b"])
    assert isinstance(first.error, InvalidResponseError)
    assert (second.text, second.attempts) == ("<b>", 2)


def test_busy_server_uses_up_no_attempts(serve: Serve) -> None:
    """Rows that a busy server rejects are sent again, and the limit falls."""
    server = Answering({"p3": [BUSY] * 9, "p4": [status("429 Too Many Requests")] * 2})
    client = serve(handler=server, max_retries=0).client
    rows = client.batch.completions([f"p{n}" for n in range(40)], ordered=False)
    assert all(row.ok and row.attempts == 1 for row in rows)
    report = rows.report()
    assert (report.rejections, report.done, report.failed) == (11, 40, 0)
    assert server.asked["p3"] == 10


def test_row_that_is_always_rejected(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that a busy server rejects while others succeed fails in the end."""
    monkeypatch.setattr(_engine, "_MOST_REJECTIONS", 5)
    server = Answering({"bad": [BUSY] * 99})
    client = serve(handler=server).client
    row, _ = client.batch.completions(["bad", "a"])
    assert row.error is not None
    assert "queue full" in str(row.error)
    assert server.asked["bad"] == 5


def test_server_that_stays_busy(serve: Serve) -> None:
    """When a server rejects everything for longer than patience, the rows fail."""
    server = Answering({"a": [BUSY] * 99, "b": [BUSY] * 99})
    client = serve(handler=server).client
    assert not any(row.ok for row in client.batch.completions(["a", "b"], patience=0))


def test_retry_after_pauses_everybody(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry-After of one row pauses the others too."""
    monkeypatch.setattr(_engine, "_LONGEST_RETRY_AFTER", 0.05)
    waits: List[Any] = []
    seconds_to_wait = _engine.Engine._seconds_to_wait

    def noted(engine: Any) -> Any:
        waits.append(seconds_to_wait(engine))
        return waits[-1]

    monkeypatch.setattr(_engine.Engine, "_seconds_to_wait", noted)
    later = status("429 Too Many Requests", headers="retry-after: 7\r\n")
    client = serve(handler=Answering({"a": [later]})).client
    rows = client.batch.completions(["a", "b", "c"], max_concurrency=1)
    assert all(row.ok for row in rows)
    assert max(wait or 0.0 for wait in waits) > 0.02


def test_broken_connection_of_a_row(serve: Serve) -> None:
    """A broken connection counts against the row only if the server is there."""
    server = Answering({"a": [broken] * 2, "b": [broken] * 9})
    client = serve(handler=server, max_retries=3).client
    first, second = client.batch.completions(["a", "b"], max_concurrency=1)
    assert (first.text, first.attempts > 1) == ("<a>", True)
    assert isinstance(second.error, APIConnectionError)
    assert second.attempts == 4
    assert 4 <= server.asked["b"] <= 8  # A reused connection that breaks is replaced at once.


@pytest.mark.parametrize("outcome", [broken, status("502 Bad Gateway")])
def test_server_that_is_away_for_a_while(serve: Serve, outcome: Any) -> None:
    """While the server is away nothing is sent, and no attempts are used up."""
    server = Answering({"p0": [outcome], "p1": [outcome]})
    server.health = [status("503 Service Unavailable")] * 4
    client = serve(handler=server, max_retries=0).client
    rows = list(client.batch.completions([f"p{n}" for n in range(12)], max_concurrency=2))
    assert all(row.ok for row in rows)
    assert server.probes >= 5


def test_server_that_does_not_come_back(serve: Serve) -> None:
    """A server that is away for longer than patience ends the run with its last error."""
    server = Answering({"a": [broken] * 2})
    server.health = [broken] * 99
    client = serve(handler=server).client
    rows = client.batch.completions(["a", "b"], patience=0, max_concurrency=1)
    with pytest.raises(BatchStoppedError, match="away for 0 s") as raised:
        list(rows)
    assert isinstance(raised.value.__cause__, APIConnectionError)


def test_gateway_without_a_health_route(serve: Serve) -> None:
    """A gateway that refuses /health is there; the row is to blame."""
    server = Answering({"a": [broken] * 4})
    server.health = [status("404 Not Found")] * 9
    client = serve(handler=server, max_retries=1).client
    (row,) = client.batch.completions(["a"])
    assert isinstance(row.error, APIConnectionError)


def test_first_rows_all_refused(serve: Serve) -> None:
    """When the first rows are all refused in the same way, the run ends."""
    refused = status("404 Not Found", "The model `x` does not exist.")
    server = Answering({f"p{n}": [refused] for n in range(99)})
    client = serve(handler=server).client
    rows = client.batch.completions([f"p{n}" for n in range(99)], max_concurrency=1)
    seen = []
    with pytest.raises(BatchStoppedError, match="first 20 rows all failed with status 404"):
        seen.extend(rows)
    assert len(seen) == 20
    assert sum(server.asked.values()) <= 22


def test_refused_rows_among_others(serve: Serve) -> None:
    """Refusals after a success, of another kind, or with the limit off, end nothing."""
    refused = {f"p{n}": [status("400 Bad Request")] for n in range(3, 40)}
    server = Answering(refused)
    client = serve(handler=server).client
    rows = client.batch.completions([f"p{n}" for n in range(40)], max_concurrency=1)
    assert [row.ok for row in rows] == [True] * 3 + [False] * 37
    lines = itertools.cycle(["400 Bad Request", "404 Not Found"])
    server.outcomes = {f"q{n}": [status(next(lines))] for n in range(40)}
    rows = client.batch.completions([f"q{n}" for n in range(40)], max_concurrency=1)
    assert not any(row.ok for row in rows)
    server.outcomes = {f"r{n}": [status("400 Bad Request")] for n in range(40)}
    rows = client.batch.completions([f"r{n}" for n in range(40)], stop_after_failures=None)
    assert not any(row.ok for row in rows)


def test_input_that_raises(serve: Serve) -> None:
    """An input that raises ends the run after the rows that were read."""

    def prompts() -> Iterator[str]:
        yield "a"
        yield "b"
        raise OSError("the disk is gone")

    rows = serve(handler=Answering()).client.batch.completions(prompts())
    seen = []
    with pytest.raises(OSError, match="the disk is gone"):
        seen.extend(rows)
    assert texts(seen) == ["<a>", "<b>"]


def test_consumer_that_raises(serve: Serve) -> None:
    """A consumer that raises inside with leaves no request in flight."""
    server = Answering()
    client = serve(handler=server).client

    def consume() -> None:
        with client.batch.completions(map(str, itertools.count()), max_concurrency=3) as rows:
            for _ in rows:
                raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        consume()


def test_closing_from_another_thread(serve: Serve) -> None:
    """close() in another thread ends a run that waits, and cancels its requests."""
    server = Answering()
    server.hold.clear()
    client = serve(handler=server).client
    rows = client.batch.completions(["a", "b"])
    reader = Running(lambda: list(rows))
    assert server.wait_asked(2)
    rows.close()
    assert isinstance(reader.error(), StreamConsumedError)
    server.hold.set()
    rows.close()


def test_closed_client_ends_the_run(serve: Serve) -> None:
    """Closing the client ends its runs with that error, not as failed rows."""
    server = Answering()
    server.hold.clear()
    client = serve(handler=server).client
    reader = Running(lambda: list(client.batch.completions(["a", "b"])))
    assert server.wait_asked(2)
    client.close()
    assert isinstance(reader.error(), APIConnectionError)
    server.hold.set()


def test_buffer_bounds_what_waits(serve: Serve) -> None:
    """While the first row is slow, no more rows are read than the buffer holds."""
    server = Answering()
    release = threading.Event()

    def slow(connection: Connection) -> None:
        release.wait(10)
        connection.send_json(answer("slow"))

    server.outcomes = {"0": [slow]}
    client = serve(handler=server).client
    read: List[int] = []

    def prompts() -> Iterator[str]:
        for number in range(100):
            read.append(number)
            if number == 30:
                release.set()  # Never reached while the first row is slow.
            yield str(number)

    rows = client.batch.completions(prompts(), max_concurrency=2, buffer_bytes=20_000)
    reader = Running(lambda: list(rows))
    assert server.wait_asked(8)
    assert not release.wait(0.1)
    release.set()
    assert texts(reader.result())[:2] == ["slow", "<1>"]


def test_progress(serve: Serve) -> None:
    """A callable is told how far the run is, at the end the whole of it."""
    told: List[BatchProgress] = []
    rows = serve(handler=Answering()).client.batch.completions(["a", 5, "b"], progress=told.append)
    list(rows)
    last = told[-1]
    assert (last.done, last.failed, last.total, last.resumed, last.in_flight) == (2, 1, 3, 0, 0)
    assert last.rows_per_second > 0
    assert last.eta == 0
    assert "3 of 3 rows, 1 failed" in str(last)
    report = rows.report()
    assert (report.read, report.done, report.failed, report.skipped) == (3, 2, 1, 0)
    assert report.finish_reasons == {"stop": 2}
    assert (report.total_input_tokens, report.total_output_tokens) == (2, 4)
    assert 0 < report.median_e2el_ms <= report.p99_e2el_ms
    assert report.total_token_throughput > report.output_throughput > 0
    assert report.request_throughput > 0


def test_progress_that_raises(serve: Serve) -> None:
    """The error of the callable ends the loop, and the callable is not called again."""
    told: List[BatchProgress] = []

    def tell(progress: BatchProgress) -> None:
        told.append(progress)
        raise KeyError("mine")

    rows = serve(handler=Answering()).client.batch.completions(["a", "b"], progress=tell)
    with pytest.raises(KeyError, match="mine"):
        list(rows)
    assert len(told) == 1


def test_timeout_of_a_row_is_an_attempt(serve: Serve) -> None:
    """A row whose response does not come in time is tried again as often as others."""
    server = Answering()
    held = [lambda connection: connection.wait_gone()] * 2
    server.outcomes = {"a": list(held)}
    client = serve(handler=server, max_retries=1).client
    (row,) = client.batch.completions(["a"], timeout=(5, 0.05))
    assert isinstance(row.error, APITimeoutError)
    assert row.attempts == 2


def test_misspelt_field_of_all_rows(serve: Serve) -> None:
    """A misspelt field of all rows is refused before anything is sent."""
    served = serve(handler=Answering())
    with pytest.raises(BatchInputError, match="did you mean 'max_tokens'"):
        served.client.batch.completions(["a"], max_token=4)  # type: ignore[call-arg]
    assert served.requests == []


WRONG = [
    ({"max_concurrency": 0}, "max_concurrency must be an int, 1 or greater"),
    ({"max_concurrency": True}, "max_concurrency"),
    ({"buffer_bytes": "x"}, "buffer_bytes"),
    ({"stop_after_failures": 0}, "stop_after_failures"),
    ({"patience": -1}, "patience must be seconds"),
    ({"patience": "long"}, "patience must be seconds"),
]


@pytest.mark.parametrize(("settings", "message"), WRONG)
def test_wrong_settings(serve: Serve, settings: Any, message: str) -> None:
    """A setting out of range is refused."""
    client = serve(handler=Answering()).client
    with pytest.raises(ValueError, match=message):
        client.batch.completions(["a"], **settings)


@pytest.mark.parametrize("rows", ["a text", b"bytes", 5])
def test_input_that_is_no_iterable_of_rows(serve: Serve, rows: Any) -> None:
    """A text is no iterable of prompts: its characters would be sent one by one."""
    client = serve(handler=Answering()).client
    with pytest.raises(BatchInputError, match="must be an iterable of rows"):
        client.batch.completions(rows)


def test_strict_ends_the_run(serve: Serve) -> None:
    """With strict, a row that cannot be sent raises."""
    client = serve(handler=Answering()).client
    rows = client.batch.completions(["a", 5], strict=True)
    with pytest.raises(BatchInputError, match="row 1"):
        list(rows)


def test_rate_limit_error_carries_retry_after(serve: Serve) -> None:
    """The error of a 429 tells when the server wants to be asked again."""
    later = status("429 Too Many Requests", headers="retry-after: 7\r\n")
    client = serve(handler=Answering({"a": [later]}), max_retries=0).client
    with pytest.raises(RateLimitError) as raised:
        client.completions.create(prompt="a")
    assert raised.value.retry_after == 7.0


def test_extra_body_and_headers(serve: Serve) -> None:
    """Fields that have no keyword, and headers, go with every row."""
    served = serve(handler=Answering())
    headers = {"X-A": "1"}
    list(served.client.batch.completions(["a"], extra_body={"new": 1}, extra_headers=headers))
    assert served.requests[0].json["new"] == 1
    assert served.requests[0].headers["x-a"] == "1"


def test_wrong_timeout(serve: Serve) -> None:
    """A time limit that is none raises; it is no failure of a row."""
    client = serve(handler=Answering()).client
    with pytest.raises(ValueError, match="timeout must be a number"):
        list(client.batch.completions(["a"], timeout="5"))  # type: ignore[arg-type]


def test_leaving_the_loop_ends_the_run(serve: Serve) -> None:
    """`break` without `with` ends the run at once, without the garbage collector."""
    client = serve(handler=Answering()).client
    gc.collect()
    gc.disable()
    try:
        for row in client.batch.completions(map(str, itertools.count()), max_concurrency=4):
            assert row.ok
            break
        names = [thread.name for thread in threading.enumerate()]
        assert "vllm_client-batch" not in names
    finally:
        gc.enable()


def test_slow_consumer_is_no_busy_server(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Patience counts from the first rejection, not while the program does something else."""
    passed = [0.0]
    clock = time.perf_counter
    monkeypatch.setattr(_engine, "perf_counter", lambda: clock() + passed[0])
    client = serve(handler=Answering({"b": [BUSY]})).client
    rows = client.batch.completions(["a", "b"], max_concurrency=1, patience=60)
    assert next(rows).ok
    passed[0] = 3600.0
    assert next(rows).text == "<b>"


class FewThreads:
    """Lets so many threads start, and refuses more as a system does that has no more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
        self.left = most
        start = threading.Thread.start

        def limited(thread: threading.Thread) -> None:
            if thread.name == "vllm_client-batch":
                if not self.left:
                    raise RuntimeError("can't start new thread")
                self.left -= 1
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", limited)


def test_few_threads(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the system has no more threads, the run goes on with those it has."""
    FewThreads(monkeypatch, 2)
    server = Answering()
    rows = serve(handler=server).client.batch.completions(map(str, range(50)))
    assert texts(rows) == [f"<{number}>" for number in range(50)]
    assert server.most_at_once <= 2


def test_no_thread_at_all(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """If there can be no thread at all, the run ends with our error, and nothing was sent."""
    FewThreads(monkeypatch, 0)
    served = serve(handler=Answering())
    with pytest.raises(APIConnectionError, match="no thread can be started"):
        list(served.client.batch.completions(["a"]))
    assert served.requests == []
