"""How requests come in: bytes are read, heads and bodies taken, what is whole is queued.

The half of a worker's traffic that comes before the application. What follows a response
is `answers.py`'s, when to read whom is `traffic.py`'s. All of it is done by whoever leads.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from django_wsgiserve.errors import BodyNotStored, ProtocolError
from django_wsgiserve.protocol.connection import CONTINUE
from django_wsgiserve.protocol.messages import END, EndOfBody, RequestHead
from django_wsgiserve.workers.answers import READS_PER_TURN, RECV_BYTES, Answers
from django_wsgiserve.workers.connection import READING, State
from django_wsgiserve.wsgi.body import BodySpool, SpoolFailed

if TYPE_CHECKING:
    from django_wsgiserve.config import ServerConfig
    from django_wsgiserve.events import EventBus
    from django_wsgiserve.workers.clock import Clock
    from django_wsgiserve.workers.connection import Connection
    from django_wsgiserve.workers.poller import EpollPoller, SelectorsPoller

# A client that sends no more may be one that still reads, or one that has left: TCP says
# the same of both. After a request has waited for so long, it has left.
PATIENCE_S = 1.0
# What is received of a body that has no other place, and how often before others get their turn.
_SPARE_BYTES = 256 * 1024
_BODY_READS_PER_TURN = 4


class Intake(Answers):
    """The connections of one worker, up to the last byte of a request."""

    def __init__(
        self,
        config: ServerConfig,
        events: EventBus,
        clock: Clock,
        poller: EpollPoller | SelectorsPoller,
    ) -> None:
        """Store; nothing is connected yet."""
        super().__init__(config, events, clock, poller)
        self._edge_triggered = poller.edge_triggered
        self._spool_directory = config.spool_dir or None
        self._spare: memoryview | None = None
        self.runnable: deque[Connection] = deque()
        """Those whose request is complete, in the order in which it became so."""

    def _read_request(self, connection: Connection) -> bool:
        """Read an idle connection. True: that brought one whole request, and nothing else.

        It is QUEUED then, and the caller's to serve: this is what nearly always happens, and
        without the calls that make `_read` fit for all that may. False: it was read as by it.
        """
        if not self._edge_triggered:
            self._poller.want_read(connection.fd, True)
        now_s = self._clock.now_s
        try:
            data = connection.recv(RECV_BYTES)
        except OSError as error:
            self._not_read(connection, error)
            return False
        connection.unread = connection.hung_up or bool(data[RECV_BYTES - 1 :])
        try:
            event = connection.reader.take(data)
            if (
                type(event) is RequestHead
                and not event.content_length
                and not event.chunked
                and not connection.unread
                and now_s - connection.waits_since_s < PATIENCE_S
            ):
                connection.request = event
                connection.started_s = now_s
                connection.deadline_s = 0.0
                connection.state = State.QUEUED
                return True
            self._advance(connection, event)
        except ProtocolError as error:
            self._reject(connection, error)
            return False
        if self._wants_more(connection, data):
            self._read(connection)
        return False

    def _read(self, connection: Connection) -> None:
        """Read what has come, as far as it is wanted now."""
        for _ in range(READS_PER_TURN):
            if connection.state is State.BODY and connection.reader.body_left:
                self._read_body(connection)
                return
            try:
                data = connection.recv(RECV_BYTES)
            except OSError as error:
                self._not_read(connection, error)
                return
            # A short read emptied the kernel's buffer (epoll(7)), but the end of the
            # stream may follow without an edge of its own.
            connection.unread = connection.hung_up or bool(data[RECV_BYTES - 1 :])
            try:
                self._advance(connection, connection.reader.take(data))
            except ProtocolError as error:
                self._reject(connection, error)
                return
            if not self._wants_more(connection, data):
                return
        self.again.append(connection)

    def _read_body(self, connection: Connection) -> None:
        """Read what has come of a body of known length: past the reader, to where it stays."""
        for _ in range(_BODY_READS_PER_TURN):
            try:
                self._receive_body(connection)
            except OSError as error:
                self._not_read(connection, error)
                return
            except ProtocolError as error:
                self._reject(connection, error)
                return
            if connection.state is not State.BODY or not connection.unread:
                return
        self.again.append(connection)

    def _receive_body(self, connection: Connection) -> None:
        """Receive once, and take what that brought. Raises OSError, ProtocolError."""
        body, reader, spare = connection.body, connection.reader, self._spare
        assert body is not None  # noqa: S101 - `_begin_body` made it, for mypy
        if spare is None:
            spare = self._spare = memoryview(bytearray(_SPARE_BYTES))
        room = body.room
        if room is None:
            in_room, room_bytes = 0, 0
            count = connection.sock.recv_into(spare)
        else:
            # The second for what lies behind the body, so that a short read is seen as such.
            room_bytes = len(room)
            count = connection.sock.recvmsg_into([room, spare])[0]
            in_room = min(count, room_bytes)
        connection.unread = connection.hung_up or count == room_bytes + _SPARE_BYTES
        of_body = min(count, reader.body_left)
        try:
            if in_room:
                body.filled(in_room)
            if of_body > in_room:
                body.write(spare[: of_body - in_room])
        except SpoolFailed as error:
            raise BodyNotStored(str(error), error.status) from error
        reader.passed(of_body)
        if of_body == 0 or of_body < count:  # the end of the stream, or the next request
            reader.receive(bytes(spare[of_body - in_room : count - in_room]))
        self._take_body(connection, reader.next_event())

    def _not_read(self, connection: Connection, error: OSError) -> None:
        """Do what a failed `recv` asks for: nothing has come, or the client is lost."""
        if isinstance(error, BlockingIOError):
            connection.unread = False
            connection.waits_since_s = 0.0
            self._watch(connection)
        else:
            self._abort(connection)

    def _wants_more(self, connection: Connection, data: bytes) -> bool:
        """Whether to read on after `data`, which was taken; a stream that is over is closed."""
        if connection.state not in READING:
            return False
        if not data:
            self._drop(connection)
            return False
        return connection.unread

    def _catch_up(self, connection: Connection) -> None:
        """Take what has come, now: what the reader holds, then what is in the kernel."""
        self._take_buffered(connection)
        if connection.state in READING:
            self._read(connection)

    def _take_buffered(self, connection: Connection) -> None:
        reader = connection.reader
        if reader.buffered:
            try:
                self._advance(connection, reader.next_event())
            except ProtocolError as error:
                self._reject(connection, error)

    def _advance(
        self, connection: Connection, event: RequestHead | bytes | EndOfBody | None
    ) -> None:
        """Take what the reader has: `event`, and what follows it. Raises ProtocolError."""
        if connection.request is not None:
            self._take_body(connection, event)
            return
        if event is None:
            connection.waits_since_s = 0.0
            self._watch(connection)
            if connection.started_s == 0.0 and connection.reader.started:
                connection.started_s = self._clock.now_s
                connection.state = State.HEAD
                connection.deadline_s = self._clock.now_s + self._config.header_timeout_s
            return
        assert type(event) is RequestHead  # noqa: S101 - the reader's contract, for mypy
        connection.request = event
        if connection.started_s == 0.0:
            connection.started_s = self._clock.now_s
        if event.content_length or event.chunked:
            self._begin_body(connection, event)
            self._take_body(connection, connection.reader.next_event())
        else:
            self._enqueue(connection)

    def _enqueue(self, connection: Connection) -> None:
        """Have a complete request served when a slot is free."""
        connection.state = State.QUEUED
        connection.deadline_s = 0.0
        # One that was left unread for want of a slot goes on waiting.
        if not connection.waits_since_s:
            self._begin_to_wait(connection)
        self.runnable.append(connection)

    def _begin_to_wait(self, connection: Connection) -> None:
        clock = self._clock
        connection.waits_since_s = clock.now_s
        if self._config.max_queue_wait_s:
            clock.due_s = min(clock.due_s, clock.now_s + self._config.max_queue_wait_s)

    def _begin_body(self, connection: Connection, request: RequestHead) -> None:
        connection.state = State.BODY
        connection.body_since_s = self._clock.now_s
        connection.body = BodySpool(
            memory_bytes=self._config.spool_memory,
            directory=self._spool_directory,
            announced_bytes=request.content_length,
        )
        # Sent only when the body is not already here (RFC 9110 section 10.1.1).
        if request.expect_continue and not connection.reader.buffered:
            connection.sent_bytes = -len(CONTINUE)  # not a part of the response
            connection.send(CONTINUE)
            if connection.output.items:
                self._poller.want_write(connection.fd, True)

    def _take_body(
        self, connection: Connection, event: RequestHead | bytes | EndOfBody | None
    ) -> None:
        """Take what the reader has of a body: `event`, and what follows it."""
        body = connection.body
        assert body is not None  # noqa: S101 - `_begin_body` made it, for mypy
        reader = connection.reader
        while event is not None:
            try:
                if event is END:
                    break
                body.write(event)  # type: ignore[arg-type]  # only bytes are left
                event = reader.next_event()
            except SpoolFailed as error:
                raise BodyNotStored(str(error), error.status) from error
        else:
            connection.waits_since_s = 0.0
            self._watch(connection)
            connection.deadline_s = self._body_deadline_s(connection, body.size)
            return
        self._enqueue(connection)

    def _body_deadline_s(self, connection: Connection, body_bytes: int) -> float:
        """Return by when more of a body has to come.

        After BODY_TIMEOUT without any; and when what has come is less than BODY_MIN_RATE
        would have brought, but not in the first BODY_TIMEOUT.
        """
        timeout_s = self._config.body_timeout_s
        deadline_s = self._clock.now_s + timeout_s
        rate = self._config.body_min_rate
        if not rate:
            return deadline_s
        return min(deadline_s, connection.body_since_s + max(timeout_s, body_bytes / rate))
