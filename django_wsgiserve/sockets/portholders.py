"""Who has the port: for the message of an address in use.

Linux only, and only as far as this user may look: everything here answers with an empty
string rather than an error.

Source: proc(5), /proc/net/tcp and /proc/pid/fd.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

_LISTEN = "0A"


def describe_holder(port: int, proc: Path = Path("/proc")) -> str:
    """Return `gunicorn (pid 812)` for whoever listens on the TCP port, or an empty string.

    Several processes may share one socket; the one with the lowest pid, usually the
    parent of the others, is named.
    """
    inodes = set(_listening_inodes(port, proc))
    if not inodes:
        return ""
    pids = sorted(int(entry.name) for entry in proc.iterdir() if entry.name.isdigit())
    for pid in pids:
        if _holds(proc / str(pid), inodes):
            return f"{_command(proc / str(pid))} (pid {pid})"
    return ""


def _listening_inodes(port: int, proc: Path) -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (proc / "net" / table).read_text("ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]


def _holds(process: Path, inodes: set[str]) -> bool:
    with contextlib.suppress(OSError):
        for descriptor in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                target = str(descriptor.readlink())
                if target.startswith("socket:[") and target[8:-1] in inodes:
                    return True
    return False


def _command(process: Path) -> str:
    """Return how the process calls itself, at most 60 characters."""
    with contextlib.suppress(OSError):
        words = (process / "cmdline").read_bytes().decode("utf-8", "replace")
        line = " ".join(words.split("\0")).strip()
        if line:
            return line if len(line) <= 60 else f"{line[:59]}…"
        return (process / "comm").read_text("utf-8", "replace").strip()
    return "a process"
