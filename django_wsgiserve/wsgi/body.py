"""Where a request's body waits until it is whole: memory, then a temporary file.

Also the input of the requests that have no body. The application reads both
through `wsgi.input`; how the bytes come off the wire, and how many may come, is
decided elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import tempfile
from http import HTTPStatus
from typing import TYPE_CHECKING, BinaryIO, NoReturn, cast

from django_wsgiserve.errors import WsgiServeError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

# What an operating system says when there is no room, as opposed to no permission,
# no directory or no descriptor.
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# What is read of a file at once for an application that asks for little.
_READ_BYTES = 64 * 1024


class SpoolFailed(WsgiServeError):
    """A request's body could not be kept. Answered with `status`, then the connection closes.

    The fault of neither peer nor application: the machine has no room for the body
    (507, RFC 4918 section 11.5) or no temporary file can be had (503).
    """

    def __init__(self, message: str, status: HTTPStatus) -> None:
        super().__init__(message)
        self.status = status


class _EmptyBody:
    """The input of a request without a body: at its end from the start.

    One object serves every request of a worker, so nothing an application does to it
    may stay: it cannot be closed, written or given attributes. `io.BytesIO` could.
    """

    __slots__ = ()

    closed = False
    mode = "rb"
    name = "<empty body>"

    def read(self, size: int | None = -1, /) -> bytes:
        """Return `b""`."""
        return b""

    read1 = read
    readline = read

    def readinto(self, buffer: bytearray | memoryview, /) -> int:
        """Return 0: nothing was read."""
        return 0

    readinto1 = readinto

    def readlines(self, hint: int = -1, /) -> list[bytes]:
        """Return no lines."""
        return []

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        raise StopIteration

    def __enter__(self) -> _EmptyBody:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        exc_traceback: TracebackType | None,
        /,
    ) -> None: ...

    def close(self) -> None:
        """Do nothing: the next request reads from the same object."""

    flush = close

    def readable(self) -> bool:
        """Return true, so that `io.BufferedReader` takes it."""
        return True

    seekable = readable

    def writable(self) -> bool:
        """Return false."""
        return False

    isatty = writable

    def tell(self) -> int:
        """Return 0, the only position there is."""
        return 0

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Return 0, the only position there is."""
        return 0

    def _refuse(self, *_arguments: object) -> NoReturn:
        """Raise what every stream raises that cannot do what it was asked."""
        raise io.UnsupportedOperation("the request has no body, and its input is read-only")

    fileno = truncate = write = writelines = _refuse


EMPTY_BODY: BinaryIO = cast(BinaryIO, _EmptyBody())


class BodySpool:
    """Keeps one request's body: in memory while it is small, then in an unlinked file.

    Of a body whose length was announced, the kernel may put the bytes where they stay:
    into `room`.
    """

    __slots__ = (
        "_announced_bytes",
        "_directory",
        "_file",
        "_input",
        "_memory",
        "_memory_bytes",
        "room",
        "size",
    )

    def __init__(
        self, *, memory_bytes: int, directory: str | None, announced_bytes: int = 0
    ) -> None:
        """Start an empty body.

        Args:
            memory_bytes: The largest body that stays in memory; 0 puts every body in a file.
            directory: Where the file goes; `None` or empty for the system's choice.
            announced_bytes: How long the body will be, at most; 0 when that is not known.
        """
        self._memory_bytes = memory_bytes
        self._announced_bytes = announced_bytes
        self._directory = directory or None
        self._memory: io.BytesIO | None = None
        self._file: io.FileIO | None = None
        self._input: BinaryIO | None = None
        self.room: memoryview | None = None
        """Where the next bytes belong; never empty. `None`: they are for `write`."""
        self.size = 0

    def write(self, data: bytes | memoryview) -> None:
        """Append to the body. Not after `rewind`.

        Raises:
            SpoolFailed: No temporary file can be made, or the disk is full.
        """
        size = self.size + len(data)
        if size <= self._memory_bytes:
            self._keep(data)
            return
        try:
            self._store(data)
        except OSError as error:
            raise self._failure(error) from error
        self.size = size

    def filled(self, count: int) -> None:
        """Append the first `count` bytes of `room`: they have been put there."""
        room = self.room
        assert room is not None  # noqa: S101 - who filled it had it, for mypy
        self.size += count
        self.room = room[count:] if count < len(room) else None
        room.release()

    def rewind(self) -> BinaryIO:
        """Return the body as `wsgi.input`: a file at its start, which ends after `size` bytes.

        Any number of times the same. Raises nothing: what does not fit is found out by `write`.
        """
        body = self._input
        if body is None:
            body = self._input = self._finish()
        body.seek(0)
        return body

    def close(self) -> None:
        """Give back memory or disk. Any number of times, also after the application did.

        Nor does it matter what the application made of it: it may have taken its parts.
        """
        self._release_room()
        for part in (self._memory, self._input, self._file):
            if part is not None:
                with contextlib.suppress(OSError, ValueError, BufferError):
                    part.close()

    def _keep(self, data: bytes | memoryview) -> None:
        """Append in memory."""
        count = len(data)
        memory = self._memory
        if memory is None:
            # Zeros, which take up no memory of the system before something else is written
            # over them: who only announces a body costs nothing.
            more = self._announced_bytes > count
            room_bytes = min(self._announced_bytes, self._memory_bytes) if more else 0
            memory = self._memory = io.BytesIO(bytes(room_bytes))
            if more:
                self.room = memory.getbuffer()
        if self.room is None:
            memory.write(data)
            self.size += count
        else:
            self.room[:count] = data
            self.filled(count)

    def _store(self, data: bytes | memoryview) -> None:
        """Append to the file, which is made now if there is none."""
        if self._file is None:
            self._file = self._open_file()
            if self._memory is not None:
                self._release_room()
                with self._memory.getbuffer() as kept:
                    self._put(kept[: self.size], 0)
                self._memory.close()
        self._put(memoryview(data), self.size)

    def _open_file(self) -> io.FileIO:
        """Return an unlinked temporary file, which the kernel frees even after SIGKILL."""
        return tempfile.TemporaryFile(dir=self._directory, buffering=0)

    def _put(self, data: memoryview, position: int) -> None:
        assert self._file is not None  # noqa: S101 - `_store` made it, for mypy
        fd = self._file.fileno()
        while data:
            written = os.pwrite(fd, data, position)
            position += written
            data = data[written:]

    def _finish(self) -> BinaryIO:
        """Return what the application reads from, now that nothing more is written."""
        self._release_room()
        if self._file is not None:
            return cast(BinaryIO, io.BufferedReader(self._file, _READ_BYTES))
        if self._memory is None:
            self._memory = io.BytesIO()
        self._memory.truncate(self.size)
        return self._memory

    def _release_room(self) -> None:
        """Let the memory be closed, cut or copied."""
        if self.room is not None:
            self.room.release()
            self.room = None

    def _failure(self, error: OSError) -> SpoolFailed:
        """Return what the client and the operator are told about `error`."""
        where = self._directory or "the system's temporary directory"
        status = (
            HTTPStatus.INSUFFICIENT_STORAGE
            if error.errno in _NO_ROOM
            else HTTPStatus.SERVICE_UNAVAILABLE
        )
        return SpoolFailed(
            f"a request body over {self._memory_bytes} bytes could not be kept in"
            f" {where}: {error.strerror or error}",
            status,
        )
