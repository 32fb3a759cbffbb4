"""The scheduler of the sync worker: one epoll, every connection, one request at a time.

Reading heads and bodies, flushing slow readers and keeping idle connections costs no
request slot: the application is called when its request is complete, and what its
client does not take at once is flushed from here afterwards.

It knows nothing of signals, pipes to the supervisor or log files: those are sources
that `base.py` registers.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django_wsgiserve.errors import BodyNotStored, ProtocolError, RequestTimeout
from django_wsgiserve.events import EventBus, RequestRejected
from django_wsgiserve.protocol.connection import CONTINUE, RequestReader
from django_wsgiserve.protocol.messages import END, Limits, RequestHead
from django_wsgiserve.protocol.response import ResponseEncoder, error_response
from django_wsgiserve.workers.acceptor import Acceptor
from django_wsgiserve.workers.clock import Clock
from django_wsgiserve.workers.connection import READING, Connection, State
from django_wsgiserve.workers.output import OutputQueue
from django_wsgiserve.workers.poller import HUNG_UP, READABLE, WRITABLE, new_poller
from django_wsgiserve.wsgi.body import EMPTY_BODY, BodySpool, SpoolFailed
from django_wsgiserve.wsgi.gateway import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from django_wsgiserve.config import ServerConfig
    from django_wsgiserve.scoreboard import Row
    from django_wsgiserve.sockets import Listener
    from django_wsgiserve.wsgi.environ import EnvironFactory
    from django_wsgiserve.wsgi.gateway import Gateway

_RECV_BYTES = 64 * 1024
# Reads of one body before other connections get their turn.
_READS_PER_TURN = 16
_MAX_EVENTS = 64
# RFC 9112 section 9.6: read on for a while after the last response, or the kernel's RST
# for unread bytes may destroy the response on its way to the client.
_LINGER_S = 2.0
# How long a log line may wait for others to share its system call: under load that is one
# write for hundreds of lines, and too short for anybody who watches to notice.
_FLUSH_DELAY_S = 0.02
# How long complete requests are served one after another before orders, deadlines, the
# heartbeat and other clients' bytes get their turn.
_SERVING_S = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What a reactor serves, all of it made once per worker.

    `environs` has a factory for each listener. `flush_logs` writes what observers of the
    events hold back; `on_last_request` is called once, when `last_request` requests were
    served (0: never).
    """

    config: ServerConfig
    listeners: tuple[Listener, ...]
    environs: dict[Listener, EnvironFactory]
    gateway: Gateway
    events: EventBus
    row: Row
    flush_logs: Callable[[], None]
    last_request: int
    on_last_request: Callable[[], None]


