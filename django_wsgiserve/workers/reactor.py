"""The scheduler of the sync worker: one epoll, every connection, one request at a time.

Reading heads and bodies, flushing slow readers and keeping idle connections costs no
request slot (`traffic.py`): the application is called when its request is complete, and
what its client does not take at once is flushed between two requests.

It knows nothing of signals, pipes to the supervisor or log files: those are sources
that `base.py` registers.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django_wsgiserve.events import EventBus
from django_wsgiserve.protocol.response import ResponseEncoder
from django_wsgiserve.workers.acceptor import Acceptor
from django_wsgiserve.workers.clock import Clock
from django_wsgiserve.workers.connection import Connection, State
from django_wsgiserve.workers.poller import new_poller
from django_wsgiserve.workers.traffic import Traffic
from django_wsgiserve.wsgi.body import EMPTY_BODY

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
    """Waits for events, serves complete requests in turn, starts and stops accepting."""

    def __init__(self, site: Site) -> None:
        """Store; `open` registers."""
        self._config = site.config
        self._row = site.row
        self._cell = site.row.cells[0]
        self._gateway = site.gateway
        self._environs = site.environs
        self._flush_logs = site.flush_logs
        self._last_request = site.last_request
        self._on_last_request = site.on_last_request
        self._acceptor = Acceptor(site.listeners, site.events, self.adopt)
        self._clock = Clock(server_header=site.config.server_header)
        self._poller = new_poller()
        self._wait = self._poller.wait
        self._sources: dict[int, Callable[[], None]] = {}
        self._traffic = Traffic(site.config, site.events, self._clock, self._poller)
        self._traffic.on_pressure = self._relieve
        self._traffic.on_closed = self._start_accepting
        self._opened = False
        self._accepting = False
        self._quitting = False
        self._retiring = False
        self._relieving = False
        self._keeps_alive = site.config.keepalive_s > 0
        self._encoder: ResponseEncoder | None = None
        self._leave_by_s = 0.0
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
        runnable = self._traffic.runnable
        while not self._quitting and not (self._retiring and not self._traffic.connections):
            self._turn(waits=not runnable)
            turn_s = self._clock.now_s + _SERVING_S
            while runnable and not self._quitting:
                self._serve(runnable.popleft())
                if self._clock.now_s >= turn_s:
                    break
        self._traffic.abort_all()

    def quit(self) -> None:
        """Leave the loop as soon as the running request allows."""
        self._quitting = True

    def _turn(self, *, waits: bool) -> None:
        """Carry out what has come, after a wait for it where `waits`.

        Complete requests are queued, not served.
        """
        clock, traffic = self._clock, self._traffic
        timeout_s = clock.due_s - clock.now_s
        if timeout_s < 0.0 or traffic.again or not waits:  # negative: wait for ever
            timeout_s = 0.0
        ready = self._wait(timeout_s, _MAX_EVENTS)
        clock.now_s = now_s = time.monotonic()
        if now_s >= clock.due_s:
            self._on_due()
        connections = traffic.connections
        for fd, mask in ready:
            if fd in connections:
                traffic.on_event(connections[fd], mask)
            elif fd in self._sources:  # not: closed earlier in this very turn
                self._sources[fd]()
                if self._acceptor.refused(now_s) or not self._has_room:
                    self._stop_accepting()
        if traffic.again:
            traffic.go_on()

    def _on_due(self) -> None:
        clock = self._clock
        if clock.flush_at_s and clock.now_s >= clock.flush_at_s:
            clock.flush_at_s = 0.0
            self._flush_logs()
        if clock.now_s >= clock.next_tick_s:
            self._tick()
        clock.due_s = min(clock.next_tick_s, clock.flush_at_s or clock.next_tick_s)

    def _tick(self) -> None:
        """Do what is due once a second: heartbeat, date, deadlines, a new try to accept."""
        now_s = self._clock.now_s
        self._clock.tick(now_s)
        self._flush_logs()
        self._row.beat(now_s)
        self._row.count_connections(len(self._traffic.connections))
        self._traffic.expire_overdue()
        if self._retiring and now_s >= self._leave_by_s:
            self._leave()
        self._start_accepting()

    # -- accepting --------------------------------------------------------------------------

    def adopt(self, sock: socket.socket, peer: tuple[str, str], listener: Listener) -> Connection:
        """Serve a connected socket, owned from here on, as if it had been accepted."""
        return self._traffic.adopt(sock, peer, self._environs[listener])

    @property
    def _has_room(self) -> bool:
        return (
            len(self._traffic.connections) < self._config.worker_connections
            and self._acceptor.retry_at_s <= self._clock.now_s
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

    # -- serving ----------------------------------------------------------------------------

    def _serve(self, connection: Connection) -> None:
        """Run the application for one complete request and begin to send its response."""
        request = connection.request
        assert request is not None  # noqa: S101 - QUEUED has one, for mypy
        connection.state = State.RUNNING
        cell = self._cell
        cell.begin(self._clock.now_s, request.method, request.path)
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
        self._clock.now_s = time.monotonic()
        if not connection.silent:
            self.served += 1
            if self.served == self._last_request:
                self._on_last_request()
        if connection.gone or connection.output.items:
            self._traffic.send_rest(connection)
        else:
            self._traffic.complete(connection)

    def announce_close(self) -> None:
        """Let every response from now on say `Connection: close`, also one that is being made.

        Safe in a signal handler, which is the only code that runs while the application does.
        """
        self._keeps_alive = False
        if self._encoder is not None and not self._encoder.head_made:
            self._encoder.keep_alive = False

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
        self._traffic.again.append(connection)
        while connection.output.items and not connection.gone and not self._quitting:
            self._turn(waits=True)
        connection.deadline_s = 0.0
        if self._quitting:
            connection.gone = True  # or the response would go on to grow, for nobody
        self._poller.want_write(connection.fd, False)
        self._relieving = False
        self._cell.resume(started_s + time.monotonic() - waits_since_s)
        self._start_accepting()

    # -- leaving ----------------------------------------------------------------------------

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
            self._leave_by_s = self._clock.now_s + max(0.0, self._config.graceful_timeout_s - 1.0)
        if stop and not self._traffic.stopping:
            self._traffic.stopping = True
            if self._opened:
                self._acceptor.drain_backlog()
            self._traffic.drop_idle()

    def _leave(self) -> None:
        """Wait for no more requests; a second later, for no more readers either.

        The supervisor would say so, too, but it may be what is gone.
        """
        self._traffic.abort_unfinished()
        if self._clock.now_s >= self._leave_by_s + 1.0:
            self.quit()
