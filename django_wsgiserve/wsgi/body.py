"""Where a request's body waits until it is whole: memory, then a temporary file.

Also the input of the requests that have no body. The application reads both
through `wsgi.input`; how the bytes come off the wire, and how many may come, is
decided elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import io
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
    """Keeps one request's body: in memory while it is small, then in an unlinked file."""

    __slots__ = ("_directory", "_file", "_memory_bytes", "size")

    def __init__(self, *, memory_bytes: int, directory: str | None) -> None:
        """Start an empty body.

        Args:
            memory_bytes: The largest body that stays in memory; 0 puts every body in a file.
            directory: Where the file goes; `None` or empty for the system's choice.
        """
        self._memory_bytes = memory_bytes
        self._directory = directory or None
        self._file: io.BytesIO | BinaryIO = io.BytesIO()
        self.size = 0

    def write(self, data: bytes) -> None:
        """Append to the body.

        Raises:
            SpoolFailed: No temporary file can be made, or the disk is full.
        """
        size = self.size + len(data)
        try:
            if size > self._memory_bytes and isinstance(self._file, io.BytesIO):
                self._move_to_file(self._file)
            self._file.write(data)
        except OSError as error:
            raise self._failure(error) from error
        self.size = size

    def rewind(self) -> BinaryIO:
        """Return the body as `wsgi.input`: a file at its start, which ends after `size` bytes.

        Raises:
            SpoolFailed: What was written last did not fit on the disk.
        """
        try:
            self._file.seek(0)  # flushes what a file still buffers
        except OSError as error:
            raise self._failure(error) from error
        return self._file

    def close(self) -> None:
        """Give back memory or disk. Any number of times, also after the application did."""
        with contextlib.suppress(OSError):  # a full disk fails again on the last flush
            self._file.close()

    def _move_to_file(self, memory: io.BytesIO) -> None:
        """Continue in an unlinked temporary file, which the kernel frees even after SIGKILL."""
        file = cast(BinaryIO, tempfile.TemporaryFile(dir=self._directory))  # noqa: SIM115  closed by close()
        self._file = file
        with memory.getbuffer() as written:
            file.write(written)

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
