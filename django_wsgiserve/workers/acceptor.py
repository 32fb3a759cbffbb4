"""Taking new connections, and not taking them when there is no room.

One connection is taken a turn, so that what waits in the backlog is left for workers
that are idle. A worker that is full, or out of descriptors, stops watching its
listeners: the kernel's queue is the back-pressure.
"""

from __future__ import annotations

import errno
import resource
import socket
from typing import TYPE_CHECKING

from django_wsgiserve.events import ERROR, INFO
from django_wsgiserve.originals import accept

if TYPE_CHECKING:
    from collections.abc import Callable

    from django_wsgiserve.events import EventBus
    from django_wsgiserve.sockets import Listener

_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_RETRY_S = 1.0


class Acceptor:
    """The listeners of one worker."""

    def __init__(
        self,
        listeners: tuple[Listener, ...],
        events: EventBus,
        adopt: Callable[[socket.socket, tuple[str, str], Listener], object],
    ) -> None:
        """Store.

        Args:
            listeners: What to accept from.
            events: Told when the system refuses another connection.
            adopt: Takes the connected socket, the peer's address and port, the listener.
        """
        self._listeners = listeners
        self._events = events
        self._adopt = adopt
        self.retry_at_s = 0.0
        """Not before this moment (monotonic) is it worth while to accept again."""
        self._refused = False
        """The system's last word was that it has no more to give; it was said, once."""

    def open(self) -> None:
        """Let what is accepted send at once: it inherits this from its listener.

        Otherwise the second part of a response waits for the acknowledgement of the first,
        which clients delay by 40 ms (RFC 896 meets RFC 1122 section 4.2.3.2).
        """
        for listener in self._listeners:
            if listener.family in (socket.AF_INET, socket.AF_INET6):
                listener.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def sources(self) -> list[tuple[int, Callable[[], None]]]:
        """Return what to watch, and what to call when it is readable."""
        return [
            (listener.socket.fileno(), self._source_of(listener)) for listener in self._listeners
        ]

    def _source_of(self, listener: Listener) -> Callable[[], None]:
        def accept_one() -> None:
            self._accept(listener)

        return accept_one

    def _accept(self, listener: Listener) -> bool:
        try:
            sock, address = accept(listener.socket)
        except OSError as error:
            if error.errno in _OUT_OF_RESOURCES:
                self._say_refused(listener, error)
                self.hold_off()
            # EAGAIN: another worker was faster. ECONNABORTED: the client was.
            return False
        if self._refused:
            self._refused = False
            self._events.notice(INFO, "accepting connections again")
        peer = (address[0], str(address[1])) if isinstance(address, tuple) else ("", "")
        self._adopt(sock, peer, listener)
        return True

    def _say_refused(self, listener: Listener, error: OSError) -> None:
        """Say that connections wait, and whose limit it is; not each time that it is so."""
        if self._refused:
            return
        self._refused = True
        limit = ""
        if error.errno == errno.EMFILE:
            soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            limit = f" (at most {soft} in a process: ulimit -n, or LimitNOFILE of systemd)"
        self._events.notice(
            ERROR,
            f"cannot accept on {listener.name}: {error.strerror}{limit};"
            f" clients wait, and it is tried again every {_RETRY_S:g} s",
        )

    def hold_off(self) -> None:
        """Accept nothing for a moment: the system has no more to give."""
        self.retry_at_s = float("inf")  # until `refused` is answered with a moment

    def refused(self, now_s: float) -> bool:
        """Whether the system has just refused a connection; the retry is set from `now_s`."""
        if self.retry_at_s != float("inf"):
            return False
        self.retry_at_s = now_s + _RETRY_S
        return True

    def drain_backlog(self) -> None:
        """Take everything that waits: nobody else will."""
        for listener in self._listeners:
            while self._accept(listener):
                pass
