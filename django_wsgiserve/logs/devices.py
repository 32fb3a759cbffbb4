"""What the bytes of a log are written to, so that no write waits: a file, pipe, terminal or socket.

`O_NONBLOCK` belongs to the open file description, and that of stdout and stderr is shared:
with the shell, with whoever started the server, with the application's own `print`. It is never
set there. A pipe or terminal is opened again through /proc, which gives a description of
our own; a socket is sent to with MSG_DONTWAIT; where neither is possible (the descriptor
was opened by another user) a thread writes, and only the thread can wait.

Nothing is kept or counted here: that is the target's work (`targets.py`).
"""

from __future__ import annotations

import _queue
import _socket
import _thread
import contextlib
import errno
import os
import select
import socket
import stat
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from django_wsgiserve import originals

_STANDARD_PATHS = {
    "/dev/stdout": 1,
    "/dev/stderr": 2,
    "/dev/fd/1": 1,
    "/dev/fd/2": 2,
    "/proc/self/fd/1": 1,
    "/proc/self/fd/2": 2,
}
_OPEN_FLAGS = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_FILE_MODE = 0o666  # less the umask, which is the operator's say on who may read the log
_THREAD_QUEUE_BYTES = 64 * 1024


class Device(Protocol):
    """Something that takes bytes and never waits."""

    atomic_bytes: int
    """One write of at most so many bytes is not mixed with another process's; 0: of any length."""

    def write(self, data: bytes) -> int:
        """Take a beginning of `data`; return its length.

        Raises:
            BlockingIOError: Nothing can be taken now.
            OSError: The device fails; it may be tried again.
        """

    def wait(self, timeout_s: float) -> None:
        """Return when more may be taken, at the latest after `timeout_s`. For closing only."""

    def close(self, timeout_s: float) -> None:
        """Give up the descriptor; wait at most `timeout_s` for what was taken already."""


class DescriptorDevice:
    """A regular file, or a pipe or terminal on a non-blocking description of our own."""

    def __init__(self, fd: int, *, atomic_bytes: int) -> None:
        """Take over `fd`."""
        self._fd = fd
        self.atomic_bytes = atomic_bytes

    def write(self, data: bytes) -> int:
        """See `Device`."""
        return os.write(self._fd, data)

    def wait(self, timeout_s: float) -> None:
        """See `Device`."""
        _wait_until_writable(self._fd, timeout_s)

    def close(self, timeout_s: float) -> None:
        """See `Device`."""
        os.close(self._fd)


class SocketDevice:
    """A stream socket, which is what systemd gives as stdout."""

    atomic_bytes = select.PIPE_BUF

    def __init__(self, fd: int) -> None:
        """Take over `fd`."""
        # Not socket.socket: with a default timeout, and in gevent's version always, its
        # constructor sets O_NONBLOCK, and the description is not ours alone.
        default_timeout_s = socket.getdefaulttimeout()
        socket.setdefaulttimeout(None)
        try:
            self._socket = _socket.socket(fileno=fd)
        finally:
            socket.setdefaulttimeout(default_timeout_s)

    def write(self, data: bytes) -> int:
        """See `Device`."""
        return self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def wait(self, timeout_s: float) -> None:
        """See `Device`."""
        _wait_until_writable(self._socket.fileno(), timeout_s)

    def close(self, timeout_s: float) -> None:
        """See `Device`."""
        self._socket.close()


class ThreadDevice:
    """A descriptor that may block, written to by a thread of its own.

    What the thread has accepted but not written is bounded. On an error it keeps its
    bytes, and tries again when the target does.
    """

    atomic_bytes = select.PIPE_BUF

    def __init__(self, fd: int) -> None:
        """Take over `fd`."""
        self._fd = fd
        # The C queues, not those of `queue`: gevent replaces the latter, and a
        # greenlet's lock is no good between real threads.
        self._orders: _queue.SimpleQueue[bytes | None] = _queue.SimpleQueue()
        self._finished: _queue.SimpleQueue[None] = _queue.SimpleQueue()
        self._error: OSError | None = None
        # One counter a side, so that none is written from two threads.
        self._accepted_bytes = 0
        self._written_bytes = 0
        self._started = False

    def write(self, data: bytes) -> int:
        """See `Device`."""
        error, self._error = self._error, None
        if error is not None:
            self._orders.put(b"")  # try again what is held
            raise error
        if self._accepted_bytes - self._written_bytes >= _THREAD_QUEUE_BYTES:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        if not self._started:
            self._started = True
            _start_real_thread(self._run)
        self._accepted_bytes += len(data)
        self._orders.put(data)
        return len(data)

    def wait(self, timeout_s: float) -> None:
        """See `Device`."""
        _wait_until_writable(self._fd, timeout_s)

    def close(self, timeout_s: float) -> None:
        """See `Device`."""
        if self._started:
            self._orders.put(None)
            try:
                self._finished.get(timeout=timeout_s)
            except _queue.Empty:
                return  # the thread still writes; a closed number would soon be a client's
        os.close(self._fd)

    def _run(self) -> None:
        held: deque[bytes] = deque()
        while (order := self._orders.get()) is not None:
            if order:
                held.append(order)
            try:
                while held:
                    written = os.write(self._fd, held[0])
                    self._written_bytes += written
                    if written == len(held[0]):
                        held.popleft()
                    else:
                        held[0] = held[0][written:]
            except OSError as error:
                self._error = error
        self._finished.put(None)


