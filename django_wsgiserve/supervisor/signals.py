"""Signals as bytes of a descriptor, so that one loop waits for them and all else."""

from __future__ import annotations

import contextlib
import signal
import socket
from types import FrameType, TracebackType

HANDLED = (
    signal.SIGHUP,
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGCHLD,
)


class SignalInbox:
    """Collects the supervisor's signals while it is open."""

    def __init__(self) -> None:
        """Make the descriptors; entering the context installs the handlers."""
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)

    def __enter__(self) -> SignalInbox:
        for number in HANDLED:
            signal.signal(number, _only_wake)
        signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        # An execv keeps the mask: whoever started us may have blocked some.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        signal.set_wakeup_fd(-1)
        self._read.close()
        self._write.close()

    def fileno(self) -> int:
        """Readable when signals came."""
        return self._read.fileno()

    def take(self) -> list[signal.Signals]:
        """Return the signals that came, oldest first."""
        numbers = b""
        with contextlib.suppress(BlockingIOError):
            numbers = self._read.recv(4096)
        return [signal.Signals(number) for number in numbers]


def ignore_further_signals() -> None:
    """Let nothing but KILL change how this process ends: it is about to.

    While the interpreter winds up it restores the default of every signal that has a
    handler, and a second TERM would turn exit code 0 into death by TERM.
    """
    for number in HANDLED:
        if number != signal.SIGCHLD:
            signal.signal(number, signal.SIG_IGN)


def _only_wake(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the wakeup descriptor has the number already."""
