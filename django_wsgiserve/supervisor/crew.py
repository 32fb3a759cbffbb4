"""Forkservers and workers: what is known of them, and the means to order them about.

Every order that `plan` gives is carried out here, and shows in the values that `plan`
reads next. It decides nothing; what the processes say of themselves is `facts.py`'s.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace
from typing import Any

from django_wsgiserve.config import ServerConfig
from django_wsgiserve.errors import ExitCode
from django_wsgiserve.events import ERROR, WARNING, EventBus
from django_wsgiserve.scoreboard import Order, Scoreboard
from django_wsgiserve.supervisor.actions import Reason
from django_wsgiserve.supervisor.forkservers import Forkserver, Launch
from django_wsgiserve.supervisor.obituary import request_fields, running_request
from django_wsgiserve.supervisor.processes import ProcessHandle
from django_wsgiserve.supervisor.states import Backoff, Generation, Life, Running, Stage, Worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a generation cannot serve, as the operator should read it."""

    message: str
    hint: str = ""
    detail: str = ""
    exit_code: int = ExitCode.APP_FAILED


class Crew:
    """All processes below the supervisor."""

    def __init__(self, launch: Launch, scoreboard: Scoreboard, events: EventBus) -> None:
        """Store; nothing is started."""
        self.generations: dict[int, Generation] = {}
        self.workers: dict[int, Worker] = {}
        """By slot."""
        self.configs: dict[int, ServerConfig] = {}
        """Of generations that have loaded."""
        self.failures: dict[int, Failure] = {}
        self.checks = ""
        """What the system checks of the newest generation came to, in a few words."""
        self.load_backoff = Backoff()
        self.spawn_backoff = Backoff()
        self.served = False
        """A generation has been promoted since the start."""
        self.forkservers: dict[int, Forkserver] = {}
        self.handles: dict[int, ProcessHandle] = {}
        """Of workers whose pid is known, by slot."""
        self.scoreboard = scoreboard
        self.events = events
        self._launch = launch
        self._last_generation = 0

    # -- what is there ------------------------------------------------------------------------

    def snapshot(self) -> tuple[list[Generation], list[Worker]]:
        """Return everything `plan` reads, with what the scoreboard says now."""
        workers = []
        for worker in self.workers.values():
            status = self.scoreboard.row(worker.slot).status()
            if worker.pid and status.pid == worker.pid:
                worker = replace(
                    worker,
                    heartbeat_s=status.heartbeat_s,
                    running=tuple(Running(one.started_s, one.timeout_s) for one in status.running),
                )
            workers.append(worker)
        return list(self.generations.values()), workers

    def update_worker(self, slot: int, **changes: Any) -> None:
        """Note something about a worker."""
        self.workers[slot] = replace(self.workers[slot], **changes)

    def update_generation(self, number: int, **changes: Any) -> None:
        """Note something about a generation."""
        self.generations[number] = replace(self.generations[number], **changes)

    @property
    def _patched(self) -> bool:
        """Whether the newest configuration that is known wants gevent's patches."""
        newest = max(self.configs, default=None)
        if newest is None:
            return self._launch.patched
        return self.configs[newest].worker_class == "gevent"

    # -- orders -------------------------------------------------------------------------------

    def start_generation(self, now_s: float) -> Forkserver | None:
        """Start a forkserver. One that cannot be started (`None`) is a generation that failed."""
        self._last_generation += 1
        number = self._last_generation
        self.generations[number] = Generation(number=number, stage=Stage.LOADING, since_s=now_s)
        try:
            forkserver = Forkserver.start(
                self._launch, number, first=not self.served, patched=self._patched
            )
        except OSError as error:
            self.update_generation(number, alive=False)
            self.failures[number] = Failure(
                message=f"the forkserver could not be started: {error}",
                hint=f"It is started as `{' '.join(self._launch.argv)}` "
                f"in {str(self._launch.directory)!r}.",
            )
            return None
        self.forkservers[number] = forkserver
        return forkserver

    def spawn(self, number: int, slot: int, *, probe: bool, now_s: float) -> None:
        """Order a worker. A forkserver that takes no order is about to be found dead."""
        self.scoreboard.row(slot).clear()
        if self.forkservers[number].order(do="spawn", slot=slot, probe=probe):
            self.workers[slot] = Worker(
                slot=slot, generation=number, life=Life.ORDERED, since_s=now_s
            )
        else:
            self.kill_forkserver(number, now_s)

    def tell(self, slot: int, order: Order, now_s: float) -> None:
        """Write a worker's order and wake it up to read it."""
        key = "quitting_s" if order is Order.QUIT else "retiring_s"
        self.update_worker(slot, **{key: now_s})
        self.scoreboard.row(slot).order = order
        self.signal(slot, signal.SIGUSR2)

    def abort(self, slot: int, reason: Reason, now_s: float) -> None:
        """End a stuck worker with SIGABRT, and say what it is stuck in."""
        self._say_ended(slot, f"is ended: {reason.value}", ERROR, now_s)
        self.update_worker(slot, aborted_s=now_s)
        self.signal(slot, signal.SIGABRT)

    def kill(self, slot: int, reason: Reason, now_s: float) -> None:
        """End a worker with SIGKILL."""
        self._say_ended(slot, f"is killed: {reason.value}", WARNING, now_s)
        self.update_worker(slot, killed_s=now_s)
        self.signal(slot, signal.SIGKILL)

    def _say_ended(self, slot: int, what: str, level: int, now_s: float) -> None:
        worker = self.workers[slot]
        config = self.configs.get(worker.generation)
        timeout_s = config.timeout_s if config is not None else 0.0
        suspect = self.scoreboard.row(slot).status().first_due(timeout_s)
        self.events.notice(
            level,
            f"worker {slot} (pid {worker.pid}) {what}{running_request(suspect, now_s)}",
            slot=slot,
            pid=worker.pid,
            **request_fields(suspect, now_s),
        )

    def signal(self, slot: int, number: signal.Signals) -> None:
        """Send a worker a signal, if it has a process by now."""
        handle = self.handles.get(slot)
        if handle is not None:
            handle.send(number)

    def close_forkserver(self, number: int, now_s: float) -> None:
        """Tell a forkserver to leave by closing its control socket."""
        self.forkservers[number].close_control()
        self.update_generation(number, closed_s=now_s)

    def stop_listening(self) -> None:
        """Have the forkservers close their copies of the listening sockets."""
        for forkserver in self.forkservers.values():
            forkserver.order(do="close_listeners")

    def abort_forkserver(self, number: int) -> None:
        """End a forkserver that hangs in the project's import; it writes where to stderr."""
        self.forkservers[number].handle.send(signal.SIGABRT)

    def kill_forkserver(self, number: int, now_s: float) -> None:
        """End a forkserver with SIGKILL."""
        self.update_generation(number, killed_s=now_s)
        self.forkservers[number].handle.send(signal.SIGKILL)

    def forget_empty_generations(self) -> None:
        """Drop generations of which nothing is left."""
        occupied = {worker.generation for worker in self.workers.values()}
        for number, one in list(self.generations.items()):
            if one.stage is Stage.LEAVING and not one.alive and number not in occupied:
                del self.generations[number]
                for of_it in (self.forkservers, self.configs, self.failures):
                    of_it.pop(number, None)

    def kill_everybody(self) -> None:
        """Leave nobody behind: the last resort of a supervisor that fails itself."""
        for handle in self.handles.values():
            handle.send(signal.SIGKILL)
        for forkserver in self.forkservers.values():
            forkserver.handle.send(signal.SIGKILL)
