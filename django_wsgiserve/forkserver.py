"""The forkserver: loads the project once, proves that it works, forks workers on order.

It is the operator's own `manage.py runprod`, run again, so that whatever manage.py does
to the environment is done. It decides nothing: it forks when told to, reaps, and reports.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import selectors
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

import setproctitle

from django_wsgiserve import originals
from django_wsgiserve.boot import flush_standard_streams
from django_wsgiserve.config import ServerConfig
from django_wsgiserve.errors import ExitCode, OperatorError
from django_wsgiserve.events import EventBus
from django_wsgiserve.integration import proving
from django_wsgiserve.integration.databases import blocking_drivers, close_databases
from django_wsgiserve.integration.logging import project_loggers
from django_wsgiserve.integration.proving import Project
from django_wsgiserve.integration.tracebacks import project_traceback
from django_wsgiserve.integration.warmup import visitor
from django_wsgiserve.logs import open_logs
from django_wsgiserve.patching import after_fork, patching
from django_wsgiserve.scoreboard import Scoreboard
from django_wsgiserve.sockets import Listener
from django_wsgiserve.supervisor.forkservers import GROUP_SIGNALS
from django_wsgiserve.supervisor.processes import end_with_parent
from django_wsgiserve.task import Task, start_again
from django_wsgiserve.workers.base import WorkerSpec, run_worker

_STACK_BYTES = 32 * 1024
_LEAVE_GRACE_S = 1.0


@dataclass(frozen=True, slots=True)
class Child:
    """A worker, and the file its last stack is in."""

    slot: int
    stack_fd: int


def main(resolve: Callable[[], ServerConfig]) -> int:
    """Be the forkserver that the environment describes; return the exit code.

    Args:
        resolve: Returns the configuration of this generation. Raises `OperatorError`.
    """
    started_s = time.monotonic()
    task = Task.take()
    for number in GROUP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    control = originals.Socket(fileno=task.control)
    try:
        config = resolve()
        if (config.worker_class == "gevent") is not patching.done:
            start_again(task, gevent=config.worker_class == "gevent")
        setproctitle.setproctitle(
            f"{config.proc_name or 'wsgiserve'}: forkserver (generation {task.generation})"
        )
        project = _prove(config, task)
    except OperatorError as error:
        _tell(control, **_failure(error))
        return error.exit_code
    except (Exception, SystemExit) as error:
        # The project raised where nothing of it was expected to run.
        failure = proving.not_imported(error)
        failure.__cause__ = error
        _tell(control, **_failure(failure))
        return failure.exit_code
    # Loaded: from here on the end of the control socket is noticed, and workers that are
    # stuck when the supervisor dies are this process's to end.
    end_with_parent(False)
    # Nothing that is printed belongs to loading any more.
    flush_standard_streams()
    os.dup2(task.stderr, 2)
    _tell(
        control,
        event="loaded",
        config=config.to_json(),
        checks=project.checks,
        notes=project.notes,
        seconds=time.monotonic() - started_s,
    )
    return Forkserver(task, control, config, project).run()


def _prove(config: ServerConfig, task: Task) -> Project:
    """Load, check and try the project, and make it ready to be forked."""
    proving.name_views(config.views)
    # A bit less than the supervisor's patience: what is stuck in Python says where. It has
    # been waiting since it started this process, which may have started itself again.
    application, checked = proving.load_checked(
        config.boot_timeout_s * 0.8, passed_s=time.monotonic() - task.started_s
    )
    notes = proving.doubtful_settings()
    notes += proving.check_database()
    if config.worker_class == "gevent":
        notes += blocking_drivers()
    notes += proving.try_out(application, config, first=task.first)
    notes += proving.prepare_fork({0, 1, 2, *task.inherited})
    gc.collect()
    # What exists now is never looked at by a collection again: a worker that collects
    # would write to, and so copy, all the memory that it shares.
    gc.freeze()
    return Project(application=application, visitor=visitor(), checks=checked, notes=notes)


def _failure(error: OperatorError) -> dict[str, Any]:
    """Return the `failed` message of an error."""
    stage = {ExitCode.REFUSED: "check", ExitCode.USAGE: "check"}.get(error.exit_code, "import")
    detail = project_traceback(error.__cause__) if error.__cause__ is not None else ""
    if isinstance(error, proving.WarmUpFailed):
        stage, detail = "warm-up", error.detail
    message = error.args[0] if error.args else str(error)
    return {
        "event": "failed",
        "stage": stage,
        "message": str(message),
        "hint": error.hint,
        "detail": detail,
        "exit_code": int(error.exit_code),
    }


def _tell(control: originals.Socket, **message: Any) -> None:
    """Send the supervisor a message. When it is dead, the end of the socket says so next."""
    with contextlib.suppress(OSError):
        control.sendall(json.dumps(message).encode() + b"\n")


class Forkserver:
    """Forks on order, until the control socket ends."""

    def __init__(
        self, task: Task, control: originals.Socket, config: ServerConfig, project: Project
    ) -> None:
        """Store; `run` starts."""
        self._task = task
        self._control = control
        self._config = config
        self._project = project
        self._children: dict[int, Child] = {}
        self._scoreboard = Scoreboard.attach(task.scoreboard, task.slots, task.requests)
        self._listeners = tuple(Listener.from_fd(fd, name) for fd, name in task.listeners)
        self._loggers = project_loggers()
        self._wakeup = os.pipe()
        self._received = b""

    def run(self) -> int:
        """Obey orders; return the exit code when there are no more to come."""
        for end in self._wakeup:
            os.set_blocking(end, False)
        originals.set_handler(signal.SIGCHLD, _only_wake)
        originals.set_wakeup_fd(self._wakeup[1], warn_on_full_buffer=False)
        with originals.DefaultSelector() as selector:
            selector.register(self._control, selectors.EVENT_READ)
            selector.register(self._wakeup[0], selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                if self._wakeup[0] in ready:
                    self._take_wakeups()
                    self._reap()
                if self._control in ready and not self._obey(selector):
                    selector.unregister(self._control)
                    self._outlive_children(selector)
                    return ExitCode.STOPPED

    def _outlive_children(self, selector: selectors.BaseSelector) -> None:
        """See to it that no worker stays when the supervisor is dead.

        Workers notice by themselves and leave; one that is stuck in a request does not.
        A forkserver that is merely dismissed has no workers any more.
        """
        deadline_s = time.monotonic() + self._config.graceful_timeout_s + _LEAVE_GRACE_S
        while self._children and time.monotonic() < deadline_s:
            selector.select(max(0.0, deadline_s - time.monotonic()))
            self._take_wakeups()
            self._reap()
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)

    def _take_wakeups(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wakeup[0], 4096)

    def _obey(self, selector: selectors.BaseSelector) -> bool:
        """Carry out the orders that came. False: there will be no more."""
        try:
            data = self._control.recv(65536)
        except OSError:
            return False
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            order: Mapping[str, Any] = json.loads(line)
            if order["do"] == "spawn":
                self._spawn(order["slot"], selector, probe=order["probe"])
            elif order["do"] == "close_listeners":
                for listener in self._listeners:
                    listener.close()
        return bool(data)

    def _spawn(self, slot: int, selector: selectors.BaseSelector, *, probe: bool) -> None:
        """Fork a worker and report it."""
        # What is buffered now would be written by both.
        flush_standard_streams()
        try:
            stack_fd = _nameless_file(f"wsgiserve-stack-{slot}")
            pid = originals.fork()
        except OSError as error:
            _tell(self._control, event="spawn_failed", slot=slot, reason=str(error))
            return
        if pid == 0:
            self._be_worker(slot, stack_fd, selector, probe=probe)
        self._children[pid] = Child(slot, stack_fd)
        _tell(self._control, event="started", slot=slot, pid=pid)

    def _be_worker(
        self, slot: int, stack_fd: int, selector: selectors.BaseSelector, *, probe: bool
    ) -> None:
        """Be the worker, and never return: everything above on the stack is the parent's."""
        exit_code = int(ExitCode.CRASHED)
        try:
            after_fork()
            originals.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            # Group signals stay ignored until the worker has its own handlers: one that
            # comes before them must not kill it, and its order is in the scoreboard.
            selector.close()
            self._control.close()
            for end in self._wakeup:
                originals.close(end)
            for child in self._children.values():
                originals.close(child.stack_fd)
            originals.close(self._task.stderr)
            exit_code = run_worker(self._spec(slot, stack_fd, probe=probe))
            flush_standard_streams()
        finally:
            os._exit(exit_code)

    def _spec(self, slot: int, stack_fd: int, *, probe: bool) -> WorkerSpec:
        config, events, loggers = self._config, EventBus(), self._loggers
        return WorkerSpec(
            slot=slot,
            generation=self._task.generation,
            config=config,
            application=self._project.application,
            listeners=self._listeners,
            scoreboard=self._scoreboard,
            reports_fd=self._task.reports,
            lifeline_fd=self._task.lifeline,
            stack_fd=stack_fd,
            handoff_fds=self._task.handoff,
            probe=config.warmup[0] if probe and config.warmup else "",
            probe_decides=not self._task.first,
            probe_host=self._project.visitor.host,
            probe_scheme=self._project.visitor.scheme,
            events=events,
            open_logs=lambda: open_logs(
                config,
                events,
                role=f"worker {slot}",
                access_logger=loggers.access,
                server_logger=loggers.server,
            ),
            before_exit=proving.leave,
            after_timeout=close_databases,
        )

    def _reap(self) -> None:
        """Report the workers that have ended. Other children are the project's own."""
        for pid, child in list(self._children.items()):
            try:
                ended, status = originals.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                ended, status = pid, 0  # the project reaps what is not its own
            if ended:
                del self._children[pid]
                _tell(
                    self._control,
                    event="exited",
                    slot=child.slot,
                    pid=pid,
                    status=status,
                    stack=_read_and_close(child.stack_fd),
                )


def _nameless_file(name: str) -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _read_and_close(fd: int) -> str:
    """Return what faulthandler wrote, which is nothing unless the worker crashed."""
    try:
        return os.pread(fd, _STACK_BYTES, 0).decode("utf-8", "replace").strip()
    finally:
        originals.close(fd)


def _only_wake(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the wakeup descriptor has the number already."""
