"""Ends another thread's wait for events.

Against lost wake-ups both sides keep an order: who adds work adds it first and looks
afterwards whether the leader waits; the leader says that it waits first and looks for
work afterwards. So at least one of the two sees the other.
"""

from __future__ import annotations

import contextlib
import os
import sys

from django_wsgiserve.originals import close

_ONE = (1).to_bytes(8, sys.byteorder)


class Waker:
    """A descriptor that becomes readable: an eventfd on Linux, a pipe elsewhere."""

    def __init__(self) -> None:
        """Hold nothing yet; `open` makes the descriptors."""
        self._read_fd = self._write_fd = -1

    def open(self) -> int:
        """Make the descriptors; return the one to watch for reading."""
        if hasattr(os, "eventfd"):
            self._read_fd = self._write_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self._read_fd, self._write_fd = os.pipe()
            os.set_blocking(self._read_fd, False)
            os.set_blocking(self._write_fd, False)
        return self._read_fd

    def wake(self) -> None:
        """End the wait, or the next one. From any thread; does nothing when closed."""
        # Full: it is readable for sure. An eventfd wants eight bytes, a pipe takes any.
        if self._write_fd >= 0:
            with contextlib.suppress(BlockingIOError):
                os.write(self._write_fd, _ONE)

    def rest(self) -> None:
        """Be readable no more; called by the leader, when it is awake."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._read_fd, 4096)

    def close(self) -> None:
        """Close the descriptors, once no thread is left that may wake another."""
        fds = {self._read_fd, self._write_fd} - {-1}
        self._read_fd = self._write_fd = -1
        for fd in fds:
            close(fd)
