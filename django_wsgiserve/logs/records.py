"""How a record of the operations log is written: a line of text for people, or a JSON object.

Text keeps every record to its own lines: control characters of a message are escaped,
further lines are indented. So nothing a client sends can look like a record of ours.

Times are UTC. Local time would not do: Django makes TIME_ZONE that of every process it
is loaded in, which the supervisor is not, and one log must not have two clocks.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django_wsgiserve.logs.times import iso_time

LOGGER_NAME = "django_wsgiserve.server"

# C0, DEL, C1, the two Unicode line breaks, and the marks that reorder text on a terminal.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_encode_json = json.JSONEncoder(separators=(",", ":"), default=repr).encode


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRecord:
    """One record of the operations log."""

    level: int
    """A `logging` level number."""
    message: str
    """One line for people."""
    role: str
    """Which process says it: `supervisor`, `worker`, …"""
    detail: str = ""
    """Further lines, such as a traceback; empty when there are none."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Machine-readable companions; only JSON and `logging` get them."""
    logger_name: str = LOGGER_NAME
    """Which log it is written to; the access log has records about itself."""
    at_s: float = field(default_factory=time.time)
    pid: int = field(default_factory=os.getpid)


RenderRecord = Callable[[LogRecord], bytes]


def printable(text: str) -> str:
    """Return `text` with everything escaped that moves a terminal or breaks a line."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def terminal_text(record: LogRecord) -> bytes:
    """Return the record with the time of day only: `16:22:51Z`."""
    return _text(record, iso_time(record.at_s)[11:19] + "Z")


def file_text(record: LogRecord) -> bytes:
    """Return the record with date and time: a file is read on another day."""
    return _text(record, iso_time(record.at_s))


def _text(record: LogRecord, at: str) -> bytes:
    level = logging.getLevelName(record.level)
    lines = [f"{at} {level:<8} {record.role}[{record.pid}] {printable(record.message)}"]
    lines.extend("    " + printable(line) for line in record.detail.expandtabs().splitlines())
    return ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")


def json_text(record: LogRecord) -> bytes:
    """Return the record as one JSON object on one line, ASCII only."""
    values: dict[str, Any] = {
        "time": iso_time(record.at_s),
        "logger": record.logger_name,
        "level": logging.getLevelName(record.level).lower(),
        "role": record.role,
        "pid": record.pid,
        "message": record.message,
    }
    if record.detail:
        values["detail"] = record.detail
    if record.fields:
        values["fields"] = dict(record.fields)
    return (_encode_json(values) + "\n").encode("ascii")


def renderer(log_format: str, *, on_terminal: bool) -> RenderRecord:
    """Return how records are written.

    Args:
        log_format: "text", "json", or "auto": text on a terminal, JSON elsewhere.
        on_terminal: Whether the target is a terminal.
    """
    if log_format == "json" or (log_format == "auto" and not on_terminal):
        return json_text
    return terminal_text if on_terminal else file_text


class RateLimit:
    """Lets so many pass in each window of time, and counts the others."""

    def __init__(self, limit: int, window_s: float, clock: Callable[[], float]) -> None:
        self.suppressed = 0
        self._limit = limit
        self._window_s = window_s
        self._clock = clock
        self._window_ends_s = 0.0
        self._passed = 0

    def passes(self) -> bool:
        """Return whether the next one may pass; if not it is counted in `suppressed`."""
        now_s = self._clock()
        if now_s >= self._window_ends_s:
            self._window_ends_s = now_s + self._window_s
            self._passed = 0
        if self._passed < self._limit:
            self._passed += 1
            return True
        self.suppressed += 1
        return False

    def take_suppressed(self, *, now: bool = False) -> int:
        """Return how many did not pass, once their window is over or `now`; else 0."""
        if not self.suppressed or (not now and self._clock() < self._window_ends_s):
            return 0
        suppressed, self.suppressed = self.suppressed, 0
        return suppressed
