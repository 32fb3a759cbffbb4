"""A real `manage.py runprod`, started, watched and ended."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from tests.integration.processes import Death, Process, children_of, session_of
from tests.integration.project_copy import ProjectCopy
from tests.integration.wire import Address, Answer, Wire

READY_S = 60.0
STOP_S = 30.0
REACTION_S = 30.0
"""How long a server may take to do what a test waits for. None comes near it."""


class Output:
    """What a process writes to one of its streams: read at once, waited for by pattern."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        """Begin to read; `None` is a stream on which nothing ever comes."""
        self._stream = stream
        self._text = ""
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._copy, daemon=True)
        self._thread.start()

    @property
    def text(self) -> str:
        """All that came so far."""
        return self._text

    def wait_for(self, pattern: str, *, count: int = 1, timeout_s: float = REACTION_S) -> str:
        """Block until `pattern` was written `count` times; return the last match's line."""
        expression = re.compile(pattern)
        found: list[re.Match[str]] = []

        def seen() -> bool:
            found[:] = expression.finditer(self._text)
            return len(found) >= count

        with self._changed:
            reached = self._changed.wait_for(seen, timeout_s)
        assert reached, f"{pattern!r} came {len(found)} of {count} times in:\n{self._text}"
        match = found[count - 1]
        start = self._text.rfind("\n", 0, match.start()) + 1
        return self._text[start : self._text.find("\n", match.end())]

    def wait_until(self, claim: Callable[[], bool], *, timeout_s: float = REACTION_S) -> None:
        """Block until `claim()` holds, asked again with every line and every 50 ms."""
        turns = int(timeout_s / 0.05)
        with self._changed:
            for _ in range(turns):
                if claim():
                    return
                self._changed.wait(0.05)
        raise AssertionError(f"did not come true in {timeout_s} s; log:\n{self._text}")

    def drain(self) -> str:
        """Wait for the end of the stream, which comes with its last writer; return all."""
        self._thread.join(STOP_S)
        return self._text

    def _copy(self) -> None:
        if self._stream is None:
            return
        while data := os.read(self._stream.fileno(), 65536):
            with self._changed:
                self._text += data.decode(errors="replace")
                self._changed.notify_all()
        self._stream.close()


@dataclass
class RunningServer:
    """A server that has said it is ready.

    Attributes:
        ready: The JSON object from `--ready-fd`.
        access: Its standard output, where the access log goes.
        log: Its standard error.
    """

    process: subprocess.Popen[bytes]
    project: ProjectCopy
    access: Output
    log: Output
    ready: dict[str, Any] = field(default_factory=dict)

    @property
    def pid(self) -> int:
        """The supervisor's."""
        return self.process.pid

    @property
    def addresses(self) -> list[Address]:
        """Where it listens, in the order of its binds."""
        bound = self.ready["addresses"]
        return [a["path"] if "path" in a else (a["host"], a["port"]) for a in bound]

    @property
    def address(self) -> Address:
        """Where it listens first."""
        return self.addresses[0]

    @property
    def host_and_port(self) -> tuple[str, int]:
        """The first address, which is not a Unix socket."""
        assert not isinstance(self.address, str)
        return self.address

    def connect(self) -> Wire:
        """Return a new connection to the first address."""
        return Wire(self.address)

    def get(self, path: str, *fields: str) -> Answer:
        """Return the answer to a GET over a connection of its own."""
        with self.connect() as wire:
            return wire.request("GET", path, "Connection: close", *fields)

    def whoami(self) -> dict[str, Any]:
        """Return what the worker that answers knows of itself."""
        answer = self.get("/whoami")
        assert answer.status == 200, answer
        answered: dict[str, Any] = json.loads(answer.body)
        return answered

    def family(self) -> list[Process]:
        """Every living process of this server, whatever became of its parents."""
        return session_of(self.pid)

    def forkserver(self) -> int:
        """The pid of the only forkserver."""
        (forkserver,) = (p for p in children_of(self.pid) if "forkserver" in p.title)
        return forkserver.pid

    def workers(self) -> set[int]:
        """The pids of all workers, whoever is their parent."""
        return {p.pid for p in self.family() if "worker" in p.title}

    def steady_workers(self) -> set[int]:
        """The pids of all workers at one moment: what two looks in a row agree on.

        One look reads the process table entry by entry: it may miss who was born behind it
        and find gone who has left since, and so see fewer than there ever were.
        """
        seen = self.workers()
        while (again := self.workers()) != seen:
            seen = again
        return seen

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor alone."""
        self.process.send_signal(number)

    def send_signal_to_group(self, number: signal.Signals) -> None:
        """Send a signal as a terminal, docker and systemd do: to all."""
        os.killpg(self.pid, number)

    def wait(self, timeout_s: float = STOP_S) -> int:
        """Return the exit code, once it and all its processes ended."""
        deaths = [Death(process.pid) for process in self.family()]
        code = self.process.wait(timeout_s)
        for death in deaths:
            death.wait(timeout_s)
        return code

    def stop(self) -> int:
        """Ask it to drain; return its exit code."""
        if self.process.poll() is None:
            self.send_signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """End whatever is left of it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()

    def reload(self) -> None:
        """Reload, and block until no process of the old generation is left."""
        old = [p.pid for p in self.family() if p.pid != self.pid]
        self.send_signal(signal.SIGHUP)
        self.wait_until_gone(old)

    def wait_for_workers(self, count: int) -> set[int]:
        """Block until exactly `count` workers live; return their pids."""
        self.log.wait_until(lambda: len(self.workers()) == count)
        return self.workers()

    def wait_until_gone(self, pids: Iterable[int], timeout_s: float = REACTION_S) -> None:
        """Block until every one of `pids` has ended."""
        for death in [Death(pid) for pid in pids]:
            death.wait(timeout_s)


