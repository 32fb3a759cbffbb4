"""One client connection as a worker sees it: a socket, a reader, what waits to be sent.

    IDLE ──first byte──▶ HEAD ──head──▶ BODY ──end──▶ QUEUED ──▶ RUNNING ──▶ FLUSHING ──▶ IDLE
      │                   └──── a request without a body ─▲ └── too late ──────▲ │
      └───────────────▶ CLOSED ◀── LINGERING ◀───────────────────────────────────┘

It moves bytes and keeps the state; when to read, run and close is the scheduler's.
"""

from __future__ import annotations

import socket
from enum import Enum
from typing import TYPE_CHECKING, Any

from django_wsgiserve.errors import FileFailed
from django_wsgiserve.events import AppFailed, RequestFinished
from django_wsgiserve.wsgi.reply import Outcome

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from django_wsgiserve.protocol.connection import RequestReader
    from django_wsgiserve.protocol.messages import RequestHead
    from django_wsgiserve.workers.output import OutputQueue
    from django_wsgiserve.wsgi.body import BodySpool
    from django_wsgiserve.wsgi.environ import EnvironFactory


class State(Enum):
    """Where a connection stands. `TRANSITIONS` has what may follow."""

    IDLE = "waits for a request"
    HEAD = "has sent part of a request head"
    BODY = "is sending a request body"
    QUEUED = "waits for a request slot"
    RUNNING = "is being served by the application"
    FLUSHING = "is taking its response"
    LINGERING = "may finish reading before the connection is closed"
    CLOSED = "is gone"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.IDLE: frozenset({State.HEAD, State.BODY, State.QUEUED, State.FLUSHING, State.CLOSED}),
    State.HEAD: frozenset({State.BODY, State.QUEUED, State.FLUSHING, State.CLOSED}),
    State.BODY: frozenset({State.QUEUED, State.FLUSHING, State.CLOSED}),
    State.QUEUED: frozenset({State.RUNNING, State.FLUSHING, State.CLOSED}),
    State.RUNNING: frozenset({State.IDLE, State.FLUSHING}),
    State.FLUSHING: frozenset({State.IDLE, State.LINGERING, State.CLOSED}),
    State.LINGERING: frozenset({State.CLOSED}),
    State.CLOSED: frozenset(),
}
# RUNNING ends in its own thread only: a descriptor that is closed while another thread is in
# a system call on it may be somebody else's by then.

# The states in which bytes from the client are wanted.
# A tuple: `in` compares identities first, where a set would call `Enum.__hash__` in Python.
READING = (State.IDLE, State.HEAD, State.BODY)


