"""What a worker needs to know of the time, brought up to date once a second."""

from __future__ import annotations

import time

TICK_S = 1.0


class Clock:
    """The header lines that depend on the time, and the way from monotonic to Unix time."""

    __slots__ = (
        "_server_line",
        "due_s",
        "flush_at_s",
        "header_lines",
        "next_tick_s",
        "now_s",
        "wall_offset_s",
    )

    def __init__(self, *, server_header: bool) -> None:
        """Start in need of a `tick`."""
        self.now_s = time.monotonic()
        """When the present turn of the loop began, or the last request ended (monotonic)."""
        self.due_s = 0.0
        """When something is to be done even if no event comes."""
        self.flush_at_s = 0.0
        """When log lines that are held back are to be written; 0.0: there are none."""
        self._server_line = b"Server: django-wsgiserve\r\n" if server_header else b""
        self.header_lines = b""
        """The Date line, and the Server line if wanted, each with its CRLF."""
        self.next_tick_s = 0.0
        self.wall_offset_s = 0.0
        """Add it to `time.monotonic()` for Unix time."""

    def tick(self, now_s: float) -> None:
        """Bring everything up to date; `now_s` is monotonic.

        The next tick is due when the wall clock's second changes, so that Date
        (RFC 9110 section 6.6.1) is never late by more than a turn of the loop.
        """
        wall_s = time.time()
        self.wall_offset_s = wall_s - now_s
        self.next_tick_s = now_s + TICK_S - wall_s % 1.0
        date = time.strftime("Date: %a, %d %b %Y %H:%M:%S GMT\r\n", time.gmtime(wall_s))
        self.header_lines = date.encode("ascii") + self._server_line
