"""What differs under gevent: how the leader waits, and how a stuck request is ended.

The scheduler is the reactor, its threads are greenlets here. They change places only
where one waits, and cheaply, so the leader gives up the lead before every request.

gevent's hub watches one descriptor for the whole worker, the reactor's own epoll, beside
those that the application's greenlets wait for.
"""

from __future__ import annotations

import math
import select
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import gevent
from greenlet import getcurrent

from django_wsgiserve.errors import RequestTimedOut
from django_wsgiserve.events import ERROR
from django_wsgiserve.workers.poller import EpollPoller, SelectorsPoller
from django_wsgiserve.workers.reactor import Reactor
from django_wsgiserve.workers.slots import RequestSlot

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from greenlet import greenlet

    from django_wsgiserve.workers.connection import Connection
    from django_wsgiserve.workers.site import Site

# How long the leader may find enough to do before other greenlets get their turn.
_TURN_S = 0.005
# How many requests that are ready are kept although other workers have nothing to do.
_AT_ONCE = 4
# How long a request that got `RequestTimedOut` may take to end.
_PARTING_S = 3.0
_READ = 1  # a watcher's event mask: libev's EV_READ, libuv's UV_READABLE


class HubWait:
    """Waits for one descriptor while other greenlets run."""

    def __init__(self, fd: int) -> None:
        """Watch `fd`, as soon as somebody waits."""
        self._hub = gevent.get_hub()
        self._watcher = self._hub.loop.io(fd, _READ)
        self._watches = False
        self._waiting: greenlet | None = None
        self._turn_by_s = 0.0

    def until_readable(self, timeout_s: float | None) -> None:
        """Return when the descriptor is readable, or the time has passed; maybe earlier."""
        current = getcurrent()
        loop = self._hub.loop
        if not self._watches:
            self._watches = True
            self._watcher.start(self._on_readable)
        self._waiting = current
        timer = None
        if timeout_s is not None and timeout_s >= 0.0:
            timer = loop.timer(timeout_s)
            timer.start(self._on_timeout, current, update=True)
        try:
            self._hub.switch()
        finally:
            self._waiting = None
            if timer is not None:
                timer.stop()
                timer.close()
        self._turn_by_s = time.monotonic() + _TURN_S

    def give_turn(self) -> None:
        """Let others run, if it is a while since they could."""
        if time.monotonic() >= self._turn_by_s:
            # A timer, for what is run at once comes before the hub looks at descriptors.
            self.until_readable(0.0)

    def _on_readable(self) -> None:
        if self._waiting is None:
            # It stays watched from one wait to the next, which saves system calls; but
            # with nobody to take what has come it would be reported again and again.
            self._watches = False
            self._watcher.stop()
        else:
            self._waiting.switch()

    def _on_timeout(self, waiting: greenlet) -> None:
        if self._waiting is waiting:
            waiting.switch()

    def close(self) -> None:
        """Stop watching."""
        self._watcher.stop()
        self._watcher.close()


class GreenletEpollPoller(EpollPoller):
    """Linux."""

    def __init__(self) -> None:
        super().__init__()
        self._poll = self._epoll.poll
        self._hub_wait = HubWait(self._epoll.fileno())
        self.wait = self._wait

    def _wait(self, timeout_s: float | None, max_events: int, /) -> list[tuple[int, int]]:
        """Return what is ready; other greenlets run while nothing is."""
        events = self._poll(0, max_events)
        if events or timeout_s == 0.0:
            self._hub_wait.give_turn()
            return events
        self._hub_wait.until_readable(timeout_s)
        return self._poll(0, max_events)

    def close(self) -> None:
        """Close the epoll descriptor."""
        self._hub_wait.close()
        super().close()


