"""A worker that dies once is replaced at once; one that always dies is no fork storm."""

from __future__ import annotations

from itertools import pairwise

from django_wsgiserve.supervisor.states import BACKOFF_CAP_S, BACKOFF_FORGET_S, Backoff


def delays(failures: int, *, free: int = 0, every_s: float = 1.0) -> list[float]:
    """Return the delays after each of a row of failures."""
    backoff, now_s, found = Backoff(), 100.0, []
    for _ in range(failures):
        now_s += every_s
        backoff = backoff.failed(now_s, free)
        found.append(round(backoff.until_s - now_s, 6))
    return found


def test_free_failures_cost_no_delay() -> None:
    assert delays(4, free=3) == [0.0, 0.0, 0.0, 0.1]


def test_delays_double() -> None:
    assert delays(5) == [0.1, 0.2, 0.4, 0.8, 1.6]


def test_delays_never_exceed_the_cap() -> None:
    found = delays(2000)
    assert max(found) == found[-1] == BACKOFF_CAP_S
    assert all(earlier <= later for earlier, later in pairwise(found))


def test_a_loop_at_the_cap_is_not_forgotten() -> None:
    assert delays(12, every_s=BACKOFF_CAP_S + 5)[-1] == BACKOFF_CAP_S


def test_a_quiet_time_is_a_new_start() -> None:
    tired = Backoff(count=9, last_s=100.0, until_s=110.0)
    fresh = tired.failed(100.1 + BACKOFF_FORGET_S)
    assert (fresh.count, round(fresh.until_s - fresh.last_s, 6)) == (1, 0.1)
