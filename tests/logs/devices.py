"""Real descriptors for the logs to write to, and a device that obeys a script."""

from __future__ import annotations

import contextlib
import errno
import os
import select
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from django_wsgiserve.logs.devices import Device
from django_wsgiserve.logs.targets import LogTarget, TargetSpec

DEADLINE_S = 10.0


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        """Return the seconds."""
        return self.now_s


class ScriptedDevice:
    """Takes as many bytes as the script says, one entry a write; everything at its end."""

    atomic_bytes = 64

    def __init__(self, script: list[int | OSError]) -> None:
        self.script = script
        self.taken = b""

    def write(self, data: bytes) -> int:
        """Obey the next entry: a number of bytes, 0 for EAGAIN, or an error."""
        entry = self.script.pop(0) if self.script else len(data)
        if isinstance(entry, OSError):
            raise entry
        if entry == 0:
            raise BlockingIOError(errno.EAGAIN, "full")
        self.taken += data[:entry]
        return min(entry, len(data))

    def wait(self, timeout_s: float) -> None:
        """There is nothing to wait for."""

    def close(self, timeout_s: float) -> None:
        """There is nothing to close."""


class Target:
    """A log target with what it reported, and a clock of its own."""

    def __init__(self, open_device: Callable[[], Device], *, held_bytes: int = 4096) -> None:
        self.clock = Clock()
        self.reports: list[str] = []
        self.target = LogTarget(
            TargetSpec(
                name="test log",
                open_device=open_device,
                reopens=True,
                dropped_line=lambda count: b"dropped %d\n" % count,
                report=self.reports.append,
                held_bytes=held_bytes,
            ),
            clock=self.clock,
        )

    def write(self, *lines: bytes) -> None:
        """Write the lines, each with its line feed added."""
        for line in lines:
            self.target.write(line + b"\n")

    def flush_later(self) -> None:
        """Flush when every back-off is over."""
        self.clock.now_s += 60
        self.target.flush()


def read_available(fd: int) -> bytes:
    """Return what can be read now."""
    data = b""
    while select.select([fd], [], [], 0)[0]:
        chunk = os.read(fd, 65536)
        if not chunk:
            break
        data += chunk
    return data


def read_until(fd: int, ending: bytes) -> bytes:
    """Return what is read up to and with `ending`, which has to come before a deadline."""
    data = b""
    while not data.endswith(ending):
        readable, _, _ = select.select([fd], [], [], DEADLINE_S)
        chunk = os.read(fd, 65536) if readable else b""
        if not chunk:
            pytest.fail(f"{ending!r} did not come; the end of what came: {data[-200:]!r}")
        data += chunk
    return data


def fill_pipe(fd: int) -> int:
    """Fill the pipe by a description of our own; return how many bytes went in."""
    own_fd = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK)
    count = 0
    try:
        with contextlib.suppress(BlockingIOError):
            while True:
                count += os.write(own_fd, b"x" * 4096)
    finally:
        os.close(own_fd)
    return count


@contextlib.contextmanager
def reopening_refused(fd: int) -> Iterator[None]:
    """Make the kernel refuse to open the pipe `fd` again, as when another user opened it."""
    os.fchmod(fd, 0)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


@contextlib.contextmanager
def open_pipe() -> Iterator[tuple[int, int]]:
    """Return the read and the write end; what the test has not closed is closed."""
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            with contextlib.suppress(OSError):
                os.close(end)


def lines_of(path: Path) -> list[bytes]:
    """Return the whole lines of a file; it must not end with half a line."""
    data = path.read_bytes()
    assert data == b"" or data.endswith(b"\n")
    return data.splitlines()
