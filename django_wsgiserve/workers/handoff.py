"""Connections on their way from one worker to another.

A SOCK_SEQPACKET socketpair that the supervisor makes and every worker of every
generation inherits is a queue of connections: who cannot serve one now puts its
descriptor in (SCM_RIGHTS, unix(7)), who is idle takes one out, as it would accept one.
Not SOCK_DGRAM: the kernel lets ten datagrams wait (net.unix.max_dgram_qlen), packets of
a connected pair as many as its buffer holds, some hundreds.

Only connections between two requests travel, with nothing read and nothing to be sent;
what the client has sent meanwhile waits in the kernel and arrives with the descriptor.
"""

from __future__ import annotations

import array
import contextlib
import errno
import json
import os
import socket
import time
from typing import TYPE_CHECKING, NamedTuple

from django_wsgiserve.originals import Socket, close
from django_wsgiserve.workers.connection import State

if TYPE_CHECKING:
    from django_wsgiserve.workers.connection import Connection

# A Unix listener's name is the longest part: 107 bytes of path, each six characters in JSON.
_MESSAGE_BYTES = 2048
_DESCRIPTOR_BYTES = array.array("i").itemsize
# Room for one descriptor; CMSG_SPACE has padding, which the kernel takes for room for two.
_ANCILLARY_BYTES = socket.CMSG_LEN(_DESCRIPTOR_BYTES)
_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
# The queue is full, or the kernel will not have more descriptors on their way: later.
_FULL = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS})


class Arrival(NamedTuple):
    """A connection that another worker gave.

    With it went its `deadline_s`, and since when it waits for a request slot, or, if it did
    not when it left, since when it has been on its way (both monotonic).
    """

    sock: socket.socket
    peer: tuple[str, str]
    listener_name: str
    deadline_s: float
    since_s: float


class Handoff:
    """A worker's two ends of the queue.

    Linux delivers a message without its descriptor when the receiver has no number left
    for it, and the connection is lost. So one number is always held in reserve, and while
    there is none, nothing is taken.
    """

    def __init__(self, send_fd: int, receive_fd: int, *, gives: bool = True) -> None:
        """Store; the descriptors are the process's, for as long as it lives.

        Args:
            send_fd: The end that connections are put in at.
            receive_fd: The end that they are taken from.
            gives: Whether this worker gives any. It takes what others give in any case: they
                may be of a generation with another configuration.
        """
        self._sender = Socket(fileno=send_fd)
        self._receiver = Socket(fileno=receive_fd)
        self._sender.setblocking(False)
        self._receiver.setblocking(False)
        self._reserve_fd = -1
        self._hold_reserve()
        self.gives = gives
        self.refused: OSError | None = None
        """Why descriptors cannot be passed here; then every connection stays where it is."""
        self.starved = False
        """Whether the last `take` took nothing because no descriptor is left."""
        self.mishap = ""
        """Why the last `take` found a message without a connection."""

    def fileno(self) -> int:
        """The descriptor that is readable when a connection waits."""
        return self._receiver.fileno()

    def close(self) -> None:
        """Close this worker's ends; what waits in the queue stays there."""
        self._sender.close()
        self._receiver.close()
        self._release_reserve()

    def give(self, connection: Connection) -> bool:
        """Put a connection into the queue. False: it has to stay.

        The caller forgets it then; the queue holds a descriptor of its own.
        """
        if not self.gives or self.refused is not None or not can_travel(connection):
            return False
        since_s = connection.waits_since_s or time.monotonic()
        message = json.dumps(
            [connection.listener_name, *connection.peer, connection.deadline_s, since_s]
        )
        descriptor = array.array("i", [connection.fd])
        try:
            self._sender.sendmsg(
                [message.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptor)]
            )
        except OSError as error:
            if error.errno not in _FULL:
                self.refused = error
            return False
        return True

    def take(self) -> Arrival | None:
        """Return a connection, if one waits and there is a descriptor for it."""
        self.mishap = ""
        if self._reserve_fd < 0:
            self._hold_reserve()
        self.starved = self._reserve_fd < 0
        if self.starved:
            return None
        self._release_reserve()
        try:
            message, ancillary, _, _ = self._receiver.recvmsg(
                _MESSAGE_BYTES, _ANCILLARY_BYTES, _CLOSE_ON_EXEC
            )
        except OSError:  # a sibling was faster
            return None
        finally:
            self._hold_reserve()
        return self._unpack(message, ancillary)

    def oldest_s(self) -> float:
        """Return `Arrival.since_s` of the next connection; infinity: none waits."""
        try:
            return float(json.loads(self._receiver.recv(_MESSAGE_BYTES, socket.MSG_PEEK))[4])
        except (OSError, ValueError, TypeError, IndexError):
            return float("inf")

    def _unpack(self, message: bytes, ancillary: list[tuple[int, int, bytes]]) -> Arrival | None:
        descriptors = array.array("i")
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(data[: len(data) - len(data) % _DESCRIPTOR_BYTES])
        if not descriptors:
            self.mishap = "the system kept its descriptor back"
            return None
        descriptor = descriptors[0]
        try:
            # What a later version may add at the end is not for this one.
            name, address, port, deadline_s, since_s, *_ = json.loads(message)
            sock = Socket(fileno=descriptor)
        except (ValueError, TypeError, OSError) as error:
            with contextlib.suppress(OSError):
                close(descriptor)
            self.mishap = f"the message with it cannot be read ({error})"
            return None
        if not _CLOSE_ON_EXEC:
            sock.set_inheritable(False)
        return Arrival(sock, (address, port), name, deadline_s, since_s)

    def _hold_reserve(self) -> None:
        with contextlib.suppress(OSError):
            self._reserve_fd = os.dup(self._sender.fileno())

    def _release_reserve(self) -> None:
        if self._reserve_fd >= 0:
            close(self._reserve_fd)
            self._reserve_fd = -1


def can_travel(connection: Connection) -> bool:
    """Whether a connection is between two requests and nothing of it is held here.

    Its socket has to be a plain one: what is wrapped (TLS) has its session in this
    process's memory, and stays.
    """
    return (
        connection.state is State.IDLE
        and not connection.gone
        and not connection.silent
        and not connection.reader.buffered
        and not connection.output.items
        and type(connection.sock) is Socket
    )
