"""Every connection of a worker, and what its bytes lead to.

Decides whom to read, and judges deadlines. When to wait and whom to serve is the
scheduler's (`reactor.py`): a request that is complete is what `next_request` returns. How
requests come in is `intake.py`'s, what follows a response `answers.py`'s.

All of it is done by whoever leads. A client that has something to say while no slot is
free is not read: its bytes stay in the kernel, so that the connection can still move to
another worker. Only what was begun is read on at once.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from django_wsgiserve.errors import RequestTimeout
from django_wsgiserve.protocol.connection import RequestReader
from django_wsgiserve.protocol.messages import Limits
from django_wsgiserve.workers.connection import READING, Connection, State
from django_wsgiserve.workers.intake import PATIENCE_S, Intake
from django_wsgiserve.workers.output import OutputQueue
from django_wsgiserve.workers.poller import HUNG_UP, LOST, READABLE, WRITABLE

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from django_wsgiserve.config import ServerConfig
    from django_wsgiserve.events import EventBus
    from django_wsgiserve.workers.clock import Clock
    from django_wsgiserve.workers.poller import EpollPoller, SelectorsPoller
    from django_wsgiserve.wsgi.environ import EnvironFactory


class Traffic(Intake):
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
        self.ready: deque[Connection] = deque()
        """Idle ones on which something has come that was not read; some may have left."""
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
        if not self._edge_triggered:
            self._watch(connection)
        # Most clients have sent their request by now.
        self._note_unread(connection)
        return connection

    def adopt_waiting(self, connection: Connection, since_s: float) -> None:
        """Note of a connection just adopted that it waits since `since_s`, elsewhere until now."""
        connection.waits_since_s = since_s
        ready = self.ready
        if len(ready) > 1 and since_s < ready[0].waits_since_s:
            ready.rotate(1)
        if self._config.max_queue_wait_s:
            self._clock.due_s = min(self._clock.due_s, since_s + self._config.max_queue_wait_s)

    # -- what waits for a slot --------------------------------------------------------------

    def next_request(self) -> Connection | None:
        """Return a connection whose request is complete, RUNNING from here on, if there is one.

        Idle connections are read for it one after another, and no more than it takes.
        """
        ready = self.ready
        while True:
            if self.runnable:
                connection = self._next_runnable()
                if connection is not None:
                    return connection
            elif not ready:
                return None
            else:
                connection = ready.popleft()
                if (
                    connection.unread
                    and connection.state is State.IDLE
                    and self._read_request(connection)
                ):
                    connection.state = State.RUNNING
                    return connection

    def _next_runnable(self) -> Connection | None:
        connection = self.runnable.popleft()
        waited_s = self._clock.now_s - connection.waits_since_s
        if waited_s >= PATIENCE_S and self._has_left(connection):
            self._abort(connection)
            return None
        connection.state = State.RUNNING
        return connection

    def _note_unread(self, connection: Connection) -> None:
        """Have an idle connection read when a slot is free for its request."""
        if not connection.unread:
            connection.unread = True
            self._begin_to_wait(connection)
            self.ready.append(connection)
            if not self._edge_triggered:
                self._poller.want_read(connection.fd, False)

    def shed(self) -> float:
        """Answer 503 to what has waited for longer than MAX_QUEUE_WAIT.

        Requests of the server itself (`silent`) wait for as long as it takes.

        Returns:
            When to ask again (monotonic); infinity: not before somebody begins to wait.
        """
        longest_s = self._config.max_queue_wait_s
        if not longest_s:
            return float("inf")
        runnable, ready = self.runnable, self.ready
        latest_s = self._clock.now_s - longest_s
        while ready and ready[0].waits_since_s <= latest_s and not ready[0].silent:
            connection = ready.popleft()
            if connection.unread and connection.state is State.IDLE:
                self._poller.want_read(connection.fd, True)
                self._read(connection)
                if runnable and runnable[-1] is connection:
                    self._refuse(runnable.pop())
        while runnable and runnable[0].waits_since_s <= latest_s:
            self._refuse(runnable.popleft())
        oldest = [queue[0].waits_since_s for queue in (ready, runnable) if queue]
        return min(oldest) + longest_s if oldest else float("inf")

    @staticmethod
    def _has_left(connection: Connection) -> bool:
        """Whether the client of a request that has waited sends no more, so does not wait."""
        # No event tells of the end where the connection is new here, or the poller has none.
        return connection.hung_up or connection.peek() == b""

    def _leave_unserved(self, connection: Connection) -> None:
        """Close a connection whose client has left, unless its request was begun to be served.

        What can be read of the request is read, for the log.
        """
        if connection.state is State.IDLE:
            self._catch_up(connection)
        if connection.state is State.QUEUED:
            self.runnable.remove(connection)
            self._abort(connection)

    # -- events -----------------------------------------------------------------------------

    def on_event(self, connection: Connection, mask: int) -> None:
        """Do what the poller's event asks for; `mask` is its."""
        if mask & WRITABLE and connection.output.items:
            self._flush(connection)
        if mask & HUNG_UP:
            connection.hung_up = True
            if mask & LOST:
                self._leave_unserved(connection)
        elif not mask & READABLE:
            return
        state = connection.state
        if state is State.IDLE:
            self._note_unread(connection)
        elif state in READING:
            self._read(connection)
        elif state is State.LINGERING:
            self._discard(connection)
        else:
            self._pass_over(connection)

    def _pass_over(self, connection: Connection) -> None:
        """Remember that something has come on a connection whose request is not over."""
        if connection.state is State.CLOSED:
            return
        self._poller.want_read(connection.fd, False)
        connection.unread = True
        # Its request thread may have completed it just before, and not seen this.
        if connection.state is State.IDLE:
            self.again.append(connection)

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
                self._watch(connection)
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

    def _drop_unless_busy(self, connection: Connection) -> None:
        """Close a connection that is idle, and that nothing has come on meanwhile."""
        self._catch_up(connection)
        if connection.state is State.IDLE:
            self._drop(connection)

    # -- ending -----------------------------------------------------------------------------

    def expire_overdue(self) -> None:
        """End whatever has outrun its deadline, and whatever waits for clients that left."""
        now_s = self._clock.now_s
        for connection in [
            c for c in self.connections.values() if c.hung_up or 0 < c.deadline_s <= now_s
        ]:
            state = connection.state
            if state is State.QUEUED or (state is State.IDLE and connection.unread):
                self._judge_waiting(connection)
            elif 0 < connection.deadline_s <= now_s:
                self._expire(connection)
        # Those who have waited for a slot since they came may leave.
        for connection in [c for c in self.connections.values() if not c.watched]:
            if connection.state is State.IDLE:
                self._watch(connection)

    def _judge_waiting(self, connection: Connection) -> None:
        """End one that waits for a slot if there is nobody, or nothing, to serve."""
        if connection.hung_up:
            if self._clock.now_s - connection.waits_since_s >= PATIENCE_S:
                self._leave_unserved(connection)
        elif connection.state is State.IDLE and connection.peek() is None:
            # Newly accepted, and silent: nothing has come that could wait.
            connection.unread = False
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
            part, settings = (
                ("head", "HEADER_TIMEOUT")
                if state is State.HEAD
                else ("body", "BODY_TIMEOUT, BODY_MIN_RATE")
            )
            self._reject(
                connection, RequestTimeout(f"the request {part} came too slowly ({settings})")
            )
        else:
            self._drop(connection)
