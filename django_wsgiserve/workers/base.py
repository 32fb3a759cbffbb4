"""A worker's life: from the fork to the exit code.

What every worker class shares: signals and orders, the lifeline, the report to the
supervisor, the probe, the logs. Which connections are served when is the scheduler's.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import random
import signal
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import setproctitle

from django_wsgiserve import originals
from django_wsgiserve.boot import flush_standard_streams
from django_wsgiserve.errors import ExitCode
from django_wsgiserve.events import CRITICAL
from django_wsgiserve.scoreboard import Order, Scoreboard, State
from django_wsgiserve.workers.handoff import Handoff
from django_wsgiserve.workers.probe import Probe
from django_wsgiserve.workers.reactor import Reactor
from django_wsgiserve.workers.site import Site
from django_wsgiserve.wsgi.environ import EnvironFactory
from django_wsgiserve.wsgi.gateway import Gateway

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from wsgiref.types import WSGIApplication

    from django_wsgiserve.config import ServerConfig
    from django_wsgiserve.events import EventBus
    from django_wsgiserve.sockets import Listener

_IGNORED = (signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGPIPE)
_ASKS_TO_RETIRE = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """Everything a worker is told; the forkserver fills it in.

    `probe` is the path of the request it sends itself before it reports ready, empty for
    none; with `probe_decides`, a worker whose answer is not one to show to visitors
    reports it and does not accept. `handoff_fds` are the ends of the queue of connections
    between workers, to send and to receive; `None` for a worker without siblings.
    `open_logs` is called in the worker, after the fork: each process has its own
    descriptors. `before_exit` closes databases and caches; `after_timeout` does so for the
    thread that calls it, whose request was broken off in the middle of something.
    """

    slot: int
    generation: int
    config: ServerConfig
    application: WSGIApplication
    listeners: tuple[Listener, ...]
    scoreboard: Scoreboard
    reports_fd: int
    lifeline_fd: int
    stack_fd: int
    handoff_fds: tuple[int, int] | None = None
    probe: str
    probe_decides: bool = False
    probe_host: str
    probe_scheme: str
    events: EventBus
    open_logs: Callable[[], WorkerLogs]
    before_exit: Callable[[], None]
    after_timeout: Callable[[], None] = lambda: None


class WorkerLogs(Protocol):
    """What a worker needs of the logs; `logs.Logs` is one."""

    @property
    def pending(self) -> bool:
        """Whether something waits to be written."""

    def flush(self) -> None:
        """Write what is buffered, without blocking."""

    def reopen(self) -> None:
        """Open files by their path again (SIGUSR1, after a rotation)."""

    def close(self) -> None:
        """Flush, with a short deadline, and close."""


def run_worker(spec: WorkerSpec) -> int:
    """Serve until ordered to leave; return the exit code. Called in the forked child.

    Raises nothing: what goes wrong is logged with its traceback, and is exit code 1.
    """
    worker = None
    try:
        worker = Worker(spec)
        worker.open()
        worker.serve()
    except BaseException as error:  # the top of a process: nothing is above it
        spec.events.notice(
            CRITICAL,
            f"worker {spec.slot} failed: {type(error).__name__}: {error}",
            "".join(traceback.format_exception(error)),
        )
        return 1
    finally:
        if worker is not None:
            worker.close()
    return 0


class Worker:
    """One worker process."""

    def __init__(self, spec: WorkerSpec) -> None:
        """Store; `open` takes possession of the process."""
        self._spec = spec
        self._row = spec.scoreboard.row(spec.slot)
        self._reports = originals.Socket(fileno=spec.reports_fd)
        self._reports.setblocking(False)
        self._logs: WorkerLogs | None = None
        self._wakeup = originals.socketpair()
        self._retirement_wanted = ""
        self._retirement_reported = False
        self._unsent: list[bytes] = []
        self._probe: Probe | None = None
        config = spec.config
        self._last_request = config.max_requests
        if config.max_requests and config.max_requests_jitter:
            # A child inherits the forkserver's state: without a seed of its own every
            # worker would draw the same jitter.
            self._last_request += random.Random(os.getpid()).randint(0, config.max_requests_jitter)  # noqa: S311
        self._reactor = self._new_reactor()

    def _new_reactor(self) -> Reactor:
        spec = self._spec
        environs = {
            listener: EnvironFactory(
                server_name=listener.server_name,
                server_port=listener.server_port,
                multithread=spec.config.request_slots > 1,
                multiprocess=True,
            )
            for listener in spec.listeners
        }
        return _reactor_class(spec.config)(
            Site(
                config=spec.config,
                listeners=spec.listeners,
                environs=environs,
                gateway=Gateway(spec.application, spec.events),
                events=spec.events,
                row=self._row,
                flush_logs=self._flush_logs,
                last_request=self._last_request,
                on_last_request=self._on_last_request,
                on_timed_out=self._on_timed_out,
                after_timeout=spec.after_timeout,
                leave_main=self._leave_main,
                request_slots=spec.config.request_slots,
                handoff=(
                    Handoff(*spec.handoff_fds, gives=spec.config.handoff)
                    if spec.handoff_fds
                    else None
                ),
                siblings=tuple(
                    spec.scoreboard.row(slot)
                    for slot in range(min(spec.scoreboard.slots, _rows_used(spec.config.workers)))
                    if slot != spec.slot
                ),
            )
        )

    # -- life ---------------------------------------------------------------------------------

    def open(self) -> None:
        """Take possession: title, signals, logs, sources."""
        spec = self._spec
        setproctitle.setproctitle(
            f"{spec.config.proc_name or 'wsgiserve'}: worker {spec.slot}"
            f" (generation {spec.generation})"
        )
        self._row.occupy(os.getpid(), spec.generation)
        faulthandler.enable(file=spec.stack_fd, all_threads=True)
        self._logs = spec.open_logs()
        self._install_signals()
        reactor = self._reactor
        reactor.add_source(self._wakeup[0].fileno(), self._on_wakeup)
        reactor.add_source(spec.lifeline_fd, self._on_lifeline)

    def serve(self) -> None:
        """Prove itself, accept, serve, leave."""
        spec = self._spec
        if spec.probe and spec.listeners:
            self._probe = probe = Probe(spec.probe, spec.probe_host, spec.probe_scheme)
            server_end = probe.connect()
            self._reactor.add_source(probe.fileno(), self._on_probe)
            self._reactor.adopt(server_end, ("127.0.0.1", "0"), spec.listeners[0]).silent = True
        else:
            self._begin(200)
        self._obey()  # an order may have come before there was a handler for it
        self._reactor.run()

    def _begin(self, status: int) -> None:
        """Report the answer to the probe; accept if it was one that visitors may see."""
        if not self._spec.probe_decides or 0 < status < 500:
            if self._row.order is Order.NONE:
                self._row.state = State.SERVING
            self._reactor.open()
        self._tell(event="ready", status=status)

    def close(self) -> None:
        """Give back what other processes would miss: databases, log lines, descriptors."""
        self._give_back()
        originals.set_wakeup_fd(-1)

    def _give_back(self) -> None:
        with contextlib.suppress(Exception):
            self._spec.before_exit()
        if self._logs is not None:
            self._logs.close()

    def _leave_main(self) -> None:
        """End the process although its main thread is stuck, in a request that was given up.

        All else is done; there is no other way out of a thread that does not return.
        """
        exit_code = int(ExitCode.CRASHED)
        try:
            self._give_back()
            flush_standard_streams()
            exit_code = 0
        finally:
            os._exit(exit_code)

    def _tell(self, **report: Any) -> None:
        """Send the supervisor a report, or keep it for the next tick: it may be busy."""
        message = {"slot": self._spec.slot, "pid": os.getpid(), **report}
        self._unsent.append(json.dumps(message).encode())
        self._send_reports()

    def _send_reports(self) -> None:
        with contextlib.suppress(OSError):  # full, or gone: then the lifeline says so
            while self._unsent:
                self._reports.send(self._unsent[0])
                del self._unsent[0]

    # -- signals and sources ------------------------------------------------------------------

    def _install_signals(self) -> None:
        for end in self._wakeup:
            end.setblocking(False)
        # First, so that no signal is handled without waking the loop.
        originals.set_wakeup_fd(self._wakeup[1].fileno(), warn_on_full_buffer=False)
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        # Handlers run in the main thread, when it gets to it: the loop, which may turn in
        # another one, acts on the numbers that come through the wakeup descriptor.
        for number in (*_ASKS_TO_RETIRE, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, _only_wake)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def _on_wakeup(self) -> None:
        numbers = b""
        with contextlib.suppress(BlockingIOError):
            numbers = self._wakeup[0].recv(4096)
        if signal.SIGUSR1 in numbers and self._logs is not None:
            self._logs.reopen()
        for number in _ASKS_TO_RETIRE:
            if number in numbers:
                self._retirement_wanted = f"received {number.name}"
        self._obey()
        self._ask_to_retire()

    def _obey(self) -> None:
        order = self._row.order
        if order is Order.QUIT:
            self._reactor.quit()
        elif order is not Order.NONE:
            self._row.state = State.RETIRING
            self._reactor.retire(stop=order is Order.STOP)

    def _ask_to_retire(self) -> None:
        """Ask once to be replaced; go on serving until the order comes."""
        if self._retirement_wanted and not self._retirement_reported:
            self._retirement_reported = True
            self._tell(event="retire_me", reason=self._retirement_wanted)

    def _on_lifeline(self) -> None:
        """The supervisor is dead: nobody stays to serve, so drain and leave."""
        self._reactor.remove_source(self._spec.lifeline_fd)
        self._row.state = State.RETIRING
        self._reactor.retire(stop=True)

    def _on_probe(self) -> None:
        probe = self._probe
        if probe is not None and probe.read(self._begin):
            self._reactor.remove_source(probe.fileno())
            probe.close()
            self._probe = None

    def _flush_logs(self) -> None:
        if self._logs is not None and self._logs.pending:
            self._logs.flush()
        if self._unsent:
            self._send_reports()

    def _on_last_request(self) -> None:
        self._retirement_wanted = f"MAX_REQUESTS reached ({self._last_request})"
        self._ask_to_retire()

    def _on_timed_out(self, request: str) -> None:
        self._retirement_wanted = f"{request} ran longer than TIMEOUT"
        self._ask_to_retire()


def _reactor_class(config: ServerConfig) -> type[Reactor]:
    if config.worker_class != "gevent":
        return Reactor
    # Here, for gevent is there only where it was asked for.
    from django_wsgiserve.workers.greenlets import GreenletReactor

    return GreenletReactor


def _rows_used(workers: int) -> int:
    """Return how many rows of the scoreboard may be in use: twice the workers in a reload.

    And a few more for a number that is being changed; a sibling beyond is not noticed,
    but takes connections all the same.
    """
    return 2 * workers + 8


def _only_wake(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the wakeup descriptor has the number already."""
