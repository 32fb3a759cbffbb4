"""The loop: waits for signals, messages and exits, asks `plan`, and does what it says.

It imports nothing of the project and never waits for one process while others need it.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from django_wsgiserve.config import MOST_WORKERS, ServerConfig
from django_wsgiserve.errors import ExitCode
from django_wsgiserve.events import ERROR, INFO, WARNING
from django_wsgiserve.scoreboard import Order
from django_wsgiserve.sockets import Listener, remove_socket_file
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
from django_wsgiserve.supervisor.crew import Crew, Failure
from django_wsgiserve.supervisor.facts import Facts
from django_wsgiserve.supervisor.forkservers import Forkserver
from django_wsgiserve.supervisor.obituary import plural
from django_wsgiserve.supervisor.plan import plan, seconds_until_due
from django_wsgiserve.supervisor.processes import reap
from django_wsgiserve.supervisor.signals import SignalInbox
from django_wsgiserve.supervisor.states import Desired, Stage, Stop

GAP_S = 1.0
"""A loop that wakes up so much too late was frozen or starved, and so was everybody else."""
_ROUNDS = 50
_REPORT_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the supervisor works with, opened by `main`."""

    config: ServerConfig
    crew: Crew
    listeners: Sequence[Listener]
    inbox: SignalInbox
    reports: socket.socket
    """Where workers' datagrams arrive."""
    flush_logs: Callable[[], None]
    reopen_logs: Callable[[], None]
    on_ready: Callable[[], None]
    """Called once, when the first worker can answer."""


