"""What to do next, as a pure function of what is wanted and what is there.

No clock, no processes, no sockets: values in, actions out. An action that was carried
out shows in the values of the next call (a worker has `retiring_s`), so that nothing is
ordered twice and calling too often is harmless.

The order of importance: keep what serves serving; bring it to the wanted number; only
then replace it. A generation that has not been promoted never costs one that has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain

from django_wsgiserve.supervisor.actions import (
    Abort,
    Action,
    CloseForkserver,
    Finish,
    GiveUp,
    Kill,
    KillForkserver,
    Promote,
    Quit,
    Reason,
    Retire,
    Spawn,
    StartGeneration,
    StopListening,
)
from django_wsgiserve.supervisor.states import Desired, Generation, Life, Stage, Stop, Worker

ABORT_GRACE_S = 3.0
"""How long a worker may take to write its stack and die of SIGABRT."""
QUIT_GRACE_S = 2.0
"""How long a worker or forkserver may take to leave when told to leave now."""
SPAWN_GRACE_S = 15.0
"""How long a forkserver may take to answer an order to fork."""
BEAT_SLACK_S = 3.0
"""A worker beats once a second; on a busy machine it may be a little late."""
TIMEOUT_GRACE_S = 5.0
"""A worker ends a request over its limit itself, and asks to be replaced. One that cannot, for
code that holds the interpreter's lock, is ended after this."""
STARTS_BEFORE_GIVING_UP = 3
"""Workers of an unproven generation that may die before it is given up."""


def plan(
    now_s: float,
    desired: Desired,
    generations: Sequence[Generation],
    workers: Sequence[Worker],
) -> list[Action]:
    """Return what brings the server closer to `desired`, most urgent first.

    Args:
        now_s: `time.monotonic()`.
        desired: What is wanted.
        generations: Those that run or still have workers; at most one is SERVING and at
            most one is LOADING or PROVING.
        workers: Those that were ordered and are not known to be gone; one for a slot.
    """
    overdue = _overdue_workers(now_s, desired, workers)
    if desired.stop is Stop.QUICK:
        return overdue + _stop_quick(now_s, desired, generations, workers)
    if desired.stop is Stop.GRACEFUL:
        begin_s = desired.stop_since_s + desired.drain_delay_s
        if now_s >= begin_s:
            return overdue + _stop_graceful(now_s, begin_s, desired, generations, workers)
    return [
        *overdue,
        *_overdue_forkservers(now_s, desired, generations, workers),
        *_candidate(now_s, desired, generations, workers),
        *_capacity(now_s, desired, generations, workers),
        *_farewell(now_s, generations, workers),
    ]


def seconds_until_due(
    now_s: float,
    desired: Desired,
    generations: Sequence[Generation],
    workers: Sequence[Worker],
) -> float:
    """Return how long `plan` may be left alone if nothing happens; at most a second.

    Most limits are of seconds, and a second is fine-grained enough. What waits for a
    shorter back-off, or for a process to leave, is looked at ten times as often.
    """
    restless = (
        desired.stop is not Stop.NO
        or desired.reload
        or now_s < max(desired.load_after_s, desired.spawn_after_s)
        or any(generation.stage is not Stage.SERVING for generation in generations)
        or any(worker.leaving or worker.life is not Life.READY for worker in workers)
    )
    if restless:
        return 0.1
    # A request that begins meanwhile is not due before its grace has passed, which is longer.
    due_s = min((_due_s(desired, worker) for worker in workers), default=math.inf)
    return min(1.0, max(0.05, due_s - now_s))


def _overdue_workers(now_s: float, desired: Desired, workers: Sequence[Worker]) -> list[Action]:
    """Return what is due against workers that outran a limit: one step at a time."""
    return [
        action
        for worker in workers
        if worker.pid and (action := _overdue(now_s, desired, worker)) is not None
    ]


def _overdue(now_s: float, desired: Desired, worker: Worker) -> Action | None:
    if worker.killed_s is not None:
        return None
    if worker.aborted_s is not None:
        late = now_s - worker.aborted_s >= ABORT_GRACE_S
        return Kill(worker.slot, Reason.IGNORED_ABORT) if late else None
    if worker.quitting_s is not None:
        late = now_s - worker.quitting_s >= QUIT_GRACE_S
        return Kill(worker.slot, Reason.IGNORED_QUIT) if late else None
    reason = _limit_outrun(now_s, desired, worker)
    if reason is not None:
        return Abort(worker.slot, reason)
    if worker.retiring_s is not None and now_s - worker.retiring_s >= desired.graceful_timeout_s:
        return Quit(worker.slot, Reason.GRACEFUL_TIMEOUT)
    return None


