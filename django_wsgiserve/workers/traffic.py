"""Every connection of a worker, and what its bytes lead to.

Reads requests and judges deadlines. When to wait and whom to serve is the scheduler's
(`reactor.py`): a request that is complete is what `next_request` returns. What follows
a response is `answers.py`'s.

All of it is done by whoever leads. A client that has something to say while no slot is
free is not read: its bytes stay in the kernel, so that the connection can still move to
another worker. Only what was begun is read on at once.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from django_wsgiserve.errors import BodyNotStored, ProtocolError, RequestTimeout
from django_wsgiserve.protocol.connection import CONTINUE, RequestReader
from django_wsgiserve.protocol.messages import END, Limits, RequestHead
from django_wsgiserve.workers.answers import READS_PER_TURN, RECV_BYTES, Answers
from django_wsgiserve.workers.connection import READING, Connection, State
from django_wsgiserve.workers.output import OutputQueue
from django_wsgiserve.workers.poller import HUNG_UP, READABLE, WRITABLE
from django_wsgiserve.wsgi.body import BodySpool, SpoolFailed

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from django_wsgiserve.config import ServerConfig
    from django_wsgiserve.events import EventBus
    from django_wsgiserve.workers.clock import Clock
    from django_wsgiserve.workers.poller import EpollPoller, SelectorsPoller
    from django_wsgiserve.wsgi.environ import EnvironFactory


class Traffic(Answers):
    """The connections of one worker."""

    def __init__(
        self,
        config: ServerConfig,
        events: EventBus,
        clock: Clock,
        poller: EpollPoller | SelectorsPoller,
    ) -> None:
        """Store; nothing is connected yet."""
        super().__init__(config, events, clock, poller)
        self._limits = Limits(
            request_line=config.limit_request_line,
            fields=config.limit_request_fields,
            field_size=config.limit_request_field_size,
            body=config.limit_request_body,
        )
        self._spool_directory = config.spool_dir or None
        self._edge_triggered = poller.edge_triggered
        self.ready: deque[Connection] = deque()
        """Idle ones on which something has come that was not read; some may have left."""
        self.runnable: deque[Connection] = deque()
        """Those whose request is complete, in the order in which it became so."""
        self.on_pressure: Callable[[Connection], None] | None = None
        """See `Connection.on_pressure`."""

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
        # Most clients have sent their request by now.
        self._note_unread(connection)
        return connection

    def next_request(self) -> Connection | None:
        """Return a connection whose request is complete, RUNNING from here on, if there is one.

        Idle connections are read for it one after another, and no more than it takes.
        """
        runnable, ready = self.runnable, self.ready
        while True:
            if runnable:
                connection = runnable.popleft()
                connection.state = State.RUNNING
                return connection
            if not ready:
                return None
            connection = ready.popleft()
            if connection.unread and connection.state is State.IDLE:
                if not self._edge_triggered:
                    self._poller.want_read(connection.fd, True)
                self._read(connection)

    def on_event(self, connection: Connection, mask: int) -> None:
        """Do what the poller's event asks for; `mask` is its."""
        if mask & WRITABLE and connection.output.items:
            self._flush(connection)
        if mask & HUNG_UP:
            connection.hung_up = True
        elif not mask & READABLE:
            return
        state = connection.state
        if state is State.IDLE:
            self._note_unread(connection)
        elif state in READING:
            self._read(connection)
        elif state is State.LINGERING:
            self._discard(connection)
        elif state is not State.CLOSED:
            self._pass_over(connection)

    def _pass_over(self, connection: Connection) -> None:
        """Remember that something has come on a connection whose request is not over."""
        self._poller.want_read(connection.fd, False)
        connection.unread = True
        # Its request thread may have completed it just before, and not seen this.
        if connection.state is State.IDLE:
            self.again.append(connection)

    def _note_unread(self, connection: Connection) -> None:
        """Have an idle connection read when a slot is free for its request."""
        if not connection.unread:
            connection.unread = True
            self.ready.append(connection)
            if not self._edge_triggered:
                self._poller.want_read(connection.fd, False)

    def go_on(self) -> None:
        """Look again at connections whose turn ended, or whose edge was passed over."""
        again = self.again
        # Others append meanwhile; what they do is for the next time.
        for connection in dict.fromkeys([again.popleft() for _ in range(len(again))]):
            state = connection.state
            if state is State.FLUSHING or connection.relief is not None:
                self._flush(connection)
            elif state is State.LINGERING:
                self._discard(connection)
            elif state in READING:
                self._poller.want_read(connection.fd, True)
                if self.stopping:
                    self._drop_unless_busy(connection)
                else:
                    self._take_buffered(connection)
                    if connection.unread and connection.state is State.IDLE:
                        connection.unread = False
                        self._note_unread(connection)
                    elif connection.unread and connection.state in READING:
                        self._read(connection)

    def drop_the_left(self) -> None:
        """Forget what of `ready` has left, been read or been given away."""
        ready = self.ready
        while ready and not (ready[0].unread and ready[0].state is State.IDLE):
            ready.popleft()

    def _catch_up(self, connection: Connection) -> None:
        """Take what has come, now: what the reader holds, then what is in the kernel."""
        self._take_buffered(connection)
        if connection.state in READING:
            self._read(connection)

    def _take_buffered(self, connection: Connection) -> None:
        if connection.reader.buffered:
            try:
                self._advance(connection)
            except ProtocolError as error:
                self._reject(connection, error)

    def _drop_unless_busy(self, connection: Connection) -> None:
        """Close a connection that is idle, and that nothing has come on meanwhile."""
        self._catch_up(connection)
        if connection.state is State.IDLE:
            self._drop(connection)

    # -- reading ----------------------------------------------------------------------------

    def _read(self, connection: Connection) -> None:
        """Read what has come, as far as it is wanted now."""
        for _ in range(READS_PER_TURN):
            try:
                data = connection.recv(RECV_BYTES)
            except BlockingIOError:
                connection.unread = False
                return
            except OSError:
                self._abort(connection)
                return
            # A short read emptied the kernel's buffer (epoll(7)), but the end of the
            # stream may follow without an edge of its own.
            connection.unread = connection.hung_up or bool(data[RECV_BYTES - 1 :])
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

    # -- ending -----------------------------------------------------------------------------

    def expire_overdue(self) -> None:
        """End whatever has outrun its deadline."""
        now_s = self._clock.now_s
        for connection in [c for c in self.connections.values() if 0 < c.deadline_s <= now_s]:
            # An idle one that is unread has said something, or may have: it waits for a slot.
            if connection.state is not State.IDLE or not connection.unread:
                self._expire(connection)

    def drop_idle(self) -> None:
        """Close the connections that are idle and that nothing has come on meanwhile."""
        self.stopping = True
        for connection in [c for c in self.connections.values() if c.state is State.IDLE]:
            self._drop_unless_busy(connection)

    def abort_unfinished(self) -> None:
        """Wait no longer for requests; those that have come meanwhile are served."""
        for connection in [c for c in self.connections.values() if c.state in READING]:
            self._catch_up(connection)
            if connection.state in READING:
                self._abort(connection)

    def _expire(self, connection: Connection) -> None:
        """End what has gone on for too long, in the way its state asks for.

        What came in time counts, although it was not read yet.
        """
        if connection.state in READING:
            self._catch_up(connection)
        elif connection.state is State.FLUSHING:
            self._flush(connection)
        if not 0 < connection.deadline_s <= self._clock.now_s:
            return
        state = connection.state
        if state is State.RUNNING:
            connection.gone = True
            if connection.relief is not None:
                connection.relief.set()
        elif state is State.FLUSHING:
            self._abort(connection)
        elif state is State.HEAD or state is State.BODY:
            part = "head" if state is State.HEAD else "body"
            self._reject(connection, RequestTimeout(f"the request {part} came too slowly"))
        else:
            self._drop(connection)
