"""What a client has not taken yet: a queue of bytes and stretches of files.

A response is produced at the application's pace and read at the client's. What lies
between goes to memory first, then to an unlinked temporary file, so that a slow reader
of a large body costs disk instead of memory, and no request slot.
"""

from __future__ import annotations

import errno
import os
import socket
import tempfile
from collections import deque
from typing import IO

from django_wsgiserve.errors import FileFailed
from django_wsgiserve.originals import close

# What one call of `flush` sends at most before other connections get their turn.
_TURN_BYTES = 4 * 1024 * 1024
# What sendfile is asked for at once. The kernel sends what fits the socket's buffer.
_FILE_BYTES = 1024 * 1024
# What is read at once of a file that has to go through our memory.
_COPY_BYTES = 256 * 1024
# What sendfile(2) says when this file (or this socket) is not for it. FUSE, /proc and some
# network file systems do; so does a disk that fails, which reading then says in words.
_NOT_FOR_SENDFILE = frozenset(
    {errno.EINVAL, errno.ENOSYS, errno.EOVERFLOW, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EIO}
)


class _Stretch:
    """Bytes `offset` to `end` of an open file."""

    __slots__ = ("copied", "end", "fd", "offset", "owned")

    def __init__(self, fd: int, offset: int, end: int, *, owned: bool) -> None:
        self.fd = fd
        self.offset = offset
        self.end = end
        self.owned = owned
        self.copied = False
        """The kernel does not send it: it is read and sent."""


# What a queue has for items until there is one, as most have for ever. Stays empty.
_NOTHING: deque[memoryview | _Stretch] = deque()


class OutputQueue:
    """Bytes on their way to one client, in order."""

    __slots__ = ("_directory", "_memory_bytes", "_memory_limit", "_spool", "_spool_bytes", "items")

    def __init__(self, *, memory_limit: int, directory: str | None) -> None:
        """Start empty.

        Args:
            memory_limit: Bytes kept in memory before a temporary file is used.
            directory: Where that file goes; `None` for the system's choice.
        """
        self.items = _NOTHING
        """What waits, first to be sent first. Public so that to ask costs no call."""
        self._memory_limit = memory_limit
        self._memory_bytes = 0
        self._directory = directory
        self._spool: IO[bytes] | None = None
        self._spool_bytes = 0

    @property
    def held_bytes(self) -> int:
        """Bytes of memory and disk in use; files of the application are not counted.

        Of the temporary file what was sent counts too: it is given back only when all
        of it was sent, so an endless stream cannot grow it without bound.
        """
        return self._memory_bytes + self._spool_bytes

    def add(self, data: memoryview) -> None:
        """Append bytes.

        Raises:
            OSError: They belong on disk and the disk does not take them. Nothing was added.
        """
        if self._spool is None and self._memory_bytes + len(data) <= self._memory_limit:
            self.add_in_memory(data)
            return
        if self._spool is None:
            # Closed in `close`, or when it has been sent.
            self._spool = tempfile.TemporaryFile(dir=self._directory, buffering=0)  # noqa: SIM115
            self._spool_bytes = 0
        try:
            self._append_to_spool(self._spool.fileno(), data)
        except OSError:
            self._close_spool_if_sent()  # a new file that took nothing would stay open for ever
            raise

    def add_in_memory(self, data: memoryview) -> None:
        """Append bytes where no temporary file can be had. The caller waits for the client."""
        self._append(data)
        self._memory_bytes += len(data)

    def _append(self, item: memoryview | _Stretch) -> None:
        if self.items is _NOTHING:
            self.items = deque()
        self.items.append(item)

    def _append_to_spool(self, fd: int, data: memoryview) -> None:
        last = self.items[-1] if self.items else None
        if isinstance(last, _Stretch) and last.fd == fd:
            stretch = last
        else:
            end = os.lseek(fd, 0, os.SEEK_END)
            stretch = _Stretch(fd, end, end, owned=False)
        start = stretch.end
        position = start
        while position < start + len(data):
            position += os.pwrite(fd, data[position - start :], position)
        stretch.end = position
        self._spool_bytes += len(data)
        if stretch is not last:
            self._append(stretch)

    def add_file(self, fd: int, offset: int, count: int) -> None:
        """Append `count` bytes of a file from `offset`. The descriptor is duplicated.

        Raises:
            OSError: No descriptor is left.
        """
        self._append(_Stretch(os.dup(fd), offset, offset + count, owned=True))

    def flush(self, sock: socket.socket) -> int:
        """Send until the client takes no more, the queue is empty or the turn is over.

        Returns:
            Bytes sent; 0 when the client takes none now.

        Raises:
            OSError: The client is gone. Never when something was sent: the next call
                raises it, so that what was sent is counted.
            FileFailed: A file cannot be read as far as was promised. As above.
        """
        sent_bytes = 0
        try:
            while self.items and sent_bytes < _TURN_BYTES:
                item = self.items[0]
                if isinstance(item, memoryview):
                    sent_bytes += self._send_bytes(sock, item)
                else:
                    sent_bytes += self._send_file(sock, item)
        except BlockingIOError:
            pass
        except (OSError, FileFailed):
            if not sent_bytes:
                raise
        return sent_bytes

    def _send_bytes(self, sock: socket.socket, data: memoryview) -> int:
        sent = sock.send(data)
        self._memory_bytes -= sent
        if sent == len(data):
            self.items.popleft()
        else:
            self.items[0] = data[sent:]
        return sent

    def _send_file(self, sock: socket.socket, stretch: _Stretch) -> int:
        count = min(stretch.end - stretch.offset, _FILE_BYTES)
        sent = 0
        if count and not stretch.copied:
            try:
                sent = os.sendfile(sock.fileno(), stretch.fd, stretch.offset, count)
            except OSError as error:
                if error.errno not in _NOT_FOR_SENDFILE:
                    raise
                stretch.copied = True
        if count and stretch.copied:
            sent = self._copy(sock, stretch, min(count, _COPY_BYTES))
        if count and not sent:
            left_bytes = stretch.end - stretch.offset
            raise FileFailed(
                f"the file became shorter while it was being sent: {left_bytes} bytes are missing"
            )
        stretch.offset += sent
        if stretch.offset == stretch.end:
            self.items.popleft()
            if stretch.owned:
                close(stretch.fd)
            else:
                self._close_spool_if_sent()
        return sent

    @staticmethod
    def _copy(sock: socket.socket, stretch: _Stretch, count: int) -> int:
        """Send up to `count` bytes by way of our memory. Returns how many; 0 at the file's end."""
        try:
            data = os.pread(stretch.fd, count, stretch.offset)
        except OSError as error:
            raise FileFailed(f"the file cannot be read: {error.strerror}") from error
        return sock.send(data) if data else 0

    def _close_spool_if_sent(self) -> None:
        if not any(isinstance(item, _Stretch) and not item.owned for item in self.items):
            self._close_spool()

    def _close_spool(self) -> None:
        if self._spool is not None:
            self._spool.close()
            self._spool = None
            self._spool_bytes = 0

    def close(self) -> None:
        """Drop what was not sent and close every file."""
        for item in self.items:
            if isinstance(item, _Stretch) and item.owned:
                close(item.fd)
        self.items.clear()
        self._memory_bytes = 0
        self._close_spool()