class Connection:
    """A client connection. Also the `Sink` that its responses are written to."""

    __slots__ = (
        "body",
        "body_since_s",
        "deadline_s",
        "environ",
        "environs",
        "failure",
        "fd",
        "gone",
        "hung_up",
        "listener_name",
        "on_pressure",
        "outcome",
        "output",
        "peer",
        "reader",
        "recv",
        "relief",
        "request",
        "sent_bytes",
        "silent",
        "sock",
        "sock_send",
        "spool_limit",
        "started_s",
        "state",
        "unread",
        "waits_since_s",
        "watched",
    )

    gone: bool
    """The client has left: nothing more can be sent."""
    unread: bool
    """Bytes may wait in the kernel that no further edge will announce."""
    hung_up: bool
    """The client sends no more: the end is read after the last byte, without an edge."""
    watched: bool
    """The poller tells of what comes. Not before there is something to wait for."""

    def __init__(
        self,
        sock: socket.socket,
        peer: tuple[str, str],
        environs: EnvironFactory,
        reader: RequestReader,
        output: OutputQueue,
    ) -> None:
        """Wrap an accepted, non-blocking socket.

        Args:
            sock: Owned from here on.
            peer: Address and port of the client; empty strings for a Unix socket.
            environs: Of the listener that accepted it.
            reader: A fresh reader.
            output: An empty queue.
        """
        self.sock = sock
        self.fd = sock.fileno()
        self.recv = sock.recv
        self.sock_send = sock.send
        self.peer = peer
        self.environs = environs
        self.reader = reader
        self.output = output
        self.state = State.IDLE
        self.gone = self.unread = self.hung_up = self.watched = False
        self.listener_name = ""
        self.deadline_s = 0.0
        self.started_s = 0.0
        """When the first byte of the current request came (monotonic); 0.0: none has."""
        self.request: RequestHead | None = None
        self.environ: dict[str, Any] | None = None
        self.body: BodySpool | None = None
        self.body_since_s = 0.0
        """When the body of the current request began to be read (monotonic)."""
        self.waits_since_s = 0.0
        """Since when it waits for a request slot (monotonic); 0.0: for something else."""
        self.outcome: Outcome | None = None
        self.sent_bytes = 0
        """Bytes of the current response that the kernel took, head included."""
        self.silent = False
        """The server's own: not in the access log."""
        self.failure: AppFailed | None = None
        """Why the response was broken off, where the client is not who did; to be told."""
        self.spool_limit = 0
        self.on_pressure: Callable[[Connection], None] | None = None
        """Called by `send` when the queue is full; returns when there is room, or nobody left."""
        self.relief: threading.Event | None = None
        """Set by whoever empties `output`, or finds that the client has left.

        Of a RUNNING connection only its request thread touches `output`, unless it waits
        for this; then only the leader does.
        """

    def send(self, data: bytes) -> bool:
        """Send, or queue what the client does not take at once. False: it has left.

        Source: `wsgi.reply.Sink`.
        """
        if self.gone:
            return False
        if self.output.items and (not self.flush() or self.output.items):
            return not self.gone and self._queue(memoryview(data))
        try:
            sent = self.sock_send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.gone = True
            return False
        self.sent_bytes += sent
        if not data[sent : sent + 1]:  # a slice is no call
            return True
        return self._queue(memoryview(data)[sent:])

    def _queue(self, data: memoryview) -> bool:
        try:
            self.output.add(data)
        except OSError:  # no temporary file, or no room for it: wait for the client instead
            self.output.add_in_memory(data)
            full = True
        else:
            full = self.output.held_bytes >= self.spool_limit
        if full and self.on_pressure is not None:
            self.on_pressure(self)
        return not self.gone

    def send_file(self, fd: int, offset: int, count: int) -> bool:
        """Queue part of a file and send what the client takes at once. False: it has left.

        Source: `wsgi.reply.Sink`, sendfile(2).
        """
        if self.gone:
            return False
        try:
            self.output.add_file(fd, offset, count)
        except OSError as error:
            self._fail(f"the file cannot be sent: {error.strerror}")
            return False
        return self.flush()

    def flush(self) -> bool:
        """Send what waits, as far as the client takes it now. False: it has left."""
        try:
            self.sent_bytes += self.output.flush(self.sock)
        except FileFailed as error:
            self._fail(str(error))
            self.output.close()
            return False
        except OSError:
            self.gone = True
            self.output.close()
            return False
        return True

    def _fail(self, reason: str) -> None:
        """End the connection, and remember that it was not the client who did."""
        self.gone = True
        if self.request is not None:
            summary = f"{reason}; the response had begun, so the connection was closed"
            self.failure = AppFailed(request=self.request, summary=summary, exception=None)

    def refuse(self, status: int, answer: bytes) -> None:
        """Note that `answer`, of the server itself, is what the request gets."""
        head_bytes = answer.index(b"\r\n\r\n") + 4
        self.outcome = Outcome(
            status=status,
            headers=[],
            body_bytes=len(answer) - head_bytes,
            keep_alive=False,
            aborted=False,
            head=answer[:head_bytes],
        )

    def has_more(self) -> bool:
        """Whether a client that wanted the connection closed has sent more all the same."""
        if self.unread or self.reader.buffered:
            return True
        try:
            return bool(self.recv(1))
        except OSError:
            return False

    def peek(self) -> bytes | None:
        """Return a byte that came and was not read; `None`: none did; `b""`: none ever will."""
        try:
            return self.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def begin_again(self) -> None:
        """Forget the request that was answered and wait for the next one.

        The state comes last: with it the connection is the leader's, who may be another
        thread.
        """
        self.request = None
        self.outcome = None
        self.environ = None
        self.started_s = 0.0
        self.waits_since_s = 0.0
        self.sent_bytes = 0
        if self.body is not None:
            self.body.close()
            self.body = None
        self.state = State.IDLE

    def finished(self, now_s: float, wall_offset_s: float) -> RequestFinished:
        """Return what the log wants to know of the current request, which ends at `now_s`."""
        request = self.request
        outcome = self.outcome
        started_s = self.started_s or now_s
        body_bytes = 0 if outcome is None else outcome.body_bytes
        if self.gone and outcome is not None:  # of a chunked body the framing is counted, too
            body_bytes = max(0, self.sent_bytes - len(outcome.head))
        event = RequestFinished()
        event.request = request
        event.request_line = (
            self.reader.request_line
            if request is None
            else f"{request.method} {request.target} {request.version}"
        )
        event.peer = self.peer[0]
        # nginx's number for a client that left before there was a status.
        event.status = 499 if outcome is None else outcome.status
        event.headers = [] if outcome is None else outcome.headers
        event.sent_bytes = body_bytes
        event.started_at_s = started_s + wall_offset_s
        # The clock is read by several threads, and the last to write it need not be the
        # last to have read it.
        event.duration_s = now_s - started_s if now_s > started_s else 0.0
        event.environ = self.environ
        event.aborted = self.gone or outcome is None or outcome.aborted
        return event

    def close(self) -> None:
        """Close the socket and drop everything held for it."""
        self.state = State.CLOSED
        self.gone = True
        self.outcome = None  # a reply, which refers to its connection
        if self.output.items:
            self.output.close()
        if self.body is not None:
            self.body.close()
            self.body = None
        self.sock.close()
