"""A real worker in a forked child, with the test in the supervisor's place."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django_wsgiserve.config import ServerConfig
from django_wsgiserve.events import EventBus
from django_wsgiserve.logs import open_logs
from django_wsgiserve.scoreboard import Order, Scoreboard, WorkerStatus
from django_wsgiserve.workers.base import WorkerSpec, run_worker
from tests.workers.served import DEADLINE_S, configured, hello, listen

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

SLOT = 1
GENERATION = 3


@dataclass
class WorkerProcess:
    """A forked worker and the ends of everything that it shares with its supervisor."""

    directory: Path
    application: WSGIApplication = hello
    probe: str = ""
    probe_decides: bool = False
    order_before: Order = Order.NONE
    reports_full: bool = False
    before_exit: Callable[[], None] = lambda: None
    settings: dict[str, Any] = field(default_factory=dict)
    pid: int = 0
    status: int | None = None
    _filler: int = 0

    def __post_init__(self) -> None:
        """Make what is shared."""
        self.listener = listen()
        self.board = Scoreboard.create(2)
        self.row = self.board.row(SLOT)
        self.reports, self._reports_of_worker = socket.socketpair(type=socket.SOCK_DGRAM)
        self.reports.settimeout(DEADLINE_S)
        self._lifeline_of_worker, self._lifeline = os.pipe()
        self._stack_fd = os.memfd_create("stack")
        self.access_log = self.directory / "access.log"
        self.error_log = self.directory / "error.log"
        self.events = EventBus()

    @property
    def config(self) -> ServerConfig:
        """What the worker is told, logs included."""
        return replace(
            configured(
                access_logfile=str(self.access_log),
                error_logfile=str(self.error_log),
                access_log_format="combined",
                log_format="text",
            ),
            **self.settings,
        )

    def start(self) -> WorkerProcess:
        """Fork; the child serves until it is told otherwise, and is gone with its last line."""
        self.row.order = self.order_before
        if self.reports_full:
            self._reports_of_worker.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    self._filler += self._reports_of_worker.send(b"filler") > 0
        self.pid = os.fork()
        if self.pid == 0:
            code = 70
            try:
                os.close(self._lifeline)
                self.reports.close()
                code = run_worker(self._spec())
            finally:
                os._exit(code)
        self._reports_of_worker.close()
        os.close(self._lifeline_of_worker)
        return self

    def _spec(self) -> WorkerSpec:
        config = self.config
        return WorkerSpec(
            slot=SLOT,
            generation=GENERATION,
            config=config,
            application=self.application,
            listeners=(self.listener,),
            scoreboard=self.board,
            reports_fd=self._reports_of_worker.detach(),
            lifeline_fd=self._lifeline_of_worker,
            stack_fd=self._stack_fd,
            probe=self.probe,
            probe_decides=self.probe_decides,
            probe_host="site.example",
            probe_scheme="https",
            events=self.events,
            open_logs=lambda: open_logs(config, self.events, role=f"worker {SLOT}"),
            before_exit=self.before_exit,
        )

    # -- the supervisor's part ----------------------------------------------------------------

    def report(self) -> dict[str, Any]:
        """Return the next report, of whose sender nothing but the kind is left to check."""
        message: dict[str, Any] = json.loads(self.reports.recv(65536))
        assert message.pop("slot") == SLOT
        assert message.pop("pid") == self.pid
        return message

    def take_filler(self) -> int:
        """Read what made the socket full; return how many messages it was."""
        for _ in range(self._filler):
            assert self.reports.recv(100) == b"filler"
        return self._filler

    def reports_left(self) -> list[dict[str, Any]]:
        """Return what has been reported and not read, once the worker is gone."""
        assert self.status is not None
        self.reports.setblocking(False)
        found = []
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            while data := self.reports.recv(65536):
                found.append(json.loads(data))
        return found

    def ready(self) -> WorkerProcess:
        """Wait until it has said that it is ready."""
        assert self.report() == {"event": "ready", "status": 200}
        return self

    def order(self, order: Order) -> None:
        """Write the order and say that there is one."""
        self.row.order = order
        self.signal(signal.SIGUSR2)

    def signal(self, number: int) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def cut_lifeline(self) -> None:
        """Die, as far as the worker can tell."""
        os.close(self._lifeline)
        self._lifeline = -1

    def connect(self) -> socket.socket:
        """Return a client."""
        client = socket.create_connection(("127.0.0.1", int(self.listener.server_port)), DEADLINE_S)
        client.settimeout(DEADLINE_S)
        return client

    def now(self) -> WorkerStatus:
        """Return its row."""
        return self.row.status()

    def wait(self) -> int:
        """Return its exit code, negative for a signal."""
        if self.status is None:
            with killed_after_deadline(self.pid):
                _, status = os.waitpid(self.pid, 0)
            self.status = os.waitstatus_to_exitcode(status)
        return self.status

    @property
    def stack(self) -> str:
        """What faulthandler wrote."""
        return os.pread(self._stack_fd, 1 << 20, 0).decode()

    def close(self) -> None:
        """End it if it runs, and give everything back."""
        if self.pid and self.status is None:
            self.order(Order.QUIT)
            self.wait()
        self.listener.close()
        self.reports.close()
        os.close(self._stack_fd)
        if self._lifeline >= 0:
            os.close(self._lifeline)
        os.close(self.board.fd)


@contextlib.contextmanager
def killed_after_deadline(pid: int) -> Any:
    """Kill a process that is waited for and does not leave, so that the wait ends."""
    timer = threading.Timer(DEADLINE_S, os.kill, (pid, signal.SIGKILL))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


class Piped:
    """An application that says when a request runs, and ends it when told to."""

    def __init__(self) -> None:
        self.running = os.pipe()
        self.go_on = os.pipe()

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        """Hold `/held`, answer everything else with its path."""
        if environ["PATH_INFO"] == "/held":
            self.stuck_here()
        return hello(environ, start_response)

    def stuck_here(self) -> None:
        """Wait for the test; its name is looked for in a stack."""
        os.write(self.running[1], b"!")
        os.read(self.go_on[0], 1)

    def wait(self) -> None:
        """Return when the request runs."""
        os.read(self.running[0], 1)

    def release(self) -> None:
        """Let it end."""
        os.write(self.go_on[1], b"!")

    def close(self) -> None:
        """Give the pipes back."""
        for fd in (*self.running, *self.go_on):
            os.close(fd)


Fork = Callable[..., WorkerProcess]
"""What the fixture `fork` is."""
