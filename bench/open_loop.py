"""HTTP clients at a fixed rate, and clients that send when they have their answer.

Of a client with a rate, requests are due at fixed times, whatever the server does.
Latency counts from when a request was due, not from when it could be sent: a server that
does not answer for a second delays all that was due in it, and that is what users wait
for. (Measured from the sending, as closed-loop tools do, one request would look slow.)
"""

from __future__ import annotations

import gc
import math
import selectors
import socket
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

# What is under way at the end may take so much longer: it is often the slowest of all.
GRACE_S = 5.0
_RECEIVE_BYTES = 65536
_END_OF_HEAD = b"\r\n\r\n"


@dataclass(slots=True, eq=False)
class Client:
    """One user with at most one connection."""

    port: int
    path: str
    interval_s: float = 0.0
    """Between two requests; 0: the next is due when the last is answered."""
    phase_s: float = 0.0
    """How long after the others' start the first request is due."""
    latencies_s: list[float] = field(default_factory=list)
    """From when a request was due to its answer."""
    answers_s: list[float] = field(default_factory=list)
    """From when it was sent; what waited here for the answer before it looks fast."""
    failed: int = 0
    connections: int = 0
    """How many it has made so far."""
    due_s: float = field(default=0.0, init=False)
    _socket: socket.socket | None = field(default=None, init=False)
    _waiting_since_s: float | None = field(default=None, init=False)
    _sent_s: float = field(default=0.0, init=False)
    _unsent: bytes = field(default=b"", init=False)
    _received: bytearray = field(default_factory=bytearray, init=False)

    @property
    def waiting(self) -> bool:
        """Whether a request is under way."""
        return self._waiting_since_s is not None

    def ask(self, selector: selectors.BaseSelector) -> None:
        """Begin the request that is due."""
        self._waiting_since_s = self.due_s
        self._sent_s = time.monotonic()
        self.due_s += self.interval_s
        request = f"GET {self.path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        self._received.clear()
        if self._socket is None:
            self._socket = socket.socket()
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.setblocking(False)
            self._socket.connect_ex(("127.0.0.1", self.port))
            self.connections += 1
            self._unsent = request  # goes when the connection is there
            selector.register(self._socket, selectors.EVENT_WRITE, self)
            return
        try:
            self._socket.send(request)  # a hundred bytes into an empty buffer: all of it
        except OSError:
            self._fail(selector)

    def react(self, selector: selectors.BaseSelector) -> None:
        """Go on after the selector has said that the connection is ready."""
        assert self._socket is not None  # noqa: S101 - it is registered
        try:
            if self._unsent:
                self._socket.send(self._unsent)
                self._unsent = b""
                selector.modify(self._socket, selectors.EVENT_READ, self)
                return
            data = self._socket.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._received += data
        if self.waiting and self._answered(ended=not data):
            self._finish(selector, ended=not data)
        elif not data:
            self._fail(selector)

    def _answered(self, *, ended: bool) -> bool:
        """Whether the whole response is there."""
        head, found, body = self._received.partition(_END_OF_HEAD)
        if not found:
            return False
        length = _field(bytes(head), b"content-length")
        return len(body) >= int(length) if length else ended

    def _finish(self, selector: selectors.BaseSelector, *, ended: bool) -> None:
        assert self._waiting_since_s is not None  # noqa: S101 - the caller has looked
        now_s = time.monotonic()
        head = bytes(self._received.partition(_END_OF_HEAD)[0])
        if b" 200 " in head.partition(b"\r\n")[0]:
            self.latencies_s.append(now_s - self._waiting_since_s)
            self.answers_s.append(now_s - self._sent_s)
        else:
            self.failed += 1
        self._waiting_since_s = None
        if not self.interval_s:
            self.due_s = now_s
        if ended or _field(head, b"connection").lower() == b"close":
            self.hang_up(selector)

    def _fail(self, selector: selectors.BaseSelector) -> None:
        """Count what was under way, if anything was; the next request connects anew."""
        if self.waiting:
            self.failed += 1
            self._waiting_since_s = None
            if not self.interval_s:
                self.due_s = time.monotonic()
        self.hang_up(selector)

    def hang_up(self, selector: selectors.BaseSelector) -> None:
        """Close the connection, if there is one."""
        if self._socket is not None:
            with suppress(KeyError, ValueError):
                selector.unregister(self._socket)
            self._socket.close()
            self._socket = None

    def give_up(self, until_s: float) -> None:
        """Count what was due before `until_s` and has no answer as failed."""
        self.failed += self.waiting
        while self.interval_s and self.due_s < until_s:
            self.failed += 1
            self.due_s += self.interval_s


def _field(head: bytes, name: bytes) -> bytes:
    """Return the value of a header field; empty if it is not there."""
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.lower() == name:
            return value.strip()
    return b""


class Crowd:
    """Clients that are driven together, by one thread."""

    def __init__(self, clients: Sequence[Client]) -> None:
        """Store; nobody connects yet."""
        self.clients = clients
        # Not epoll: it waits for whole milliseconds, and requests are due in between.
        self._selector = selectors.SelectSelector()

    def drive(self, seconds: float) -> None:
        """Send what is due for so long, then wait for the answers that are missing."""
        # A collection would be taken for the server's delay, so it is done before the start.
        gc.collect()
        gc.disable()
        now_s = time.monotonic()
        end_s = now_s + seconds
        for client in self.clients:
            client.due_s = now_s + client.phase_s
        try:
            while now_s < end_s + GRACE_S and self._step(now_s, end_s):
                now_s = time.monotonic()
        finally:
            gc.enable()
        for client in self.clients:
            client.give_up(end_s)

    def _step(self, now_s: float, end_s: float) -> bool:
        """Send what is due, take what has come. False: nothing more will come."""
        next_s = end_s + GRACE_S
        waiting = False
        for client in self.clients:
            if not client.waiting and client.due_s <= now_s and client.due_s < end_s:
                client.ask(self._selector)
            if client.waiting:
                waiting = True
            elif client.due_s < end_s:
                next_s = min(next_s, client.due_s)
                waiting = True
        if not waiting:
            return False
        for key, _ in self._selector.select(max(0.0, next_s - now_s)):
            key.data.react(self._selector)
        return True

    def close(self) -> None:
        """Hang up for everybody."""
        for client in self.clients:
            client.hang_up(self._selector)
        self._selector.close()


def percentile(values: Iterable[float], percent: float) -> float:
    """Return the least value that `percent` of the values do not exceed; 0 of none."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
