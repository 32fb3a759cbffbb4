"""`wsgi.file_wrapper`: a file as a response, which the kernel can send by itself.

This module only says whether, and which part, of what file; sending is the gateway's.
"""

from __future__ import annotations

import io
import os
import stat
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Reads from memory and disk do not wait for anybody, so there is no reason to make
# them as small as the application suggests (Django: 4096, a send each).
_LARGE_BLOCK_BYTES = 65536


class Readable(Protocol):
    """What PEP 3333 asks of a file-like object."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none of them means the end."""


class FileSpan(NamedTuple):
    """A part of an open file: `count_bytes` from `offset_bytes` of descriptor `fd`."""

    fd: int
    offset_bytes: int
    count_bytes: int


class FileWrapper:
    """What an application returns for a file: iterable, and closing what it wraps.

    `close` exists only when the file has one, bound when the wrapper is made: Django
    replaces the file's `close` with the response's just before.

    Source: PEP 3333, "Optional Platform-Specific File Handling".
    """

    __slots__ = ("_block_bytes", "_filelike", "close")

    close: Callable[[], None]

    def __init__(self, filelike: Readable, block_size: int = 8192) -> None:
        self._filelike = filelike
        self._block_bytes = block_size
        close = getattr(filelike, "close", None)
        if close is not None:
            self.close = close

    def __iter__(self) -> Iterator[bytes]:
        return self.blocks(None)

    def blocks(self, limit_bytes: int | None) -> Iterator[bytes]:
        """Yield what the file holds from its position on, at most `limit_bytes` (`None`: all)."""
        block_bytes = self._block_bytes
        if _true_reader(self._filelike) is not None:
            block_bytes = max(block_bytes, _LARGE_BLOCK_BYTES)
        left_bytes = limit_bytes
        while left_bytes is None or left_bytes > 0:
            block = self._filelike.read(
                block_bytes if left_bytes is None else min(block_bytes, left_bytes)
            )
            if not block:
                return
            if left_bytes is not None:
                left_bytes -= len(block)
            yield block

    def span(self) -> FileSpan | None:
        """Return what of the file is unread, or `None` when only `read()` can tell.

        A file that the kernel calls empty counts as the latter: those of /proc are not.
        """
        reader = _true_reader(self._filelike)
        if reader is None or isinstance(reader, io.BytesIO):
            return None
        try:
            fd = reader.fileno()
            offset_bytes = reader.tell()
            status = os.fstat(fd)
        except (OSError, ValueError):  # a pipe has no position, a closed file nothing
            return None
        count_bytes = status.st_size - offset_bytes
        if not stat.S_ISREG(status.st_mode) or count_bytes <= 0:
            return None
        return FileSpan(fd, offset_bytes, count_bytes)


def _true_reader(
    filelike: Readable,
) -> io.FileIO | io.BufferedReader | io.BufferedRandom | io.BytesIO | None:
    """Return the file whose own `read` the application would call, if it is a plain one.

    That an object has a `fileno` does not say that its bytes are those of the
    descriptor: `gzip.GzipFile` has one and reads something else. So the question is
    whose method `filelike.read` is. Django's `File` forwards it as it is, `tempfile`
    wraps it (hence `__wrapped__`); a subclass that overrides `read` is not a plain file.
    """
    read = getattr(filelike, "read", None)
    owner = getattr(getattr(read, "__wrapped__", read), "__self__", None)
    if type(owner) is io.FileIO or type(owner) is io.BytesIO:
        return owner
    if type(owner) is io.BufferedReader or type(owner) is io.BufferedRandom:
        return owner if type(owner.raw) is io.FileIO else None
    return None
