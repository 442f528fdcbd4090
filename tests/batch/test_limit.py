"""How many requests may be in flight, without a clock or a server."""

from __future__ import annotations

from vllm_client.batch._limit import ConcurrencyLimit


def answer(limit: ConcurrencyLimit, times: int, sent_at: float = 0.0) -> None:
    for _ in range(times):
        limit.on_answer(sent_at)


def test_slow_start() -> None:
    """The limit begins at 32, doubles with each window of answers, and stops at the ceiling."""
    limit = ConcurrencyLimit(100)
    seen = [limit.current]
    for _ in range(3):
        answer(limit, limit.current)
        seen.append(limit.current)
    assert seen == [32, 64, 100, 100]


def test_small_ceiling() -> None:
    """A ceiling below the first limit is the limit."""
    assert ConcurrencyLimit(5).current == 5


def test_growth_after_a_rejection() -> None:
    """After a rejection the limit is 0.7 of what it was, and grows by one a window."""
    limit = ConcurrencyLimit(1000)
    limit.on_rejection(sent_at=1.0, now=2.0)
    assert limit.current == 22
    answer(limit, 21, sent_at=3.0)
    assert limit.current == 22
    answer(limit, 1, sent_at=3.0)
    assert limit.current == 23
    assert limit.rejections == 1


def test_one_decrease_a_round_trip() -> None:
    """Rejections of requests that were sent before the last decrease do not lower it again."""
    limit = ConcurrencyLimit(1000)
    for _ in range(20):
        limit.on_rejection(sent_at=1.0, now=2.0)
    assert limit.current == 22
    limit.on_rejection(sent_at=2.5, now=3.0)
    assert limit.current == 15
    assert limit.rejections == 21


def test_old_answers_do_not_raise_it() -> None:
    """Answers to requests from before the last decrease say nothing about the new limit."""
    limit = ConcurrencyLimit(1000)
    limit.on_rejection(sent_at=1.0, now=2.0)
    answer(limit, 100, sent_at=1.5)
    assert limit.current == 22


def test_floor() -> None:
    """The limit never falls below one."""
    limit = ConcurrencyLimit(1000)
    for second in range(30):
        limit.on_rejection(sent_at=second + 0.5, now=second + 0.5)
    assert limit.current == 1


def test_fixed() -> None:
    """Without adapting, the limit is the ceiling, whatever happens."""
    limit = ConcurrencyLimit(100, adaptive=False)
    limit.on_rejection(sent_at=1.0, now=2.0)
    answer(limit, 500, sent_at=3.0)
    assert (limit.current, limit.rejections) == (100, 1)


def test_lower_ceiling() -> None:
    """A lowered ceiling holds from then on, and is never raised again."""
    limit = ConcurrencyLimit(100)
    limit.lower_ceiling(5)
    answer(limit, 50)
    limit.lower_ceiling(9)
    assert limit.current == 5


def test_simulated_server() -> None:
    """Against 64 slots and a queue of 48 with a ceiling of 1,024, few rows are rejected.

    A round takes one unit of time: as many requests as the limit allows are sent, 112 of them are
    taken, 64 of those are answered in this round.
    """
    limit, left, rejected, rounds, queued = ConcurrencyLimit(1024), 20_000, 0, 0, 0
    while left > 0:
        now = float(rounds)
        sent = max(limit.current - queued, 0)
        taken = min(sent, 112 - queued)
        queued += taken
        for _ in range(sent - taken):
            limit.on_rejection(now, now + 0.01)
        rejected += sent - taken
        answered = min(64, queued)
        queued -= answered
        left -= answered
        answer(limit, answered, now + 0.02)
        rounds += 1
    assert rejected <= 0.01 * 20_000
    assert 20_000 / rounds >= 0.97 * 64
