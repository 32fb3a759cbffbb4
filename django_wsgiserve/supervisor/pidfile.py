"""The pid file: locked for as long as the server lives, so that it is never guessed.

A number in a file says nothing: the process may have died and its pid be somebody
else's. The lock is the kernel's, and ends with the process whatever kills it.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from django_wsgiserve.errors import CheckRefused, ConfigError


class Pidfile:
    """A pid file that is ours until `remove`."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd

    @classmethod
    def create(cls, path: Path, pid: int) -> Pidfile:
        """Write and lock the file; one that nobody holds is replaced.

        Raises:
            CheckRefused: A running server holds it.
            ConfigError: It cannot be written.
        """
        while True:
            try:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except OSError as error:
                raise ConfigError(
                    f"the pid file {str(path)!r} cannot be written: {error.strerror}",
                    "Set PIDFILE to a path in a directory that this user may write to.",
                ) from error
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
                os.close(fd)
                raise CheckRefused(
                    f"another server is running: it holds the pid file {str(path)!r} "
                    f"(pid {holder})",
                    f"Stop it with `kill {holder}`, or give this server another PIDFILE.",
                ) from None
            if _is_at(fd, path):
                break
            os.close(fd)  # its owner removed it between our open and our lock: start over
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{pid}\n".encode("ascii"), 0)
        return cls(path, fd)

    def remove(self) -> None:
        """Remove the file, unless something else is at its path by now."""
        if self._fd < 0:
            return
        if _is_at(self._fd, self.path):
            self.path.unlink(missing_ok=True)
        os.close(self._fd)
        self._fd = -1


def _is_at(fd: int, path: Path) -> bool:
    """Whether `path` still leads to the open file `fd`."""
    try:
        there = path.stat()
    except OSError:
        return False
    return os.path.samestat(os.fstat(fd), there)