def _limit_outrun(now_s: float, desired: Desired, worker: Worker) -> Reason | None:
    """Return which of its time limits a worker has outrun."""

    def age_s(since_s: float) -> float:
        return now_s - max(since_s, desired.awake_since_s)

    if worker.life is Life.STARTING:
        late = 0 < desired.boot_timeout_s < age_s(worker.since_s)
        return Reason.BOOT_TIMEOUT if late else None
    if worker.running:
        # It may be silent for as long as one of them may hold the interpreter's lock.
        return Reason.REQUEST_TIMEOUT if now_s > _due_s(desired, worker) else None
    # A worker cannot be silent for longer than it has been ready.
    silent_s = age_s(max(worker.heartbeat_s, worker.since_s))
    return Reason.SILENT if 0 < desired.timeout_s < silent_s - BEAT_SLACK_S else None


def _due_s(desired: Desired, worker: Worker) -> float:
    """Return when the first of a worker's requests is one that the worker cannot end itself."""
    return min(
        (
            max(request.started_s, desired.awake_since_s)
            + (request.timeout_s or desired.timeout_s or math.inf)
            + TIMEOUT_GRACE_S
            for request in worker.running
        ),
        default=math.inf,
    )


def _overdue_forkservers(
    now_s: float, desired: Desired, generations: Sequence[Generation], workers: Sequence[Worker]
) -> list[Action]:
    """Return the end of forkservers that hold an order to fork for too long."""
    actions: list[Action] = []
    for generation in generations:
        waiting_since_s = min(
            (
                max(worker.since_s, desired.awake_since_s)
                for worker in workers
                if worker.generation == generation.number and worker.life is Life.ORDERED
            ),
            default=now_s,
        )
        if (
            generation.alive
            and generation.killed_s is None
            and now_s - waiting_since_s > SPAWN_GRACE_S
        ):
            actions.append(KillForkserver(generation.number, Reason.UNRESPONSIVE))
    return actions


def _candidate(
    now_s: float, desired: Desired, generations: Sequence[Generation], workers: Sequence[Worker]
) -> list[Action]:
    """Return the next step of the generation that has yet to prove itself, if one is wanted."""
    candidate = _unproven(generations)
    if candidate is not None:
        return _prove(now_s, desired, candidate, workers)
    serving = _serving(generations)
    wanted = desired.reload or serving is None or not serving.alive
    if wanted and desired.stop is Stop.NO and now_s >= desired.load_after_s:
        return [StartGeneration()]
    return []


def _prove(
    now_s: float, desired: Desired, candidate: Generation, workers: Sequence[Worker]
) -> list[Action]:
    number = candidate.number
    if desired.stop is not Stop.NO:
        return [GiveUp(number, Reason.STOPPING)]
    if candidate.failed or not candidate.alive:
        return [GiveUp(number, Reason.FAILED)]
    if candidate.failed_starts >= STARTS_BEFORE_GIVING_UP:
        return [GiveUp(number, Reason.FAILED_STARTS)]
    mine = [worker for worker in workers if worker.generation == number]
    if any(worker.serving for worker in mine):
        return [Promote(number)]
    age_s = now_s - max(candidate.since_s, desired.awake_since_s)
    if 0 < desired.boot_timeout_s < age_s:
        return [GiveUp(number, Reason.BOOT_TIMEOUT)]
    if candidate.stage is Stage.PROVING and not mine and now_s >= desired.spawn_after_s:
        return [Spawn(number, slot, probe=True) for slot in _free_slots(desired, workers)[:1]]
    return []


def _capacity(
    now_s: float, desired: Desired, generations: Sequence[Generation], workers: Sequence[Worker]
) -> list[Action]:
    """Return what brings the number of serving workers to the wanted one, and renews them.

    Missing workers are forked all at once. Replacing one that still serves (it is of an
    older generation, or asked to retire) is done one at a time, and the replacement must
    be ready before the other is told to leave: never fewer serve than before.
    """
    current = _serving(generations)
    if current is None:
        return []
    unproven = _unproven(generations)
    pool = [
        worker for worker in workers if unproven is None or worker.generation != unproven.number
    ]
    serving = [worker for worker in pool if worker.serving]
    surplus = len(serving) - desired.workers
    if surplus > 0:
        return _retire_surplus(surplus, current, serving)
    if not current.alive or now_s < desired.spawn_after_s:
        return []
    starting = [worker for worker in pool if worker.life is not Life.READY and not worker.leaving]
    missing = -surplus - len(starting)
    if missing <= 0 and not starting:
        missing = int(_one_should_be_replaced(current, pool))
    free = _free_slots(desired, workers)
    return [Spawn(current.number, slot) for slot in free[: max(0, missing)]]