class Supervisor:
    """Runs the server until it is told to stop."""

    def __init__(self, surroundings: Surroundings) -> None:
        """Store; `run` starts."""
        self._around = surroundings
        self._crew = surroundings.crew
        self._events = surroundings.crew.events
        self._facts = Facts(self._crew)
        self._selector = selectors.DefaultSelector()
        self._desired = _desired(surroundings.config, self._crew.scoreboard.slots)
        self._exit_code: int = ExitCode.STOPPED
        self._finished = False
        self._rolling = False
        self.boot_failure: Failure | None = None
        """Why the first generation never served; the caller tells the operator."""

    def run(self) -> int:
        """Serve until told to stop; return the exit code."""
        with self._selector:
            self._watch(self._around.inbox, self._on_signals)
            self._watch(self._around.reports, self._on_reports)
            self._desired = replace(self._desired, awake_since_s=time.monotonic())
            while not self._finished:
                self._advance()
                self._around.flush_logs()
                if not self._finished:
                    self._wait()
        return self._exit_code

    # -- the loop -----------------------------------------------------------------------------

    def _wait(self) -> None:
        """Wait for something to happen, or to become due, and take it in."""
        before_s = time.monotonic()
        patience_s = seconds_until_due(before_s, self._wanted(), *self._crew.snapshot())
        for key, _ in self._selector.select(patience_s):
            current = self._selector.get_map().get(key.fd)
            if current is not None and current.data is key.data:  # an earlier one may have ended it
                key.data()
        now_s = time.monotonic()
        if now_s - before_s > patience_s + GAP_S:
            self._desired = replace(self._desired, awake_since_s=now_s)

    def _advance(self) -> None:
        """Ask the plan until it is content."""
        now_s = time.monotonic()
        self._facts.look_after_orphans(now_s)
        for _ in range(_ROUNDS):
            actions = plan(now_s, self._wanted(), *self._crew.snapshot())
            for action in actions:
                self._carry_out(action, now_s)
            self._crew.forget_empty_generations()
            if not actions or self._finished:
                break
        self._say_when_rolled()

    def _wanted(self) -> Desired:
        return replace(
            self._desired,
            load_after_s=self._crew.load_backoff.until_s,
            spawn_after_s=self._crew.spawn_backoff.until_s,
        )

    def _watch(self, source: SignalInbox | socket.socket | int, act: Callable[[], None]) -> None:
        self._selector.register(source, selectors.EVENT_READ, act)

    def _unwatch(self, source: socket.socket | int | None) -> None:
        fd = source.fileno() if isinstance(source, socket.socket) else source
        if fd is not None and fd >= 0 and fd in self._selector.get_map():
            self._selector.unregister(fd)

    # -- carrying out -------------------------------------------------------------------------

    def _carry_out(self, action: Action, now_s: float) -> None:  # noqa: C901 - one flat table
        crew = self._crew
        match action:
            case StartGeneration():
                self._start_generation(now_s)
            case Spawn(generation, slot, probe):
                crew.spawn(generation, slot, probe=probe, now_s=now_s)
            case Promote(generation):
                self._promote(generation, now_s)
            case GiveUp(generation, reason):
                self._give_up(generation, reason, now_s)
            case Retire(slot, reason):
                stopping = reason is Reason.STOPPING
                crew.tell(slot, Order.STOP if stopping else Order.RETIRE, now_s)
            case Quit(slot):
                crew.tell(slot, Order.QUIT, now_s)
            case Abort(slot, reason):
                crew.abort(slot, reason, now_s)
            case Kill(slot, reason):
                crew.kill(slot, reason, now_s)
            case CloseForkserver(generation):
                self._unwatch(crew.forkservers[generation].control)
                crew.close_forkserver(generation, now_s)
            case KillForkserver(generation):
                crew.kill_forkserver(generation, now_s)
            case StopListening():
                self._stop_listening()
            case Finish():
                self._finished = True

    def _start_generation(self, now_s: float) -> None:
        self._desired = replace(self._desired, reload=False)
        forkserver = self._crew.start_generation(now_s)
        if forkserver is None or forkserver.control is None:
            return
        self._watch(forkserver.control, lambda: self._on_control(forkserver))
        self._watch(forkserver.stderr_fd, lambda: self._on_stderr(forkserver))

    def _promote(self, number: int, now_s: float) -> None:
        """Make a proven generation the serving one; its configuration holds from now on."""
        crew = self._crew
        previous = [one for one in crew.generations.values() if one.stage is Stage.SERVING]
        for one in previous:
            crew.update_generation(one.number, stage=Stage.LEAVING, since_s=now_s)
        crew.update_generation(number, stage=Stage.SERVING, since_s=now_s)
        config = crew.configs[number]
        fresh = _desired(config, crew.scoreboard.slots)
        self._desired = replace(
            self._desired,
            workers=fresh.workers,
            timeout_s=fresh.timeout_s,
            graceful_timeout_s=fresh.graceful_timeout_s,
            boot_timeout_s=fresh.boot_timeout_s,
            drain_delay_s=fresh.drain_delay_s,
        )
        if not crew.served:
            crew.served = True
            self._around.on_ready()
            return
        self._rolling = True
        self._events.notice(
            INFO, f"generation {number} answers and takes over, worker by worker", generation=number
        )
        changed = [row.key for row in config.needing_restart(self._around.config)]
        if changed:
            self._events.notice(
                WARNING,
                f"a reload cannot change {', '.join(changed)}: restart the server for the new"
                f" value{'s' * (len(changed) > 1)}",
            )

    def _say_when_rolled(self) -> None:
        current = next(
            (one for one in self._crew.generations.values() if one.stage is Stage.SERVING), None
        )
        if not self._rolling or current is None:
            return
        mine = [one for one in self._crew.workers.values() if one.generation == current.number]
        others = any(
            one.serving and one.generation != current.number for one in self._crew.workers.values()
        )
        if not others and sum(one.serving for one in mine) >= self._desired.workers:
            self._rolling = False
            self._events.notice(
                INFO,
                f"reloaded: {plural(len(mine), 'worker')} of generation {current.number}",
                generation=current.number,
            )

    def _give_up(self, number: int, reason: Reason, now_s: float) -> None:
        crew = self._crew
        failure = crew.failures.get(number) or Failure(
            message={
                Reason.BOOT_TIMEOUT: "the project did not load and answer within "
                f"BOOT_TIMEOUT ({self._desired.boot_timeout_s:g} s)",
            }.get(reason, reason.value)
        )
        generation = crew.generations[number]
        if generation.alive and generation.stage is Stage.LOADING and not generation.failed:
            crew.abort_forkserver(number)
        crew.update_generation(number, stage=Stage.LEAVING, since_s=now_s)
        for worker in list(crew.workers.values()):
            if worker.generation == number:
                crew.tell(worker.slot, Order.QUIT, now_s)
        if reason is Reason.STOPPING:
            return
        if not crew.served:
            self.boot_failure = failure
            self._exit_code = failure.exit_code
            self._stop(Stop.QUICK)
            return
        crew.load_backoff = crew.load_backoff.failed(now_s)
        self._say_reload_failed(number, failure)

    def _say_reload_failed(self, number: int, failure: Failure) -> None:
        serving = next(
            (one for one in self._crew.generations.values() if one.stage is Stage.SERVING), None
        )
        goes_on = f"generation {serving.number} serves on" if serving else "nothing serves"
        reason, _, more = failure.message.partition("\n")  # a list of problems has many lines
        parts = (more.strip("\n"), failure.detail.strip("\n"), failure.hint)
        self._events.notice(
            ERROR,
            f"generation {number} was given up, {goes_on}: {reason}",
            "\n".join(part for part in parts if part),
            generation=number,
        )

    def _stop_listening(self) -> None:
        """Close our listening sockets, so that they end with the last worker's copy."""
        self._desired = replace(self._desired, listening=False)
        self._crew.stop_listening()
        for listener in self._around.listeners:
            remove_socket_file(listener)
            listener.close()

    # -- what arrives -------------------------------------------------------------------------

    def _on_control(self, forkserver: Forkserver) -> None:
        now_s = time.monotonic()
        if not self._facts.listen(forkserver, now_s):
            # Its end of the socket is closed: it is dying, or as good as dead.
            self._unwatch(forkserver.control)
            if self._crew.generations[forkserver.generation].alive:
                self._crew.kill_forkserver(forkserver.generation, now_s)

    def _on_stderr(self, forkserver: Forkserver) -> None:
        if not forkserver.copy_stderr():
            self._unwatch(forkserver.stderr_fd)
            forkserver.close_stderr()

    def _on_reports(self) -> None:
        while True:
            try:
                report = self._around.reports.recv(_REPORT_BYTES)
            except BlockingIOError:
                return
            # A worker runs the project's code, which may write to any descriptor.
            with contextlib.suppress(ValueError):
                self._facts.report(json.loads(report), time.monotonic())

    def _on_signals(self) -> None:
        meanings: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGCHLD: self._reap,
            signal.SIGHUP: self._reload,
            signal.SIGTERM: self._terminate,
            signal.SIGINT: lambda: self._stop(Stop.QUICK),
            signal.SIGQUIT: lambda: self._stop(Stop.QUICK),
            signal.SIGTTIN: lambda: self._scale(+1),
            signal.SIGTTOU: lambda: self._scale(-1),
            signal.SIGUSR1: self._reopen_logs,
            signal.SIGUSR2: lambda: self._events.notice(
                WARNING, "SIGUSR2 is ignored: this server cannot be upgraded in place"
            ),
        }
        for number in self._around.inbox.take():
            meanings[number]()

    def _terminate(self) -> None:
        """Stop gracefully; who says it twice means now."""
        again = self._desired.stop is not Stop.NO
        self._stop(Stop.QUICK if again else Stop.GRACEFUL)

    def _reopen_logs(self) -> None:
        self._around.reopen_logs()
        for slot in self._crew.workers:
            self._crew.signal(slot, signal.SIGUSR1)

    def _reap(self) -> None:
        now_s = time.monotonic()
        for pid, status in reap():
            forkserver = next(
                (one for one in self._crew.forkservers.values() if one.pid == pid), None
            )
            if forkserver is not None:
                self._unwatch(forkserver.control)
                self._unwatch(forkserver.stderr_fd)
            self._facts.child_ended(pid, status, now_s)

    def _reload(self) -> None:
        if self._desired.stop is not Stop.NO:
            return
        self._around.reopen_logs()
        self._desired = replace(self._desired, reload=True)
        loading = any(
            one.stage in (Stage.LOADING, Stage.PROVING) for one in self._crew.generations.values()
        )
        # Whoever asks has changed something: an old delay is not for the new code.
        self._crew.load_backoff = replace(self._crew.load_backoff, until_s=0.0)
        later = " once the present one is done" if loading else ""
        self._events.notice(INFO, f"SIGHUP: a new generation is loaded{later}")

    def _scale(self, step: int) -> None:
        workers = min(max(1, self._desired.workers + step), MOST_WORKERS)
        self._desired = replace(self._desired, workers=workers)
        self._events.notice(INFO, f"{plural(workers, 'worker')} wanted", workers=workers)

    def _stop(self, stop: Stop) -> None:
        if stop <= self._desired.stop:
            return
        self._desired = replace(self._desired, stop=stop, stop_since_s=time.monotonic())
        if not self._crew.served:  # nobody can have been sent here yet
            self._desired = replace(self._desired, drain_delay_s=0.0)
        if self.boot_failure is None:
            how = "gracefully" if stop is Stop.GRACEFUL else "now"
            delay_s = self._desired.drain_delay_s
            after = f" after {delay_s:g} s of further service" if delay_s else ""
            self._events.notice(
                INFO, f"stopping {how}{after if stop is Stop.GRACEFUL else ''}", pid=os.getpid()
            )


def _desired(config: ServerConfig, slots: int) -> Desired:
    return Desired(
        workers=max(1, config.workers),
        slots=slots,
        timeout_s=config.timeout_s,
        graceful_timeout_s=config.graceful_timeout_s,
        boot_timeout_s=config.boot_timeout_s,
        drain_delay_s=config.drain_delay_s,
    )
