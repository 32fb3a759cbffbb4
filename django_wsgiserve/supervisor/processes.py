"""A process by its pidfd where there is one: a signal cannot reach a stranger.

A pid may be used again as soon as its process was reaped, and workers are reaped by
their forkserver, not by who signals them. Also here: making orphans ours (Linux).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
from collections.abc import Iterator

# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


class ProcessHandle:
    """A process of ours, or of a forkserver of ours."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._pidfd = -1
        self._gone = False

    @classmethod
    def open(cls, pid: int) -> ProcessHandle:
        """Return a handle on `pid`; one that has ended already is simply gone."""
        handle = cls(pid)
        try:
            handle._pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            handle._gone = True
        except (AttributeError, OSError):
            # Not Linux, a kernel before 5.3, or a sandbox that forbids it: by number, then.
            handle._pidfd = -1
        return handle

    def send(self, signal_number: signal.Signals) -> None:
        """Signal the process; does nothing when it has ended."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._pidfd >= 0:
                signal.pidfd_send_signal(self._pidfd, signal_number)
            elif not self._gone:
                os.kill(self.pid, signal_number)

    @property
    def gone(self) -> bool:
        """Whether the process has ended, be it reaped or not."""
        if self._gone:
            return True
        if self._pidfd >= 0:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            return bool(poll.poll(0))
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False

    def close(self) -> None:
        """Let go of the pidfd."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
        self._pidfd = -1
        self._gone = True


def become_subreaper() -> bool:
    """Make orphaned descendants our children, so that a forkserver's workers outlive it.

    Returns:
        Whether they are now. Where not (other than Linux), orphans go to process 1 and
        are watched by pid.

    Source: prctl(2), PR_SET_CHILD_SUBREAPER.
    """
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent(wanted: bool) -> None:
    """Have the kernel kill this process when its parent dies, or no longer (Linux).

    It outlasts an exec. A project whose import hangs could not notice otherwise.

    Source: prctl(2), PR_SET_PDEATHSIG.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL if wanted else 0)


def _prctl(option: int, value: int) -> bool:
    if sys.platform != "linux":
        return False
    return bool(ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) == 0)


def reap() -> Iterator[tuple[int, int]]:
    """Yield `(pid, wait status)` of every child that has ended, strangers included.

    A subreaper, and process 1 of a container, is handed orphans it never knew; left
    alone they would stay in the process table for ever.
    """
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, status