def _one_should_be_replaced(current: Generation, pool: Sequence[Worker]) -> bool:
    """Whether a spare worker should be started now, so that an old one can be retired."""
    if any(worker.serving and worker.generation != current.number for worker in pool):
        return True
    # Workers reach MAX_REQUESTS close together; the next waits until the last has left,
    # so that at no time two are away or doubled.
    if any(worker.leaving and worker.generation == current.number for worker in pool):
        return False
    return any(worker.serving and worker.wants_retirement for worker in pool)


def _retire_surplus(surplus: int, current: Generation, serving: Sequence[Worker]) -> list[Action]:
    """Return the retirement of `surplus` workers: the oldest code first, then who asked."""

    def keep(worker: Worker) -> tuple[bool, bool, int]:
        return (worker.generation == current.number, not worker.wants_retirement, -worker.slot)

    return [
        Retire(
            worker.slot,
            Reason.SURPLUS
            if worker.generation == current.number and not worker.wants_retirement
            else Reason.SUPERSEDED,
        )
        for worker in sorted(serving, key=keep)[:surplus]
    ]


def _farewell(
    now_s: float, generations: Sequence[Generation], workers: Sequence[Worker]
) -> list[Action]:
    """Return the dismissal of generations that were superseded and have no worker left."""
    return list(
        chain.from_iterable(
            _dismiss(now_s, generation, workers)
            for generation in generations
            if generation.stage is Stage.LEAVING
        )
    )


def _dismiss(now_s: float, generation: Generation, workers: Sequence[Worker]) -> list[Action]:
    """Return the next step of a forkserver's end. It stays while it has workers to reap."""
    if not generation.alive or generation.killed_s is not None:
        return []
    if any(worker.generation == generation.number for worker in workers):
        return []
    if generation.closed_s is None:
        return [CloseForkserver(generation.number)]
    if now_s - generation.closed_s >= QUIT_GRACE_S:
        return [KillForkserver(generation.number, Reason.IGNORED_QUIT)]
    return []


def _stop_graceful(
    now_s: float,
    begin_s: float,
    desired: Desired,
    generations: Sequence[Generation],
    workers: Sequence[Worker],
) -> list[Action]:
    """Return the next steps of a stop that lets requests finish."""
    orders: list[Action] = [
        Retire(worker.slot, Reason.STOPPING) for worker in workers if not worker.leaving
    ]
    patience_s = desired.graceful_timeout_s + QUIT_GRACE_S
    return [
        *([StopListening()] if desired.listening else []),
        *orders,
        *_end_forkservers(now_s, begin_s + patience_s, generations, workers),
    ]


def _stop_quick(
    now_s: float, desired: Desired, generations: Sequence[Generation], workers: Sequence[Worker]
) -> list[Action]:
    """Return the next steps of a stop that waits for nobody."""
    orders: list[Action] = [
        Quit(worker.slot, Reason.STOPPING)
        for worker in workers
        if worker.quitting_s is None and worker.killed_s is None
    ]
    deadline_s = desired.stop_since_s + QUIT_GRACE_S
    return [
        *([StopListening()] if desired.listening else []),
        *orders,
        *_end_forkservers(now_s, deadline_s, generations, workers),
    ]


def _end_forkservers(
    now_s: float, deadline_s: float, generations: Sequence[Generation], workers: Sequence[Worker]
) -> list[Action]:
    """Return the end of all forkservers, and of the supervisor once everybody has left.

    A forkserver that is still importing does not listen; it is killed. One that was given
    the order to fork and has not answered at the deadline is killed too.
    """
    actions: list[Action] = []
    for generation in generations:
        if generation.stage is Stage.LOADING or now_s >= deadline_s + QUIT_GRACE_S:
            if generation.alive and generation.killed_s is None:
                actions.append(KillForkserver(generation.number, Reason.STOPPING))
        else:
            actions += _dismiss(now_s, generation, workers)
    if not actions and not workers and not any(generation.alive for generation in generations):
        actions.append(Finish())
    return actions


def _serving(generations: Sequence[Generation]) -> Generation | None:
    return next((one for one in generations if one.stage is Stage.SERVING), None)


def _unproven(generations: Sequence[Generation]) -> Generation | None:
    stages = (Stage.LOADING, Stage.PROVING)
    return next((one for one in generations if one.stage in stages), None)


def _free_slots(desired: Desired, workers: Sequence[Worker]) -> list[int]:
    taken = {worker.slot for worker in workers}
    return [slot for slot in range(desired.slots) if slot not in taken]
