"""What the processes say, and what the kernel says of them, noted in the `Crew`.

Messages of forkservers, reports of workers, children that ended: in whatever order they
come, for they come by three ways. What follows from a fact is `plan.py`'s to decide.
"""

from __future__ import annotations

import signal
from typing import Any

from django_wsgiserve.config import ServerConfig
from django_wsgiserve.events import ERROR, INFO, WARNING
from django_wsgiserve.supervisor.crew import Crew, Failure
from django_wsgiserve.supervisor.forkservers import Forkserver
from django_wsgiserve.supervisor.obituary import cause_of_death, request_fields, running_request
from django_wsgiserve.supervisor.processes import ProcessHandle
from django_wsgiserve.supervisor.states import Life, Stage, Worker

YOUNG_S = 5.0
"""A worker that dies sooner after it was ready died of being started, not of a request."""
_FREE_DEATHS = 3


class Facts:
    """Takes in what arrives."""

    def __init__(self, crew: Crew) -> None:
        """Store whom the facts are about."""
        self._crew = crew
        self._events = crew.events

    def listen(self, forkserver: Forkserver, now_s: float) -> bool:
        """Note all that a forkserver has said. False: it will say no more."""
        messages, open_ = forkserver.receive()
        for message in messages:
            self._hear(forkserver.generation, message, now_s)
        return open_

    def _hear(self, number: int, message: dict[str, Any], now_s: float) -> None:
        """Note what a forkserver says."""
        match message:
            case {"event": "loaded", "config": _}:
                self._on_loaded(number, message, now_s)
            case {"event": "started", "slot": slot, "pid": pid}:
                self._on_started(slot, pid, Life.STARTING, now_s)
            case {"event": "exited", "slot": slot, "pid": pid, "status": status}:
                self._on_exited(slot, pid, status, message.get("stack", ""), now_s)
            case {"event": "spawn_failed", "slot": slot, "reason": reason}:
                self._on_spawn_failed(slot, reason, now_s)
            case {"event": "failed", "message": text, "exit_code": exit_code}:
                self._crew.failures[number] = Failure(
                    message=text,
                    hint=message.get("hint", ""),
                    detail=message.get("detail", ""),
                    exit_code=exit_code,
                )
                self._crew.update_generation(number, failed=True)
            case {"event": "note", "level": level, "message": text}:
                self._events.notice(level, text, message.get("detail", ""), generation=number)
            case _:
                self._events.notice(WARNING, f"forkserver {number} says {message!r}")

    def _on_loaded(self, number: int, message: dict[str, Any], now_s: float) -> None:
        config = self._crew.configs[number] = ServerConfig.from_json(message["config"])
        most = self._crew.scoreboard.requests
        if config.request_slots > most:
            self._events.notice(
                WARNING,
                f"a worker is now to run {config.request_slots} requests at once, but after a"
                f" reload it can run no more than {most}: restart the server for more",
                generation=number,
            )
        self._crew.checks = message["checks"]
        if self._crew.generations[number].stage is Stage.LOADING:
            self._crew.update_generation(number, stage=Stage.PROVING, since_s=now_s)
        seconds = message["seconds"]
        self._events.notice(
            INFO, f"generation {number} has loaded in {seconds:.2f} s", generation=number
        )
        for note in message["notes"]:
            self._events.notice(WARNING, note, generation=number)

    def _on_started(self, slot: int, pid: int, life: Life, now_s: float) -> None:
        """Note a worker's pid. `ready` comes another way and may have come first."""
        worker = self._crew.workers.get(slot)
        if worker is None or worker.pid:
            return
        self._crew.update_worker(slot, pid=pid, life=life, since_s=now_s)
        self._crew.handles[slot] = ProcessHandle.open(pid)
        if worker.leaving:  # ordered before it could be signalled: it may have looked already
            self._crew.signal(slot, signal.SIGUSR2)

    def report(self, message: dict[str, Any], now_s: float) -> None:
        """Note what a worker says of itself."""
        match message:
            case {"event": "ready", "slot": slot, "pid": pid, "status": status}:
                self._on_ready(slot, pid, status, now_s)
            case {"event": "retire_me", "slot": slot, "pid": pid, "reason": reason}:
                worker = self._crew.workers.get(slot)
                if worker is not None and worker.pid == pid and not worker.wants_retirement:
                    self._crew.update_worker(slot, wants_retirement=True)
                    if not worker.leaving:
                        self._events.notice(
                            INFO, f"worker {slot} (pid {pid}) asks to be replaced: {reason}"
                        )

    def _on_ready(self, slot: int, pid: int, status: int, now_s: float) -> None:
        worker = self._crew.workers.get(slot)
        if worker is None:
            self._adopt(slot, pid, now_s)
            return
        self._on_started(slot, pid, Life.READY, now_s)
        if self._crew.workers[slot].pid != pid:
            return
        answered = 0 < status < 500
        generation = self._crew.generations.get(worker.generation)
        if not answered and generation is not None and generation.stage is Stage.PROVING:
            what = f"answered its first request with {status}" if status else "gave no answer"
            if self._crew.served:
                self._crew.failures[generation.number] = Failure(
                    message=f"the project has loaded, but its first worker {what}"
                )
                self._crew.update_generation(generation.number, failed=True)
                return
            # At the first start there is nothing better to serve: a site whose database is
            # down must come up, and come back by itself when the database does.
            self._events.notice(
                WARNING,
                f"the first worker {what}: the site starts, but it is not well",
                slot=slot,
                status=status,
            )
        self._crew.update_worker(slot, life=Life.READY, since_s=now_s)

    def _adopt(self, slot: int, pid: int, now_s: float) -> None:
        """Take in a worker whose forkserver died between forking it and saying so."""
        status = self._crew.scoreboard.row(slot).status()
        handle = ProcessHandle.open(pid)
        if handle.gone or status.pid != pid or status.generation not in self._crew.generations:
            handle.close()
            return
        self._crew.handles[slot] = handle
        self._crew.workers[slot] = Worker(
            slot=slot, generation=status.generation, life=Life.READY, since_s=now_s, pid=pid
        )

    def _on_spawn_failed(self, slot: int, reason: str, now_s: float) -> None:
        if self._crew.workers.pop(slot, None) is None:
            return
        self._crew.spawn_backoff = self._crew.spawn_backoff.failed(now_s)
        wait_s = self._crew.spawn_backoff.until_s - now_s
        self._events.notice(
            ERROR, f"no worker could be forked: {reason}; trying again in {wait_s:.1f} s"
        )

    def child_ended(self, pid: int, status: int, now_s: float) -> None:
        """Note that a child of ours was reaped; strangers are none of our business."""
        for number, forkserver in self._crew.forkservers.items():
            if forkserver.pid == pid and self._crew.generations[number].alive:
                self._on_forkserver_ended(forkserver, status, now_s)
                return
        for worker in list(self._crew.workers.values()):
            if worker.pid == pid:
                self._on_exited(worker.slot, pid, status, "", now_s)
                return

    def look_after_orphans(self, now_s: float) -> None:
        """Notice the end of workers whose forkserver can no longer report it."""
        for worker in list(self._crew.workers.values()):
            generation = self._crew.generations.get(worker.generation)
            if worker.pid and (generation is None or not generation.alive):
                handle = self._crew.handles[worker.slot]
                if handle.gone:
                    self._on_exited(worker.slot, worker.pid, None, "", now_s)

    def _on_exited(self, slot: int, pid: int, status: int | None, stack: str, now_s: float) -> None:
        """Note a worker's end, and say what it was doing if nobody had told it to go."""
        worker = self._crew.workers.get(slot)
        if worker is None or worker.pid not in (0, pid):
            return
        del self._crew.workers[slot]
        if slot in self._crew.handles:
            self._crew.handles.pop(slot).close()
        row = self._crew.scoreboard.row(slot)
        oldest = row.status().oldest
        row.clear()
        never_ready = worker.life is not Life.READY
        cause = f"{cause_of_death(status)}{running_request(oldest, now_s)}"
        if never_ready:
            cause += " before it was ready"
        if not worker.leaving or stack:
            self._events.notice(
                ERROR,
                f"worker {slot} (pid {pid}) {cause}",
                stack,
                slot=slot,
                pid=pid,
                **request_fields(oldest, now_s),
            )
        ordered = worker.retiring_s is not None or worker.quitting_s is not None
        if (never_ready and not ordered) or (
            not worker.leaving and now_s - worker.since_s < YOUNG_S
        ):
            self._note_early_death(worker, cause, stack, now_s)

    def _note_early_death(self, worker: Worker, cause: str, stack: str, now_s: float) -> None:
        free = max(_FREE_DEATHS, len(self._crew.workers) + 1)
        self._crew.spawn_backoff = self._crew.spawn_backoff.failed(now_s, free)
        generation = self._crew.generations.get(worker.generation)
        if generation is not None and generation.stage is Stage.PROVING:
            self._crew.failures[generation.number] = Failure(
                message=f"the project has loaded, but its first worker {cause}", detail=stack
            )
            self._crew.update_generation(
                generation.number, failed_starts=generation.failed_starts + 1
            )

    def _on_forkserver_ended(self, forkserver: Forkserver, status: int, now_s: float) -> None:
        """Note a forkserver's end, after what it had still to say."""
        number = forkserver.generation
        self.listen(forkserver, now_s)
        forkserver.drain_stderr()
        forkserver.reaped(status)
        generation = self._crew.generations[number]
        self._crew.update_generation(number, alive=False)
        for worker in list(self._crew.workers.values()):
            if worker.generation == number and worker.life is Life.ORDERED:
                # Its fork may have happened; if so it reports ready, and is taken in then.
                del self._crew.workers[worker.slot]
        cause = cause_of_death(status)
        if generation.stage in (Stage.LOADING, Stage.PROVING) and number not in self._crew.failures:
            words = forkserver.last_words
            last_line = words.rpartition("\n")[2]
            self._crew.failures[number] = Failure(
                message=f"the project {cause} while it was loading"
                f"{': ' if last_line else ''}{last_line}",
                hint="" if last_line else "It printed nothing. Does `python manage.py check` work?",
                detail=words,
            )
        if generation.stage is Stage.SERVING and generation.closed_s is None:
            self._crew.load_backoff = self._crew.load_backoff.failed(now_s, free=1)
            self._events.notice(
                ERROR,
                f"forkserver {number} (pid {forkserver.pid}) {cause}; its workers serve on "
                "until those of a new one replace them",
                generation=number,
            )
