"""Every connection of a worker, and what its bytes lead to.

Reads requests, sends responses, judges deadlines, ends connections. When to wait and
whom to serve is the scheduler's (`reactor.py`): a request that is complete is put into
`runnable`, and the scheduler says so when it has been answered.
"""

from __future__ import annotations

import socket
from collections import deque
from typing import TYPE_CHECKING

from django_wsgiserve.errors import BodyNotStored, ProtocolError, RequestTimeout
from django_wsgiserve.events import EventBus, RequestRejected
from django_wsgiserve.protocol.connection import CONTINUE, RequestReader
from django_wsgiserve.protocol.messages import END, Limits, RequestHead
from django_wsgiserve.protocol.response import error_response
from django_wsgiserve.workers.connection import READING, Connection, State
from django_wsgiserve.workers.output import OutputQueue
from django_wsgiserve.workers.poller import HUNG_UP, READABLE, WRITABLE
from django_wsgiserve.wsgi.body import BodySpool, SpoolFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from django_wsgiserve.config import ServerConfig
    from django_wsgiserve.workers.clock import Clock
    from django_wsgiserve.workers.poller import EpollPoller, SelectorsPoller
    from django_wsgiserve.wsgi.environ import EnvironFactory

_RECV_BYTES = 64 * 1024
# Reads of one body before other connections get their turn.
_READS_PER_TURN = 16
# RFC 9112 section 9.6: read on for a while after the last response, or the kernel's RST
# for unread bytes may destroy the response on its way to the client.
_LINGER_S = 2.0
# How long a log line may wait for others to share its system call: under load that is one
# write for hundreds of lines, and too short for anybody who watches to notice.
_FLUSH_DELAY_S = 0.02


