"""A limit on how long the project's own code may take before it serves."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from django_wsgiserve.patching import patching


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
    limit = _GreenletLimit() if patching.done else _Limit()
    before = signal.signal(signal.SIGALRM, limit.on_alarm)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        limit.over = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class _Limit:
    """Raises in whatever line the main thread is in."""

    over = False
    """What was limited has ended."""

    def on_alarm(self, _number: int, _frame: FrameType | None) -> None:
        """Handle SIGALRM."""
        raise TooLong


class _GreenletLimit(_Limit):
    """Raises in the greenlet that made it, also while that waits.

    Signals are then handled within gevent's hub, which would report the exception as that
    of a callback, and go on.
    """

    def __init__(self) -> None:
        import gevent
        from greenlet import getcurrent

        self._current = getcurrent
        self._limited = getcurrent()
        self._hub = gevent.get_hub()

    def on_alarm(self, _number: int, _frame: FrameType | None) -> None:
        """Handle SIGALRM."""
        if self._current() is self._limited:
            raise TooLong
        self._hub.loop.run_callback(self._throw)

    def _throw(self) -> None:
        if not self.over:
            self._limited.throw(TooLong)
