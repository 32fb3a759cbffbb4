"""Where log lines wait until they can be written, and what happens when they cannot.

A target takes lines at once and writes many of them with one system call, when the
worker is about to wait. What a slow or failing device does not take is kept up to a
bound; then new lines are dropped and counted, and the count is written when the device
takes lines again. Nothing here ever waits, but `close`, for half a second.

Safe with several threads: any of them may write lines, one at a time flushes. To write is
an append to a list and takes no lock; all the rest is the flushing thread's, which counts
what has come, and so also what has to be dropped.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django_wsgiserve.logs.devices import Device

HELD_BYTES = 1024 * 1024
"""How many bytes of lines wait for a device before lines are dropped.

What is written between two flushes comes on top of it: it is counted by the second.
"""

READER_RETRY_S = 0.05
"""How long a device that is full is left alone."""

FAILURE_RETRY_S = 1.0
"""How long a device that failed is left alone."""

CLOSE_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSpec:
    """What makes one target different from another."""

    name: str
    """For people: `access log (stdout)`."""
    open_device: Callable[[], Device]
    """Raises OSError. Called again when it failed, and to reopen."""
    reopens: bool
    """Whether the device is found by a path that may lead to another file now."""
    dropped_line: Callable[[int], bytes]
    """The line that says how many lines were dropped."""
    report: Callable[[str], None]
    """Takes one line for the operator when the device begins to fail or cannot be reopened."""
    held_bytes: int = HELD_BYTES
    encode: Callable[[str], bytes] | None = None
    """What makes bytes of a line, where lines are written as text: then by the flush."""


class LogTarget:
    """Takes lines and gets them to a device, in order, each of them whole.

    Attributes:
        write: Takes one line, with its line feed; bytes, or what `TargetSpec.encode` takes.
            Any thread may call it, and a signal handler: it is the `append` of `written`, so
            that a request pays for no more.
        written: What came since the last flush.
        is_behind: The last flush left something to be written.
        failure: Why the device does not take lines; `None` while it does, or is only slow.
    """

    def __init__(self, spec: TargetSpec, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Store; the device is opened by the first `flush` or by `open`."""
        self.spec = spec
        self.written: list[Any] = []
        self.write: Callable[[Any], None] = self.written.append
        self.is_behind = False
        self.failure: OSError | None = None
        self._clock = clock
        self._device: Device | None = None
        # Who has it may touch whatever is below.
        self._flushing = threading.Lock()
        self._lines: list[bytes] = []
        self._chunks: deque[bytes] = deque()
        self._is_partial = False
        self._held_bytes = 0
        self._dropped = 0
        self._retry_at_s = 0.0
        self._reopen_wanted = False

    def open(self) -> None:
        """Open the device, if that is possible now; else `failure` says why not."""
        with self._flushing:
            self._open_device()

    @property
    def is_held(self) -> bool:
        """Whether something waits to be written."""
        return bool(self.written) or self.is_behind

    def flush(self, *, now: bool = False) -> None:
        """Write what is held and can be written, unless the device is to be left alone.

        Args:
            now: Try even a device that failed or was full a moment ago.
        """
        if not self.written and not self.is_behind:
            return
        if not self._flushing.acquire(blocking=False):
            return  # another thread is at it, or a signal handler came into our own flush
        try:
            if self._retry_at_s and not now and self._clock() < self._retry_at_s:
                self._take_written()
            else:
                self._write_held()
        finally:
            self.is_behind = bool(self._lines or self._chunks or self._reopen_wanted)
            self._flushing.release()

    def reopen(self) -> None:
        """Open the file by its path again; the old one stays in use when that fails.

        What is held belongs to the old file, if that still takes it.
        """
        self.flush(now=True)
        if self.spec.reopens:
            self._reopen_wanted = self.is_behind = True
        self.flush(now=True)

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Write what can be written within `timeout_s`, then let go of the device."""
        deadline_s = self._clock() + timeout_s
        self.flush(now=True)
        while self.is_held and self.failure is None and self._device is not None:
            remaining_s = deadline_s - self._clock()
            if remaining_s <= 0:
                break
            self._device.wait(remaining_s)
            self.flush(now=True)
        with self._flushing:
            if self._device is not None:
                self._device.close(max(0.0, deadline_s - self._clock()))
                self._device = None

    def _take_written(self) -> None:
        """Take what was written since the last time, as far as there is room for it."""
        written = self.written
        count = len(written)  # others append meanwhile, behind these
        lines = written[:count]
        del written[:count]
        if self.spec.encode is not None:
            lines = list(map(self.spec.encode, lines))
        size = sum(map(len, lines))
        if not self._dropped and self._held_bytes + size <= self.spec.held_bytes:
            self._lines += lines
            self._held_bytes += size
        else:
            for line in lines:
                self._take_or_drop(line)

    def _take_or_drop(self, line: bytes) -> None:
        """Take one line, or count it where too much is held already."""
        if self._dropped:
            # Not again until half of it is gone: a reader that is just too slow would
            # else get a count after every few lines.
            if self._held_bytes > self.spec.held_bytes // 2:
                self._dropped += 1
                return
            self._count_dropped()
        elif self._held_bytes + len(line) > self.spec.held_bytes:
            self._dropped = 1
            return
        self._lines.append(line)
        self._held_bytes += len(line)

    def _count_dropped(self) -> None:
        """Put the count of the lines that are missing where they are missing."""
        notice = self.spec.dropped_line(self._dropped)
        self._dropped = 0
        self._lines.append(notice)
        self._held_bytes += len(notice)

    def _write_held(self) -> None:
        """Write until nothing is left or the device takes no more. `_flushing` is held."""
        self._take_written()
        if self._reopen_wanted:
            self._reopen_device()
        device = self._open_device()
        if device is None:
            return
        while self._next_chunk(device.atomic_bytes):
            if not self._write_chunk(device):
                return
        self._retry_at_s = 0.0

    def _write_chunk(self, device: Device) -> bool:
        """Write the first chunk; return whether to go on."""
        chunk = self._chunks[0]
        try:
            written = device.write(chunk)
        except BlockingIOError:
            self._retry_at_s = self._clock() + READER_RETRY_S
            return False
        except OSError as error:
            self._fail(error)
            return False
        self.failure = None
        # The rest of a line goes before everything else, so it stays where it is.
        self._is_partial = written < len(chunk)
        if self._is_partial:
            self._chunks[0] = chunk[written:]
        else:
            self._chunks.popleft()
        self._held_bytes -= written
        return True

    def _next_chunk(self, limit: int) -> bool:
        """Return whether there is a chunk to write, made of the lines if need be."""
        if self._chunks:
            return True
        if self.written:
            self._take_written()
        if not self._lines and self._dropped:
            self._count_dropped()
        lines, self._lines = self._lines, []
        if lines:
            self._chunks.extend(_chunks(lines, limit))
        return bool(lines)

    def _open_device(self) -> Device | None:
        if self._device is None:
            try:
                self._device = self.spec.open_device()
            except OSError as error:
                self._fail(error)
        return self._device

    def _reopen_device(self) -> None:
        self._reopen_wanted = False
        try:
            device = self.spec.open_device()
        except OSError as error:
            kept = "" if self._device is None else "; the file that was open stays in use"
            self.spec.report(f"cannot reopen the {self.spec.name}: {error.strerror}{kept}")
            return
        if self._device is not None:
            self._finish_line(self._device)
            self._device.close(0)
        self._device = device
        self._retry_at_s = 0.0

    def _finish_line(self, device: Device) -> None:
        """Leave no half line where the log is taken away from, and none where it goes to."""
        if not self._is_partial:
            return
        rest, line_feed, others = self._chunks[0].partition(b"\n")
        with contextlib.suppress(OSError):
            device.write(rest + line_feed)
        self._is_partial = False
        self._held_bytes -= len(rest) + len(line_feed)
        if others:
            self._chunks[0] = others
        else:
            self._chunks.popleft()

    def _fail(self, error: OSError) -> None:
        if self.failure is None:
            self.spec.report(
                f"cannot write the {self.spec.name}: {error.strerror}; lines are kept, then dropped"
            )
        self.failure = error
        self._retry_at_s = self._clock() + FAILURE_RETRY_S


def _chunks(lines: list[bytes], limit: int) -> list[bytes]:
    """Join lines to chunks of at most `limit` bytes (0: one chunk); a longer line is one alone."""
    joined = b"".join(lines)
    if not limit or len(joined) <= limit:
        return [joined]
    if joined.count(b"\n") == len(lines):
        return _cut(joined, limit)
    chunks: list[bytes] = []
    current: list[bytes] = []
    size = 0
    for line in lines:  # some of several lines each, a traceback: not to be torn apart
        if size + len(line) > limit and current:
            chunks.append(b"".join(current))
            current, size = [], 0
        current.append(line)
        size += len(line)
    chunks.append(b"".join(current))
    return chunks


def _cut(joined: bytes, limit: int) -> list[bytes]:
    """Cut behind line feeds; costs calls per chunk, where a loop costs them per line."""
    chunks = []
    start, end = 0, len(joined)
    while end - start > limit:
        cut = joined.rfind(b"\n", start, start + limit) + 1 or joined.index(b"\n", start) + 1
        chunks.append(joined[start:cut])
        start = cut
    chunks.append(joined[start:])
    return [chunk for chunk in chunks if chunk]
