"""Clients that mean harm, or might as well: everybody else is served, and nothing is left.

Afterwards the worker has the descriptors that it had before, and its memory.
"""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable, Iterator

import pytest

from tests.integration.conftest import RunServer
from tests.integration.processes import open_files, resident_bytes
from tests.integration.running_server import RunningServer
from tests.integration.wire import BrokenAnswer, Wire

MIB = 1024 * 1024
DOWNLOAD_BYTES = 50 * MIB
SLACK_BYTES = 16 * MIB
"""What an allocator may keep of memory that was used once."""


class Footprint:
    """What the only worker of a server has open and in memory, before and after."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self._pid = server.whoami()["pid"]
        server.get("/raw/count")
        server.log.wait_until(lambda: self._sockets() == 0)
        self._files = len(open_files(self._pid))
        self._resident_bytes = resident_bytes(self._pid)

    def _sockets(self) -> int:
        """How many clients are connected, as far as our side can tell: none of ours."""
        mine = {f"socket:[{inode}]" for inode in connected_inodes(self._server.host_and_port[1])}
        return len(mine & set(open_files(self._pid)))

    def check(self) -> None:
        """Wait until everything is as it was.

        Raises:
            AssertionError: It does not get so; or the worker is another one.
        """
        self._server.log.wait_until(lambda: len(open_files(self._pid)) <= self._files)
        grown = resident_bytes(self._pid) - self._resident_bytes
        assert grown < SLACK_BYTES, f"{grown / MIB:.1f} MiB more than before"
        assert self._server.whoami()["pid"] == self._pid


def connected_inodes(port: int) -> Iterator[str]:
    """Yield the inodes of established sockets at the server's end of a port."""
    with open("/proc/net/tcp") as table:  # noqa: PTH123 - it is not a file
        next(table)
        for line in table:
            _, local, _, state, *rest = line.split()
            if int(local.rpartition(":")[2], 16) == port and state != "0A":
                yield rest[5]


@pytest.fixture
def serve(run_server: RunServer) -> Callable[..., tuple[RunningServer, Footprint]]:
    """Return a function that starts a server with one worker, which has served before."""

    def start(*options: str) -> tuple[RunningServer, Footprint]:
        server = run_server("-w", "1", *options)
        large = server.project.directory / "download.bin"
        with large.open("wb") as file:
            os.truncate(file.fileno(), DOWNLOAD_BYTES)  # sparse: it takes no disk
        return server, Footprint(server)

    return start


def normal_requests(server: RunningServer, kept: Wire, name: str) -> None:
    """Ask over a connection that is kept and over new ones; every answer has to be right."""
    for number in range(5):
        token = f"{name}-{number}"
        expected = f"{token} ".encode()
        assert kept.request("GET", f"/hello?token={token}").body.startswith(expected)
        assert server.get(f"/hello?token={token}").body.startswith(expected)


Serve = Callable[..., tuple[RunningServer, Footprint]]

HEAD = b"POST /echo?slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
SLOW_REQUEST = HEAD % 40 + b"x" * 40


@pytest.mark.parametrize("part", ["head", "body"])
def test_a_thousand_clients_that_send_a_byte_at_a_time(
    serve: Serve, many_descriptors: None, part: str
) -> None:
    server, footprint = serve("--worker-connections", "2000")
    sent = 0 if part == "head" else len(SLOW_REQUEST) - 35
    with contextlib.ExitStack() as stack:
        kept = stack.enter_context(server.connect())
        slow = [stack.enter_context(server.connect()) for _ in range(1000)]
        for wire in slow:
            wire.send(SLOW_REQUEST[: sent + 1])
        for second in range(sent + 1, sent + 6):
            for wire in slow:
                wire.send(SLOW_REQUEST[second : second + 1])
            normal_requests(server, kept, f"{second}")
        for wire in slow[:100]:
            wire.send(SLOW_REQUEST[sent + 6 :])
        for wire in slow[:100]:
            assert wire.receive().status == 200
    footprint.check()


def test_a_thousand_clients_that_are_too_slow_are_told_so(
    serve: Serve, many_descriptors: None
) -> None:
    server, footprint = serve(
        "--worker-connections=2000", "--header-timeout=1s", "--body-timeout=1s",
        "--body-min-rate=1MiB",
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        kept = stack.enter_context(server.connect())
        normal_requests(server, kept, "before")
        slow = [stack.enter_context(server.connect()) for _ in range(1000)]
        for number, wire in enumerate(slow):
            wire.send(HEAD[:30] if number % 2 else HEAD % 10_000_000)
        pending = set(slow)
        while pending:
            for wire in list(pending):
                if not select.select([wire.socket], [], [], 0)[0]:
                    wire.send(b"x")
                else:
                    pending.remove(wire)
                    assert wire.receive().status == 408
        normal_requests(server, kept, "after")
        for wire in slow:
            assert wire.is_closed_by_server
    server.access.wait_for(r"\b408\b", count=1000)
    footprint.check()


def test_fifty_clients_that_read_a_kilobyte_a_second_of_fifty_megabytes(serve: Serve) -> None:
    server, footprint = serve()
    with contextlib.ExitStack() as stack:
        kept = stack.enter_context(server.connect())
        readers = [stack.enter_context(server.connect()) for _ in range(50)]
        for wire in readers:
            wire.send(b"GET /download?crawls HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for second in range(5):
            for wire in readers:
                assert len(wire.socket.recv(1024)) > 0
            normal_requests(server, kept, f"{second}")
    server.access.wait_for("crawls", count=50)
    footprint.check()


def test_five_hundred_uploads_that_are_aborted_midway(serve: Serve) -> None:
    server, footprint = serve("--spool-memory", "16KiB")
    before = int(server.get("/raw/count").body)
    head = b"POST /echo?aborted HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
    with server.connect() as kept:
        for number in range(500):
            wire = server.connect()
            wire.send(head + b"x" * 32768)
            wire.reset() if number % 2 else wire.close()
            if number % 100 == 0:
                normal_requests(server, kept, f"{number}")
    server.access.wait_for("aborted", count=500)
    assert int(server.get("/raw/count").body) == before + 50 + 1
    footprint.check()


@pytest.mark.parametrize("path", ["/download?", "/stream?lines=100000&", "/raw/endless?"])
def test_responses_that_are_aborted_midway(serve: Serve, path: str) -> None:
    server, footprint = serve("--spool-limit", "1MiB", "--spool-memory", "64KiB")
    count = 500 if path == "/download?" else 50
    request = f"GET {path}aborted HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with server.connect() as kept:
        for number in range(count):
            wire = server.connect()
            wire.send(request)
            assert wire.socket.recv(1000)
            wire.reset() if number % 2 else wire.close()
            if number % 100 == 0:
                normal_requests(server, kept, f"{number}")
    server.access.wait_for("aborted", count=count)
    footprint.check()


def test_clients_that_never_close_after_their_last_answer(serve: Serve) -> None:
    server, footprint = serve()
    with contextlib.ExitStack() as stack:
        kept = stack.enter_context(server.connect())
        stubborn = [stack.enter_context(server.connect()) for _ in range(40)]
        for number, wire in enumerate(stubborn):
            if number % 2:
                assert wire.request("GET", "/hello", "Connection: close").status == 200
            else:
                wire.send(b"NOT HTTP\r\n\r\n")
                assert wire.receive().status == 400
                with contextlib.suppress(BrokenAnswer):
                    wire.send(b"and more" * 1000)
        normal_requests(server, kept, "beside")
        kept.close()
        footprint.check()
