"""When a new generation is started, believed, given up and dismissed."""

from __future__ import annotations

import pytest

from django_wsgiserve.supervisor.actions import (
    CloseForkserver,
    GiveUp,
    KillForkserver,
    Promote,
    Reason,
    Spawn,
    StartGeneration,
)
from django_wsgiserve.supervisor.plan import QUIT_GRACE_S, SPAWN_GRACE_S, plan
from django_wsgiserve.supervisor.states import Generation
from tests.supervisor.literals import (
    NOW_S,
    desired,
    leaving,
    loading,
    ordered,
    proving,
    ready,
    serving,
    starting,
)

TWO = [ready(0), ready(1)]


def test_the_first_thing_is_a_generation() -> None:
    assert plan(NOW_S, desired(), [], []) == [StartGeneration()]


def test_a_reload_starts_a_generation_beside_the_serving_one() -> None:
    assert plan(NOW_S, desired(reload=True), [serving()], TWO) == [StartGeneration()]


def test_a_second_reload_waits_for_the_first() -> None:
    assert plan(NOW_S, desired(reload=True), [serving(), loading()], TWO) == []


def test_a_reload_does_not_wait_for_the_old_generation_to_drain() -> None:
    generations = [leaving(1), serving(2)]
    workers = [ready(0, 1, retiring_s=NOW_S), ready(2, 2), ready(3, 2)]
    assert plan(NOW_S, desired(reload=True), generations, workers) == [StartGeneration()]


def test_a_dead_forkserver_is_replaced_by_a_generation_while_its_workers_serve() -> None:
    assert plan(NOW_S, desired(), [serving(alive=False)], TWO) == [StartGeneration()]


def test_a_forkserver_that_keeps_dying_is_not_replaced_before_the_back_off_has_passed() -> None:
    waiting = desired(load_after_s=NOW_S + 5)
    assert plan(NOW_S, waiting, [serving(alive=False)], TWO) == []


def test_a_loaded_generation_is_probed_by_one_worker() -> None:
    assert plan(NOW_S, desired(), [serving(), proving()], TWO) == [Spawn(2, 2, probe=True)]


def test_a_generation_that_is_loading_gets_no_worker() -> None:
    assert plan(NOW_S, desired(), [serving(), loading()], TWO) == []


def test_a_generation_is_promoted_when_its_worker_is_ready() -> None:
    workers = [*TWO, ready(2, 2)]
    assert plan(NOW_S, desired(), [serving(), proving()], workers) == [Promote(2)]


@pytest.mark.parametrize("worker", [ordered(2, 2), starting(2, 2)])
def test_a_generation_is_not_promoted_before_its_worker_is_ready(worker: object) -> None:
    assert plan(NOW_S, desired(), [serving(), proving()], [*TWO, worker]) == []  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (loading(failed=True), Reason.FAILED),
        (loading(alive=False), Reason.FAILED),
        (proving(alive=False), Reason.FAILED),
        (proving(failed=True), Reason.FAILED),
        (proving(failed_starts=3), Reason.FAILED_STARTS),
        (loading(since_s=NOW_S - 60.1), Reason.BOOT_TIMEOUT),
        (proving(since_s=NOW_S - 60.1), Reason.BOOT_TIMEOUT),
    ],
)
def test_a_generation_that_cannot_serve_is_given_up_and_the_serving_one_untouched(
    candidate: Generation, reason: Reason
) -> None:
    assert plan(NOW_S, desired(), [serving(), candidate], TWO) == [GiveUp(2, reason)]


def test_a_failed_generation_is_not_promoted_although_its_worker_is_ready() -> None:
    workers = [*TWO, ready(2, 2)]
    actions = plan(NOW_S, desired(), [serving(), proving(failed=True)], workers)
    assert actions == [GiveUp(2, Reason.FAILED)]


def test_a_slow_import_is_waited_for_until_boot_timeout() -> None:
    assert plan(NOW_S, desired(), [serving(), loading(since_s=NOW_S - 59.9)], TWO) == []


def test_without_boot_timeout_an_import_may_take_for_ever() -> None:
    candidate = loading(since_s=0.0)
    assert plan(NOW_S, desired(boot_timeout_s=0.0), [serving(), candidate], TWO) == []


def test_a_frozen_server_does_not_blame_the_import_for_the_time_it_was_frozen() -> None:
    thawed = desired(awake_since_s=NOW_S - 5)
    assert plan(NOW_S, thawed, [serving(), loading(since_s=NOW_S - 500)], TWO) == []


def test_after_a_worker_that_died_unready_another_is_tried() -> None:
    candidate = proving(failed_starts=2)
    assert plan(NOW_S, desired(), [serving(), candidate], TWO) == [Spawn(2, 2, probe=True)]


def test_the_next_try_of_an_unproven_generation_keeps_to_the_back_off() -> None:
    waiting = desired(spawn_after_s=NOW_S + 1)
    assert plan(NOW_S, waiting, [serving(), proving(failed_starts=1)], TWO) == []


def test_an_old_forkserver_stays_while_it_has_a_worker_to_reap() -> None:
    generations = [leaving(1), serving(2)]
    workers = [ready(0, 1, retiring_s=NOW_S), ready(1, 2), ready(2, 2)]
    assert plan(NOW_S, desired(), generations, workers) == []


def test_an_old_forkserver_is_closed_with_its_last_worker() -> None:
    generations = [leaving(1), serving(2)]
    workers = [ready(1, 2), ready(2, 2)]
    assert plan(NOW_S, desired(), generations, workers) == [CloseForkserver(1)]


def test_an_old_forkserver_that_does_not_leave_is_killed() -> None:
    workers = [ready(1, 2), ready(2, 2)]
    closed = leaving(1, closed_s=NOW_S - QUIT_GRACE_S)
    assert plan(NOW_S, desired(), [closed, serving(2)], workers) == [
        KillForkserver(1, Reason.IGNORED_QUIT)
    ]
    killed = leaving(1, closed_s=NOW_S - 9, killed_s=NOW_S)
    assert plan(NOW_S, desired(), [killed, serving(2)], workers) == []


def test_a_forkserver_that_does_not_answer_an_order_to_fork_is_killed() -> None:
    waiting = [ready(0), ordered(1, since_s=NOW_S - SPAWN_GRACE_S - 0.1)]
    assert plan(NOW_S, desired(), [serving()], waiting) == [KillForkserver(1, Reason.UNRESPONSIVE)]
    assert plan(NOW_S, desired(), [serving(killed_s=NOW_S)], waiting) == []
