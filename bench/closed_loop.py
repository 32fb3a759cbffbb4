"""Load by wrk: each connection sends its next request when it has the answer to the last."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from samples import CPU, FAILED, P50, P99, RATE, Column, LoadFailed, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers import RunningServer

UPLOAD_SCRIPT = Path(__file__).resolve().parent / "upload.lua"
UPLOAD_BYTES = 1024 * 1024
CONNECT_S = 5.0
STILL_OPEN = Column("idle", "idle, still open")


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """So many connections that never rest, and so many more that do nothing."""

    connections: int = 16
    keep_alive: bool = True
    upload: bool = False
    idle: int = 0

    @property
    def columns(self) -> tuple[Column, ...]:
        """Rate, latency, CPU and failures."""
        idle = (STILL_OPEN,) if self.idle else ()
        return (RATE, P50, P99, CPU, *idle, FAILED)

    @property
    def judged_by(self) -> Column:
        """The rate."""
        return RATE

    @property
    def description(self) -> str:
        """What wrk does."""
        words = [f"wrk with {self.connections} connections"]
        if not self.keep_alive:
            words.append("that ask for their end with every request")
        if self.upload:
            words.append(f"each request a POST of {UPLOAD_BYTES // 1024} KiB")
        if self.idle:
            words.append(f"beside {self.idle:,} that have had one answer and rest")
        return ", ".join(words)

    def run(self, server: RunningServer, path: str, seconds: int) -> Sample:
        """Load the server; what wrk counts as a socket error or not as 2xx has failed."""
        with idle_connections(server.port, path, self.idle) as idle:
            before_s = server.cpu_s()
            output = self._wrk(server.url(path), seconds)
            cpu_s = server.cpu_s() - before_s
            still_open = sum(map(is_open, idle))
        requests = int(_find(r"(\d+) requests in", output))
        failed = [
            int(number) for number in re.findall(r"(?:connect|read|write|timeout) (\d+)", output)
        ]
        return {
            "rate": float(_find(r"Requests/sec:\s+([\d.]+)", output)),
            "p50_ms": _milliseconds(output, 50),
            "p99_ms": _milliseconds(output, 99),
            "cpu_us": cpu_s / max(1, requests) * 1e6,
            "idle": still_open,
            "failed": sum(failed) + int(_find(r"Non-2xx or 3xx responses: (\d+)", output) or 0),
        }

    def _wrk(self, url: str, seconds: int) -> str:
        header = [] if self.keep_alive else ["-H", "Connection: close"]
        script = ["-s", str(UPLOAD_SCRIPT)] if self.upload else []
        size = ["-t1", f"-c{self.connections}", f"-d{seconds}", "--latency"]
        arguments = [*size, *header, *script, url]
        if self.upload:
            arguments += ["--", str(UPLOAD_BYTES)]
        return subprocess.run(  # noqa: S603 - the arguments above
            ["wrk", *arguments],  # noqa: S607
            check=True,
            capture_output=True,
            text=True,
        ).stdout


@contextlib.contextmanager
def idle_connections(port: int, path: str, count: int) -> Iterator[list[socket.socket]]:
    """Open connections that have had one answer each and now rest.

    One that the server closes is closed here too: a server that waits for that serves
    nobody meanwhile.

    Raises:
        LoadFailed: The server does not let so many in.
    """
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        clients = []
        for number in range(count):
            try:
                client = socket.create_connection(("127.0.0.1", port), timeout=CONNECT_S)
                stack.enter_context(client)
                client.sendall(request)
                head, _, _ = client.recv(65536).lower().partition(b"\r\n\r\n")
                if b"\r\nconnection: close" in head:
                    client.close()
                clients.append(client)
            except OSError as error:
                raise LoadFailed(f"no answer on connection {number}: {error}") from error
        yield clients


def is_open(client: socket.socket) -> bool:
    """Whether the server has not closed the connection."""
    if client.fileno() < 0:
        return False
    client.setblocking(False)
    try:
        while client.recv(65536):
            pass
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _find(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match.group(1) if match else ""


def _milliseconds(output: str, percentile: int) -> float:
    match = re.search(rf"{percentile}%\s+([\d.]+)(us|ms|s|m)\s", output)
    if match is None:
        raise LoadFailed(f"wrk says nothing of the {percentile}th percentile:\n{output}")
    return float(match[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}[match[2]]
