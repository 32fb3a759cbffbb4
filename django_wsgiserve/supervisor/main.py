"""The supervisor's process: what is opened, in which order, and that all of it is undone.

`runprod` becomes this by execv. Neither Django nor the project is imported here, so
nothing that a deploy breaks can break it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from pathlib import Path

import setproctitle

from django_wsgiserve import __version__
from django_wsgiserve.boot import Boot
from django_wsgiserve.errors import OperatorError
from django_wsgiserve.events import CRITICAL, EventBus
from django_wsgiserve.logs import Logs, open_logs
from django_wsgiserve.logs.banner import BannerValues
from django_wsgiserve.scoreboard import Scoreboard
from django_wsgiserve.sockets import Listener, open_listeners, remove_socket_file
from django_wsgiserve.supervisor.crew import Crew, Failure
from django_wsgiserve.supervisor.forkservers import Launch
from django_wsgiserve.supervisor.pidfile import Pidfile
from django_wsgiserve.supervisor.processes import become_subreaper
from django_wsgiserve.supervisor.ready import ready_line, write_ready
from django_wsgiserve.supervisor.signals import SignalInbox, ignore_further_signals
from django_wsgiserve.supervisor.supervisor import Supervisor, Surroundings

SLOTS = 512
"""Rows of the scoreboard: twice the most workers, for while they are being replaced."""

CELLS = 64
"""Requests of one worker that the scoreboard has room for at least; a reload may want more."""
# macOS has no packets between Unix sockets; there its datagrams are as good.
_HANDOFF_KIND = getattr(socket, "SOCK_SEQPACKET", socket.SOCK_DGRAM)


def main(state_fd: int) -> int:
    """Serve until told to stop; return the exit code.

    Args:
        state_fd: The descriptor of `runprod`'s `Boot`.
    """
    started_s = time.monotonic()
    boot = Boot.from_fd(state_fd)
    if boot.config.ready_fd >= 0:
        # A forkserver that held it would keep its reader waiting after our death.
        with contextlib.suppress(OSError):
            os.set_inheritable(boot.config.ready_fd, False)
    setproctitle.setproctitle(f"{boot.config.proc_name or 'wsgiserve'}: supervisor")
    events = EventBus()
    try:
        with contextlib.ExitStack() as undo:
            logs = open_logs(boot.config, events, role="supervisor")
            undo.callback(logs.close)
            return _serve(boot, events, logs, undo, started_s)
    except OperatorError as error:
        _say(str(error))
        return error.exit_code


def _serve(
    boot: Boot, events: EventBus, logs: Logs, undo: contextlib.ExitStack, started_s: float
) -> int:
    """Open everything, run, and tell why if it never got to serving."""
    config = boot.config
    undo.callback(ignore_further_signals)
    # First: a signal that comes before there is a handler would leave files behind.
    inbox = undo.enter_context(SignalInbox())
    if config.pidfile:
        undo.callback(Pidfile.create(Path(config.pidfile).absolute(), os.getpid()).remove)
    listeners = open_listeners(config.bind, config.backlog, config.socket_mode)
    for listener in listeners:
        undo.callback(_give_back, listener)
    become_subreaper()
    crew, reports = _crew(boot, listeners, events, undo)

    def on_ready() -> None:
        logs.write_banner(_banner(boot, listeners, crew.checks, time.monotonic() - started_s))
        logs.flush()
        if config.ready_fd >= 0:
            write_ready(config.ready_fd, ready_line(os.getpid(), listeners))

    supervisor = Supervisor(
        Surroundings(
            config=config,
            crew=crew,
            listeners=listeners,
            inbox=inbox,
            reports=reports,
            flush_logs=logs.flush,
            reopen_logs=logs.reopen,
            on_ready=on_ready,
        )
    )
    try:
        exit_code = supervisor.run()
    except BaseException as error:
        # A bug of ours. The workers would leave by themselves when the lifeline breaks,
        # but then whoever starts us again might find the port still taken.
        crew.kill_everybody()
        events.notice(CRITICAL, f"the supervisor failed: {type(error).__name__}: {error}")
        raise
    if supervisor.boot_failure is not None:
        logs.flush()
        _say(_failure_text(supervisor.boot_failure))
    return exit_code


def _crew(
    boot: Boot, listeners: tuple[Listener, ...], events: EventBus, undo: contextlib.ExitStack
) -> tuple[Crew, socket.socket]:
    """Make what all workers inherit, and return who starts them and where they report."""
    scoreboard = Scoreboard.create(SLOTS, max(CELLS, boot.config.request_slots))
    reports, reports_theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    reports.setblocking(False)
    lifeline_read, lifeline_write = os.pipe()
    # Not datagrams, of which the kernel lets ten wait: see `workers/handoff.py`. Both ends
    # are held here, so that what waits in it outlives every worker.
    handoff = socket.socketpair(socket.AF_UNIX, _HANDOFF_KIND)
    for end in (reports, reports_theirs, *handoff):
        undo.callback(end.close)
    for fd in (scoreboard.fd, lifeline_read, lifeline_write):
        undo.callback(os.close, fd)
    launch = Launch(
        argv=boot.argv,
        patched=boot.config.worker_class == "gevent",
        directory=Path(boot.cwd),
        environment=dict(os.environ),
        scoreboard=scoreboard,
        reports_fd=reports_theirs.fileno(),
        lifeline_fd=lifeline_read,
        handoff_fds=(handoff[0].fileno(), handoff[1].fileno()),
        listeners=listeners,
    )
    return Crew(launch, scoreboard, events), reports


def _give_back(listener: Listener) -> None:
    """Close a listener and remove its file, if the stop has not done so already."""
    if listener.socket.fileno() >= 0:
        remove_socket_file(listener)
        listener.close()


def _banner(
    boot: Boot, listeners: tuple[Listener, ...], checks: str, ready_s: float
) -> BannerValues:
    return BannerValues(
        server_version=__version__,
        django_version=boot.versions.get("django", ""),
        python_version=boot.versions.get("python", ""),
        settings_module=boot.settings_module,
        workers=boot.config.workers,
        workers_reason=boot.config.workers_reason,
        worker_class=boot.config.worker_class_shown,
        urls=tuple(listener.url for listener in listeners),
        checks=checks,
        notes=boot.notes,
        ready_s=ready_s,
        pid=os.getpid(),
    )


def _failure_text(failure: Failure) -> str:
    """Return why nothing is served: the traceback first, so that the reason is read last."""
    parts = [failure.detail.rstrip(), failure.message]
    if failure.hint:
        parts.append(f"  {failure.hint}")
    return "\n".join(part for part in parts if part)


def _say(text: str) -> None:
    """Write to whoever started the server. Who closed stderr does not want to know."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
