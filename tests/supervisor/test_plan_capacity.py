"""How many workers, and of which generation."""

from __future__ import annotations

from django_wsgiserve.supervisor.actions import Reason, Retire, Spawn
from django_wsgiserve.supervisor.plan import plan
from tests.supervisor.literals import (
    NOW_S,
    desired,
    leaving,
    ordered,
    proving,
    ready,
    serving,
    starting,
)


def test_the_wanted_number_of_well_workers_needs_nothing() -> None:
    assert plan(NOW_S, desired(), [serving()], [ready(0), ready(1)]) == []


def test_all_missing_workers_are_spawned_at_once_into_the_lowest_free_slots() -> None:
    actions = plan(NOW_S, desired(workers=4), [serving()], [ready(1)])
    assert actions == [Spawn(1, 0), Spawn(1, 2), Spawn(1, 3)]


def test_workers_on_their_way_are_not_spawned_again() -> None:
    workers = [ordered(0), starting(1)]
    assert plan(NOW_S, desired(), [serving()], workers) == []


def test_a_dead_worker_is_replaced_without_a_probe() -> None:
    assert plan(NOW_S, desired(), [serving()], [ready(1)]) == [Spawn(1, 0)]


def test_nothing_is_spawned_before_the_back_off_has_passed() -> None:
    waiting = desired(spawn_after_s=NOW_S + 0.1)
    assert plan(NOW_S, waiting, [serving()], [ready(0)]) == []
    assert plan(NOW_S + 0.1, waiting, [serving()], [ready(0)]) == [Spawn(1, 1)]


def test_no_more_workers_than_the_scoreboard_has_slots() -> None:
    actions = plan(NOW_S, desired(workers=5, slots=3), [serving()], [ready(1)])
    assert actions == [Spawn(1, 0), Spawn(1, 2)]


def test_a_worker_that_was_told_to_leave_does_not_count_but_keeps_its_slot() -> None:
    workers = [ready(0, retiring_s=NOW_S - 1), ready(1)]
    assert plan(NOW_S, desired(), [serving()], workers) == [Spawn(1, 2)]


def test_one_worker_too_many_is_retired_from_the_highest_slot() -> None:
    workers = [ready(0), ready(1), ready(2)]
    assert plan(NOW_S, desired(), [serving()], workers) == [Retire(2, Reason.SURPLUS)]


def test_an_old_generation_is_not_retired_before_a_replacement_is_ready() -> None:
    generations = [leaving(1), serving(2)]
    workers = [ready(0, 1), ready(1, 1), starting(2, 2)]
    assert plan(NOW_S, desired(), generations, workers) == []


def test_rolling_starts_one_replacement_at_a_time() -> None:
    generations = [leaving(1), serving(2)]
    workers = [ready(0, 1), ready(1, 1)]
    assert plan(NOW_S, desired(), generations, workers) == [Spawn(2, 2)]


def test_rolling_retires_one_old_worker_for_each_new_one_that_is_ready() -> None:
    generations = [leaving(1), serving(2)]
    workers = [ready(0, 1), ready(1, 1), ready(2, 2)]
    assert plan(NOW_S, desired(), generations, workers) == [Retire(1, Reason.SUPERSEDED)]


def test_rolling_goes_on_while_the_retired_worker_still_finishes_its_requests() -> None:
    generations = [leaving(1), serving(2)]
    workers = [ready(0, 1), ready(1, 1, retiring_s=NOW_S), ready(2, 2)]
    assert plan(NOW_S, desired(), generations, workers) == [Spawn(2, 3)]


def test_rolling_is_over_when_all_wanted_workers_are_new() -> None:
    generations = [leaving(1), serving(2)]
    workers = [ready(0, 1, retiring_s=NOW_S), ready(2, 2), ready(3, 2)]
    assert plan(NOW_S, desired(), generations, workers) == []


def test_fewer_workers_after_a_reload_retires_the_old_ones_first() -> None:
    generations = [leaving(1), serving(2)]
    workers = [ready(0, 1), ready(1, 1), ready(2, 2)]
    assert plan(NOW_S, desired(workers=1), generations, workers) == [
        Retire(1, Reason.SUPERSEDED),
        Retire(0, Reason.SUPERSEDED),
    ]


def test_the_ready_worker_of_an_unproven_generation_retires_nobody() -> None:
    generations = [serving(1), proving(2, failed=True)]
    workers = [ready(0, 1), ready(1, 1), ready(2, 2)]
    actions = plan(NOW_S, desired(), generations, workers)
    assert not [action for action in actions if isinstance(action, Retire)]


def test_a_worker_that_dies_during_a_reload_is_replaced_by_old_code_meanwhile() -> None:
    generations = [serving(1), proving(2)]
    workers = [ready(0, 1), starting(2, 2)]
    assert plan(NOW_S, desired(), generations, workers) == [Spawn(1, 1)]


def test_a_worker_that_asks_to_retire_gets_a_replacement_first() -> None:
    workers = [ready(0, wants_retirement=True), ready(1)]
    assert plan(NOW_S, desired(), [serving()], workers) == [Spawn(1, 2)]


def test_a_worker_that_asked_is_retired_once_its_replacement_is_ready() -> None:
    workers = [ready(0, wants_retirement=True), ready(1), ready(2)]
    assert plan(NOW_S, desired(), [serving()], workers) == [Retire(0, Reason.SUPERSEDED)]


def test_of_two_workers_that_ask_the_second_waits_until_the_first_has_left() -> None:
    workers = [
        ready(0, wants_retirement=True, retiring_s=NOW_S - 1),
        ready(1, wants_retirement=True),
        ready(2),
    ]
    assert plan(NOW_S, desired(), [serving()], workers) == []
    assert plan(NOW_S, desired(), [serving()], workers[1:]) == [Spawn(1, 0)]


def test_without_a_forkserver_whoever_serves_goes_on_even_if_it_asked_to_retire() -> None:
    generations = [serving(1, alive=False), proving(2)]
    workers = [ready(0, wants_retirement=True), starting(2, 2)]
    assert plan(NOW_S, desired(), generations, workers) == []
