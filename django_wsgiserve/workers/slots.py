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

from django_wsgiserve.protocol.response import ResponseEncoder
from django_wsgiserve.workers.connection import State
from django_wsgiserve.wsgi.body import EMPTY_BODY

if TYPE_CHECKING:
    from django_wsgiserve.scoreboard import Cell
    from django_wsgiserve.workers.clock import Clock
    from django_wsgiserve.workers.connection import Connection
    from django_wsgiserve.wsgi.gateway import Gateway


class RequestSlot:
    """A place for one running request."""

    __slots__ = ("_clock", "_gateway", "cell", "connection", "encoder", "ident", "served")

    def __init__(self, cell: Cell, gateway: Gateway, clock: Clock) -> None:
        """Store; `cell` is this slot's own on the scoreboard."""
        self._gateway = gateway
        self._clock = clock
        self.cell = cell
        self.connection: Connection | None = None
        """Whose request runs; `None` while the slot is free."""
        self.encoder: ResponseEncoder | None = None
        self.ident = 0
        """The thread's, once it runs."""
        self.served = 0
        """Requests the application was called for, the server's own not counted."""

    def serve(self, connection: Connection, *, keep_alive: bool) -> None:
        """Run the application for a complete request; what is sent goes to the connection.

        Args:
            connection: QUEUED; it is RUNNING afterwards, and has its outcome.
            keep_alive: Whether the worker is willing to keep the connection.
        """
        request = connection.request
        assert request is not None  # noqa: S101 - QUEUED has one, for mypy
        connection.state = State.RUNNING
        self.connection = connection
        cell = self.cell
        cell.begin(self._clock.now_s, request.method, request.path)
        spool = connection.body
        body, body_bytes = (EMPTY_BODY, 0) if spool is None else (spool.rewind(), spool.size)
        environ = connection.environs.build(request, connection.peer, body, body_bytes)
        environ["wsgiserve.name_view"] = cell.name_view
        connection.environ = environ
        self.encoder = encoder = ResponseEncoder(
            request, keep_alive=request.keep_alive and keep_alive, date=self._clock.header_lines
        )
        connection.outcome = outcome = self._gateway.run(request, environ, encoder, connection)
        cell.end(failed=outcome.status >= 500)
        self.connection = None
        # Brought up to date here, so that the next request in the queue starts now.
        self._clock.now_s = time.monotonic()
        if not connection.silent:
            self.served += 1

    def announce_close(self) -> None:
        """Let the response that is being made say `Connection: close`, if its head is not out."""
        if self.encoder is not None and not self.encoder.head_made:
            self.encoder.keep_alive = False

    def stack(self) -> str:
        """Return where the slot's thread is now, as a traceback; empty when it is not known."""
        frame = sys._current_frames().get(self.ident)
        return "" if frame is None else "".join(traceback.format_stack(frame))

    def take_possession(self) -> None:
        """Note the thread that serves this slot; called in it."""
        self.ident = threading.get_ident()