class GreenletSelectorsPoller(SelectorsPoller):
    """Elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self._hub_wait = HubWait(self._selector.fileno())

    def wait(self, timeout_s: float | None, max_events: int, /) -> list[tuple[int, int]]:
        """Return what is ready; other greenlets run while nothing is."""
        events = super().wait(0, max_events)
        if events or timeout_s == 0.0:
            self._hub_wait.give_turn()
            return events
        self._hub_wait.until_readable(timeout_s)
        return super().wait(0, max_events)

    def close(self) -> None:
        """Close the selector."""
        self._hub_wait.close()
        super().close()


class GreenletSlot(RequestSlot):
    """A slot whose thread is a greenlet."""

    __slots__ = ("_greenlet", "after_timeout")

    after_timeout: Callable[[], None]
    """Called in its greenlet when a request has ended that had lost its client."""

    def serve(self, connection: Connection, *, keep_alive: bool) -> bool:
        """Run the application; afterwards tidy up, if it was broken off."""
        mine = super().serve(connection, keep_alive=keep_alive)
        if not mine:
            self.after_timeout()
        return mine

    def take_possession(self) -> None:
        """Note the greenlet that serves this slot; called in it."""
        super().take_possession()
        self._greenlet = getcurrent()

    def _frame(self) -> FrameType | None:
        frame: FrameType | None = self._greenlet.gr_frame
        return frame

    def interrupt(self, connection: Connection, error: BaseException) -> None:
        """Raise `error` where the application waits, if it still runs for `connection`.

        Not now: it may be about to run, and the end of its request would pass by.
        """
        gevent.get_hub().loop.run_callback(self._throw, connection, error)

    def _throw(self, connection: Connection, error: BaseException) -> None:
        if self.connection is connection and self._greenlet.gr_frame is not None:
            self._greenlet.throw(error)


@dataclass(frozen=True, slots=True)
class _Interrupted:
    """A request that got an exception, and by when it has to have ended."""

    slot: RequestSlot
    connection: Connection
    request: str
    until_s: float


class GreenletReactor(Reactor):
    """The reactor, with greenlets for threads."""

    _slot_class = GreenletSlot

    def __init__(self, site: Site) -> None:
        """Store; `open` registers, `run` starts the greenlets."""
        super().__init__(site)
        self._side_by_side_until_s = math.inf
        self._interrupted: list[_Interrupted] = []
        for slot in self._slots:
            assert isinstance(slot, GreenletSlot)  # noqa: S101 - for mypy
            slot.after_timeout = site.after_timeout

    def run(self) -> None:
        """Serve until `quit`, or until `retire` has been asked for and nothing is left to do."""
        # A greenlet of the project's that calls sys.exit() ends itself, as a thread would; it
        # would be raised in the main greenlet, which may run anybody's request.
        gevent.get_hub().SYSTEM_ERROR = ()
        super().run()

    def _new_poller(self) -> EpollPoller | SelectorsPoller:
        # `select.epoll` itself is gone under the patches.
        has_epoll = hasattr(select, "EPOLLEXCLUSIVE")
        return GreenletEpollPoller() if has_epoll else GreenletSelectorsPoller()

    def _count_free(self) -> int:
        # There are slots for those that wait; what computes, computes one at a time.
        return min(super()._count_free(), _AT_ONCE)

    def _free(self, slot: RequestSlot, connection: Connection, request: str) -> str:
        """Raise an exception where the application waits: most often that is enough."""
        assert isinstance(slot, GreenletSlot)  # noqa: S101 - for mypy
        slot.interrupt(connection, RequestTimedOut(request))
        until_s = self._clock.now_s + _PARTING_S
        self._interrupted.append(_Interrupted(slot, connection, request, until_s))
        return "RequestTimedOut is raised where it waits"

    def _tick(self) -> None:
        """Do what is due once a second, and give up what an exception has not ended."""
        super()._tick()
        now_s = self._clock.now_s
        for one in self._interrupted[:]:
            if one.slot.connection is not one.connection:
                self._interrupted.remove(one)
            elif now_s >= one.until_s:
                self._interrupted.remove(one)
                self._events.notice(
                    ERROR,
                    f"a request goes on after RequestTimedOut: {one.request}; the worker is"
                    " replaced",
                    one.slot.where()[0],
                    request=one.request,
                )
                self._give_up(one.slot, one.connection, one.request)
