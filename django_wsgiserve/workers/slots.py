"""Request slots: what runs the application, one request each.

A slot is a thread (under gevent's patches: a greenlet) that lives as long as its worker,
so that what a project keeps per thread, database connections first of all, is bounded
and used again. It knows nothing of sockets that wait; the reactor gives it a connection
whose request is complete.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING

from django_wsgiserve.workers.connection import Connection
from django_wsgiserve.wsgi.body import EMPTY_BODY
from django_wsgiserve.wsgi.gateway import Gateway
from django_wsgiserve.wsgi.reply import Reply

if TYPE_CHECKING:
    from types import FrameType

    from django_wsgiserve.scoreboard import Cell
    from django_wsgiserve.workers.clock import Clock

# Where a thread is that has passed the question whether the client is still there.
_SENDING = frozenset({Connection.send.__code__, Connection.send_file.__code__})
_CALLS_APPLICATION = Gateway.run.__code__


class RequestSlot:
    """A place for one running request."""

    __slots__ = (
        "_clock",
        "_gateway",
        "cell",
        "claim",
        "connection",
        "given_up",
        "ident",
        "lends",
        "lost",
        "reply",
        "served",
        "wants_lead",
    )

    def __init__(self, cell: Cell, gateway: Gateway, clock: Clock) -> None:
        """Store; `cell` is this slot's own on the scoreboard."""
        self._gateway = gateway
        self._clock = clock
        self.cell = cell
        self.connection: Connection | None = None
        """Whose request runs; `None` while the slot is free."""
        self.reply: Reply | None = None
        self.ident = 0
        """The thread's, once it runs."""
        self.served = 0
        """Requests the application was called for, the server's own not counted."""
        self.claim: list[Connection] = []
        """Who pops the connection ends its request: this slot, or the leader after TIMEOUT."""
        self.given_up: Connection | None = None
        """Whose request has lost its client; whatever becomes of it, nobody waits for it."""
        self.lends = False
        """It leads, and lets others take the lead: see `Lead`. Written by its thread only."""
        self.lost = False
        """Another thread took the lead that was lent. Written by the takers."""
        self.wants_lead = False
        """The thread waits for the lead. Written by that thread only."""

    def serve(self, connection: Connection, *, keep_alive: bool) -> bool:
        """Run the application for a complete request; what is sent goes to the connection.

        Args:
            connection: RUNNING; it has its outcome afterwards.
            keep_alive: Whether the worker is willing to keep the connection.

        Returns:
            Whether the request is still this slot's to end.
        """
        request = connection.request
        assert request is not None  # noqa: S101 - RUNNING has one, for mypy
        self.connection = connection
        self.claim = claim = [connection]  # before the cell: see `take_away`
        cell = self.cell
        cell.begin(self._clock.now_s, request.method, request.path)
        spool = connection.body
        body, body_bytes = (EMPTY_BODY, 0) if spool is None else (spool.rewind(), spool.size)
        environ = connection.environs.build(request, connection.peer, body, body_bytes)
        environ["wsgiserve.name_view"] = cell.name_view
        connection.environ = environ
        self.reply = reply = Reply(
            request, connection, keep_alive=keep_alive, date=self._clock.header_lines
        )
        self._gateway.run(environ, reply)
        connection.outcome = reply
        cell.end(failed=reply.status >= 500)
        # Brought up to date here, so that the next request in the queue starts now.
        self._clock.now_s = time.monotonic()
        if not connection.silent:
            self.served += 1
        try:
            claim.pop()
        except IndexError:
            return False
        return True

    @property
    def is_stuck(self) -> bool:
        """Whether its thread is still in a request that has been given up."""
        return self.connection is not None and self.connection is self.given_up

    def announce_close(self) -> None:
        """Let the response that is being made say `Connection: close`, if its head is not out."""
        reply = self.reply
        if reply is not None:
            reply.close_wanted = True

    def take_away(self, started_s: float) -> Connection | None:
        """Take the request that began at `started_s` from its thread; `None`: it has ended.

        Nothing more is sent for it: its connection is `gone` from here on.
        """
        claim = self.claim
        # A slot makes its claim before it writes the start: while the cell has the old
        # start, the claim is that request's.
        if self.cell.started_s != started_s:
            return None
        try:
            connection = claim.pop()
        except IndexError:
            return None
        connection.gone = True
        if self.cell.started_s == started_s:
            self.cell.suspend()  # the supervisor has nothing left to judge
        return connection

    def where(self) -> tuple[str, bool]:
        """Return where the slot's thread is now, and whether it is sending.

        The first is a traceback from the application down, empty when it is not known.
        """
        frame = self._frame()
        if frame is None:
            return "", False
        frames = list(traceback.walk_stack(frame))
        codes = [one.f_code for one, _ in frames]
        if _CALLS_APPLICATION in codes:
            frames = frames[: codes.index(_CALLS_APPLICATION)]
        stack = "".join(traceback.StackSummary.extract(reversed(frames)).format())
        return stack, any(code in _SENDING for code in codes)

    def _frame(self) -> FrameType | None:
        return sys._current_frames().get(self.ident)

    def take_possession(self) -> None:
        """Note the thread that serves this slot; called in it."""
        self.ident = threading.get_ident()
