"""The servers that are compared, and how one is started, watched and stopped."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
START_S = 60.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Site:
    """A Django project to be served: its settings module, its WSGI module, the page to ask for."""

    name: str
    settings: str
    wsgi: str
    path: str


HELLO = Site("hello", "hello_site.settings", "hello_site.wsgi", "/")
COUNTED = Site("hello, counted", "hello_site.counted_settings", "hello_site.counted", "/")
FAST_PAGE = Site("fast page", "example_project.settings", "example_project.wsgi", "/fast/")


@dataclass(frozen=True)
class Peer:
    """A server: arguments for the interpreter, with `{bind}`, `{wsgi}`, `{workers}` to fill in."""

    name: str
    arguments: tuple[str, ...]


def gunicorn(name: str, *options: str) -> Peer:
    """Return Gunicorn with `options`, its access log on as ours is."""
    return Peer(
        name,
        (
            "-m",
            "gunicorn",
            "{wsgi}",
            "-b",
            "{bind}",
            "-w",
            "{workers}",
            "--access-logfile",
            os.devnull,
            *options,
        ),
    )


OURS = Peer(
    "django-wsgiserve",
    ("-m", "django", "runprod", "-b", "{bind}", "-w", "{workers}", "--access-logfile", os.devnull),
)
GUNICORN_SYNC = gunicorn("Gunicorn sync")
GUNICORN_GTHREAD = gunicorn("Gunicorn gthread", "-k", "gthread", "--threads", "4")


@dataclass(frozen=True)
class RunningServer:
    """A server that answers."""

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
                fields = stat.read_text().rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
        found = [self.process.pid]
        for pid in found:
            found += children.get(pid, [])
        return found

    def cpu_s(self) -> float:
        """Return the CPU time of the whole tree so far, user and system."""
        total = 0
        for pid in self.tree():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                total += int(fields[11]) + int(fields[12])
        return total / _TICKS_PER_S


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(peer: Peer, site: Site, *, workers: int = 1) -> Iterator[RunningServer]:
    """Start a server, yield it once it answers, end its process group afterwards."""
    port = free_port()
    values = {"bind": f"127.0.0.1:{port}", "wsgi": site.wsgi, "workers": str(workers)}
    environ = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": site.settings,
        "PYTHONPATH": f"{BENCH}:{ROOT}",
    }
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(  # noqa: S603 - the commands above
            [sys.executable, *(argument.format(**values) for argument in peer.arguments)],
            env=environ,
            cwd=ROOT,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        server = RunningServer(process, port)
        try:
            _wait_until_answering(server, site.path, log.fileno())
            yield server
        finally:
            _stop(process)


def _wait_until_answering(server: RunningServer, path: str, log_fd: int) -> None:
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s:
        if server.process.poll() is not None:
            break
        with contextlib.suppress(OSError):
            if fetch(server.port, path).startswith(b"HTTP/1.1 200"):
                return
        select.select([], [], [], 0.02)
    size = os.lseek(log_fd, 0, os.SEEK_END)
    output = os.pread(log_fd, 4096, max(0, size - 4096)).decode(errors="replace")
    raise SystemExit(f"{server.process.args!r} does not answer:\n{output}")


def fetch(port: int, path: str, timeout_s: float = 5.0) -> bytes:
    """Return the whole answer to one GET on a connection of its own."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as client:
        client.sendall(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )
        return b"".join(iter(lambda: client.recv(65536), b""))


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
