"""A limit on how long the project's own code may take before it serves."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class TooLong(BaseException):
    """The limit has passed. Raised in whatever line the project was in.

    Not an `Exception`: Django would make a 500 of it, and a project's `except Exception`
    would go on waiting.
    """


@contextmanager
def limited(limit_s: float) -> Iterator[None]:
    """Break off what takes longer than `limit_s`, as soon as Python code runs again.

    For the main thread, and not to be nested: there is one SIGALRM.

    Raises:
        TooLong: It took longer.
    """

    def too_long(_number: int, _frame: FrameType | None) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
