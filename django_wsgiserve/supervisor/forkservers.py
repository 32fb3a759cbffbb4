"""A forkserver as the supervisor sees it: a child process, a control socket, its stderr.

Starts it, talks to it, remembers what it said last. What to do about it is `plan.py`'s.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from django_wsgiserve.boot import patched_command
from django_wsgiserve.scoreboard import Scoreboard
from django_wsgiserve.sockets import Listener
from django_wsgiserve.supervisor.processes import ProcessHandle, end_with_parent

VARIABLE = "WSGISERVE_FORKSERVER"
FAULTHANDLER = "wsgiserve"
"""Any text switches faulthandler on; this one says that we did, so that it is removed."""
# What means something to the supervisor must mean nothing to a forkserver, from its first
# instruction on: docker, systemd and terminals send to the whole group.
GROUP_SIGNALS = (
    signal.SIGHUP,
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTTIN,
    signal.SIGTTOU,
)
_STDERR_BYTES = 16 * 1024
_READ_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What every forkserver of this server is started with."""

    argv: tuple[str, ...]
    patched: bool
    """The first generation wants gevent's patches; later ones may turn out to differ."""
    directory: Path
    """The logical working directory: a deploy may point its symlink elsewhere."""
    environment: Mapping[str, str]
    scoreboard: Scoreboard
    reports_fd: int
    lifeline_fd: int
    handoff_fds: tuple[int, int]
    """The queue of connections between workers: the end to send to, the end to receive from."""
    listeners: Sequence[Listener]


class Forkserver:
    """One forkserver process."""

    def __init__(
        self, generation: int, process: subprocess.Popen[bytes], control: socket.socket, stderr: int
    ) -> None:
        """Store the parts; `start` makes them."""
        self.generation = generation
        self.handle = ProcessHandle.open(process.pid)
        self.control: socket.socket | None = control
        self.stderr_fd = stderr
        self._process = process
        self._received = b""
        self._said = b""

    @classmethod
    def start(cls, launch: Launch, generation: int, *, first: bool, patched: bool) -> Forkserver:
        """Run the operator's own command again, as a forkserver.

        Args:
            launch: What all of them have in common.
            generation: Its number.
            first: There is nothing yet that serves.
            patched: Whether to run it under gevent's patches. One that finds its settings
                to want the other starts itself again, as the same process.

        Raises:
            OSError: It could not be started: no memory, no such directory, no interpreter.
        """
        control, theirs = socket.socketpair()
        stderr_read, stderr_write = os.pipe()
        real_stderr = os.dup(2)
        task = {
            "generation": generation,
            "first": first,
            "directory": str(launch.directory),
            "started_s": time.monotonic(),
            "control": theirs.fileno(),
            "stderr": real_stderr,
            "scoreboard": launch.scoreboard.fd,
            "slots": launch.scoreboard.slots,
            "requests": launch.scoreboard.requests,
            "reports": launch.reports_fd,
            "lifeline": launch.lifeline_fd,
            "handoff": launch.handoff_fds,
            "listeners": [
                {"fd": listener.socket.fileno(), "name": listener.bind}
                for listener in launch.listeners
            ],
        }
        inherited = [theirs.fileno(), real_stderr, launch.scoreboard.fd, launch.reports_fd]
        inherited += [launch.lifeline_fd, *launch.handoff_fds]
        inherited += [*(one.socket.fileno() for one in launch.listeners)]
        try:
            process = subprocess.Popen(  # noqa: S603 - the command we were started with
                patched_command(launch.argv) if patched else launch.argv,
                cwd=launch.directory,
                env=forkserver_environment(launch.environment, json.dumps(task)),
                stdin=subprocess.DEVNULL,
                stderr=stderr_write,
                pass_fds=inherited,
                preexec_fn=partial(_begin_quietly, os.getpid()),
            )
        except BaseException:
            control.close()
            os.close(stderr_read)
            raise
        finally:
            theirs.close()
            os.close(stderr_write)
            os.close(real_stderr)
        control.setblocking(False)
        os.set_blocking(stderr_read, False)
        return cls(generation, process, control, stderr_read)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.handle.pid

    @property
    def last_words(self) -> str:
        """The end of what it wrote to stderr before our code took over."""
        return self._said.decode("utf-8", "replace").strip()

    def receive(self) -> tuple[list[dict[str, Any]], bool]:
        """Return the messages that came and whether more can come."""
        open_ = self.control is not None
        while self.control is not None:
            try:
                data = self.control.recv(_READ_BYTES)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                open_ = False
                break
            self._received += data
        *lines, self._received = self._received.split(b"\n")
        return [_message(line) for line in lines], open_

    def order(self, **message: Any) -> bool:
        """Send an order. False: it takes none any more."""
        if self.control is None:
            return False
        try:
            # A line is far below the socket's buffer: it goes whole or not at all.
            self.control.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            return False
        return True

    def copy_stderr(self) -> bool:
        """Pass on what the loading project printed. False: no more will come."""
        try:
            data = os.read(self.stderr_fd, 4096)
        except BlockingIOError:
            return True
        self._said = (self._said + data)[-_STDERR_BYTES:]
        # Up to 4 KiB fit a writable pipe whole; one whose reader has stopped is not waited for.
        if data and select.select([], [2], [], 0)[1]:
            with contextlib.suppress(OSError):
                os.write(2, data)
        return bool(data)

    def drain_stderr(self) -> None:
        """Pass on what is left. A process of the project may hold the other end for ever."""
        while self.stderr_fd >= 0 and select.select([self.stderr_fd], [], [], 0)[0]:
            if not self.copy_stderr():
                self.close_stderr()

    def close_control(self) -> None:
        """Close the control socket, which tells it to leave."""
        if self.control is not None:
            self.control.close()
            self.control = None

    def close_stderr(self) -> None:
        """Stop listening to its stderr."""
        if self.stderr_fd >= 0:
            os.close(self.stderr_fd)
            self.stderr_fd = -1

    def reaped(self, exit_code: int) -> None:
        """Note that it was reaped, so that nothing waits for it again, and let go of it."""
        self._process.returncode = exit_code
        self.close_control()
        self.close_stderr()
        self.handle.close()


def _message(line: bytes) -> dict[str, Any]:
    """Return the object of a line; what is none is told as it came."""
    try:
        message = json.loads(line)
    except ValueError:
        message = None
    return message if isinstance(message, dict) else {"unreadable": line.decode("latin-1")}


def forkserver_environment(environment: Mapping[str, str], task: str) -> dict[str, str]:
    """Return the environment of a forkserver.

    A project that hangs in its import is ended by SIGABRT; with faulthandler it says
    where. What the forkserver removes again comes last: setproctitle finds the memory of
    the title by the first variable.
    """
    own = {VARIABLE: task}
    if environment.get("PYTHONFAULTHANDLER", FAULTHANDLER) in {"", FAULTHANDLER}:
        own["PYTHONFAULTHANDLER"] = FAULTHANDLER
    return {**{k: v for k, v in environment.items() if k not in own}, **own}


def _begin_quietly(supervisor: int) -> None:
    """Be deaf to the group, and gone with the supervisor: the project is not loaded yet."""
    end_with_parent(True)
    if os.getppid() != supervisor:  # it died before the kernel was asked to tell
        raise ProcessLookupError(supervisor)
    for number in GROUP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