@dataclass(frozen=True, slots=True)
class Ended:
    """A server that came to its end by itself."""

    exit_code: int
    output: str
    survivors: list[Process]


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How to start a server: what differs from the plain case."""

    options: tuple[str, ...]
    project: ProjectCopy
    environment: Mapping[str, str] = field(default_factory=dict)
    pass_fds: tuple[int, ...] = ()
    prefix: tuple[str, ...] = ()
    """Words before the interpreter, such as `unshare --pid`."""
    stdout: int = subprocess.PIPE
    stderr: int = subprocess.PIPE

    def popen(self, *more: str, pass_fds: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
        """Start it."""
        command = [*self.prefix, sys.executable, "manage.py", "runprod", *self.options, *more]
        return subprocess.Popen(
            command,
            cwd=self.project.directory,
            env=self.project.environment(**self.environment),
            pass_fds=[*self.pass_fds, *pass_fds],
            stdin=subprocess.DEVNULL,
            stdout=self.stdout,
            stderr=self.stderr,
            start_new_session=True,
        )


def start(launch: Launch) -> RunningServer:
    """Start a server and block until it is ready.

    Raises:
        AssertionError: It ended, or was not ready in time; nothing of it is left then.
    """
    read_end, write_end = os.pipe()
    process = launch.popen("--ready-fd", str(write_end), pass_fds=(write_end,))
    os.close(write_end)  # ours: so that the server's death ends the read below
    server = _watched(process, launch)
    with os.fdopen(read_end, "rb") as pipe:
        readable, _, _ = select.select([pipe], [], [], READY_S)
        line = pipe.readline() if readable else b""
    if not line:
        server.kill()
        raise AssertionError(f"the server did not get ready:\n{server.log.drain()}")
    server.ready = json.loads(line)
    return server


def run_to_end(launch: Launch, timeout_s: float = READY_S) -> Ended:
    """Start what is expected to refuse to serve; return how it ended."""
    process = launch.popen()
    server = _watched(process, launch)
    try:
        code = process.wait(timeout_s)
        survivors = server.family()
    finally:
        server.kill()
    return Ended(code, server.log.drain() + server.access.drain(), survivors)


def _watched(process: subprocess.Popen[bytes], launch: Launch) -> RunningServer:
    """Read along; a stream that the test keeps for itself reads as empty."""
    return RunningServer(process, launch.project, Output(process.stdout), Output(process.stderr))
