"""How the logs write a time. The text of a second is made once, whoever asks for it."""

from __future__ import annotations

import time
from collections.abc import Callable

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_KEPT_SECONDS = 64

HALF_MS = 0.0005
"""What is added to a time before its milliseconds are cut off: so they are rounded, carry
and all, without a call."""


class SecondTexts(dict[float, str]):
    """The text of a second, made once. A plain subscript when it is there.

    Several are kept because requests that began in different seconds end in turn.
    """

    def __init__(self, render: Callable[[float], str]) -> None:
        self._render = render

    def __missing__(self, second: float) -> str:
        if len(self) >= _KEPT_SECONDS:
            self.clear()
        text = self[second] = self._render(second)
        return text


def _common_log_time(second: float) -> str:
    """Return `[22/Nov/2026:16:22:51 +0000]`, local time. Not strftime: %b follows the locale."""
    at = time.localtime(second)
    offset_min = at.tm_gmtoff // 60
    sign = "-" if offset_min < 0 else "+"
    hours, minutes = divmod(abs(offset_min), 60)
    return (
        f"[{at.tm_mday:02d}/{_MONTHS[at.tm_mon - 1]}/{at.tm_year}:{at.tm_hour:02d}:"
        f"{at.tm_min:02d}:{at.tm_sec:02d} {sign}{hours:02d}{minutes:02d}]"
    )


def _iso_second(second: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


COMMON_LOG_TIMES = SecondTexts(_common_log_time)
"""By Unix second: `[22/Nov/2026:16:22:51 +0000]`, local time."""

ISO_SECONDS = SecondTexts(_iso_second)
"""By Unix second: `2026-11-22T16:22:51`, UTC."""


def iso_time(at_s: float) -> str:
    """Return Unix time `at_s` as `2026-11-22T16:22:51.123Z`."""
    at_s += HALF_MS
    return f"{ISO_SECONDS[at_s // 1]}.{at_s % 1 * 1000 // 1:03.0f}Z"