class Traffic:
    """The connections of one worker."""

    def __init__(
        self,
        config: ServerConfig,
        events: EventBus,
        clock: Clock,
        poller: EpollPoller | SelectorsPoller,
    ) -> None:
        """Store; nothing is connected yet."""
        self._config = config
        self._events = events
        self._clock = clock
        self._poller = poller
        self._limits = Limits(
            request_line=config.limit_request_line,
            fields=config.limit_request_fields,
            field_size=config.limit_request_field_size,
            body=config.limit_request_body,
        )
        self._spool_directory = config.spool_dir or None
        self.connections: dict[int, Connection] = {}
        """All that are open, by descriptor."""
        self.runnable: deque[Connection] = deque()
        """Those whose request is complete, in the order in which it became so."""
        self.again: list[Connection] = []
        """Those to be looked at in the next turn without an event: `go_on`."""
        self.stopping = False
        """A connection that becomes idle is closed."""
        self.on_pressure: Callable[[Connection], None] | None = None
        """See `Connection.on_pressure`."""
        self.on_closed: Callable[[], None] | None = None
        """Called after each connection that is closed, while somebody waits for room."""

    def adopt(
        self, sock: socket.socket, peer: tuple[str, str], environs: EnvironFactory
    ) -> Connection:
        """Serve a connected socket, owned from here on, as if it had been accepted."""
        sock.setblocking(False)
        config = self._config
        connection = Connection(
            sock,
            peer,
            environs,
            RequestReader(self._limits),
            OutputQueue(memory_limit=config.spool_memory, directory=self._spool_directory),
        )
        connection.spool_limit = config.spool_limit
        connection.on_pressure = self.on_pressure
        # The request is expected now: a client that connects and sends nothing gets as
        # long as one that sends a part.
        connection.deadline_s = self._clock.now_s + config.header_timeout_s
        self.connections[connection.fd] = connection
        self._poller.add_client(connection.fd)
        self._read(connection, False)
        return connection

    def on_event(self, connection: Connection, mask: int) -> None:
        """Do what the poller's event asks for; `mask` is its."""
        if mask & WRITABLE and connection.output.items:
            self._flush(connection)
        if mask & (READABLE | HUNG_UP):
            if connection.state in READING:
                self._read(connection, bool(mask & HUNG_UP))
            elif connection.state is State.LINGERING:
                self._discard(connection)
            elif connection.state is not State.CLOSED:
                connection.unread = True
                self._poller.want_read(connection.fd, False)

    def go_on(self) -> None:
        """Look again at connections whose turn ended, or whose edge was passed over."""
        again, self.again = self.again, []
        for connection in dict.fromkeys(again):
            if connection.state is State.LINGERING:
                self._discard(connection)
            elif connection.state in READING:
                if self.stopping:
                    self._drop_unless_busy(connection)
                else:
                    self._catch_up(connection)
            elif connection.output.items:
                self._flush(connection)

    def _catch_up(self, connection: Connection) -> None:
        """Take what has come: what the reader holds, then what no edge will announce."""
        if connection.reader.buffered:
            try:
                self._advance(connection)
            except ProtocolError as error:
                self._reject(connection, error)
                return
        if connection.unread and connection.state in READING:
            self._read(connection, True)

    def _drop_unless_busy(self, connection: Connection) -> None:
        """Close a connection that is idle, and that nothing has come on meanwhile."""
        connection.unread = True
        self._catch_up(connection)
        if connection.state is State.IDLE:
            self._drop(connection)

    # -- reading ----------------------------------------------------------------------------

    def _read(self, connection: Connection, hung_up: bool) -> None:
        """Read what has come, as far as it is wanted now."""
        for _ in range(_READS_PER_TURN):
            try:
                data = connection.recv(_RECV_BYTES)
            except BlockingIOError:
                connection.unread = False
                return
            except OSError:
                self._abort(connection)
                return
            # A short read emptied the kernel's buffer (epoll(7)), but the end of the
            # stream may follow without an edge of its own.
            connection.unread = hung_up or bool(data[_RECV_BYTES - 1 :])
            try:
                connection.reader.receive(data)
                self._advance(connection)
            except ProtocolError as error:
                self._reject(connection, error)
                return
            if connection.state not in READING:
                return
            if not data:
                self._drop(connection)
                return
            if not connection.unread:
                return
        self.again.append(connection)

    def _advance(self, connection: Connection) -> None:
        """Take what the reader has: a head, parts of a body. Raises ProtocolError."""
        reader = connection.reader
        if connection.request is None:
            event = reader.next_event()
            if event is None:
                if connection.started_s == 0.0 and reader.started:
                    connection.started_s = self._clock.now_s
                    connection.state = State.HEAD
                    connection.deadline_s = self._clock.now_s + self._config.header_timeout_s
                return
            assert type(event) is RequestHead  # noqa: S101 - the reader's contract, for mypy
            connection.request = event
            if connection.started_s == 0.0:
                connection.started_s = self._clock.now_s
            if not event.content_length and not event.chunked:
                connection.state = State.QUEUED
                connection.deadline_s = 0.0
                self.runnable.append(connection)
                return
            self._begin_body(connection, event)
        self._take_body(connection)

    def _begin_body(self, connection: Connection, request: RequestHead) -> None:
        connection.state = State.BODY
        connection.body = BodySpool(
            memory_bytes=self._config.spool_memory, directory=self._spool_directory
        )
        # Sent only when the body is not already here (RFC 9110 section 10.1.1).
        if request.expect_continue and not connection.reader.buffered:
            connection.sent_bytes = -len(CONTINUE)  # not a part of the response
            connection.send(CONTINUE)
            if connection.output.items:
                self._poller.want_write(connection.fd, True)

    def _take_body(self, connection: Connection) -> None:
        body = connection.body
        assert body is not None  # noqa: S101 - `_begin_body` made it, for mypy
        reader = connection.reader
        connection.deadline_s = self._clock.now_s + self._config.body_timeout_s
        while (event := reader.next_event()) is not None:
            try:
                if event is END:
                    body.rewind()  # writes what is still buffered: a full disk shows here
                    break
                body.write(event)  # type: ignore[arg-type]  # only bytes are left
            except SpoolFailed as error:
                raise BodyNotStored(str(error)) from error
        else:
            return
        connection.state = State.QUEUED
        connection.deadline_s = 0.0
        self.runnable.append(connection)

    # -- answering --------------------------------------------------------------------------

    def send_rest(self, connection: Connection) -> None:
        """Go on after the last byte of a response was produced."""
        if connection.gone:
            self._abort(connection)
        elif connection.output.items:
            connection.state = State.FLUSHING
            connection.deadline_s = self._clock.now_s + self._config.write_timeout_s
            self._poller.want_write(connection.fd, True)
            # What was sent may have ended with its turn and not with EAGAIN: no edge then.
            self.again.append(connection)
        else:
            self.complete(connection)

    def _flush(self, connection: Connection) -> None:
        before = connection.sent_bytes
        if not connection.flush():
            if connection.state is not State.RUNNING:
                self._abort(connection)
            return
        progressed = connection.sent_bytes > before
        if progressed and connection.state not in READING:
            connection.deadline_s = self._clock.now_s + self._config.write_timeout_s
        if connection.output.items:
            if progressed:
                self.again.append(connection)
            return
        self._poller.want_write(connection.fd, False)
        if connection.state is State.FLUSHING:
            self.complete(connection)

    def complete(self, connection: Connection) -> None:
        """End a request: its response was sent whole, was broken off, or has no taker."""
        if not connection.silent:
            self._events.emit(connection.finished(self._clock.now_s, self._clock.wall_offset_s))
            if not self._clock.flush_at_s:
                self._clock.flush_at_s = self._clock.due_s = self._clock.now_s + _FLUSH_DELAY_S
        outcome = connection.outcome
        request = connection.request
        if connection.gone or outcome is None:
            if connection.failure is not None:
                self._events.emit(connection.failure)
            self._drop(connection)
        elif outcome.keep_alive:
            connection.begin_again()
            connection.deadline_s = self._clock.now_s + self._config.keepalive_s
            if connection.unread or connection.reader.buffered or self.stopping:
                self._poller.want_read(connection.fd, True)
                self.again.append(connection)
        elif request is not None and not request.keep_alive and not connection.has_more():
            self._drop(connection)
        else:
            self._linger(connection)

    def _reject(self, connection: Connection, error: ProtocolError) -> None:
        """Answer a request that broke HTTP, and close."""
        self._events.emit(
            RequestRejected(peer=connection.peer[0], status=error.status, reason=str(error))
        )
        if connection.started_s == 0.0:
            connection.started_s = self._clock.now_s
        connection.unread = True  # what follows in the stream is not read any more
        request = connection.request
        answer = error_response(
            error.status, self._clock.header_lines, body=request is None or request.method != "HEAD"
        )
        connection.refuse(error.status, answer)
        connection.state = State.FLUSHING
        connection.send(answer)
        self.send_rest(connection)

    # -- ending -----------------------------------------------------------------------------

    def expire_overdue(self) -> None:
        """End whatever has outrun its deadline."""
        now_s = self._clock.now_s
        for connection in [c for c in self.connections.values() if 0 < c.deadline_s <= now_s]:
            self._expire(connection)

    def drop_idle(self) -> None:
        """Close the connections that are idle and that nothing has come on meanwhile."""
        self.stopping = True
        for connection in [c for c in self.connections.values() if c.state is State.IDLE]:
            self._drop_unless_busy(connection)

    def abort_unfinished(self) -> None:
        """Wait no longer for requests; those that have come meanwhile are served."""
        for connection in [c for c in self.connections.values() if c.state in READING]:
            connection.unread = True
            self._catch_up(connection)
            if connection.state in READING:
                self._abort(connection)

    def abort_all(self) -> None:
        """End every connection; a request that was not answered is logged as aborted."""
        for connection in list(self.connections.values()):
            self._abort(connection)

    def _expire(self, connection: Connection) -> None:
        """End what has gone on for too long, in the way its state asks for.

        The loop was away for as long as a request ran: what came meanwhile counts first.
        """
        if connection.state in READING:
            connection.unread = True
            self._catch_up(connection)
        elif connection.state is State.FLUSHING:
            self._flush(connection)
        if not 0 < connection.deadline_s <= self._clock.now_s:
            return
        state = connection.state
        if state is State.RUNNING:  # in `_relieve`, which sees it and goes back to the application
            connection.gone = True
        elif state is State.FLUSHING:
            self._abort(connection)
        elif state is State.HEAD or state is State.BODY:
            part = "head" if state is State.HEAD else "body"
            self._reject(connection, RequestTimeout(f"the request {part} came too slowly"))
        else:
            self._drop(connection)

    def _abort(self, connection: Connection) -> None:
        """End a connection that the client has left; log the request it was in, if any."""
        connection.gone = True
        if connection.started_s:
            self.complete(connection)
        else:
            self._drop(connection)

    def _linger(self, connection: Connection) -> None:
        try:
            connection.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(connection)
            return
        connection.state = State.LINGERING
        connection.started_s = 0.0  # its request has been reported
        connection.deadline_s = self._clock.now_s + _LINGER_S
        self._poller.want_read(connection.fd, True)
        self._discard(connection)

    def _discard(self, connection: Connection) -> None:
        try:
            for _ in range(_READS_PER_TURN):
                if not connection.recv(_RECV_BYTES):
                    break
            else:
                self.again.append(connection)
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        if self.connections.pop(connection.fd, None) is not None:
            self._poller.remove(connection.fd)
            connection.close()
            if self.on_closed is not None:
                self.on_closed()
