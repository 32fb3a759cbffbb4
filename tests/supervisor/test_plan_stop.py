"""How the server stops: gracefully, at once, and always to the end."""

from __future__ import annotations

from typing import Any

from django_wsgiserve.supervisor.actions import (
    CloseForkserver,
    Finish,
    GiveUp,
    Kill,
    KillForkserver,
    Quit,
    Reason,
    Retire,
    Spawn,
    StopListening,
)
from django_wsgiserve.supervisor.plan import QUIT_GRACE_S, plan
from django_wsgiserve.supervisor.states import Stop
from tests.supervisor.literals import (
    NOW_S,
    desired,
    loading,
    ordered,
    proving,
    ready,
    serving,
    starting,
)

TERM = {"stop": Stop.GRACEFUL, "stop_since_s": NOW_S}
QUICK = {"stop": Stop.QUICK, "stop_since_s": NOW_S, "listening": False}


def test_term_stops_listening_and_retires_everybody() -> None:
    assert plan(NOW_S, desired(**TERM), [serving()], [ready(0), starting(1)]) == [
        StopListening(),
        Retire(0, Reason.STOPPING),
        Retire(1, Reason.STOPPING),
    ]


def test_the_server_serves_on_for_drain_delay() -> None:
    wanted = desired(**TERM, drain_delay_s=5.0)
    assert plan(NOW_S + 4.9, wanted, [serving()], [ready(1)])[0] == Spawn(1, 0)
    workers = [ready(0, heartbeat_s=NOW_S + 5), ready(1, heartbeat_s=NOW_S + 5)]
    assert plan(NOW_S + 5, wanted, [serving()], workers)[0] == StopListening()


def test_a_reload_is_given_up_when_the_server_stops() -> None:
    wanted = desired(**TERM, drain_delay_s=5.0, reload=True)
    workers = [ready(0), ready(1)]
    assert plan(NOW_S, wanted, [serving(), loading()], workers) == [GiveUp(2, Reason.STOPPING)]
    assert plan(NOW_S, wanted, [serving()], workers) == []


def test_orders_are_given_once() -> None:
    wanted = desired(**TERM, listening=False)
    workers = [ready(0, retiring_s=NOW_S), ready(1, retiring_s=NOW_S)]
    assert plan(NOW_S, wanted, [serving()], workers) == []


def test_a_dead_worker_is_not_replaced_during_the_stop() -> None:
    wanted = desired(**TERM, listening=False)
    assert plan(NOW_S, wanted, [serving()], [ready(0, retiring_s=NOW_S)]) == []


def test_the_forkserver_leaves_after_its_last_worker() -> None:
    wanted = desired(**TERM, listening=False)
    assert plan(NOW_S, wanted, [serving()], []) == [CloseForkserver(1)]
    assert plan(NOW_S, wanted, [serving(closed_s=NOW_S)], []) == []


def test_a_forkserver_that_does_not_leave_is_killed() -> None:
    wanted = desired(**TERM, listening=False)
    closed = serving(closed_s=NOW_S - QUIT_GRACE_S)
    assert plan(NOW_S, wanted, [closed], []) == [KillForkserver(1, Reason.IGNORED_QUIT)]


def test_a_forkserver_that_is_still_importing_is_killed() -> None:
    wanted = desired(**TERM, listening=False)
    assert plan(NOW_S, wanted, [loading()], []) == [KillForkserver(2, Reason.STOPPING)]


def test_the_end_is_when_nobody_is_left() -> None:
    wanted = desired(**TERM, listening=False)
    assert plan(NOW_S, wanted, [serving(alive=False)], []) == [Finish()]
    assert plan(NOW_S, wanted, [], []) == [Finish()]


def test_an_adopted_worker_is_waited_for_although_its_forkserver_is_dead() -> None:
    wanted = desired(**TERM, listening=False)
    workers = [ready(0, retiring_s=NOW_S)]
    assert plan(NOW_S, wanted, [serving(alive=False)], workers) == []


def test_a_worker_that_outlasts_graceful_timeout_is_told_to_quit_then_killed() -> None:
    wanted = desired(**TERM, listening=False)
    later_s = NOW_S + 30
    well: dict[str, Any] = {"heartbeat_s": later_s, "retiring_s": NOW_S}
    assert plan(later_s, wanted, [serving()], [ready(0, **well)]) == [
        Quit(0, Reason.GRACEFUL_TIMEOUT)
    ]
    ignoring = ready(0, **well, quitting_s=later_s)
    assert plan(later_s + QUIT_GRACE_S, wanted, [serving()], [ignoring]) == [
        Kill(0, Reason.IGNORED_QUIT)
    ]


def test_a_quick_stop_tells_everybody_to_quit_even_who_is_retiring() -> None:
    workers = [ready(0, retiring_s=NOW_S - 1), ready(1)]
    assert plan(NOW_S, desired(**QUICK), [serving()], workers) == [
        Quit(0, Reason.STOPPING),
        Quit(1, Reason.STOPPING),
    ]


def test_a_quick_stop_does_not_wait_for_drain_delay() -> None:
    wanted = desired(**{**QUICK, "drain_delay_s": 60.0})
    assert plan(NOW_S, wanted, [serving()], [ready(0)]) == [Quit(0, Reason.STOPPING)]


def test_a_quick_stop_kills_who_does_not_quit() -> None:
    workers = [ready(0, quitting_s=NOW_S - QUIT_GRACE_S)]
    assert plan(NOW_S, desired(**QUICK), [serving()], workers) == [Kill(0, Reason.IGNORED_QUIT)]


def test_a_quick_stop_ends_an_unproven_generation_too() -> None:
    generations = [serving(), proving()]
    assert plan(NOW_S, desired(**QUICK), generations, []) == [
        CloseForkserver(1),
        CloseForkserver(2),
    ]


def test_a_forkserver_that_never_forks_what_it_was_told_to_does_not_hold_up_the_stop() -> None:
    workers = [ordered(0, quitting_s=NOW_S)]
    at_s = NOW_S + 2 * QUIT_GRACE_S
    assert plan(at_s, desired(**QUICK), [serving()], workers) == [
        KillForkserver(1, Reason.STOPPING)
    ]
