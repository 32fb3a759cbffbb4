"""Waiting for many descriptors: epoll where there is one, `selectors` elsewhere.

Clients are watched edge-triggered for both directions, once, at registration: no
system call is spent on changing interest, neither for a keep-alive request nor for a
slow reader. The price is a rule: after an event, read until the kernel has no more,
or remember that you have not (`Connection.unread`).

Listeners are level-triggered with EPOLLEXCLUSIVE, so that one connection wakes one
worker and not all of them (Linux 4.5).
"""

from __future__ import annotations

import select
import selectors
from typing import Protocol

from django_wsgiserve.originals import DefaultSelector, original

# epoll's own numbers (EPOLLIN, EPOLLOUT, EPOLLERR | EPOLLHUP, the same | EPOLLRDHUP), part of
# Linux's ABI: translating the mask of each event would cost a call. HUNG_UP: the client sends
# no more. LOST: nor can it read, for it has reset the connection, or closed a Unix socket.
READABLE = 0x001
WRITABLE = 0x004
LOST = 0x008 | 0x010
HUNG_UP = LOST | 0x2000


class Poller(Protocol):
    """What a scheduler needs of the system: descriptors in, events out."""

    edge_triggered: bool
    """Events of clients come once, and `want_read` need not be called."""

    def add_client(self, fd: int) -> None:
        """Watch a client for both directions until its descriptor is closed."""

    def add_source(self, fd: int, *, exclusive: bool = False) -> None:
        """Watch a descriptor for reading, level-triggered."""

    def remove(self, fd: int) -> None:
        """Stop watching; call it before the descriptor is closed."""

    def want_write(self, fd: int, wanted: bool) -> None:
        """Say whether a client's writability is of interest now."""

    def want_read(self, fd: int, wanted: bool) -> None:
        """Say whether a client's readability is of interest now."""

    def wait(self, timeout_s: float | None, max_events: int, /) -> list[tuple[int, int]]:
        """Return descriptors with a mask of READABLE, WRITABLE, HUNG_UP."""


class EpollPoller:
    """Linux."""

    edge_triggered = True

    def __init__(self) -> None:
        self._epoll: select.epoll = original(select, "epoll")()
        # The hot path is epoll's own method: a wrapper would cost a call each turn.
        self.wait = self._epoll.poll
        self.fileno = self._epoll.fileno

    def add_client(self, fd: int) -> None:
        """Watch both directions, edge-triggered."""
        self._epoll.register(
            fd, select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
        )

    def add_source(self, fd: int, *, exclusive: bool = False) -> None:
        """Watch for reading, level-triggered; `exclusive` wakes one process of many."""
        self._epoll.register(fd, select.EPOLLIN | (select.EPOLLEXCLUSIVE if exclusive else 0))

    def remove(self, fd: int) -> None:
        """Stop watching."""
        self._epoll.unregister(fd)

    def want_write(self, fd: int, wanted: bool) -> None:
        """Do nothing: the edge is always reported."""

    def want_read(self, fd: int, wanted: bool) -> None:
        """Do nothing: the edge is always reported, and reported once."""

    def close(self) -> None:
        """Close the epoll descriptor."""
        self._epoll.close()


class SelectorsPoller:
    """Elsewhere: level-triggered, so interest is changed as it changes."""

    edge_triggered = False

    def __init__(self) -> None:
        self._selector = DefaultSelector()
        self._paused: set[int] = set()

    def add_client(self, fd: int) -> None:
        """Watch for reading; `want_write` adds the other direction."""
        self._selector.register(fd, selectors.EVENT_READ)

    def add_source(self, fd: int, *, exclusive: bool = False) -> None:
        """Watch for reading. Every process is woken; all but one find nothing."""
        self._selector.register(fd, selectors.EVENT_READ)

    def remove(self, fd: int) -> None:
        """Stop watching."""
        if fd in self._paused:
            self._paused.discard(fd)
        else:
            self._selector.unregister(fd)

    def want_write(self, fd: int, wanted: bool) -> None:
        """Add or remove interest in writability."""
        self._change(fd, selectors.EVENT_WRITE, wanted)

    def want_read(self, fd: int, wanted: bool) -> None:
        """Add or remove interest in readability."""
        self._change(fd, selectors.EVENT_READ, wanted)

    def _change(self, fd: int, event: int, wanted: bool) -> None:
        events = 0 if fd in self._paused else self._selector.get_key(fd).events
        changed = events | event if wanted else events & ~event
        if changed == events:
            return
        if not changed:  # `selectors` refuses an empty mask
            self._selector.unregister(fd)
            self._paused.add(fd)
        elif fd in self._paused:
            self._paused.discard(fd)
            self._selector.register(fd, changed)
        else:
            self._selector.modify(fd, changed)

    def wait(self, timeout_s: float | None, max_events: int, /) -> list[tuple[int, int]]:
        """Return all that is ready, in epoll's masks."""
        ready = []
        for key, events in self._selector.select(timeout_s):
            mask = 0
            if events & selectors.EVENT_READ:
                mask |= READABLE
            if events & selectors.EVENT_WRITE:
                mask |= WRITABLE
            ready.append((key.fd, mask))
        return ready

    def close(self) -> None:
        """Close the selector."""
        self._selector.close()


def new_poller() -> EpollPoller | SelectorsPoller:
    """Return the best poller this system has."""
    return EpollPoller() if hasattr(select, "epoll") else SelectorsPoller()
