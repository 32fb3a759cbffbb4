"""What is done to a worker that is stuck, silent or will not leave."""

from __future__ import annotations

import math

from django_wsgiserve.supervisor.actions import Abort, Action, Kill, Quit, Reason
from django_wsgiserve.supervisor.plan import (
    ABORT_GRACE_S,
    BEAT_SLACK_S,
    QUIT_GRACE_S,
    TIMEOUT_GRACE_S,
    plan,
    seconds_until_due,
)
from django_wsgiserve.supervisor.states import Desired, Running, Worker
from tests.supervisor.literals import NOW_S, desired, loading, ready, serving, starting

LONG_AGO_S = NOW_S - 500


def planned(worker: Worker, wanted: Desired | None = None) -> list[Action]:
    """Return what is planned against the worker in slot 0, beside a well one."""
    workers = [worker, ready(1), ready(2)]
    actions = plan(NOW_S, wanted or desired(), [serving()], workers)
    return [action for action in actions if getattr(action, "slot", None) == 0]


def test_a_worker_that_does_not_end_a_request_over_timeout_itself_is_aborted() -> None:
    began_s = NOW_S - 30 - TIMEOUT_GRACE_S
    assert planned(ready(0, running=(Running(began_s - 0.1),))) == [
        Abort(0, Reason.REQUEST_TIMEOUT)
    ]
    assert planned(ready(0, running=(Running(began_s + 0.1),)), desired(workers=3)) == []


def test_a_request_may_run_for_the_whole_timeout() -> None:
    worker = ready(0, running=(Running(NOW_S - 29.9),), heartbeat_s=NOW_S - 29.9)
    assert Abort(0, Reason.REQUEST_TIMEOUT) not in planned(worker)


def test_a_worker_is_not_silent_while_its_request_is_within_timeout() -> None:
    worker = ready(0, running=(Running(NOW_S - 20),), heartbeat_s=LONG_AGO_S)
    assert Abort(0, Reason.SILENT) not in planned(worker)


def test_an_idle_worker_without_a_heartbeat_is_aborted() -> None:
    worker = ready(0, heartbeat_s=NOW_S - 30 - BEAT_SLACK_S - 0.1, since_s=LONG_AGO_S)
    assert planned(worker) == [Abort(0, Reason.SILENT)]


def test_a_worker_that_has_only_just_become_ready_is_not_silent() -> None:
    assert Abort(0, Reason.SILENT) not in planned(ready(0, heartbeat_s=0.0, since_s=NOW_S - 1))


def test_timeout_0_lets_requests_and_silence_last_for_ever() -> None:
    never = desired(timeout_s=0.0, workers=3)
    assert planned(ready(0, running=(Running(1.0),)), never) == []
    assert planned(ready(0, heartbeat_s=1.0, since_s=1.0), never) == []


def test_a_view_with_a_limit_of_its_own_is_held_to_that_one() -> None:
    longer = (Running(NOW_S - 100, 300.0),)
    assert planned(ready(0, running=longer), desired(workers=3)) == []
    shorter = (Running(NOW_S - 2 - TIMEOUT_GRACE_S - 0.1, 2.0),)
    assert planned(ready(0, running=shorter)) == [Abort(0, Reason.REQUEST_TIMEOUT)]
    within = (Running(NOW_S - 2 - TIMEOUT_GRACE_S + 0.1, 2.0),)
    assert planned(ready(0, running=within), desired(workers=3)) == []


def test_a_view_without_a_limit_may_run_and_be_silent_for_ever() -> None:
    endless = (Running(LONG_AGO_S, math.inf),)
    worker = ready(0, running=endless, heartbeat_s=LONG_AGO_S)
    assert planned(worker, desired(workers=3)) == []


def test_the_limit_of_a_view_holds_where_timeout_is_0() -> None:
    never = desired(timeout_s=0.0, workers=3)
    overdue = (Running(NOW_S - 2 - TIMEOUT_GRACE_S - 0.1, 2.0),)
    assert planned(ready(0, running=overdue), never) == [Abort(0, Reason.REQUEST_TIMEOUT)]


def test_one_request_over_its_limit_is_enough_among_many() -> None:
    young, endless = Running(NOW_S - 1), Running(LONG_AGO_S, math.inf)
    late = Running(NOW_S - 31 - TIMEOUT_GRACE_S)
    assert planned(ready(0, running=(endless, young)), desired(workers=3)) == []
    assert planned(ready(0, running=(endless, late, young))) == [Abort(0, Reason.REQUEST_TIMEOUT)]