class Reactor:
    """Moves bytes for all connections of a worker and runs complete requests in turn."""

    def __init__(self, site: Site) -> None:
        """Store; `open` registers."""
        config = site.config
        self._config = config
        self._events = site.events
        self._row = site.row
        self._cell = site.row.cells[0]
        self._gateway = site.gateway
        self._environs = site.environs
        self._flush_logs = site.flush_logs
        self._flush_at_s = 0.0  # 0.0: nothing to flush
        self._due_s = 0.0
        self._last_request = site.last_request
        self._on_last_request = site.on_last_request
        self._acceptor = Acceptor(site.listeners, site.events, self.adopt)
        self._clock = Clock(server_header=config.server_header)
        self._limits = Limits(
            request_line=config.limit_request_line,
            fields=config.limit_request_fields,
            field_size=config.limit_request_field_size,
            body=config.limit_request_body,
        )
        self._spool_directory = config.spool_dir or None
        self._poller = new_poller()
        self._wait = self._poller.wait
        self._connections: dict[int, Connection] = {}
        self._sources: dict[int, Callable[[], None]] = {}
        self._runnable: deque[Connection] = deque()
        self._again: list[Connection] = []
        self._opened = False
        self._accepting = False
        self._quitting = False
        self._retiring = False
        self._stopping = False
        self._relieving = False
        self._keeps_alive = config.keepalive_s > 0
        self._encoder: ResponseEncoder | None = None
        self._leave_by_s = 0.0
        self._now_s = time.monotonic()
        self.served = 0
        """Requests the application was called for."""

    # -- the loop ---------------------------------------------------------------------------

    def open(self) -> None:
        """Start to accept."""
        self._opened = True
        self._acceptor.open()
        self._tick()

    def add_source(self, fd: int, callback: Callable[[], None], *, exclusive: bool = False) -> None:
        """Call `callback` whenever `fd` is readable."""
        self._sources[fd] = callback
        self._poller.add_source(fd, exclusive=exclusive)

    def remove_source(self, fd: int) -> None:
        """Forget a source; call it before the descriptor is closed."""
        del self._sources[fd]
        self._poller.remove(fd)

    def run(self) -> None:
        """Serve until `quit`, or until `retire` has been asked for and nothing is left to do."""
        runnable = self._runnable
        while not self._quitting and not (self._retiring and not self._connections):
            self._turn(waits=not runnable)
            turn_s = self._now_s + _SERVING_S
            while runnable and not self._quitting:
                self._serve(runnable.popleft())
                if self._now_s >= turn_s:
                    break
        for connection in list(self._connections.values()):
            self._abort(connection)

    def announce_close(self) -> None:
        """Let every response from now on say `Connection: close`, also one that is being made.

        Safe in a signal handler, which is the only code that runs while the application does.
        """
        self._keeps_alive = False
        if self._encoder is not None and not self._encoder.head_made:
            self._encoder.keep_alive = False

    def quit(self) -> None:
        """Leave the loop as soon as the running request allows."""
        self._quitting = True

    def _turn(self, *, waits: bool) -> None:
        """Carry out what has come, after a wait for it where `waits`.

        Complete requests are queued, not served.
        """
        timeout_s = self._due_s - self._now_s
        if timeout_s < 0.0 or self._again or not waits:  # negative: wait for ever
            timeout_s = 0.0
        ready = self._wait(timeout_s, _MAX_EVENTS)
        self._now_s = now_s = time.monotonic()
        if now_s >= self._due_s:
            self._on_due()
        connections = self._connections
        for fd, mask in ready:
            if fd in connections:
                self._on_client(connections[fd], mask)
            elif fd in self._sources:  # not: closed earlier in this very turn
                self._sources[fd]()
                if self._acceptor.refused(now_s) or not self._has_room:
                    self._stop_accepting()
        if self._again:
            self._go_on()

    def _on_client(self, connection: Connection, mask: int) -> None:
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

    def _go_on(self) -> None:
        """Look again at connections whose turn ended, or whose edge was passed over."""
        again, self._again = self._again, []
        for connection in dict.fromkeys(again):
            if connection.state is State.LINGERING:
                self._discard(connection)
            elif connection.state in READING:
                if self._stopping:
                    self._drop_unless_busy(connection)
                else:
                    self._catch_up(connection)
            elif connection.output.items:
                self._flush(connection)

    def _catch_up(self, connection: Connection) -> None:
        """Take what has come: what the reader holds, then what no edge will announce."""
        if connection.reader.buffered and not self._advance_checked(connection):
            return
        if connection.unread and connection.state in READING:
            self._read(connection, True)

    def _drop_unless_busy(self, connection: Connection) -> None:
        """Close a connection that is idle, and that nothing has come on meanwhile."""
        connection.unread = True
        self._catch_up(connection)
        if connection.state is State.IDLE:
            self._drop(connection)

    def _on_due(self) -> None:
        if self._flush_at_s and self._now_s >= self._flush_at_s:
            self._flush_at_s = 0.0
            self._flush_logs()
        if self._now_s >= self._clock.next_tick_s:
            self._tick()
        self._due_s = min(self._clock.next_tick_s, self._flush_at_s or self._clock.next_tick_s)

    def _tick(self) -> None:
        """Do what is due once a second: heartbeat, date, deadlines, a new try to accept."""
        now_s = self._now_s
        self._clock.tick(now_s)
        self._flush_logs()
        self._row.beat(now_s)
        self._row.count_connections(len(self._connections))
        for connection in [c for c in self._connections.values() if 0 < c.deadline_s <= now_s]:
            self._expire(connection)
        if self._retiring and now_s >= self._leave_by_s:
            self._leave()
        self._start_accepting()

    # -- accepting --------------------------------------------------------------------------

    @property
    def _has_room(self) -> bool:
        return (
            len(self._connections) < self._config.worker_connections
            and self._acceptor.retry_at_s <= self._now_s
        )

    def _start_accepting(self) -> None:
        """Accept, unless that is done already, or there is a reason not to."""
        if self._retiring or self._relieving or self._accepting:
            return
        if self._opened and self._has_room:
            self._accepting = True
            for fd, accept in self._acceptor.sources():
                self.add_source(fd, accept, exclusive=True)

    def _stop_accepting(self) -> None:
        if self._accepting:
            self._accepting = False
            for fd, _ in self._acceptor.sources():
                self.remove_source(fd)

    def adopt(self, sock: socket.socket, peer: tuple[str, str], listener: Listener) -> Connection:
        """Serve a connected socket, owned from here on, as if it had been accepted."""
        sock.setblocking(False)
        config = self._config
        connection = Connection(
            sock,
            peer,
            self._environs[listener],
            RequestReader(self._limits),
            OutputQueue(memory_limit=config.spool_memory, directory=self._spool_directory),
        )
        connection.spool_limit = config.spool_limit
        connection.on_pressure = self._relieve
        # The request is expected now: a client that connects and sends nothing gets as
        # long as one that sends a part.
        connection.deadline_s = self._now_s + config.header_timeout_s
        self._connections[connection.fd] = connection
        self._poller.add_client(connection.fd)
        self._read(connection, False)
        return connection

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
        self._again.append(connection)

    def _advance_checked(self, connection: Connection) -> bool:
        try:
            self._advance(connection)
        except ProtocolError as error:
            self._reject(connection, error)
            return False
        return True

    def _advance(self, connection: Connection) -> None:
        """Take what the reader has: a head, parts of a body. Raises ProtocolError."""
        reader = connection.reader
        if connection.request is None:
            event = reader.next_event()
            if event is None:
                if connection.started_s == 0.0 and reader.started:
                    connection.started_s = self._now_s
                    connection.state = State.HEAD
                    connection.deadline_s = self._now_s + self._config.header_timeout_s
                return
            assert type(event) is RequestHead  # noqa: S101 - the reader's contract, for mypy
            connection.request = event
            if connection.started_s == 0.0:
                connection.started_s = self._now_s
            if not event.content_length and not event.chunked:
                connection.state = State.QUEUED
                connection.deadline_s = 0.0
                self._runnable.append(connection)
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
            connection.send(CONTINUE)
            if connection.output.items:
                self._poller.want_write(connection.fd, True)

    def _take_body(self, connection: Connection) -> None:
        body = connection.body
        assert body is not None  # noqa: S101 - `_begin_body` made it, for mypy
        reader = connection.reader
        connection.deadline_s = self._now_s + self._config.body_timeout_s
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
        self._runnable.append(connection)

    # -- serving ----------------------------------------------------------------------------

    def _serve(self, connection: Connection) -> None:
        """Run the application for one complete request and begin to send its response."""
        request = connection.request
        assert request is not None  # noqa: S101 - QUEUED has one, for mypy
        connection.state = State.RUNNING
        cell = self._cell
        cell.begin(self._now_s, request.method, request.path)
        spool = connection.body
        body, body_bytes = (EMPTY_BODY, 0) if spool is None else (spool.rewind(), spool.size)
        environ = connection.environs.build(request, connection.peer, body, body_bytes)
        environ["wsgiserve.name_view"] = cell.name_view
        connection.environ = environ
        encoder = ResponseEncoder(
            request,
            keep_alive=request.keep_alive and self._keeps_alive,
            date=self._clock.header_lines,
        )
        self._encoder = encoder
        connection.outcome = outcome = self._gateway.run(request, environ, encoder, connection)
        cell.end(failed=outcome.status >= 500)
        # Brought up to date here, so that the next request in the queue starts now.
        self._now_s = time.monotonic()
        if not connection.silent:
            self.served += 1
            if self.served == self._last_request:
                self._on_last_request()
        if connection.gone or connection.output.items:
            self._send_rest(connection)
        else:
            self._complete(connection)

    def _send_rest(self, connection: Connection) -> None:
        """Go on after the last byte of a response was produced."""
        if connection.gone:
            self._abort(connection)
        elif connection.output.items:
            connection.state = State.FLUSHING
            connection.deadline_s = self._now_s + self._config.write_timeout_s
            self._poller.want_write(connection.fd, True)
            # What was sent may have ended with its turn and not with EAGAIN: no edge then.
            self._again.append(connection)
        else:
            self._complete(connection)

    def _flush(self, connection: Connection) -> None:
        before = connection.sent_bytes
        if not connection.flush():
            if connection.state is not State.RUNNING:
                self._abort(connection)
            return
        progressed = connection.sent_bytes > before
        if progressed and connection.state not in READING:
            connection.deadline_s = self._now_s + self._config.write_timeout_s
        if connection.output.items:
            if progressed:
                self._again.append(connection)
            return
        self._poller.want_write(connection.fd, False)
        if connection.state is State.FLUSHING:
            self._complete(connection)

    def _relieve(self, connection: Connection) -> None:
        """Serve everybody's bytes until `connection` has taken all that is held for it.

        Called below the application, when a response fills its spool: the slot is taken,
        so what becomes complete meanwhile waits, and new connections are left to others.
        """
        if connection.state is not State.RUNNING:  # a few bytes of ours; nobody can wait
            return
        waits_since_s = time.monotonic()
        started_s = self._cell.suspend()
        self._relieving = True
        self._stop_accepting()
        connection.deadline_s = waits_since_s + self._config.write_timeout_s
        self._poller.want_write(connection.fd, True)
        self._again.append(connection)
        while connection.output.items and not connection.gone and not self._quitting:
            self._turn(waits=True)
        connection.deadline_s = 0.0
        if self._quitting:
            connection.gone = True  # or the response would go on to grow, for nobody
        self._poller.want_write(connection.fd, False)
        self._relieving = False
        self._cell.resume(started_s + time.monotonic() - waits_since_s)
        self._start_accepting()

    def _complete(self, connection: Connection) -> None:
        """End a request: its response was sent whole, was broken off, or has no taker."""
        if not connection.silent:
            self._events.emit(connection.finished(self._now_s, self._clock.wall_offset_s))
            if not self._flush_at_s:
                self._flush_at_s = self._due_s = self._now_s + _FLUSH_DELAY_S
        outcome = connection.outcome
        request = connection.request
        if connection.gone or outcome is None:
            self._drop(connection)
        elif outcome.keep_alive:
            connection.begin_again()
            connection.deadline_s = self._now_s + self._config.keepalive_s
            if connection.unread or connection.reader.buffered or self._stopping:
                self._poller.want_read(connection.fd, True)
                self._again.append(connection)
        elif request is not None and not request.keep_alive and not self._has_more(connection):
            self._drop(connection)
        else:
            self._linger(connection)

    def _has_more(self, connection: Connection) -> bool:
        """Whether a client that wanted the connection closed has sent, or may send, more."""
        if connection.unread or connection.reader.buffered:
            return True
        try:
            return bool(connection.recv(1))
        except OSError:
            return False

    # -- ends -------------------------------------------------------------------------------

    def _reject(self, connection: Connection, error: ProtocolError) -> None:
        """Answer a request that broke HTTP, and close."""
        self._events.emit(
            RequestRejected(peer=connection.peer[0], status=error.status, reason=str(error))
        )
        if connection.started_s == 0.0:
            connection.started_s = self._now_s
        connection.unread = True  # what follows in the stream is not read any more
        request = connection.request
        answer = error_response(
            error.status, self._clock.header_lines, body=request is None or request.method != "HEAD"
        )
        connection.outcome = Outcome(
            status=error.status,
            headers=[],
            body_bytes=len(answer) - answer.index(b"\r\n\r\n") - 4,
            keep_alive=False,
            aborted=False,
        )
        connection.state = State.FLUSHING
        connection.send(answer)
        self._send_rest(connection)

    def _expire(self, connection: Connection) -> None:
        """End what has gone on for too long, in the way its state asks for.

        The loop was away for as long as a request ran: what came meanwhile counts first.
        """
        if connection.state in READING:
            connection.unread = True
            self._catch_up(connection)
        elif connection.state is State.FLUSHING:
            self._flush(connection)
        if not 0 < connection.deadline_s <= self._now_s:
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
            self._complete(connection)
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
        connection.deadline_s = self._now_s + _LINGER_S
        self._poller.want_read(connection.fd, True)
        self._discard(connection)

    def _discard(self, connection: Connection) -> None:
        try:
            for _ in range(_READS_PER_TURN):
                if not connection.recv(_RECV_BYTES):
                    break
            else:
                self._again.append(connection)
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        if self._connections.pop(connection.fd, None) is not None:
            self._poller.remove(connection.fd)
            connection.close()
            if not self._accepting:
                self._start_accepting()

    def retire(self, *, stop: bool) -> None:
        """Accept no more, finish what was begun, then leave `run`.

        Idle connections are kept until they have sent one more request, which is answered
        with `Connection: close`: closing them now would lose a request that is on its way.

        Args:
            stop: Nobody stays to serve: take what waits in the backlog, and close
                connections that are idle now.
        """
        if not self._retiring:
            self._retiring = True
            self._keeps_alive = False
            self._stop_accepting()
            # A second before the supervisor loses its patience.
            self._leave_by_s = self._now_s + max(0.0, self._config.graceful_timeout_s - 1.0)
        if stop and not self._stopping:
            self._stopping = True
            if self._opened:
                self._acceptor.drain_backlog()
            for connection in [c for c in self._connections.values() if c.state is State.IDLE]:
                self._drop_unless_busy(connection)

    def _leave(self) -> None:
        """Wait for no more requests; a second later, for no more readers either.

        The supervisor would say so, too, but it may be what is gone.
        """
        for connection in [c for c in self._connections.values() if c.state in READING]:
            connection.unread = True
            self._catch_up(connection)
            if connection.state in READING:
                self._abort(connection)
        if self._now_s >= self._leave_by_s + 1.0:
            self.quit()
