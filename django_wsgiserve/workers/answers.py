"""How responses leave and how connections end.

The half of a worker's traffic that follows the application: the rest of a response that
its client takes slowly, the log line, the next request or the end. How requests come in
is `traffic.py`'s.

Everything here is done by whoever leads, except `complete` of a response that was taken
whole and whose connection goes on: that is the hot path, and its request thread does it.
"""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING

from django_wsgiserve.events import EventBus, RequestRejected
from django_wsgiserve.protocol.response import ResponseEncoder, error_response
from django_wsgiserve.workers.connection import READING, State
from django_wsgiserve.wsgi.reply import Outcome

if TYPE_CHECKING:
    from threading import Event

    from django_wsgiserve.config import ServerConfig
    from django_wsgiserve.errors import ProtocolError
    from django_wsgiserve.workers.clock import Clock
    from django_wsgiserve.workers.connection import Connection
    from django_wsgiserve.workers.poller import EpollPoller, SelectorsPoller

RECV_BYTES = 64 * 1024
# Reads of one connection before others get their turn.
READS_PER_TURN = 16
# RFC 9112 section 9.6: read on for a while after the last response, or the kernel's RST
# for unread bytes may destroy the response on its way to the client.
_LINGER_S = 2.0
# How long a log line may wait for others to share its system call: under load that is one
# write for hundreds of lines, and too short for anybody who watches to notice.
_FLUSH_DELAY_S = 0.02
# What a request gets that nobody had time for: the page of every 503, and when to come again.
_BUSY_STATUS = "503 Service Unavailable"
_BUSY_PAGE = error_response(HTTPStatus.SERVICE_UNAVAILABLE, b"").partition(b"\r\n\r\n")[2]
_BUSY_HEADERS = [
    ("Content-Type", "text/html; charset=utf-8"),
    ("Content-Length", str(len(_BUSY_PAGE))),
    ("Retry-After", "1"),
]