def open_standard(fd: int) -> Device:
    """Return a device for stdout (1) or stderr (2) that leaves their descriptions alone.

    Raises:
        OSError: `fd` is closed, or a named pipe that nobody reads (ENXIO).
    """
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        # Never waits for a reader. The shared offset has to be kept: the application
        # prints into the same file, and with two offsets they would overwrite each other.
        return DescriptorDevice(_duplicate(fd), atomic_bytes=0)
    if stat.S_ISSOCK(mode):
        return SocketDevice(_duplicate(fd))
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        try:
            own_fd = os.open(f"/proc/self/fd/{fd}", _OPEN_FLAGS)
        except OSError as error:
            if error.errno == errno.ENXIO and stat.S_ISFIFO(mode):
                raise  # nobody reads: a thread would only find EPIPE
        else:
            return DescriptorDevice(own_fd, atomic_bytes=select.PIPE_BUF)
    return ThreadDevice(_duplicate(fd))


def is_terminal(destination: str, standard_fd: int) -> bool:
    """Return whether people read along at `destination`; `-` is `standard_fd`."""
    if destination != "-" and destination not in _STANDARD_PATHS:
        return False
    try:
        return os.isatty(_STANDARD_PATHS.get(destination, standard_fd))
    except OSError:
        return False


def open_destination(destination: str, standard_fd: int) -> Device:
    """Return a device for a configured destination: a path, or `-` for `standard_fd`.

    Raises:
        OSError: It cannot be opened now.
    """
    return open_standard(standard_fd) if destination == "-" else open_path(destination)


def open_path(path: str) -> Device:
    """Return a device that appends to the file at `path`, which is made if it is not there.

    Raises:
        OSError: It cannot be opened. A named pipe that nobody reads is ENXIO.
    """
    if path in _STANDARD_PATHS:
        return open_standard(_STANDARD_PATHS[path])
    fd = os.open(path, _OPEN_FLAGS | os.O_APPEND | os.O_CREAT, _FILE_MODE)
    mode = os.fstat(fd).st_mode
    # /dev/null takes anything at once, as a file does; what others read can be full.
    takes_all = stat.S_ISREG(mode) or (stat.S_ISCHR(mode) and not os.isatty(fd))
    return DescriptorDevice(fd, atomic_bytes=0 if takes_all else select.PIPE_BUF)


def path_problem(path: str) -> str:
    """Return why a log cannot be written to `path`, for the operator; empty when it can."""
    try:
        open_path(path).close(0)
    except OSError as error:
        if error.errno == errno.ENXIO and Path(path).is_fifo():
            return ""  # its reader may come later; the target goes on trying
        missing = error.errno == errno.ENOENT
        where = f"; make the directory {Path(path).parent}" if missing else ""
        return f"cannot open {path!r} for appending: {error.strerror}{where}"
    return ""


def _duplicate(fd: int) -> int:
    """Return another number for the same description, one that this module may close."""
    return os.dup(fd)


def _wait_until_writable(fd: int, timeout_s: float) -> None:
    poll = originals.poll()
    poll.register(fd, select.POLLOUT)
    with contextlib.suppress(OSError):
        poll.poll(timeout_s * 1000)


def _start_real_thread(run: Callable[[], None]) -> None:
    """Start a daemon thread of the operating system, under gevent too.

    What `threading` and `_thread` start there is a greenlet, and a write that blocks in one
    stops the whole worker.
    """
    originals.original(_thread, "start_new_thread")(run, ())
