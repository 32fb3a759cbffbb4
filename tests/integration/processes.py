"""What `/proc` says of a server's processes. Read only, never by name."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    """A line of the process table."""

    pid: int
    parent: int
    group: int
    session: int
    state: str
    title: str

    @property
    def is_zombie(self) -> bool:
        """Whether it has ended and nobody has asked how."""
        return self.state == "Z"


def read_process(pid: int) -> Process | None:
    """Return what `/proc` says of `pid`, or `None` when it is gone."""
    try:
        stat = (PROC / str(pid) / "stat").read_text()
        title = (PROC / str(pid) / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, parent, group, session = stat.rpartition(")")[2].split()[:4]
    words = title.rstrip(b"\0 ").replace(b"\0", b" ").decode(errors="replace")
    return Process(pid, int(parent), int(group), int(session), state, words)


def all_processes() -> Iterator[Process]:
    """Yield every process that is there, once."""
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (process := read_process(int(entry.name))):
            yield process


def session_of(leader: int) -> list[Process]:
    """Return the living processes of the session that `leader` began, itself included."""
    return [p for p in all_processes() if p.session == leader and not p.is_zombie]


def children_of(pid: int) -> list[Process]:
    """Return the living children of `pid`."""
    return [p for p in all_processes() if p.parent == pid and not p.is_zombie]


class Death:
    """The end of one process, which can be waited for. Made while it lives."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._pidfd: int | None = None
        with contextlib.suppress(ProcessLookupError):
            self._pidfd = os.pidfd_open(pid)

    def wait(self, timeout_s: float) -> None:
        """Block until the process has ended.

        Raises:
            AssertionError: It still lives after `timeout_s`.
        """
        if self._pidfd is None:
            return
        poller = select.poll()
        poller.register(self._pidfd, select.POLLIN)
        ended = poller.poll(timeout_s * 1000)
        os.close(self._pidfd)
        self._pidfd = None
        assert ended, f"{read_process(self.pid)} still lives after {timeout_s} s"


def open_files(pid: int) -> list[str]:
    """Return the targets of every open descriptor of `pid`."""
    targets = []
    for entry in (PROC / str(pid) / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            targets.append(str(entry.readlink()))
    return targets


def resident_bytes(pid: int) -> int:
    """Return how much memory `pid` has resident."""
    return _status_bytes(pid, "VmRSS")


def peak_resident_bytes(pid: int) -> int:
    """Return the most that `pid` ever had resident."""
    return _status_bytes(pid, "VmHWM")


def _status_bytes(pid: int, name: str) -> int:
    for line in (PROC / str(pid) / "status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024
    raise KeyError(name)


def memory_contains(pid: int, needle: bytes) -> bool:
    """Return whether the writable memory of `pid`, a descendant of ours, holds `needle`."""
    maps = (PROC / str(pid) / "maps").read_text().splitlines()
    with (PROC / str(pid) / "mem").open("rb", buffering=0) as memory:
        for line in maps:
            span, permissions = line.split()[:2]
            if not permissions.startswith("rw"):
                continue
            start, end = (int(address, 16) for address in span.split("-"))
            memory.seek(start)
            with contextlib.suppress(OSError):  # [vvar] and the like cannot be read
                if needle in memory.read(end - start):
                    return True
    return False