class Answers:
    """The connections of one worker, from the end of a response on."""

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
        self.connections: dict[int, Connection] = {}
        """All that are open, by descriptor."""
        self.again: deque[Connection] = deque()
        """Those to be looked at by the leader without an event; any thread may append."""
        self.stopping = False
        """A connection that becomes idle is closed."""
        self.keeps_alive = config.keepalive_s > 0
        """Whether connections may go on after an answer of the server's own."""

    def complete(self, connection: Connection) -> None:
        """End a request: its response was sent whole, was broken off, or has no taker."""
        clock = self._clock
        if not connection.silent:
            self._events.emit(connection.finished(clock.now_s, clock.wall_offset_s))
            if not clock.flush_at_s:
                clock.flush_at_s = clock.due_s = clock.now_s + _FLUSH_DELAY_S
        outcome = connection.outcome
        request = connection.request
        if connection.gone or outcome is None:
            if connection.failure is not None:
                self._events.emit(connection.failure)
            self._drop(connection)
        elif outcome.keep_alive:
            buffered = connection.reader.buffered
            connection.deadline_s = clock.now_s + self._config.keepalive_s
            connection.begin_again()
            # The leader sets `unread` first and looks at the state afterwards.
            if buffered or connection.unread or self.stopping or not connection.watched:
                self.again.append(connection)
        elif request is not None and not request.keep_alive and not connection.has_more():
            self._drop(connection)
        else:
            self._linger(connection)

    def finish(self, connection: Connection) -> None:
        """End a RUNNING request whose response has been made. By the leader only."""
        if connection.gone or connection.output.items:
            self.send_rest(connection)
        else:
            connection.state = State.FLUSHING
            self.complete(connection)

    def send_rest(self, connection: Connection) -> None:
        """Leave what follows the last byte of a response to the leader; from any thread."""
        connection.deadline_s = self._clock.now_s + self._config.write_timeout_s
        connection.state = State.FLUSHING
        # What was sent may have ended with its turn and not with EAGAIN: no edge then.
        self.again.append(connection)

    def _flush(self, connection: Connection) -> None:
        """Send on, for a client that takes a response slowly."""
        relief = connection.relief
        if connection.state is State.RUNNING and relief is None:
            return  # it is its request thread's
        before = connection.sent_bytes
        if connection.gone or not connection.flush():
            if relief is None:
                self._abort(connection)
            else:
                relief.set()
            return
        progressed = connection.sent_bytes > before
        if progressed and connection.state not in READING:
            connection.deadline_s = self._clock.now_s + self._config.write_timeout_s
        left = bool(connection.output.items)
        if left:
            self._watch(connection)
        self._poller.want_write(connection.fd, left)
        if not left:
            self._after_flush(connection, relief)
        elif progressed:
            self.again.append(connection)

    def _after_flush(self, connection: Connection, relief: Event | None) -> None:
        """Go on where nothing is left to be sent."""
        if relief is not None:
            relief.set()
        elif connection.state is State.FLUSHING:
            self.complete(connection)

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

    def _refuse(self, connection: Connection) -> None:
        """Answer a QUEUED request with a 503: it has waited for too long.

        It was read whole, so its connection can go on.
        """
        waited_s = self._clock.now_s - connection.waits_since_s
        self._events.emit(
            RequestRejected(
                peer=connection.peer[0],
                status=HTTPStatus.SERVICE_UNAVAILABLE,
                reason=(
                    f"it waited {waited_s:.1f} s for a request slot, longer than MAX_QUEUE_WAIT"
                    f" ({self._config.max_queue_wait_s:g} s)"
                ),
            )
        )
        encoder = ResponseEncoder(
            connection.request,
            keep_alive=self.keeps_alive and not self.stopping,
            date=self._clock.header_lines,
        )
        head, page = encoder.whole(_BUSY_STATUS, _BUSY_HEADERS, _BUSY_PAGE, len(_BUSY_PAGE))
        connection.outcome = Outcome(
            HTTPStatus.SERVICE_UNAVAILABLE,
            _BUSY_HEADERS,
            len(page),
            encoder.keep_alive,
            False,
            head,
        )
        connection.state = State.FLUSHING
        connection.send(head + page)
        self.send_rest(connection)

    def time_out(self, connection: Connection, *, may_answer: bool) -> bool:
        """End a request, as far as its client is concerned, that its thread goes on with.

        The connection stays RUNNING, and open, until that thread comes back: it may be in
        the middle of a system call on the descriptor.

        Args:
            connection: `gone` already, so that nothing is sent for it any more.
            may_answer: Its thread is not sending right now.

        Returns:
            Whether the client got a 503; else a response had begun and is broken off.
        """
        request = connection.request
        answer = error_response(
            HTTPStatus.SERVICE_UNAVAILABLE,
            self._clock.header_lines,
            body=request is None or request.method != "HEAD",
        )
        answers = may_answer and not connection.sent_bytes and not connection.output.items
        connection.refuse(HTTPStatus.SERVICE_UNAVAILABLE, answer)
        with contextlib.suppress(OSError):
            if answers:
                connection.sent_bytes = connection.sock_send(answer)
            connection.sock.shutdown(socket.SHUT_WR)
        if not connection.silent:
            self._report(connection)
            connection.silent = True  # this was its line
        return answers

    def _report(self, connection: Connection) -> None:
        self._events.emit(connection.finished(self._clock.now_s, self._clock.wall_offset_s))

    def give_up_relief(self) -> None:
        """Let nobody wait for a slow reader any more."""
        for connection in list(self.connections.values()):
            relief = connection.relief
            if relief is not None:
                connection.gone = True
                relief.set()

    def forget(self, connection: Connection) -> None:
        """Close our descriptor of a connection that another worker has."""
        self._drop(connection)

    def abort_all(self) -> None:
        """End every connection; a request that was not answered is logged as aborted.

        One that a thread still runs keeps its descriptor for as long as the process lives.
        """
        for connection in list(self.connections.values()):
            if connection.state is State.RUNNING:
                connection.gone = True
                if not connection.silent:
                    self._report(connection)
            else:
                self._abort(connection)

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
        self._watch(connection)
        self._poller.want_read(connection.fd, True)
        self._discard(connection)

    def _discard(self, connection: Connection) -> None:
        try:
            for _ in range(READS_PER_TURN):
                if not connection.recv(RECV_BYTES):
                    break
            else:
                self.again.append(connection)
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._drop(connection)

    def _watch(self, connection: Connection) -> None:
        """Have the poller tell of what comes, and of what has come already.

        Most connections of a proxy that makes one for each request end without having waited
        for anything: they are never watched, which is two system calls less.
        """
        if not connection.watched:
            connection.watched = True
            self._poller.add_client(connection.fd)

    def _drop(self, connection: Connection) -> None:
        if self.connections.pop(connection.fd, None) is not None:
            # Closing alone would not do: a child of the application, or the queue between the
            # workers, may hold another descriptor of the same connection.
            if connection.watched:
                self._poller.remove(connection.fd)
            connection.close()
