"""How a server is started, watched and stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from peers import BENCH, ROOT, Peer, Task
from proxy import nginx

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

START_S = 30.0
STOP_S = 10.0
RETRY_S = 0.02
WARM_UP_REQUESTS = 100
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class DidNotStart(Exception):
    """A server ended or gave no answer; the argument is the end of what it wrote."""


@dataclass(frozen=True)
class RunningServer:
    """A server that answers; behind a proxy, `port` is the proxy's."""

    process: subprocess.Popen[bytes]
    port: int

    def url(self, path: str) -> str:
        """Return the address of a page."""
        return f"http://127.0.0.1:{self.port}{path}"

    def tree(self) -> list[int]:
        """Return the process and all its descendants."""
        children: dict[int, list[int]] = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                parent = int(_stat_fields(stat)[1])
                children.setdefault(parent, []).append(int(stat.parent.name))
        found = [self.process.pid]
        for pid in found:
            found += children.get(pid, [])
        return found

    def workers(self) -> list[int]:
        """Return the processes of the tree that have no children.

        Not the tracker that `multiprocessing` starts beside the workers of some servers.
        """
        tree = self.tree()
        parents = {int(_stat_fields(Path(f"/proc/{pid}/stat"))[1]) for pid in tree}
        return [
            pid
            for pid in tree
            if pid not in parents
            and b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]

    def cpu_s(self) -> float:
        """Return the CPU time of the whole tree so far, user and system."""
        total_s = 0.0
        for pid in self.tree():
            with contextlib.suppress(OSError):
                total_s += process_cpu_s(pid)
        return total_s


def process_cpu_s(pid: int) -> float:
    """Return the CPU time of one process so far, user and system, of all its threads."""
    fields = _stat_fields(Path(f"/proc/{pid}/stat"))
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def _stat_fields(stat: Path) -> list[str]:
    """Return the fields of proc(5)'s stat after the name, which may have blanks in it."""
    return stat.read_text().rpartition(")")[2].split()


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(peer: Peer, task: Task) -> Iterator[RunningServer]:
    """Start a server, yield it once it answers, end its process group afterwards.

    Raises:
        DidNotStart: It does not answer.
    """
    with starting(peer, task) as launch:
        yield launch.wait_until_answering()


@contextlib.contextmanager
def running_all(
    peers: Sequence[Peer], task: Task
) -> Iterator[tuple[dict[str, RunningServer], dict[str, str]]]:
    """Start servers side by side; yield those that answer by name, and why others do not."""
    servers: dict[str, RunningServer] = {}
    absent = {peer.name: "not installed" for peer in peers if not peer.version}
    with contextlib.ExitStack() as stack:
        launches = {
            peer.name: stack.enter_context(starting(peer, task))
            for peer in peers
            if peer.name not in absent
        }
        for name, launch in launches.items():
            try:
                servers[name] = launch.wait_until_answering()
            except DidNotStart as error:
                absent[name] = f"did not start: {error}"
        try:
            yield servers, absent
        finally:
            for launch in launches.values():  # all at once: some take a second
                launch.server.process.terminate()


@dataclass(frozen=True)
class Launch:
    """A server that has been started and may not answer yet."""

    server: RunningServer
    page: str
    log_fd: int

    def wait_until_answering(self) -> RunningServer:
        """Return the server when it answers, warmed up.

        Raises:
            DidNotStart: It has ended, or `START_S` have passed.
        """
        deadline_s = time.monotonic() + START_S
        while time.monotonic() < deadline_s and self.server.process.poll() is None:
            with contextlib.suppress(OSError):
                if b" 200 " in fetch(self.server.port, self.page).partition(b"\r\n")[0]:
                    for _ in range(WARM_UP_REQUESTS):
                        fetch(self.server.port, self.page)
                    return self.server
            time.sleep(RETRY_S)
        size = os.lseek(self.log_fd, 0, os.SEEK_END)
        written = os.pread(self.log_fd, 4096, max(0, size - 4096)).decode(errors="replace")
        raise DidNotStart(written.strip())


@contextlib.contextmanager
def starting(peer: Peer, task: Task) -> Iterator[Launch]:
    """Start a server, yield at once, end its process group afterwards."""
    port = free_port()
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        log = stack.enter_context(tempfile.TemporaryFile())
        path = directory / "server.sock"
        process = subprocess.Popen(  # noqa: S603 - the commands of peers.py
            peer.command_for(task, port=port, path=path),
            env=environment(task),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        stack.callback(_stop, process)
        if task.proxy:
            stack.enter_context(
                nginx(port, path, peer.nginx, keep_alive=task.proxy == "keep-alive")
            )
        # A page that waits would make the warm-up long; any other path answers at once.
        page = "/" if task.site.path.startswith("/wait/") else task.site.path
        yield Launch(RunningServer(process, port), page, log.fileno())


def environment(task: Task) -> dict[str, str]:
    """Return the environment of whoever runs the application of `task`."""
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": task.site.settings,
        "PYTHONPATH": f"{BENCH}:{ROOT}",
    }


def fetch(port: int, path: str, timeout_s: float = 5.0) -> bytes:
    """Return the whole answer to one GET on a connection of its own."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as client:
        client.sendall(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )
        return b"".join(iter(lambda: client.recv(65536), b""))


def open_library() -> None:
    """Create the example project's database, if it is not there."""
    subprocess.run(
        [sys.executable, "manage.py", "open_library"],
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server; whoever of its group is left after it is killed."""
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