def test_a_worker_may_be_silent_while_its_view_is_within_a_longer_limit() -> None:
    worker = ready(0, running=(Running(NOW_S - 100, 300.0),), heartbeat_s=NOW_S - 100)
    assert Abort(0, Reason.SILENT) not in planned(worker)


def test_nobody_is_blamed_for_the_time_the_server_was_frozen() -> None:
    thawed = desired(awake_since_s=NOW_S - 2, workers=3)
    assert planned(ready(0, running=(Running(LONG_AGO_S),)), thawed) == []
    assert planned(ready(0, heartbeat_s=LONG_AGO_S, since_s=LONG_AGO_S), thawed) == []


def test_a_worker_that_is_not_ready_within_boot_timeout_is_aborted() -> None:
    assert planned(starting(0, since_s=NOW_S - 60.1)) == [Abort(0, Reason.BOOT_TIMEOUT)]
    assert planned(starting(0, since_s=NOW_S - 59.9)) == []


def test_an_aborted_worker_is_given_time_to_write_its_stack() -> None:
    worker = ready(0, running=(Running(LONG_AGO_S),), aborted_s=NOW_S - ABORT_GRACE_S + 0.1)
    assert planned(worker) == []


def test_an_aborted_worker_that_stays_is_killed_once() -> None:
    worker = ready(0, running=(Running(LONG_AGO_S),), aborted_s=NOW_S - ABORT_GRACE_S)
    assert planned(worker) == [Kill(0, Reason.IGNORED_ABORT)]
    killed = ready(0, aborted_s=NOW_S - 60, killed_s=NOW_S - 50)
    assert planned(killed) == []


def test_a_retired_worker_may_finish_until_graceful_timeout() -> None:
    assert planned(ready(0, retiring_s=NOW_S - 29.9)) == []


def test_a_worker_that_ignores_retire_is_told_to_quit_and_then_killed() -> None:
    assert planned(ready(0, retiring_s=NOW_S - 30)) == [Quit(0, Reason.GRACEFUL_TIMEOUT)]
    waiting = ready(0, retiring_s=NOW_S - 31, quitting_s=NOW_S - QUIT_GRACE_S + 0.1)
    assert planned(waiting) == []
    ignoring = ready(0, retiring_s=NOW_S - 32, quitting_s=NOW_S - QUIT_GRACE_S)
    assert planned(ignoring) == [Kill(0, Reason.IGNORED_QUIT)]


def test_a_retired_worker_is_still_held_to_timeout() -> None:
    worker = ready(0, retiring_s=NOW_S - 1, running=(Running(NOW_S - 31 - TIMEOUT_GRACE_S),))
    assert planned(worker) == [Abort(0, Reason.REQUEST_TIMEOUT)]


def test_a_quiet_server_is_looked_at_once_a_second() -> None:
    assert seconds_until_due(NOW_S, desired(), [serving()], [ready(0), ready(1)]) == 1.0


def test_a_server_in_motion_is_looked_at_more_often() -> None:
    well = [ready(0), ready(1)]
    assert seconds_until_due(NOW_S, desired(), [serving(), loading()], well) == 0.1
    assert seconds_until_due(NOW_S, desired(), [serving()], [ready(0), starting(1)]) == 0.1
    waiting = desired(spawn_after_s=NOW_S + 3)
    assert seconds_until_due(NOW_S, waiting, [serving()], well) == 0.1


def test_the_plan_is_asked_again_when_a_request_becomes_due() -> None:
    workers = [ready(0, running=(Running(NOW_S - 29.75 - TIMEOUT_GRACE_S),)), ready(1)]
    assert seconds_until_due(NOW_S, desired(), [serving()], workers) == 0.25


def test_the_plan_is_asked_again_when_the_shorter_limit_of_a_view_becomes_due() -> None:
    running = (Running(NOW_S - 20), Running(NOW_S - 1.5 - TIMEOUT_GRACE_S, 2.0))
    assert seconds_until_due(NOW_S, desired(), [serving()], [ready(0, running=running)]) == 0.5
    never = desired(timeout_s=0.0)
    assert seconds_until_due(NOW_S, never, [serving()], [ready(0, running=running)]) == 0.5


def test_without_timeout_a_long_request_does_not_keep_the_supervisor_busy() -> None:
    workers = [ready(0, running=(Running(1.0),)), ready(1)]
    assert seconds_until_due(NOW_S, desired(timeout_s=0.0), [serving()], workers) == 1.0
